"""Pictures are looked at before a training, by the rule that evaluation has, and once only."""

import os
import shutil
import signal

import pytest
from PIL import Image

from privbench.errors import BadData, PrivbenchError, WorkerLost
from privbench.training import split
from privbench.training.augment import Augmentation
from privbench.training.session import finish
from tests.commands import caller
from tests.training.test_train import TINY, quiet, root, start

__all__ = ["root"]
MANY = 1001
SHAPE = [word for one in TINY if one.startswith("model") for word in ("--set", one)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A thousand training pictures, one of which is none, and twenty test pictures."""
    folder = tmp_path_factory.mktemp("many")
    Image.new("RGB", (32, 32), (90, 0, 0)).save(folder / "picture.png")
    for name, count in (("train", MANY // 10 + 1), ("test", 2)):
        for label in range(10):
            place = folder / name / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                os.link(folder / "picture.png", place / f"{number}.png")
    (folder / "train" / "class0" / "0.png").unlink()
    (folder / "train" / "class0" / "0.png").write_bytes(b"none")
    return folder


def spoil(root, folder, name):
    shutil.copytree(root, folder)
    (folder / name).write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("name", ["train/class3/0.png", "test/class9/1.png"])
def test_a_bad_picture_is_named_before_the_first_step(root, tmp_path, monkeypatch, name, small):
    monkeypatch.setattr(split, "SMALL", 64 if small else 16)
    data = spoil(root, tmp_path / "data", name)
    whole = "40" if name.startswith("train") else "20"
    words = rf"^1 of {whole} pictures cannot be read, more than 0\.1%\. '.*{name}' cannot be read"
    with pytest.raises(BadData, match=words):
        start(data, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


def test_training_and_evaluation_refuse_in_the_same_words(root, tmp_path, monkeypatch, capsys):
    data = spoil(root, tmp_path / "data", "test/class9/1.png")
    call = caller(monkeypatch, capsys)
    given = ["--model", "vit_vanilla", "--dataset", "folder", *SHAPE, "--device", "cpu"]
    batch = ["--set", "train.batch_size=8"]
    trained = call("train", *given, *batch, "--data-root", data, "--out", tmp_path / "a")
    measured = call("eval", *given, "--data-root", data / "test", "--out", tmp_path / "b")
    assert trained[0] == measured[0] == 2
    assert trained[2] == measured[2]


@pytest.mark.parametrize("small", [True, False])
def test_one_in_a_thousand_is_left_out_with_a_note(many, tmp_path, monkeypatch, small):
    monkeypatch.setattr(split, "SMALL", 64 if small else 16)
    training = start(many, tmp_path, "train.epochs=1", "train.batch_size=500", workers=0)
    assert len(training.train) == len(training.train.labels) == MANY + 8
    assert training.train.complaint().startswith("1 of 1010 pictures left out: ")
    assert not training.test.complaint()
    images, labels = training.train.load(range(20))
    assert images.shape == (20, 3, 32, 32)
    assert labels.tolist() == training.train.labels[:20].tolist()
    assert training.train.labels is training.train.labels, "made anew for every example"
    if not small:
        return
    finish(training, quiet)
    card = next(tmp_path.glob("vit_mjp.json")).read_text()
    assert '"pictures left out, unreadable": 1' in card


def test_large_pictures_are_looked_at_once_and_again_if_they_change(root, tmp_path, monkeypatch):
    monkeypatch.setattr(split, "SMALL", 16)
    data, told = shutil.copytree(root, tmp_path / "data"), []

    def look():
        told.clear()
        from privbench.training.session import begin

        return begin(
            "vit_vanilla",
            "folder",
            data,
            TINY,
            seed=0,
            device="cpu",
            out=tmp_path / "out",
            report=lambda what, done, total: told.append((what, done, total)),
        )

    look()
    assert ("train pictures", 40, 40) in told
    assert ("test pictures", 20, 20) in told
    look()
    assert not told
    Image.effect_noise((32, 32), 90).save(data / "train" / "class3" / "0.png")
    look()
    assert {what for what, _, _ in told} == {"train pictures"}
    (tmp_path / "out" / "pictures.json").write_text("torn")
    look()
    assert len({what for what, _, _ in told}) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_goes_bad_later_is_one_sentence(root, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(split, "SMALL", 16)
    data = shutil.copytree(root, tmp_path / "data")
    training = start(data, tmp_path / "out", workers=workers)
    (data / "train" / "class3" / "0.png").write_bytes(b"no picture")
    with pytest.raises(PrivbenchError) as caught:
        finish(training, quiet)
    assert str(caught.value).startswith(f"'{data / 'train' / 'class3' / '0.png'}' cannot be read")
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_killed_is_one_sentence(root, tmp_path, monkeypatch):
    training = start(root, tmp_path, workers=1)
    monkeypatch.setattr(Augmentation, "each", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(WorkerLost, match="add --workers 1, or 0 for none"):
        finish(training, quiet)
