"""Grids: every text whole and in its own room, every file in its folder."""

import io
import re
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from privbench.records import picture as strip
from privbench.records.store import Store
from privbench.reports.grid import Panel, _lines, _telling, draw, figure, save
from tests.commands import contents
from tests.sample_records import done, lost, part

TITLE = "cifar10, knows labels, batch 1, seed 0, first 8 of 20 images"
SHORT = "vit_vanilla\ninit weights, defense none"
LONG = (
    "vit_mjp(ratio=0.5, sampler=blockwise_exact)\n"
    "vit_mjp_of_march.safetensors weights, defense noise(sigma=0.1, relative=False)+clip(norm=0.5)"
)
ATTACKS = (
    "gradinv(steps=500, mask=ignored, restarts=4)",
    "pe_ls",
    "anattackwithaverylongnameandnoplacetobreak",
    "mean",
    "gradinv(steps=500, mask=ignored, restarts=8)",
    "price_is_$5_$6",
    "dlg(steps=20)",
    "april",
)
PIXELS = np.zeros((8, 8, 3), np.uint8)


def panels(rows, attacks, victims=(LONG,)):
    images = range(rows)
    found = [Panel("original", "", dict.fromkeys(images, PIXELS), {i: f"no. {i}" for i in images})]
    for victim in victims:
        found.append(Panel("fed in", victim, dict.fromkeys(images, PIXELS)))
        for name in attacks:
            tiles = {i: None if i % 3 == 1 else PIXELS for i in images}
            below = {i: "refused" if i % 3 == 1 else "100.0 dB\nfed 100.0 dB" for i in images}
            found.append(Panel(name, victim, tiles, below))
    return found


def boxes(canvas):
    """Texts and frames with their places on the canvas."""
    renderer = canvas.canvas.get_renderer()
    texts = [(t.get_text(), t.get_window_extent(renderer)) for t in canvas.texts if t.get_text()]
    frames = [("frame", axes.get_window_extent(renderer)) for axes in canvas.axes]
    inside = [text for axes in canvas.axes for text in axes.findobj(match=is_written)]
    assert not inside, "a frame holds pixels only"
    return texts, frames


def is_written(artist):
    return bool(getattr(artist, "get_text", str)())


def overlap(one, two):
    return min(one.x1, two.x1) > max(one.x0, two.x0) and min(one.y1, two.y1) > max(one.y0, two.y0)


def check(canvas):
    texts, frames = boxes(canvas)
    for text, box in texts + frames:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= canvas.bbox.x1, text
        assert box.y1 <= canvas.bbox.y1, text
    for (text, box), (other, another) in combinations(texts + frames, 2):
        assert not overlap(box, another), f"{text!r} lies on {other!r}"


@pytest.mark.parametrize("rows", range(1, 9))
def test_no_text_is_clipped_or_overlaps_with_any_number_of_rows(rows):
    check(figure(panels(rows, ATTACKS[:1]), TITLE))


@pytest.mark.parametrize("columns", range(1, 9))
@pytest.mark.parametrize("victims", [(SHORT,), (LONG,), (LONG, SHORT, LONG + " again")])
def test_no_text_is_clipped_or_overlaps_with_any_number_of_columns(columns, victims):
    check(figure(panels(1, ATTACKS[:columns], victims), TITLE))


def test_a_large_grid_is_laid_out_as_well():
    check(figure(panels(8, ATTACKS, (LONG, SHORT)), f"folder@{'long' * 40}, {TITLE}"))


def test_a_grid_of_failures_alone_is_laid_out_as_well():
    check(figure([Panel("original", ""), Panel("a", SHORT, {0: None}, {0: "failed"})], TITLE))


def squeezed(text):
    return re.sub(r"\s+", "", text)


def test_no_part_of_a_label_is_left_out():
    texts, _ = boxes(figure(panels(2, ATTACKS, (LONG,)), TITLE))
    written = [squeezed(text) for text, _ in texts]
    for wanted in (*ATTACKS, *LONG.split("\n"), TITLE, "original", "fed in"):
        assert squeezed(wanted) in written


def test_what_was_fed_in_is_shown_once_and_only_where_it_is_not_the_original():
    victims = [f"vit_{model}\ninit weights, defense {d}" for model in "xy" for d in ("none", "a")]
    line = panels(2, ATTACKS[:1], victims)
    for panel in line:
        if panel.heading == "fed in" and "vit_y" in panel.victim:
            panel.tiles = dict.fromkeys(range(2), PIXELS + 1)
    kept = [(panel.heading, panel.victim) for panel in _telling(line)]
    attack = ATTACKS[0]
    assert kept == [
        ("original", ""),
        *((attack, victim) for victim in victims[:2]),
        ("fed in", victims[2]),
        *((attack, victim) for victim in victims[2:]),
    ]


def test_a_png_has_the_size_of_the_figure_and_no_trace_of_its_maker():
    png = draw(panels(2, ATTACKS[:2]), TITLE)
    with Image.open(io.BytesIO(png)) as picture:
        assert min(picture.size) > 300
        assert "Software" not in picture.info
    assert draw(panels(2, ATTACKS[:2]), TITLE) == png


def test_many_victims_take_a_line_for_each_model():
    victims = [f"vit_{m}\ninit weights, defense {d}" for d in ("a", "none", "b") for m in "yxz"]
    lines = _lines(panels(2, ATTACKS[:1], victims))
    assert [[panel.victim for panel in line if panel.heading == "fed in"] for line in lines] == [
        [f"vit_{m}\ninit weights, defense {d}" for d in ("none", "a", "b")] for m in "xyz"
    ]
    assert all(line[0].heading == "original" for line in lines)
    with Image.open(io.BytesIO(draw(panels(2, ATTACKS[:1], victims), TITLE))) as whole:
        assert whole.height > whole.width
        assert whole.width < 2500


def stored(tmp_path, *records):
    store = Store(tmp_path / "results")
    tiles = torch.linspace(0, 1, 3 * 8 * 8).view(1, 3, 8, 8)
    for record in records:
        batch = tiles.expand(len(record.case.images), -1, -1, -1)
        store.put(record, strip.draw(batch, batch, 1 - batch) if record.status == "done" else None)
    return store


@pytest.mark.parametrize(
    "name", ["../../escape", "/etc/passwd", "..", "a/b", "nul\0", "照片", "x" * 400]
)
def test_no_label_leaves_the_folder_or_the_limits_of_a_file_name(name, tmp_path):
    store = stored(tmp_path, done(model=part(name, path="../../up"), defense=[part(name)]))
    [path] = save(store.records(), store)
    found = [one for one in contents(tmp_path) if "cases" not in one]
    assert [one.count("/") for one in found] == [2]
    assert found[0].startswith("results/grids/")
    assert path.endswith(found[0])


def test_long_names_that_differ_at_the_end_are_two_files(tmp_path):
    labels = [part("vit", setting="x" * 300 + end) for end in "ab"]
    store = stored(tmp_path, *(done(model=label) for label in labels))
    assert len(set(save(store.records(), store))) == 2


def test_one_picture_per_victim_or_one_for_all(tmp_path):
    store = stored(tmp_path, done(), done(model="vit_vanilla"), done(attack="dlg"))
    assert len(save(store.records(), store)) == 2
    [path] = save(store.records(), store, joined=True)
    assert path.endswith("grids/side-by-side.png")


@pytest.mark.parametrize("other", [{"seed": 1}, {"knows": ["labels"]}, {"dataset": "photos"}])
@pytest.mark.parametrize("joined", [True, False])
def test_what_ran_under_other_conditions_never_shares_a_picture(other, joined, tmp_path):
    store = stored(tmp_path, done(), done(**other))
    assert len(set(save(store.records(), store, joined=joined))) == 2


@pytest.mark.parametrize(
    "loss", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x89PNG")]
)
def test_a_lost_or_torn_picture_leaves_an_empty_frame(loss, tmp_path):
    record = done()
    store = stored(tmp_path, record, done(images=(1,)), lost(images=(2,)))
    loss(store.path(record.case, ".png"))
    assert len(save(store.records(), store)) == 1


def test_the_tiles_are_the_pictures_beside_the_record(tmp_path):
    store = stored(tmp_path, done())
    rows = strip.read(store.path(done().case, ".png"))
    expected = torch.linspace(0, 1, 3 * 8 * 8).view(3, 8, 8).permute(1, 2, 0).mul(255).round()
    for (tile,), wanted in zip(rows, (expected, expected, 255 - expected), strict=True):
        assert np.abs(tile - wanted.numpy()).max() <= 1
