"""Labels mean what the model's columns mean: by name or WordNet id, never by the alphabet."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

from privbench.component import make
from privbench.dataset import Dataset
from privbench.errors import BadData, BadSetting, UnknownName
from privbench.running.labels import Head, mapped, own_classes, place
from privbench.victims.cards import bundled, card
from privbench.victims.class_names import Columns, class_names, imagenet_names
from privbench.victims.preset import preset_names
from tests.commands import Call, caller
from tests.datasets.test_datasets import CLASSES, Shelf, shelf

__all__ = ["shelf"]
CIFAR = Head("vit_vanilla", 10, CLASSES)
NAMELESS = Head("mine", 4)
OWN = """
import torch
class Perfect(torch.nn.Module):
    img_size = 32
    def __init__(self):
        super().__init__()
        self.zero = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        column = torch.tensor({columns})[(x.mean((1, 2, 3)) * 255 / 60).round().long() - 1]
        return torch.nn.functional.one_hot(column, {classes}).float() + self.zero
def model():
    network = Perfect()
    network.class_names = {names}
    return network
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


WNIDS = {"n02099601": 207, "n01440764": 0, "n02123045": 281}


def album(root: Path, folders: Sequence[str]) -> Dataset:
    """Make a gray of its own for each class folder, in the order given."""
    for place_, name in enumerate(folders):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (60 * (place_ + 1),) * 3).save(root / name / "0.png")
    return make(Dataset, "folder", {"root": root})


def columns(data: Dataset, head: Head, given_: object = None) -> list[int]:
    placed, _ = place("folder", data, given_, head, strict=True)
    return mapped(data, data.labels(own_classes(data, placed, head.classes)), placed)


def top1(folder: Path, call: Call, *more: str) -> tuple[float, str]:
    out = folder / "out"
    asked = ["eval", "--eval", "accuracy", "--dataset", "folder", "--out", out, *more]
    code, printed, complaint = call(*asked)
    assert code == 0, complaint
    records = [json.loads(path.read_text()) for path in out.rglob("*.json")]
    values = next(record["values"]["top1"] for record in records if "values" in record)
    return sum(values) / len(values), " ".join(printed.split())


@pytest.mark.parametrize("folders", [list(WNIDS), ["golden retriever", "001.Tench", "n02123045-x"]])
def test_a_perfect_model_is_right_on_folders_of_imagenet(
    folders: list[str], tmp_path: Path, call: Call
) -> None:
    album(tmp_path / "pets", folders)
    code = OWN.format(columns=list(WNIDS.values()), classes=1000, names=())
    (tmp_path / "own.py").write_text(code)
    asked = ["--model", f"{tmp_path / 'own.py'}:model", "--data-root", str(tmp_path / "pets")]
    share, printed = top1(tmp_path, call, *asked)
    assert share == 1
    assert f"{len(folders)} of the 1000 classes" in printed


def test_a_network_tells_its_classes(tmp_path: Path, call: Call) -> None:
    album(tmp_path / "pets", ["zebra", "ant"])
    code = OWN.format(columns=[2, 4], classes=5, names=["x", "y", "Zebra", "z", "ant"])
    (tmp_path / "own.py").write_text(code)
    asked = ["--model", f"{tmp_path / 'own.py'}:model", "--data-root", str(tmp_path / "pets")]
    assert top1(tmp_path, call, *asked)[0] == 1


@pytest.mark.parametrize("name", [n for n in preset_names("models") if bundled(n)])
def test_bundled_weights_tell_their_classes(name: str) -> None:
    path = bundled(name)
    assert path is not None
    facts = card(path)
    assert facts is not None
    assert facts["classes"] == CLASSES == class_names(name, "trained", None, 10)
    assert json.loads(path.with_suffix(".json").read_text()) == facts
    with safe_open(path, "np") as file:
        assert file.keys()


def test_an_older_card_tells_them_by_its_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privbench.victims.class_names.card", lambda _: {"dataset": "cifar10"})
    assert class_names("vit_vanilla", "trained", None, 10) == CLASSES
    assert class_names("vit_vanilla", "init", None, 10) == []
    assert class_names("vit_vanilla", "trained", None, 7) == [], "another head"


def test_every_data_set_tells_its_classes_or_that_it_has_none(shelf: Shelf) -> None:
    data, side, classes = shelf
    known = data.class_names()
    if not data.labelled():
        assert known == []
        return
    assert len(set(known)) == len(known) > 0
    labels = data.labels(classes)
    assert set(labels) <= set(range(len(known)))
    # on a head whose columns are these classes in another order, labels follow the names
    turned = Head("turned", len(known) + 1, ["nothing", *reversed(known)])
    placed, _ = place("set", data, None, turned, strict=True)
    asked = own_classes(data, placed, turned.classes)
    found = mapped(data, data.load([0], side, asked)[1].tolist(), placed)
    assert [turned.names[column] for column in found] == [known[labels[0]]]
    assert mapped(data, data.labels(asked), placed) == [len(known) - label for label in labels]


def test_every_data_set_is_refused_by_a_model_of_other_classes(shelf: Shelf) -> None:
    data, _, classes = shelf
    other = Head("other", classes, [f"thing {number}" for number in range(classes)])
    if data.labelled():
        with pytest.raises(BadData, match=f"thing 0.*dataset.classes|knows {classes}"):
            place("set", data, None, other, strict=True)


def test_folders_are_placed_by_name(tmp_path: Path) -> None:
    data = album(tmp_path, ["Truck", "DOG"])
    assert columns(data, CIFAR) == [5, 9]
    assert columns(data, Head("m", 10, [*reversed(CLASSES)])) == [4, 0]


def test_an_odd_folder_is_refused_with_both_lists(tmp_path: Path) -> None:
    data = album(tmp_path, ["dog", "cats"])
    with pytest.raises(BadData, match=r"cats, dog\. vit_vanilla knows .*airplane.* not cats"):
        columns(data, CIFAR)
    advice = r"dataset\.classes=\{cats: cat\}"
    with pytest.raises(BadData, match=advice):
        columns(data, CIFAR)
    assert columns(data, CIFAR, {"cats": "cat"}) == [3, 5]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("order", [0, 1]),
        ([7, "truck"], [7, 9]),
        ({"a": 3, "b": "Ship"}, [3, 8]),
        (["cat", "2"], [3, 2]),
    ],
)
def test_the_user_says_it(said: object, found: list[int], tmp_path: Path) -> None:
    assert columns(album(tmp_path, ["a", "b"]), CIFAR, said) == found


def test_a_nameless_head_is_given_names(tmp_path: Path) -> None:
    data = album(tmp_path, ["a", "b"])
    assert columns(data, NAMELESS, ["z", "b", "y", "a"]) == [3, 1]
    with pytest.raises(BadData, match="nothing tells which of the 4 columns of mine"):
        columns(data, NAMELESS)
    assert columns(data, Head("mine", 4, drawn=True)) == [0, 1], "drawn weights know nothing"
    placed, note = place("folder", data, None, Head("mine", 2), strict=True)
    assert placed is None
    assert "in sorted order" in note


def test_folders_named_by_numbers_are_columns(tmp_path: Path) -> None:
    data = album(tmp_path, ["2", "10"])
    assert columns(data, Head("mine", 12), "numbers") == [10, 2]


WRONG = {
    "'lion' is no class": ({"a": "lion"}, BadSetting),
    "column from 0 to 9": ([3, 10], BadSetting),
    "class of folder": ({"c": 3}, UnknownName),
    "lists 1 classes": ([3], BadSetting),
    "order, numbers, a list": ("alphabet", BadSetting),
}


@pytest.mark.parametrize("complaint", WRONG)
def test_a_wrong_word_is_refused(complaint: str, tmp_path: Path) -> None:
    said, kind = WRONG[complaint]
    with pytest.raises(kind, match=complaint):
        columns(album(tmp_path, ["a", "b"]), CIFAR, said)


def test_an_ambiguous_name_is_refused() -> None:
    known = Columns(imagenet_names(1000))
    assert [known.find(name) for name in ("crane", "missile", "sunglasses")] == [
        [134, 517],
        [657],
        [837],
    ]


@pytest.mark.parametrize("classes", [1000, 1001, 11821, 21843])
def test_wide_heads_know_imagenet(classes: int) -> None:
    known = imagenet_names(classes)
    assert len(known) == classes
    wnid = known[classes // 2]
    assert Columns(known).find(wnid) == [classes // 2]
    if classes > 1001:
        assert Columns(known).find("n02084071"), "dog"


@given(st.lists(st.sampled_from(CLASSES), unique=True, min_size=1), st.randoms())
def test_spelling_does_not_matter(folders: list[str], rng: random.Random) -> None:
    found = Columns(CLASSES)
    for name in folders:
        spelled = rng.choice([name.upper(), name.title(), f" {name}_", name[:2] + "-" + name[2:]])
        assert found.find(spelled) == [CLASSES.index(name)]


def test_attacks_on_drawn_weights_take_any_folder(tmp_path: Path, call: Call) -> None:
    album(tmp_path / "x", ["a", "b"])
    asked = ["run", "--attack", "pe_ls", "--model", "vit_vanilla", "--dataset", "folder"]
    asked += ["--data-root", str(tmp_path / "x"), "--images", "2", "--out", str(tmp_path / "out")]
    assert call(*asked, "--weights", "init")[0] == 0
    code, _, complaint = call(*asked)
    assert code == 2
    assert "knows 10 classes" in " ".join(complaint.split())
    assert call(*asked, "--set", "dataset.classes=order")[0] == 0
