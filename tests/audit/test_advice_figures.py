"""What an audit advises is what the committed tables say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from privbench.auditing.opening import open_model
from privbench.auditing.verdict import advice
from privbench.observation import Observation
from privbench.threat import Update
from tests.audit import plain

RESULTS = Path(__file__).parents[2] / "results"


def cell(table: str, model: str, attack: str, batch: int, defense: str = "none") -> Any:
    rows = pd.read_csv(RESULTS / table / "leaderboard.csv").to_dict("records")
    [row] = [
        SimpleNamespace(**row)
        for row in rows
        if (row["model"], row["attack"], row["defense"]) == (model, attack, defense)
        if row["threat"].endswith(f"batch {batch}") and row["weights"] != "init"
    ]
    return row


@pytest.fixture
def said() -> str:
    public = open_model(plain.network(), {}, torch.device("cpu"), own=True)[1]
    seen = Observation(public, Update({}), (1, 3, 32, 32))
    return " ".join(advice(seen, withheld_positions=False))


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        ("round", "bfloat16 gradient leaves {:.1f} dB"),
        ("noise", "1 % noise {:.1f} dB"),
        ("prune", "pruning 90 % {:.1f} dB"),
    ],
)
def test_what_defenses_leave(said, defense, words):
    row = cell("leaderboard", "vit_vanilla", "auto", 1, defense)
    assert words.format(row.psnr) in said
    assert f"a flat picture has {row.psnr_floor:.1f}" in said


def test_what_withholding_leaves(said):
    row = cell("leaderboard", "vit_vanilla", "auto", 1, "withhold")
    plain = cell("leaderboard", "vit_vanilla", "auto", 1)
    assert f"{plain.psnr:.0f} dB with it and without" in said
    assert row.psnr == plain.psnr


def test_what_batches_leave(said):
    row = cell("batch", "vit_patch8", "peel", 8)
    assert f"batches of 8, {row.psnr_exact:.0f} of {row.n} pictures come back exact" in said
