"""Released folders of ImageNet and its offshoots: read as they lie, or refused in a sentence."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from privbench.component import make
from privbench.corruption_names import NAMES
from privbench.dataset import Dataset
from privbench.datasets._classes import Part, columns, wnids
from privbench.errors import BadData, BadSetting, UnknownName
from tests.released import cell, imagenet, part, picture, tree

HASHES: dict[str, str] = {
    "all": "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd",
    "a": "f6aa4b23244554d9b864fd715ae20048f6a9686388911b2dfbf1ada01bf0f520",
    "o": "39f8e64e8f89efad8fd9615c061abc61695ffbd27793e87199181cb4fb340083",
    "r": "e19a59d84e3746fafd34d2ccf6ae604a44e9a0500a596f343c878a89e30ce624",
}
"""Of the sorted ids, joined by newlines."""
LETTERS: tuple[Part, ...] = ("a", "o", "r")


def at(name: str, root: Path, **settings: object) -> Dataset:
    return make(Dataset, name, {"root": root, **settings})


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imagenet(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cell(tmp_path_factory.mktemp("imagenet_c"), "fog", 3)


def test_the_class_lists_are_the_published_ones() -> None:
    assert wnids() == sorted(set(wnids()))
    lists: dict[str, list[str]] = {"all": wnids()} | {letter: part(letter) for letter in LETTERS}
    for name, ids in lists.items():
        assert hashlib.sha256("\n".join(ids).encode()).hexdigest() == HASHES[name]
    a, o, r = (set(columns(letter)) for letter in LETTERS)
    assert (len(a), len(o), len(r)) == (200, 200, 200)
    assert (len(a & o), len(a & r), len(o & r)) == (59, 86, 36)


def test_validation_pictures_are_labelled_by_sorted_id(validation: Path) -> None:
    data = at("imagenet", validation)
    assert len(data) == 1000
    assert data.labels(1000) == list(range(1000))
    assert data.columns() is None
    assert data.class_names() == wnids()


@pytest.mark.parametrize("letter", LETTERS)
def test_offshoots_are_labelled_among_the_1000(tmp_path: Path, letter: Part) -> None:
    data = at(f"imagenet_{letter}", tree(tmp_path, part(letter)))
    assert data.columns() == columns(letter) == data.labels(1000)
    assert [wnids()[label] for label in data.labels(1000)] == part(letter)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_part_of_the_validation_pictures_leaves_the_rest(validation: Path, letter: Part) -> None:
    data = at("imagenet", validation, part=letter)
    assert data.labels(1000) == data.columns() == columns(letter)


def test_v2_folders_are_numbers_not_words(tmp_path: Path) -> None:
    tree(tmp_path / "matched-frequency", [str(label) for label in range(1000)])
    assert at("imagenet_v2", tmp_path).labels(1000) == list(range(1000))
    tree(tmp_path / "top-images", ["0", "1"])
    with pytest.raises(BadData, match="2 variants of ImageNet-V2: matched-frequency, top-images"):
        len(at("imagenet_v2", tmp_path))


def test_pictures_are_resized_to_256_and_cut_to_224(validation: Path, tmp_path: Path) -> None:
    wide = Image.new("RGB", (512, 256))
    wide.paste((255, 0, 0), (0, 0, 144, 256))  # left of the cut
    wide.paste((0, 255, 0), (144, 0, 368, 256))
    first = validation / wnids()[0] / "one.JPEG"
    before = first.read_bytes()
    wide.save(first, quality=100, subsampling=0)
    try:
        [image] = at("imagenet", validation).load([0], 224, 1000)[0]
    finally:
        first.write_bytes(before)
    assert image.shape == (3, 224, 224)
    assert image[1, :, 2:-2].min() > 0.98
    assert image[0, :, 2:-2].max() < 0.02


@pytest.mark.parametrize("level", [".", "weather"])
def test_corrupted_pictures_are_shown_as_released(
    corrupted: Path, tmp_path: Path, level: str
) -> None:
    root = corrupted
    if level != ".":
        root = tmp_path
        (root / level).symlink_to(corrupted)
    data = at("imagenet_c", root, corruption="fog", severity=3)
    images, labels = data.load([2], 224, 1000)
    stored = np.array(Image.open(corrupted / "fog" / "3" / wnids()[2] / "one.JPEG"))
    assert torch.equal(images[0], torch.tensor(stored).permute(2, 0, 1) / 255)
    assert labels.tolist() == [2]
    same = at("imagenet_c", corrupted, corruption="fog", severity=3)
    assert data.listing() == same.listing()
    assert str(corrupted) not in data.listing()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"corruption": "snow", "severity": 3}, "no folder snow; of the corruptions it has fog"),
        ({"corruption": "fog", "severity": 4}, "no folder 4 for the severity; it has 3"),
    ],
)
def test_a_missing_cell_is_named(
    corrupted: Path, settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(BadData, match=complaint):
        len(at("imagenet_c", corrupted, **settings))
    with pytest.raises(BadData, match=r"Unpack weather\.tar"):
        len(at("imagenet_c", corrupted, **settings))


def test_corruptions_that_nobody_released_are_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'fog'"):
        make(Dataset, "imagenet_c", {"corruption": "fogg"})
    for name in NAMES:
        assert make(Dataset, "imagenet_c", {"corruption": name}).settings()["corruption"] == name


def test_other_sizes_of_corrupted_pictures_are_refused(corrupted: Path, tmp_path: Path) -> None:
    data = at("imagenet_c", corrupted, corruption="fog", severity=3)
    with pytest.raises(BadData, match="224 px and never resized, this victim takes 384 px"):
        data.load([0], 384, 1000)
    large = cell(tmp_path, "fog", 3, side=299)
    with pytest.raises(BadData, match=r"299 x 299 px \(the variant for Inception\)"):
        at("imagenet_c", large, corruption="fog", severity=3).load([0], 224, 1000)


def test_999_classes_are_not_1000(tmp_path: Path) -> None:
    root = imagenet(tmp_path / "val")
    (root / wnids()[500]).unlink()
    with pytest.raises(BadData, match=f"lacks 1 of its 1000 class folders: {wnids()[500]}"):
        len(at("imagenet", tmp_path))
    (root / wnids()[500]).mkdir()
    with pytest.raises(BadData, match="holds no pictures"):
        len(at("imagenet", tmp_path))
    picture(root / wnids()[500] / "one.JPEG")
    picture(root / "n99999999" / "one.JPEG")
    with pytest.raises(BadData, match="1 folder that does not belong there: n99999999"):
        len(at("imagenet", tmp_path))


def test_folders_mixed_up_are_told_apart(tmp_path: Path) -> None:
    tree(tmp_path / "deep" / "imagenet-o", part("o"))
    with pytest.raises(BadData, match="the classes of imagenet_o: name it there"):
        len(at("imagenet_a", tmp_path / "deep" / "imagenet-o"))
    with pytest.raises(BadData, match=r"Did you mean '.*imagenet-o'\?"):
        len(at("imagenet_o", tmp_path / "deep"))
    picture(tmp_path / "flat" / "one.JPEG")
    with pytest.raises(BadData, match="side by side; sort them into class folders first"):
        len(at("imagenet", tmp_path / "flat"))
    with pytest.raises(BadSetting, match=r"Name one with --data-root PATH, or in .* --imagenet-a"):
        len(make(Dataset, "imagenet_a", {}))
    with pytest.raises(BadData, match="is not a folder"):
        len(at("imagenet", tmp_path / "nowhere"))


@pytest.mark.parametrize("level", [".", "val"])
def test_a_part_of_the_classes_is_sent_to_folder(tmp_path: Path, level: str) -> None:
    for wnid in wnids()[3:13]:
        picture(tmp_path / level / wnid / "one.JPEG")
    with pytest.raises(BadData, match=r"is measured with `--dataset folder") as refusal:
        len(at("imagenet", tmp_path))
    root = str(refusal.value).split("--data-root '")[1].rstrip("'`.")
    assert at("folder", Path(root)).class_names() == wnids()[3:13]


def test_a_head_of_another_size_is_refused(validation: Path) -> None:
    with pytest.raises(BadData, match="1000 classes of ImageNet-1k, this victim knows 10"):
        at("imagenet", validation).load([0], 224, 10)
