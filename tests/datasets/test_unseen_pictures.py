"""No picture is left out or torn without a word, whatever its file is called or holds."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from privbench.component import make
from privbench.dataset import Dataset
from privbench.datasets import _tree as tree
from privbench.errors import BadData

PIXELS = np.random.default_rng(3).integers(0, 65536, (16, 24, 3), dtype=np.uint16)
UPRIGHT = torch.tensor((PIXELS >> 8).astype(np.uint8)).permute(2, 0, 1)


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((PIXELS >> 8).astype(np.uint8)).save(buffer, form, **options)
    return buffer.getvalue()


def pixels(root: Path) -> torch.Tensor:
    image = make(Dataset, "folder", {"root": root}).picture(0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["0001", "a.jpg_large", "a.png.bak"])
def test_a_picture_by_another_name_is_told(form: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "notes.txt").write_text("no picture, no harm")
    (tmp_path / name).write_bytes(encoded(form))
    with pytest.raises(BadData, match=rf"1 picture without .*: {name}\. Give it a suffix"):
        len(make(Dataset, "folder", {"root": tmp_path}))
    with pytest.raises(BadData, match="1 picture without"):
        tree.pictures(tmp_path)
    (tmp_path / name).rename(tmp_path / f"b.{form.lower()}")
    assert len(make(Dataset, "folder", {"root": tmp_path})) == 2


def test_what_lies_there_instead_is_said(tmp_path: Path) -> None:
    for name in ("a.npy", "b.NPY", "c.zip", "d"):
        (tmp_path / name).write_text("text")
    with pytest.raises(BadData, match=r"but files 2 \.npy, 1 \.zip, 1 without suffix"):
        len(make(Dataset, "folder", {"root": tmp_path}))


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("deep", [False, True])
def test_tiff_of_any_layout_is_right_or_refused(
    planes: str, compression: str | None, deep: bool, tmp_path: Path
) -> None:
    stored = PIXELS if deep else (PIXELS >> 8).astype(np.uint8)
    stored = stored if planes == "contig" else stored.transpose(2, 0, 1)
    kind = {"photometric": "rgb", "planarconfig": planes, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", stored, **kind)
    if deep and planes == "separate" and compression is None:
        with pytest.raises(BadData, match="Pillow decodes wrongly"):
            pixels(tmp_path)
    else:
        assert torch.equal(pixels(tmp_path), UPRIGHT)


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "WEBP"])
def test_a_rotated_photograph_is_turned_once(form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = encoded(form, exif=exif, **lossless.get(form, {}))
    (tmp_path / f"a.{form.lower()}").write_bytes(content)
    found = pixels(tmp_path).int() - UPRIGHT.rot90(-1, (1, 2)).int()
    assert found.abs().max() <= (8 if form == "JPEG" else 0)
