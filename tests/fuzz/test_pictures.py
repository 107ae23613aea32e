"""Pictures and labels.csv: whatever lies in a folder, it is shown or refused in a sentence."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from privbench.component import make
from privbench.dataset import Dataset
from tests.fuzz.civil import civil, sizes

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "GIF", "TIFF", "ICO")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "LAB")
SUFFIXES = (".png", ".jpg", ".JPEG", ".webp", ".bmp", ".gif", ".tiff", ".txt", "")


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Draw a picture of any format, mode, size and rotation, whole, cut short or with noise."""
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    image = Image.fromarray(np.zeros((height, width, 3), np.uint8) + 99)
    try:
        image = image.convert(draw(st.sampled_from(MODES)))
    except ValueError:  # from RGB no way leads to a few modes
        image = Image.new("I;16", (width, height))
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))
    buffer = io.BytesIO()
    for form in draw(st.permutations(FORMATS)):
        try:
            image.save(buffer, format=form, exif=exif)
            break
        except (OSError, ValueError, KeyError):
            buffer = io.BytesIO()
    content = buffer.getvalue()
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return content[: draw(st.integers(0, len(content)))]
    if kind == 1 and content:
        at = draw(st.integers(0, len(content) - 1))
        return content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at + 1 :]
    return draw(st.binary(max_size=40)) if kind == 2 else content


def load(root: Path, indices: Sequence[int], classes: int = 4) -> torch.Tensor:
    data = make(Dataset, "folder", {"root": root})
    images, labels = data.load(indices, 8, classes)
    assert images.isfinite().all()
    assert 0 <= images.min() <= images.max() <= 1
    assert ((labels >= 0) & (labels < classes)).all()
    return images


@sizes
def test_any_picture_is_shown_or_refused(inputs: settings, tmp_path: Path):
    @inputs
    @seed(7)
    @given(content=contents(), suffix=st.sampled_from(SUFFIXES))
    @example(content=b"", suffix=".png")
    @example(content=b"\x89PNG\r\n\x1a\n", suffix=".png")
    @example(content=b"P6 99999999 99999999 255\n", suffix=".ppm")
    @example(content=b"P6 -1 -1 255\n", suffix=".ppm")
    @example(content=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", suffix=".png")
    def check(content: bytes, suffix: str) -> None:
        file = tmp_path / f"a{suffix}"
        file.write_bytes(content)
        civil(lambda: load(tmp_path, [0]))
        assert file.read_bytes() == content
        file.unlink()

    check()


rows = st.lists(
    st.tuples(
        st.sampled_from(["a.png", "b/0.png", "../a.png", "/a.png", "nothing.png", '"a.png', ""])
        | st.text(max_size=8),
        st.sampled_from(["0", "3", "4", "-1", "9" * 5000, "1.5", "nan", "\uff11", "", '"', "0x1"])
        | st.integers().map(str)
        | st.text(max_size=5),
    ),
    max_size=4,
)
heads = st.sampled_from(
    [
        *("file,label", "\ufefffile,label", "file;label", "file", "label", "file,label,file", ""),
        *("a,b", "file,imagenet1k_index", "FILE,LABEL", "file, label", "file,label,x,y,z"),
    ]
)
codes = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])


@sizes
def test_any_table_of_labels_is_read_or_refused(inputs: settings, tmp_path: Path):
    for name in ("a.png", "b/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    table = tmp_path / "labels.csv"

    @inputs
    @seed(8)
    @given(head=heads, body=rows, code=codes, end=st.sampled_from(["\n", "\r", "\r\n", "\0\n"]))
    @example(head="file,label", body=[("a.png", "9" * 5000)], code="utf-8", end="\n")
    @example(head="file,label", body=[("a" * 200_000, "1")], code="utf-8", end="\n")
    @example(head="file,label", body=[("a\0.png", "1")], code="utf-8", end="\n")
    @example(head="file,label", body=[("a.png", "1"), ("a.png", "1")], code="utf-8", end="\n")
    @example(head="file,label", body=[("a.png", "1"), ("b/0.png", "3")], code="utf-16", end="\n")
    def check(head: str, body: list[tuple[str, str]], code: str, end: str) -> None:
        lines = [head, *(f"{file},{label}" for file, label in body)]
        content = end.join(lines).encode(code, errors="replace")
        table.write_bytes(content)
        civil(lambda: load(tmp_path, [0, 1]))
        assert table.read_bytes() == content

    check()


def test_a_good_table_is_read(tmp_path: Path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\r\na.png,3\r\n", encoding="utf-8-sig")
    assert load(tmp_path, [0]).shape == (1, 3, 8, 8)
