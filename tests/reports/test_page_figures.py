"""Figures of the page: who stands on the front, who is hollow, and what makes a curve."""

from itertools import cycle

import numpy as np
import pytest

from privbench.reports.axes import COLORS, looks
from privbench.reports.board import Section
from privbench.reports.leak_figures import MARKERS, against_accuracy, pareto, sweeps
from tests.reports.test_board import images
from tests.sample_records import done, part


def compared(**rows: tuple[float, float, str]) -> Section:
    """Rows by model: accuracy, leak and flags."""
    made = [
        {"model": name, "attack": "pe_ls", "top1": x, "psnr": y, "psnr_floor": 8.0, "flags": flags}
        for name, (x, y, flags) in rows.items()
    ]
    return Section({"weights": "trained"}, made, [])


def test_a_row_that_is_no_evidence_is_no_part_of_the_front_and_hollow():
    section = compared(
        plain=(80.0, 90.0, ""), low=(75.0, 20.0, "unranked, few pictures"), none=(70.0, 8.5, "")
    )
    figure = against_accuracy(section)
    assert figure is not None
    [axes] = figure.axes
    [front] = [line for line in axes.lines if line.get_label() == "front"]
    assert np.asarray(front.get_xdata()).tolist() == [80.0]
    [legend] = figure.legends
    said = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert "low, pe_ls (unranked)" in said
    assert "none, pe_ls (no attack works)" in said
    hollow = [
        line.get_markerfacecolor() == "white" for line in axes.lines if line.get_marker() in MARKERS
    ]
    assert hollow == [False, True, True]


def test_no_two_victims_look_alike():
    found = list(zip(looks(), cycle(MARKERS), range(len(MARKERS) * len(COLORS)), strict=False))
    assert len({(look["color"], marker) for look, marker, _ in found}) == len(found) == 42


def test_the_front_is_what_no_other_beats():
    points = [(80.0, 90.0), (70.0, 20.0), (75.0, 95.0), (60.0, 30.0), (80.0, 95.0)]
    assert pareto(points) == [(70.0, 20.0), (80.0, 90.0)]
    assert pareto(points[:1]) == points[:1]


def test_what_was_varied_in_three_steps_is_a_curve_and_what_else_changed_is_not_in_it():
    def batch(size, attack="peel", settings=None):
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 192, **(settings or {})}
        return done(
            [50.0] * size,
            [8.0] * size,
            images=tuple(range(size)),
            attack=attack,
            model=part("vit_patch8", **sizes),
        )

    sizes = [batch(size) for size in (1, 2, 4)]
    [sweep] = sweeps([*sizes, batch(2, "auto"), batch(4, "auto")])
    assert sweep.axis == "threat.batch_size"
    assert {name: [p[0] for p in c] for name, c in sweep.curves.items()} == {
        "peel on vit_patch8, init": [1, 2, 4]
    }
    assert sweep.bound == pytest.approx(191 / 17)
    assert not sweeps(sizes[:2])
    assert not sweeps([*sizes[:2], batch(4, settings={"depth": 3})])


@pytest.mark.parametrize("odd", [10**400, float("nan"), float("inf"), True, "many", None])
def test_settings_that_no_axis_holds_make_no_curve(odd):
    some = [
        one for v in (1, 2, odd) for one in images([30.0] * 2, defense=[part("noise", sigma=v)])
    ]
    assert not sweeps(some)
