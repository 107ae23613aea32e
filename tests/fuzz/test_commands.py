"""Whole commands on whatever lies in a folder: an answer or a sentence, and all earlier results."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from tests.commands import contents
from tests.fuzz.civil import command, sizes
from tests.fuzz.test_pictures import contents as pictures
from tests.fuzz.test_pictures import rows

TINY = ("--model", "vit_vanilla", "--set", "model.depth=1", "--images", "2")
RUN = ("run", "--attack", "mean", *TINY)
EVAL = ("eval", *TINY, "--eval", "accuracy")
TRAIN = ("train", *TINY[:4], "--epochs", "1", "--set", "train.batch_size=2", "--workers", "0")
PLACES = {
    "run --data-root": (*RUN, "--dataset", "folder", "--data-root"),
    "run --weights": (*RUN, "--weights"),
    "run --suite": ("run", "--suite"),
    "run --out": (*RUN, "--out"),
    "eval --data-root": (*EVAL, "--dataset", "folder", "--data-root"),
    "eval --imagenet": ("eval", *TINY, "--imagenet"),
    "eval --cifar10-c": ("eval", *TINY, "--cifar10-c"),
    "eval --svhn": ("eval", *TINY, "--svhn"),
    "eval --out": (*EVAL, "--out"),
    "leaderboard --out": ("leaderboard", "--out"),
    "grid --out": ("grid", "--out"),
    "rescore --out": ("rescore", "--out"),
    "compare --out": ("compare", "a", "b", "--out"),
    "train --data-root": (*TRAIN, "--dataset", "folder", "--data-root"),
    "train --weights": (*TRAIN, "--weights"),
    "import-weights": ("import-weights", "--model", "vit_vanilla"),
    "study pe --weights": ("study", "pe", "--model", "vit_vanilla", "--weights"),
    "run --model": (*RUN, "--model"),
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with results of an earlier run and evaluation."""
    monkeypatch.chdir(tmp_path)
    assert command(*RUN)[0] == 0
    assert command(*EVAL, "--dataset", "cifar10")[0] == 0
    return tmp_path


def kept(folder: Path) -> dict[str, bytes]:
    return contents(folder / "results" / "cases") | contents(folder / "results" / "utility")


@sizes
def test_any_folder_of_pictures_ends_in_an_answer_or_a_sentence(inputs: settings, desk: Path):
    before = kept(desk)
    root = desk / "pictures"

    @inputs
    @seed(11)
    @given(
        files=st.lists(
            st.tuples(st.sampled_from(["a/0.png", "b/0.jpg", "b/1.png", "0.bmp"]), pictures()),
            max_size=4,
        ),
        table=st.none() | rows,
        verb=st.sampled_from([RUN, EVAL]),
    )
    @example(files=[], table=None, verb=EVAL)
    @example(files=[("a/0.png", b"")], table=[("a/0.png", "1")], verb=EVAL)
    def check(
        files: list[tuple[str, bytes]], table: list[tuple[str, str]] | None, verb: tuple[str, ...]
    ) -> None:
        root.mkdir(exist_ok=True)
        for name, content in files:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(content)
        if table is not None:
            lines = ["file,label", *(f"{file},{label}" for file, label in table)]
            text = "\n".join(lines)
            (root / "labels.csv").write_text(text, encoding="utf-8", errors="surrogatepass")
        given_ = contents(root)
        command(*verb, "--dataset", "folder", "--data-root", str(root))
        assert contents(root) == given_
        found = kept(desk)
        assert {name: found.get(name) for name in before} == before
        for path in sorted(root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    check()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_any_place_ends_in_an_answer_or_a_sentence(place: str, desk: Path):
    before = kept(desk)
    (desk / "file").write_bytes(b"x")
    (desk / "loop").symlink_to(desk / "loop")
    names = [
        "x" * 300 + ".yaml",
        str(desk / "file" / "x.yaml"),
        os.devnull,
        str(desk / "loop"),
        "",
        str(desk / "nowhere" / "x.safetensors"),
    ]
    for name in names:
        command(*PLACES[place], name)
        found = kept(desk)
        assert {one: found.get(one) for one in before} == before
