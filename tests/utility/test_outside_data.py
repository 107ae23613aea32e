"""CIFAR-10-C's arrays, and the sets of 32 px that stand for unknown classes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from privbench.component import make
from privbench.dataset import Dataset
from privbench.datasets.cifar100 import NAMES
from privbench.errors import BadData, UnknownName
from tests.released import cifar10_c, picture, prepared


def fog(root: Path, severity: int = 1) -> Dataset:
    return make(Dataset, "cifar10_c", {"root": root, "corruption": "fog", "severity": severity})


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_severities_follow_one_another_in_an_array(tmp_path: Path, severity: int) -> None:
    pixels = np.load(cifar10_c(tmp_path) / "fog.npy")
    data = fog(tmp_path, severity)
    images, labels = data.load([0, 3], 32, 10)
    first = 4 * (severity - 1)
    assert len(data) == 4
    assert labels.tolist() == [0, 3]
    assert torch.equal(images[1], torch.tensor(pixels[first + 3]).permute(2, 0, 1) / 255)
    assert f"severity {severity}" in data.listing()
    assert str(tmp_path) not in data.listing()


@pytest.mark.parametrize(
    ("file", "array", "complaint"),
    [
        ("fog", np.zeros((20, 32, 32, 3), np.float32), "holds float32 of shape"),
        ("fog", np.zeros((20, 3, 32, 32), np.uint8), r"not uint8 of shape \(n, 32, 32, 3\)"),
        ("fog", np.zeros((19, 32, 32, 3), np.uint8), "19 pictures, which do not make 5 sev"),
        (
            "labels",
            np.arange(20, dtype=np.uint8) // 2,
            "20 pictures whose labels do not",
        ),
        ("labels", np.r_[np.tile(range(4), 4), [0, 1, 3, 2]], "labels do not come 5 times over"),
        ("labels", np.zeros(19, np.uint8), r"of shape \(19,\), but fog.npy needs 20"),
        ("labels", np.zeros(20, np.float32), "holds float32"),
        ("labels", np.full(20, 10, np.uint8), "labels from 10 to 10, not 0 to 9"),
        ("labels", np.array([{}] * 20), "truncated or not an array"),
    ],
)
def test_arrays_of_another_kind_are_refused(
    tmp_path: Path, file: str, array: np.ndarray, complaint: str
) -> None:
    np.save(cifar10_c(tmp_path) / f"{file}.npy", array)
    with pytest.raises(BadData, match=complaint):
        len(fog(tmp_path))


@pytest.mark.parametrize("labels", [np.arange(10_000) % 10, np.zeros(10_000, int)])
def test_one_severity_is_not_cut_into_five(tmp_path: Path, labels: np.ndarray) -> None:
    np.save(cifar10_c(tmp_path) / "fog.npy", np.zeros((10_000, 32, 32, 3), np.uint8))
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(BadData, match="10,000 pictures whose labels do not come 5 times over"):
        len(fog(tmp_path))


def test_missing_and_torn_arrays_are_named(tmp_path: Path) -> None:
    root = cifar10_c(tmp_path / "CIFAR-10-C")
    with pytest.raises(BadData, match=r"no fog\.npy\. Did you mean '.*CIFAR-10-C'"):
        len(fog(tmp_path))
    snow = make(Dataset, "cifar10_c", {"root": root, "corruption": "snow"})
    with pytest.raises(BadData, match=r"no snow\.npy; of the corruptions it has fog\. Unpack"):
        len(snow)
    (root / "fog.npy").write_bytes((root / "fog.npy").read_bytes()[:5000])
    with pytest.raises(BadData, match="truncated or not an array in NumPy's format"):
        len(fog(root))
    with pytest.raises(UnknownName, match="Did you mean 'frost'"):
        make(Dataset, "cifar10_c", {"corruption": "forst"})


@pytest.mark.parametrize(("name", "classes"), [("cifar100", 100), ("svhn", 10)])
def test_class_folders_are_read_in_their_usual_order(
    tmp_path: Path, name: str, classes: int
) -> None:
    settings, side, _ = prepared(name, tmp_path / "test")
    data = make(Dataset, name, settings | {"root": tmp_path})
    assert len(data) == classes
    assert data.labels(classes) == list(range(classes))
    assert data.load([3], side, classes)[1].tolist() == [3]
    with pytest.raises(BadData, match="this victim takes 224 px"):
        data.load([0], 224, classes)
    with pytest.raises(BadData, match=f"has {classes} classes, this victim knows 5"):
        data.load([0], 32, 5)
    picture(tmp_path / "test" / data.class_names()[1] / "0.png", (48, 32))
    with pytest.raises(BadData, match="48 x 32 px, but"):
        data.load([1], 32, classes)


def test_pictures_side_by_side_have_no_classes(tmp_path: Path) -> None:
    for seed in range(3):
        picture(tmp_path / f"{seed}.png", (32, 32), seed)
    data = make(Dataset, "svhn", {"root": tmp_path})
    assert len(data) == 3
    assert data.class_names() == []


@pytest.mark.parametrize("name", ["cifar100", "svhn"])
def test_other_folders_and_forged_files_are_refused(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "cat" / "0.png", (32, 32))
    with pytest.raises(BadData, match=r"it has cat\. Name another folder with --data-root"):
        len(make(Dataset, name, {"root": tmp_path}))
    forged = "cifar-100-python/test" if name == "cifar100" else "test_32x32.mat"
    (tmp_path / forged).parent.mkdir(exist_ok=True)
    (tmp_path / forged).write_bytes(b"not the original")
    with pytest.raises(BadData, match="differs from the original"):
        len(make(Dataset, name, {"root": tmp_path}))


def test_the_names_of_cifar100_are_sorted() -> None:
    assert len(set(NAMES.split())) == 100
    assert NAMES.split() == sorted(NAMES.split())
