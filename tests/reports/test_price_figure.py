"""Leakage against price: each defense is a point, and the front is what a reader would draw."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation

from privbench.errors import BadData
from privbench.reports.axes import svg
from privbench.reports.board import board
from privbench.reports.joined import joined
from privbench.reports.labels import spread
from privbench.reports.leaderboard import leaderboard
from privbench.reports.price_figure import (
    FRONT,
    against_price,
    front,
    of_tables,
    points_of,
    price_figures,
)
from tests.reports.test_board import images, joined_to
from tests.sample_records import part


def row(defense, price, leak, flags="", model="vit", **more):
    found = {"model": model, "defense": defense, "psnr": leak, "psnr_floor": 12.0, "flags": flags}
    if price is not None:
        ends = {"price_points_lo": price - 0.5, "price_points_hi": price + 0.5}
        found |= {"price_points": price, **ends}
    return found | {"psnr_lo": leak - 1, "psnr_hi": leak + 1} | more


ROWS = [
    row("none", None, 100.0),
    row("weak", 0.0, 60.0),  # as cheap as none, and leaks less
    row("middle", 2.0, 30.0),
    row("dear", 3.0, 40.0),  # middle beats it in both
    row("unproved", 0.5, 12.0, "unranked, few pictures"),
    row("tight", 9.0, 12.4, "few pictures"),  # at the floor
    row("tighter", 20.0, 11.9),  # at the floor, too, and no less is found there
    row("unpriced", None, 20.0),
]


def test_the_front_is_the_one_that_a_reader_draws():
    [(model, points)] = points_of(ROWS).items()
    assert model == "vit"
    assert [point.defense for point in points] == [
        *("none", "weak", "middle", "dear", "unproved", "tight", "tighter")
    ]
    assert [point.defense for point in front(points)] == ["weak", "middle", "tight"]
    assert points[0].price == (0, 0, 0)
    assert points[1].price == (0, -0.5, 0.5)
    assert points[1].leak == (60, 59, 61)


def test_a_victim_without_any_price_is_not_drawn():
    bare = row("none", None, 50.0, model="another")
    assert list(points_of([*ROWS, bare])) == ["vit"]


@pytest.mark.parametrize("rows", [[], [row("none", None, 100.0), row("noise", None, 30.0)]])
def test_a_table_without_prices_is_refused_in_a_sentence(rows):
    with pytest.raises(BadData, match="No row has both a leak and a price"):
        against_price(rows, "x")


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        ([], "loses (bars"),
        (["short"], "loses, short form (bars"),
        (["short", "full"], "full and sho"),
    ],
)
def test_the_axis_says_how_long_the_trainings_were(forms, said):
    priced = [row(f"d{i}", 1.0 + i, 20.0, price_form=form) for i, form in enumerate(forms)]
    figure = against_price([row("none", None, 90.0, price_form="no price"), *priced, *ROWS], "x")
    assert said in figure.axes[-1].get_xlabel()


def test_each_point_is_drawn_with_its_name_and_no_two_names_overlap():
    more = [row(f"a_defense(size={i})", i / 10, 12 + i / 2) for i in range(9)]
    other = [row("none", None, 90.0, model="other"), row("noise", 15.0, 40.0, model="other")]
    figure = against_price([*ROWS, *more, *other], "of a test")
    figure.draw_without_rendering()
    first, second = figure.axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("vit", "other")
    names = [one for one in first.texts if isinstance(one, Annotation)]
    assert len(names) == len(first.containers) == 7 + len(more)
    assert [one.get_text() for one in second.texts] == ["none", "noise"]
    # of a text with a line to its point the letters alone
    boxes = [super(Annotation, one).get_window_extent() for one in names]
    for i, one in enumerate(boxes):
        assert first.bbox.x0 <= one.x0 <= one.x1 <= first.bbox.x1
        assert not any(one.overlaps(other) for other in boxes[:i])
    [line] = [one for one in second.lines if one.get_linestyle() == "--"]
    assert line.get_color() == FRONT["color"]
    assert np.asarray(line.get_xydata()).tolist() == [[0, 90], [15, 40]]


def test_the_same_figure_comes_from_records_and_from_written_tables(tmp_path):
    """A row that is a mean over seeds has the ceiling of the one seed that was bounded."""
    settings = {"model": ["vit_vanilla"], "defense": ["noise"]}
    joined_to(tmp_path, "price", **settings, price_points=[1.5])
    joined_to(tmp_path, "ceiling", **settings, seed=[0], ceiling=[60.0])
    joined_to(tmp_path, "other", model=["vit_mjp"], defense=["none"], price_points=[9.0])
    records = [
        *images(range(50, 74), model="vit_vanilla"),
        *images(range(10, 34), model="vit_vanilla", defense=["noise"]),
        *images([9.0] * 24, model="vit_vanilla", attack="mean", defense=["noise"]),
        *images([9.0] * 24, model="vit_vanilla", defense=[part("prune", ratio=0.5)]),
    ]
    [section] = board(records, (), joined(tmp_path), by=["model", "defense"])
    pooled = points_of(section.rows)
    text = leaderboard(records).to_csv(index=False)
    (tmp_path / "leaderboard.csv").write_text(text)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    written = points_of(of_tables(table, joined(tmp_path)))
    assert list(pooled) == list(written) == ["vit_vanilla"]
    for one, other in zip(pooled["vit_vanilla"], written["vit_vanilla"], strict=True):
        assert (one.defense, one.price, one.ceiling) == (other.defense, other.price, other.ceiling)
        assert one.leak == pytest.approx(other.leak)
        assert one.counts == other.counts
    assert [point.ceiling for point in pooled["vit_vanilla"]] == [None, 60.0]
    assert [point.leak[0] for point in pooled["vit_vanilla"]] == [61.5, 21.5]
    assert list(price_figures([section])) == ["price"]
    assert not price_figures(board(records, (), (), by=["model", "defense"]))


def test_notes_of_a_written_table_say_what_is_no_evidence():
    keys = {"model": "vit", "weights": "init", "n": 24, "psnr_floor": 9.0, "price_points": 1.0}
    notes = ["", "Unranked: none has run.", "x | The undefended control does not leak under this "]
    notes[2] += "attack: this row is void."
    rows = [
        keys | {"defense": str(i), "attack": "a", "psnr": 9.0, "psnr_control": 50.0, "notes": note}
        for i, note in enumerate([*notes, None])
    ]
    rows[3]["psnr_control"] = None
    table = pd.DataFrame(rows)
    found = points_of(of_tables(table, []))["vit"]
    assert {point.defense: point.counts for point in found} == {
        "0": True,
        "1": False,
        "2": False,
        "3": False,
    }


def test_a_name_with_markup_stays_text():
    text = svg(against_price([row("<b>&$x$", 1.0, 30.0, model="<i>")], "<u>"), "price")
    assert "&lt;b&gt;&amp;$x$" in text
    assert not {"<b>", "<i>", "<u>"} & set(text.split())
    assert "<b>" not in text


def test_labels_keep_apart_inside_their_box_where_there_is_room():
    rng = np.random.default_rng(0)
    points = rng.uniform([60, 40], [540, 100], (24, 2))
    sizes = np.stack([rng.uniform(20, 70, 24), np.full(24, 9.0)], 1)
    centers = spread(points, sizes, (0.0, 0.0, 600.0, 300.0), np.empty((0, 4)))
    low, high = centers - sizes / 2, centers + sizes / 2
    assert (low >= 0).all()
    assert (high <= [600, 300]).all()
    apart = np.any((low[:, None] >= high) | (high[:, None] <= low), axis=2)
    assert apart[~np.eye(24, dtype=bool)].all()
