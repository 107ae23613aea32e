"""From released folders to a row of robustness.csv, for a user's own network of 1000 classes."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privbench.datasets._classes import columns, wnids
from privbench.utility.calibration import rms_error
from privbench.utility.pictures import choose
from tests.commands import Call, caller, contents
from tests.released import linked, part

NETWORK = """
import torch

class Mean(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) @ torch.randn(3, 1000, generator=torch.manual_seed(0)) * 9

def make():
    return Mean()
"""
N = 100
SOME = ("--images", N, "--eval", "imagenet_c,imagenet_a,imagenet_o", "--set", "eval.severities=[2]")


def painted(root: Path, folders: Iterable[str], seed: int = 0) -> Path:
    """Make class folders with pictures of one color each."""
    colors = np.random.default_rng(seed).integers(0, 256, (7, 3)).tolist()
    return linked(root, folders, [Image.new("RGB", (224, 224), tuple(rgb)) for rgb in colors])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("released")
    (top / "net.py").write_text(NETWORK)
    painted(top / "val", wnids())
    painted(top / "c" / "blur" / "zoom_blur" / "2", wnids(), 50)
    painted(top / "c" / "weather" / "fog" / "2", wnids(), 60)
    painted(top / "a", part("a"), 70)
    painted(top / "o", part("o"), 80)
    return top


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def command(top: Path, out: Path, *more: object, corruptions: str = "[zoom_blur,fog]") -> list:
    return [
        *("eval", "--model", f"{top / 'net.py'}:make", "--imagenet", top / "val"),
        *("--imagenet-c", top / "c", "--imagenet-a", top / "a", "--imagenet-o", top / "o"),
        *(*SOME, "--set", f"eval.corruptions={corruptions}", "--out", out, *more),
    ]


def expected(root: Path, ids: list[str], chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return by hand, for each picture, whether the answer is right, and its confidence."""
    import torch

    weights = torch.randn(3, 1000, generator=torch.manual_seed(0)).numpy() * 9
    right, confidence = [], []
    for wnid in [ids[number] for number in choose(len(ids), N)]:
        pixels = np.asarray(Image.open(root / wnid / "one.JPEG")) / 255
        logits = (pixels.mean((0, 1)) @ weights)[chosen]
        shares = np.exp(logits - logits.max())
        right.append(chosen[int(logits.argmax())] == wnids().index(wnid))
        confidence.append(shares.max() / shares.sum())
    return np.array(right), np.array(confidence)


def test_a_row_has_the_figures_that_hands_find(folders: Path, tmp_path: Path, call: Call) -> None:
    code, text, err = call(*command(folders, tmp_path))
    assert code == 0, err
    assert "net.py:make" in text
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert len(table) == 1
    row = table.iloc[0]
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("utility/**/*.json")]
    for corruption in ("zoom_blur", "fog", "none"):
        root = next((folders / "c").glob(f"*/{corruption}/2"), folders / "val")
        clean, _ = expected(root, wnids(), list(range(1000)))
        [one] = [r for r in records if r["case"]["condition"].get("corruption") == corruption]
        assert one["values"]["wrong"] == (1 - clean).tolist()
    right, confidence = expected(folders / "a", part("a"), columns("a"))
    assert row["imagenet_a_top1"] == pytest.approx(right.mean())
    assert row["imagenet_a_top1_n"] == N
    assert row["imagenet_a_rms"] == pytest.approx(
        rms_error(right.astype(float), confidence), abs=1e-4
    )
    known, _ = expected(folders / "val", part("a"), columns("a"))
    assert row["imagenet_a_clean_top1"] == pytest.approx(known.mean())
    _, inside = expected(folders / "val", part("o"), columns("o"))
    _, outside = expected(folders / "o", part("o"), columns("o"))
    pairs = outside[:, None] - inside
    auroc = (pairs < -1e-6).mean() + 0.5 * (np.abs(pairs) <= 1e-6).mean()
    assert row["imagenet_o_auroc"] == pytest.approx(auroc, abs=0.02)
    # two of fifteen corruptions make no mean over fifteen, and none is filled in
    assert not [name for name in table.columns if "mCE" in name or "mean_error" in name]


def test_the_same_command_goes_on_where_it_was_stopped(
    folders: Path, tmp_path: Path, call: Call
) -> None:
    assert call(*command(folders, tmp_path, corruptions="[fog]"))[0] == 0
    before = contents(tmp_path / "utility")
    assert call(*command(folders, tmp_path))[0] == 0
    after = contents(tmp_path / "utility")
    added = [text for name, text in after.items() if name not in before]
    assert len(added) == 1
    assert b"zoom_blur" in added[0]
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("broken", "answer"),
    [
        ("c/weather/fog/2", "has no folder 2 for the severity"),
        (f"val/{wnids()[7]}", f"lacks 1 of its 1000 class folders: {wnids()[7]}"),
        (f"a/{part('a')[0]}", "is not ImageNet-A: it lacks 1 of its 200"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_measured(
    folders: Path, tmp_path: Path, call: Call, broken: str, answer: str
) -> None:
    aside = folders / "aside"
    (folders / broken).rename(aside)
    try:
        code, _, err = call(*command(folders, tmp_path))
    finally:
        aside.rename(folders / broken)
    assert code == 2
    assert answer in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize(("torn", "code"), [(1, 0), (2, 2)])
def test_unreadable_pictures_are_named_up_to_a_thousandth(
    folders: Path, tmp_path: Path, call: Call, torn: int, code: int
) -> None:
    top = tmp_path / "c"
    painted(top / "fog" / "2", wnids(), 60)
    for wnid in wnids()[:torn]:
        (top / "fog" / "2" / wnid).unlink()
        (top / "fog" / "2" / wnid).mkdir()
        (top / "fog" / "2" / wnid / "one.JPEG").write_bytes(b"torn")
    found, text, err = call(
        *("eval", "--model", f"{folders / 'net.py'}:make", "--imagenet-c", top),
        *("--eval", "imagenet_c", "--set", "eval.severities=[2]"),
        *("--set", "eval.corruptions=[fog]", "--out", tmp_path / "out"),
    )
    assert found == code
    said = " ".join((text + err).split())
    if code:
        assert "2 of 1000 pictures cannot be read, more than 0.1%" in said
    else:
        assert "1 of 1000 pictures left out" in said
        assert wnids()[0] in said


def test_labels_outside_of_a_head_are_refused(folders: Path, tmp_path: Path, call: Call) -> None:
    code, _, err = call(
        "eval", "--model", "vit_vanilla", "--imagenet", folders / "val", "--out", tmp_path
    )
    assert code == 2
    assert "1000 classes of ImageNet-1k, this victim knows 10" in " ".join(err.split())


def test_a_folder_alone_is_measured_and_nothing_else_is_asked_for(
    folders: Path, tmp_path: Path, call: Call
) -> None:
    model = f"{folders / 'net.py'}:make"
    code, _, err = call("eval", "--model", model, "--imagenet-a", folders / "a", "--out", tmp_path)
    assert code == 0, err
    row = pd.read_csv(tmp_path / "robustness.csv").iloc[0]
    assert row["imagenet_a_top1_n"] == 200
    assert row["dataset"] == "imagenet_a@a"
    code, _, err = call("eval", "--model", model, "--imagenet-o", folders / "o", "--out", tmp_path)
    assert code == 2
    assert "Add --imagenet PATH" in err
