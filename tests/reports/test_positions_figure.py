"""The picture of the position study."""

import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privbench.reports.leaderboard import to_csv
from privbench.reports.positions_figure import draw, figure
from tests.study import test_positions

planted, rows = test_positions.planted, test_positions.rows
table, with_table = test_positions.table, test_positions.with_table


def test_the_picture_is_a_png_of_a_readable_size_and_the_same_twice(table):
    picture = draw(table)
    assert picture == draw(table)
    assert len(picture) < 400_000
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        width, height = image.size
        assert 1200 < width < 2400
        assert 600 < height < 1600
        assert len(np.unique(np.asarray(image.convert("L")))) > 20, "not one flat color"


def test_a_table_read_from_its_file_gives_the_same_texts(table):
    def texts(one):
        axes = figure(one).axes[1]
        return [label.get_text() for label in axes.get_yticklabels()]

    again = pd.read_csv(io.BytesIO(to_csv(table)))
    assert texts(again) == texts(table)
    assert texts(table)[1] == "noise\nweights init, 64 × 128"  # noqa: RUF001
    assert texts(table)[-1] == "2-D sin-cos\n64 × 128"  # noqa: RUF001


def marked(axes, marker):
    """Where the markers of one kind stand: label and both coordinates."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(line.get_label(), *map(list, line.get_data())) for line in lines]


def test_marks_stand_where_the_numbers_are(table, rows):
    left, right = figure(table).axes
    [curve] = [y for _, _, y in marked(left, "None") if y[0] == rows["noise"]["pca_1"]]
    assert curve == [rows["noise"][f"pca_{k}"] for k in range(1, 21)]
    published = [54.61, 68.55, 77.95, 85.54, 90.74]
    assert marked(left, "o") == [("paper says: DeiT-S", [3, 4, 5, 6, 7], published)]
    [(label, _, published)] = marked(left, "s")
    assert label == "paper says: DeiT-S+MJP"
    assert published == [46.74, 58.36, 69.10, 78.13, 84.55]
    for marker, task in (("o", "absolute_2d"), ("D", "relative_2d")):
        dots = [(x[0], round(y[0])) for _, x, y in marked(right, marker) if x]
        assert dots == [(row[f"mae_{task}"], i) for i, row in enumerate(rows.values())]


NAMES = (
    "vit_mjp(ratio=0.5, sampler=blockwise_exact, init_seed=3, localization=nonlinear)",
    "amodelwithaverylongnameandnoplacetobreakitanywhereatall",
    "price_is_$5_$6",
    "vit_日本",
)


def boxes(canvas):
    """All texts, the plots, and the strokes beside the names, with their places."""
    canvas.draw_without_rendering()
    renderer = canvas.canvas.get_renderer()
    found = [text for legend in canvas.legends for text in legend.get_texts()]
    for axes in canvas.axes:
        found += [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]
        found += [axes.xaxis.label, axes.yaxis.label, axes._left_title, axes.patch]
        found += [line for line in axes.lines if not line.get_clip_on()]
    found = [artist for artist in found if getattr(artist, "get_text", lambda: "plot")()]
    # a level line's box has no height
    return [(str(artist), artist.get_window_extent(renderer).padded(1)) for artist in found]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("count", [1, 4, 16])
def test_no_text_is_clipped_or_lies_on_another(table, count):
    one = table.iloc[[1]]
    canvas = figure(pd.concat([one.assign(model=NAMES[i % 4]) for i in range(count)] + [table]))
    found = boxes(canvas)
    assert len(found) > 4 * count
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= canvas.bbox.x1, text
        assert box.y1 <= canvas.bbox.y1, text
    for (text, box), (other, another) in combinations(found, 2):
        across = min(box.x1, another.x1) > max(box.x0, another.x0)
        along = min(box.y1, another.y1) > max(box.y0, another.y0)
        assert not (across and along), f"{text} lies on {other}"


def test_letters_that_the_font_lacks_are_drawn_without_a_warning(table):
    assert draw(table.iloc[[0]].assign(model=NAMES[-1])).startswith(b"\x89PNG")
