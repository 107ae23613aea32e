"""Data sets give the pictures that they promise, or one clear sentence."""

import hashlib
import json
import pickle
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from privbench.component import make, names
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting, PrivbenchError
from tests.released import prepared

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TABLE = "file,label\na/0.png,3\nb/0.jpg,4\nroot.png,1\n"


def picture(path: Path, width: int = 32, height: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, side: int = 32) -> torch.Tensor:
    return make(Dataset, "folder", {"root": root}).load([0], side, 5)[0]


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(["root.png", "b/0.jpg", "a/0.png", "a/.hidden.png"]):
        picture(tmp_path / name, 60, 40, seed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CIFAR10, "url", "file:///nowhere")
    return tmp_path


Shelf = tuple[Dataset, int, int]
"""A data set, and the side and the classes of a victim that it suits."""


@pytest.fixture(params=names("datasets"), scope="module")
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "folder":
        picture(root / "a" / "0.png", 60, 40)
        return make(Dataset, "folder", {"root": root}), 32, 10
    settings, side, classes = prepared(request.param, root)
    return make(Dataset, request.param, settings), side, classes


def test_pictures_and_labels_are_in_range(shelf: Shelf) -> None:
    data, side, classes = shelf
    numbers = range(min(len(data), 4))
    images, labels = data.load(numbers, side, classes)
    assert images.shape == (len(numbers), 3, side, side)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert 0 <= images.min() < images.max() <= 1
    assert len(data.labels(classes)) == len(data)
    assert labels.tolist() == data.labels(classes)[: len(numbers)]
    assert set(data.labels(classes)) <= set(range(classes))


def test_same_call_gives_same_bits(shelf: Shelf) -> None:
    data, side, classes = shelf
    (first, _), state = data.load([0], side, classes), torch.get_rng_state()
    assert torch.equal(data.load([0], side, classes)[0], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert data.listing() == data.listing()


@pytest.mark.parametrize("index", [-1, 10**6])
def test_number_beyond_is_refused(shelf: Shelf, index: int) -> None:
    data, side, classes = shelf
    with pytest.raises(BadData, match=rf"numbered 0 to \d+; {index} is not one of them\. "):
        data.load([index], side, classes)


def test_bundled_sample_is_the_one_its_table_describes() -> None:
    assets = files("privbench.assets")
    facts = json.loads((assets / "cifar10_sample.json").read_text(encoding="utf-8"))
    mosaic = (assets / "cifar10_sample.webp").read_bytes()
    assert hashlib.sha256(mosaic).hexdigest() == facts["sha256"]
    images, labels = make(Dataset, "cifar10", {}).load(range(100), 32, 10)
    assert labels.tolist() == facts["labels"] == [*range(10)] * 10
    assert len(images.flatten(1).unique(dim=0)) == len(set(facts["indices"])) == 100


def test_photos_come_at_any_size() -> None:
    for side in (8, 33, 224):
        images, labels = make(Dataset, "photos", {}).load([0, 11], side, 5)
        assert (images.shape, labels.tolist()) == ((2, 3, side, side), [0, 1])
    assert torch.equal(images[1, 0], images[1, 2]), "gray photographs stay gray"


@pytest.mark.parametrize("inside", [".", "test"])
def test_cifar_folder_is_read_as_it_is_and_only_where_asked(tmp_path: Path, inside: str) -> None:
    for seed, name in enumerate(CLASSES):
        picture(tmp_path / "test" / name / "0.png", seed=seed)
    (tmp_path / "test" / "cat" / "0.png").write_bytes(b"torn")
    picture(tmp_path / "test" / "ship" / "0.png", 48, 32)
    data = make(Dataset, "cifar10", {"root": tmp_path / inside})
    images, labels = data.load([9, 2], 32, 10)
    stored = np.array(Image.open(tmp_path / "test" / "truck" / "0.png"))
    assert torch.equal(images[0], torch.tensor(stored).permute(2, 0, 1) / 255)
    assert labels.tolist() == [9, 2]
    for index, complaint in {3: "truncated", 8: "48 x 32 px, but CIFAR-10"}.items():
        with pytest.raises(BadData, match=complaint):
            data.load([index], 32, 10)


def test_cifar_batches_must_be_genuine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, pixels = tmp_path / "cifar-10-batches-py", np.arange(3072).astype(np.uint8)
    batches.mkdir()
    (batches / "test").write_bytes(pickle.dumps({"data": pixels[None], "labels": [7]}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))
    data = make(Dataset, "cifar10", {"root": tmp_path})
    with pytest.raises(BadData, match="differs from the original"):
        len(data)
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "test_list", [("test", None)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    images, _ = data.load([0], 32, 10)
    assert torch.equal(images.flatten(), torch.tensor(pixels) / 255)


BAD_PICTURES = {
    "truncated": lambda path: path.write_bytes(picture(path).read_bytes()[:2000]),
    "not a picture": lambda path: path.write_text("text"),
    "sides under 8 px": lambda path: picture(path, 7, 40),
    "mode I;16": lambda path: Image.fromarray(np.ones((20, 20), np.uint16)).save(path),
    "pixels, too many": lambda path: Image.new("1", (9500, 9500)).save(path),
}


@pytest.mark.parametrize("complaint", BAD_PICTURES)
def test_bad_picture_is_refused_by_name(complaint: str, tmp_path: Path) -> None:
    BAD_PICTURES[complaint](tmp_path / "odd.png")
    with pytest.raises(BadData, match=rf"odd\.png' .*{complaint}"):
        folder(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_other_modes_become_rgb_on_white(mode: str, tmp_path: Path) -> None:
    color = (0,) * len(mode) if mode.endswith("A") else "white"
    Image.new(mode, (16, 16), color).save(tmp_path / "0.png")
    assert torch.equal(folder(tmp_path, 16), torch.ones(1, 3, 16, 16))


def test_long_pictures_are_cut_at_the_center(tmp_path: Path) -> None:
    wide = Image.new("RGB", (48, 16))
    wide.paste("white", (16, 0, 32, 16))
    wide.save(tmp_path / "wide.png")
    assert (folder(tmp_path, 16) == 1).all()


def test_folder_is_labelled_by_table_or_subfolder_or_index(album: Path) -> None:
    data = make(Dataset, "folder", {"root": album})
    assert data.load([0, 1, 2], 32, 2)[1].tolist() == [0, 1, 0], "files on several levels"
    for column in ("label", "imagenet1k_index"):
        (album / "labels.csv").write_text(TABLE.replace("label", column))
        assert data.load([0, 1, 2], 32, 5)[1].tolist() == [3, 4, 1]
    (album / "labels.csv").unlink()
    (album / "root.png").unlink()
    assert make(Dataset, "folder", {"root": album}).load([0, 1], 32, 2)[1].tolist() == [0, 1]


BAD_TABLES = {
    "no column 'file'": "label\n1\n",
    "no column 'label'": "file\na/0.png\n",
    "no picture 'c.png' in the folder": TABLE + "c.png,0\n",
    "no row for 'root.png'": TABLE.removesuffix("root.png,1\n"),
    "'a/0.png' has a row already": TABLE + "a/0.png,3\n",
    "line 4: '' is not a whole number": TABLE.removesuffix(",1\n"),
    "'1.5' is not a whole number": TABLE.replace("1", "1.5"),
    "has label 9, but this victim knows classes 0 to 4": TABLE.replace("4", "9"),
    "has label -1, but": TABLE.replace("3", "-1"),
    "not readable as a CSV table in UTF-8": "file,label\n\xff,1\n",
}


@pytest.mark.parametrize("complaint", BAD_TABLES)
def test_bad_table_is_refused(complaint: str, album: Path) -> None:
    (album / "labels.csv").write_text(BAD_TABLES[complaint], encoding="latin-1")
    with pytest.raises(BadData, match=rf"labels\.csv'.* {complaint}"):
        folder(album)


REFUSALS = {
    "download needs a folder.* --data-root PATH": ("cifar10", {"download": True}, 32, 10),
    "split 'train' needs a folder.* --data-root PATH": ("cifar10", {"split": "train"}, 32, 10),
    "'missing' is not a folder": ("cifar10", {"root": "missing"}, 32, 10),
    "not be downloaded .* Check the": ("cifar10", {"root": "c", "download": True}, 32, 10),
    "ten class folders airplane, .* it has a, b, c": ("cifar10", {"root": "."}, 32, 10),
    "32 px, this victim takes 224 px; choose --dataset photos": ("cifar10", {}, 224, 10),
    "has 10 classes, this victim knows 2": ("cifar10", {}, 32, 2),
    "folder needs --data-root PATH": ("folder", {}, 32, 10),
    "'c' holds no pictures": ("folder", {"root": "c"}, 32, 10),
    "has 2 class folders, but this victim knows 1": ("folder", {"root": "."}, 32, 1),
}


@pytest.mark.parametrize("complaint", REFUSALS)
def test_impossible_wish_is_refused(complaint: str, album: Path) -> None:
    (album / "root.png").unlink()
    (album / "c").mkdir()
    name, settings, side, classes = REFUSALS[complaint]
    with pytest.raises(PrivbenchError, match=complaint):
        make(Dataset, name, settings).load([0], side, classes)


def test_photos_reads_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="reads no folder"):
        make(Dataset, "photos", {"root": tmp_path}).load([0], 32, 10)
