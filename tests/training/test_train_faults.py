"""Training under bad luck: kills, full disks, several processes, folders that don't fit."""

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from privbench.errors import BadData, Unwritable
from privbench.records import files
from privbench.training.batches import batches, share_of
from privbench.training.session import begin, finish
from tests.training.test_train import TINY, quiet, same, start, weights

STEPS = 20


def paint(place: Path, count: int, side: int = 32, color: int = 0) -> None:
    """Write pictures of one color."""
    place.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (side, side), (color, 255 - color, number)).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty training and twenty test pictures of ten classes."""
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 4), ("test", 2)):
        for label in range(10):
            paint(folder / split / f"class{label}", count, color=25 * label)
    return folder


def command(root, out, *more, launcher=("-m",)):
    settings = [word for one in [*TINY, "train.bf16=false"] for word in ("--set", one)]
    return [
        *(sys.executable, *launcher, "privbench", "train", "--model", "vit_mjp"),
        *("--dataset", "folder", "--data-root", str(root), "--device", "cpu", "--out", str(out)),
        *(*settings, *more),
    ]


def rows(folder):
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_kill_9_loses_one_epoch_at_most_and_changes_nothing(root, tmp_path):
    long = ("--set", "train.epochs=20")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed, struck = tmp_path / "killed", 0
    for epochs in (2, 9):  # strike once it has written so many
        process = subprocess.Popen(
            command(root, killed, *long), stdout=subprocess.DEVNULL, env=environment
        )
        while process.poll() is None:
            if (killed / "log.csv").is_file() and len(rows(killed)) >= epochs:
                process.send_signal(signal.SIGKILL)
                struck += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.01)
        assert load_file(killed / "checkpoint.safetensors")
    assert struck == 2
    for folder in (killed, tmp_path / "whole"):
        subprocess.run(command(root, folder, *long), check=True, env=environment)
    one, two = (weights(tmp_path / name / "vit_mjp.safetensors") for name in ("killed", "whole"))
    assert same(one, two)
    plain = [[row["loss"] for row in rows(tmp_path / name)] for name in ("killed", "whole")]
    assert plain[0] == plain[1]


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(root, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, launcher in (("one", ("-m",)), ("two", torchrun)):
        subprocess.run(
            command(root, tmp_path / name, launcher=launcher),
            check=True,
            env=environment,
            capture_output=True,
        )
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 4
    for first, second in zip(one, two, strict=True):
        assert float(first["loss"]) == pytest.approx(float(second["loss"]), rel=1e-4)
        assert first["lr"] == second["lr"]
    files = [load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two")]
    far = max(float((files[0][key] - files[1][key]).abs().max()) for key in files[0])
    assert far < 1e-3


@pytest.mark.parametrize(("size", "processes"), [(8, 1), (8, 2), (8, 4), (24, 3)])
def test_processes_share_a_batch_and_keep_its_mixed_pairs(size, processes):
    shares = [share_of(size, process, processes) for process in range(processes)]
    assert sorted(row for share in shares for row in share) == list(range(size))
    for share in shares:
        assert [size - 1 - row for row in share] == share[::-1]


def test_workers_and_shares_see_the_same_pictures(root, tmp_path):
    training = start(root, tmp_path)
    alone = list(batches(training, 1, 5, range(8)))
    helped = list(batches(start(root, tmp_path, workers=2), 1, 5, range(8)))
    part = list(batches(training, 1, 5, share_of(8, 1, 2)))
    assert len(alone) == len(helped) == 5
    for one, two, some in zip(alone, helped, part, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
        assert torch.equal(one[0][share_of(8, 1, 2)], some[0])
    assert not torch.equal(alone[0][0], next(iter(batches(training, 2, 5, range(8))))[0])


def test_a_full_disk_is_one_sentence_and_loses_nothing(root, tmp_path, monkeypatch):
    undisturbed = weights(finish(start(root, tmp_path / "a"), quiet))
    room = [3]  # writes that still fit: one checkpoint, its log, the next checkpoint
    fsync = os.fsync

    def full(descriptor: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(Unwritable, match="No space left on device"):
        finish(start(root, tmp_path / "b"), quiet)
    monkeypatch.undo()
    assert not list((tmp_path / "b").glob(".*"))
    assert len(rows(tmp_path / "b")) == 1
    assert same(undisturbed, weights(finish(start(root, tmp_path / "b"), quiet)))


def shaped(folder, train, test):
    for split, classes in (("train", train), ("test", test)):
        for name in classes:
            paint(folder / split / name, 2)
    return folder


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (["a"], ["a"], "has 1 classes, but vit_mjp has 10; add --set model.num_classes=1"),
        (list("abcdefghijk"), list("abcdefghijk"), "11 class folders"),
        (list("abcdefghij"), list("abcdefghik"), "differ, first 'j'"),
        (list("abcdefghij"), [], "holds no folder"),
        ([], ["a"], "holds no folder"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, train, test, words):
    folder = shaped(tmp_path / "data", train, test)
    with pytest.raises(BadData, match=words):
        start(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_without_classes_are_refused(tmp_path):
    for split in ("train", "test"):
        paint(tmp_path / split, 20)
    with pytest.raises(BadData, match="no classes to learn"):
        start(tmp_path, tmp_path / "out")


def test_a_picture_that_cannot_be_read_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    (tmp_path / "data" / "train" / "class3" / "0.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"class3/0\.png' cannot be read"):
        start(tmp_path / "data", tmp_path / "out")


@pytest.mark.parametrize("model", ["vit_vanilla_small", "vit_mjp_small"])
def test_the_recipe_for_large_pictures_starts_on_a_small_folder(tmp_path, model):
    for split, count in (("train", 4), ("test", 2)):
        for color, name in enumerate(("n01", "n02")):
            paint(tmp_path / split / name, count, side=240, color=90 * color)
    shallow = ["model.depth=1", "model.embed_dim=24", "model.num_heads=2", "model.num_classes=2"]
    training = begin(
        model,
        "folder",
        tmp_path,
        [*shallow, "train.batch_size=4", "train.epochs=1"],
        seed=0,
        device="cpu",
        out=tmp_path / "out",
        workers=1,
    )
    assert training.recipe.crop == "resized"
    assert training.recipe.repeats == 3
    assert training.train.kept is None
    path = finish(training, quiet)
    assert load_file(path)["backbone.head.weight"].shape == (2, 24)
    assert len(rows(tmp_path / "out")) == 1
