"""What all figures share: curves where the numbers are, any name as it is, the same bytes twice."""

import io

import numpy as np
import pytest
from PIL import Image

from privbench.reports.axes import COLORS, STROKES, curves, looks, png

LINES = {
    "vit_日本": [(0.0, 50.0, 40.0, 60.0)],
    "$5_$6": [(0.0, 9.0, 8.0, 9.5), (0.5, 7.0, 6.0, 8.0)],
}


def test_curves_and_bands_stand_where_the_numbers_are():
    [axes] = curves(LINES, "title", "x", "y").axes
    drawn = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    assert {name: line.tolist() for name, line in drawn.items()} == {
        name: [list(point[:2]) for point in points] for name, points in LINES.items()
    }
    for band, points in zip(axes.collections, LINES.values(), strict=True):
        [path] = band.get_paths()
        corners = {tuple(corner) for corner in np.asarray(path.vertices).tolist()}
        assert {(x, end) for x, _, *ends in points for end in ends} <= corners


def test_names_are_no_mathematics_and_may_have_letters_that_the_font_lacks():
    figure = curves(LINES, "$a_b", "x", "y")
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(LINES)
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert png(figure).startswith(b"\x89PNG")


def test_a_figure_is_the_same_twice_and_names_no_maker():
    one, two = (png(curves(LINES, "title", "x", "y")) for _ in range(2))
    assert one == two
    assert "Software" not in Image.open(io.BytesIO(one)).info


def test_no_two_lines_look_alike_until_all_looks_are_used():
    given = looks()
    found = [tuple(next(given).values()) for _ in range(len(COLORS) * len(STROKES))]
    assert len(set(found)) == len(found)
    assert tuple(next(given).values()) == found[0]


@pytest.mark.parametrize("count", [1, 3])
def test_places_without_a_curve_have_no_tick(count):
    points = [(float(x), 1.0, 1.0, 1.0) for x in range(count)]
    [axes] = curves({"a": points}, "title", "x", "y").axes
    assert axes.get_xticks().tolist() == list(range(count))
