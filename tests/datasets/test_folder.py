"""The user's own pictures: every one of them is seen, upright, or a sentence says why not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from privbench.component import find, make
from privbench.dataset import Dataset
from privbench.datasets._classes import wnids
from privbench.datasets._pictures import EXTENSIONS
from privbench.errors import BadData
from privbench.running.labels import Head, mapped, own_classes, place
from privbench.running.plan import open_dataset
from privbench.victims.view import view_of
from tests.commands import Call, caller

ARROW = np.zeros((16, 16, 3), dtype=np.uint8)
ARROW[:4] = 255


def folder(root: Path, **settings: object) -> Dataset:
    return make(Dataset, "folder", {"root": root, **settings})


def shown(root: Path, side: int = 16, **settings: object) -> torch.Tensor:
    return folder(root, **settings).load([0], side, 5)[0][0]


@pytest.mark.parametrize("suffix", EXTENSIONS)
@pytest.mark.parametrize("spell", [str.lower, str.upper])
def test_every_usual_suffix_is_read(
    suffix: str, spell: Callable[[str], str], tmp_path: Path
) -> None:
    Image.fromarray(ARROW).convert("1" if suffix == ".pbm" else "RGB").save(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / f"A{spell(suffix)}")
    assert (shown(tmp_path)[:, :3] > 0.9).all()


@pytest.mark.parametrize("suffix", [".heic", ".AVIF", ".jp2", ".dng"])
def test_a_picture_that_is_not_read_is_not_left_out_silently(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.fromarray(ARROW).save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / f"b{suffix}").write_bytes(b"whatever")
    (tmp_path / "notes.txt").write_text("no picture, no harm")
    with pytest.raises(BadData, match=rf"1 picture of a format .* cat/b\{suffix}.* Convert it"):
        len(folder(tmp_path))
    (tmp_path / "cat" / f"b{suffix}").unlink()
    assert len(folder(tmp_path)) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int, tmp_path: Path) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's Transpose that stores it so
    pixels = ARROW.copy()
    pixels[:, 12:] = 128
    stored = Image.fromarray(pixels)
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(shown(tmp_path), torch.tensor(pixels).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "LA", "1"])
def test_tiff_of_any_8_bit_mode_is_right(mode: str, tmp_path: Path) -> None:
    Image.fromarray(ARROW).convert(mode).save(tmp_path / "a.tiff")
    found = (shown(tmp_path) * 255).round()
    assert torch.equal(found.byte(), torch.tensor(ARROW).permute(2, 0, 1))


@pytest.mark.parametrize(("kind", "mode"), [(np.uint16, "I;16"), (np.float32, "F")])
def test_deeper_tiff_is_refused(kind: type, mode: str, tmp_path: Path) -> None:
    Image.fromarray(np.ones((20, 20), kind)).save(tmp_path / "a.tif")
    with pytest.raises(BadData, match=f"mode {mode}, which 8-bit"):
        shown(tmp_path)


def test_a_small_folder_says_how_many_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call: Call = caller(monkeypatch, capsys)
    for name in ("a", "b"):
        Image.fromarray(ARROW).save(tmp_path / f"{name}.png")
    asked = ["run", "--attack", "pe_ls", "--model", "vit_vanilla", "--dataset", "folder"]
    asked += ["--set", "model.depth=1", "--data-root", tmp_path, "--out", tmp_path / "out"]
    code, _, complaint = call(*asked)
    assert code == 2
    assert "--images 2" in complaint
    assert call(*asked, "--images", "2")[0] == 0


def test_a_level_too_high_is_refused(tmp_path: Path) -> None:
    for name in ("train/cat", "val/cat"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(ARROW).save(tmp_path / name / "a.png")
    with pytest.raises(BadData, match=rf"train and val.* --data-root '{tmp_path}/train'"):
        folder(tmp_path).labelled()
    assert folder(tmp_path / "val").class_names() == ["cat"]


def test_classes_with_folders_inside(tmp_path: Path) -> None:
    for name in ("cat/images", "dog/images"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(ARROW).save(tmp_path / name / "a.png")
    assert folder(tmp_path).class_names() == ["cat", "dog"]
    assert folder(tmp_path).labels(10) == [0, 1]


@pytest.mark.parametrize("column", ["wnid", "class", "name", "imagenet1k_index"])
def test_a_table_of_names_is_placed_like_folders(column: str, tmp_path: Path) -> None:
    said = {"wnid": "n02099601", "imagenet1k_index": 207}.get(column, "golden retriever")
    (tmp_path / "labels.csv").write_text(f"file,{column}\na.png,{said}\n")
    Image.fromarray(ARROW).save(tmp_path / "a.png")
    data = folder(tmp_path)
    for head in (Head("m", 1000, wnids()), Head("m", 1001, ["background", *wnids()])):
        placed, _ = place("folder", data, None, head, strict=True)
        own = data.labels(own_classes(data, placed, head.classes))
        assert mapped(data, own, placed) == [207 + head.classes - 1000]


def test_answers_may_be_chosen_among_folders(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        Image.fromarray(ARROW).save(tmp_path / name / "a.png")
    assert folder(tmp_path).columns() is None
    assert folder(tmp_path, among="folders").columns() == [0, 1]


@pytest.mark.parametrize("crop", [0.9, 0.95])
@pytest.mark.parametrize("how", ["bicubic", "bilinear"])
def test_a_crop_is_timm_s(crop: float, how: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    steps = create_transform(32, crop_pct=crop, interpolation=how, mean=(0,) * 3, std=(1,) * 3)
    wanted = torch.as_tensor(steps(Image.fromarray(pixels)))  # type: ignore[operator]
    assert torch.allclose(shown(tmp_path, 32, crop=crop, interpolation=how), wanted, atol=1e-6)


def test_a_published_model_brings_its_crop() -> None:
    assert view_of("timm:deit3_small_patch16_224", "pretrained")["crop"] == 0.9
    assert view_of("timm:deit3_small_patch16_224", "init") == {}
    assert view_of("vit_vanilla", "trained") == {}


def test_a_usual_crop_is_not_in_records(tmp_path: Path) -> None:
    assert "crop" not in open_dataset("imagenet", {}, tmp_path)[0].settings
    assert open_dataset("imagenet", {"crop": 0.9}, tmp_path)[0].settings["crop"] == 0.9
    assert find(Dataset, "imagenet").usual_crop == 0.875
