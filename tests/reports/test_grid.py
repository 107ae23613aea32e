"""Grids: every text whole and in its own room, every file in its folder."""

import io
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from privbench.records import picture as strip
from privbench.records.picture import Pixels
from privbench.records.store import Store
from privbench.reports.grid import INPUT, _panels, _telling, draw, save, save_all
from privbench.reports.paging import Panel
from privbench.reports.sheets import sheets
from tests.commands import contents
from tests.sample_records import done, lost, part

TITLE = "cifar10, knows labels, batch 1, seed 0, first 8 of 20 images"
SHORT = ("vit_vanilla\ninit weights", "defense none")
LONG = (
    "vit_mjp(ratio=0.5, sampler=blockwise_exact)\nvit_mjp_of_march.safetensors weights",
    "defense noise(sigma=0.1, relative=False)+clip(norm=0.5)",
)
OTHER = (LONG[0], "defense prune")
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
PIXELS: Pixels = np.zeros((8, 8, 3), np.uint8)


SCREEN = (1600, 1000)


def panels(rows, attacks, victims=(LONG,), caption="100.0 dB\ninput 100.0 dB"):
    images = range(rows)
    tiles: dict[int, Pixels | None] = dict.fromkeys(images, PIXELS)
    found = [Panel("original", tiles=tiles, captions={i: f"no. {i}" for i in images})]
    for victim, defense in victims:
        found.append(Panel(INPUT, victim, defense, dict(tiles)))
        for name in attacks:
            some = {i: None if i % 3 == 1 else PIXELS for i in images}
            below = {i: "refused" if i % 3 == 1 else caption for i in images}
            found.append(Panel(name, victim, defense, some, below))
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


def check(drawn):
    """Nothing is clipped and nothing lies on another, on any sheet."""
    for canvas in drawn:
        texts, frames = boxes(canvas)
        assert frames
        for text, box in texts + frames:
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= canvas.bbox.x1, text
            assert box.y1 <= canvas.bbox.y1, text
        for (text, box), (other, another) in combinations(texts + frames, 2):
            assert not overlap(box, another), f"{text!r} lies on {other!r}"


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_no_text_is_clipped_or_overlaps_with_any_number_of_rows(rows):
    check(sheets(panels(rows, ATTACKS[:1]), TITLE))


@pytest.mark.parametrize("columns", [1, 2, 5, 8])
@pytest.mark.parametrize("victims", [(SHORT,), (LONG,), (LONG, OTHER, SHORT)])
def test_no_text_is_clipped_or_overlaps_with_any_number_of_columns(columns, victims):
    check(sheets(panels(1, ATTACKS[:columns], victims), TITLE))


def test_a_grid_with_long_names_alone_is_laid_out_as_well():
    check(sheets(panels(4, ATTACKS[:2], (LONG, OTHER)), f"folder@{'long' * 40}, {TITLE}"))


def test_a_grid_of_failures_alone_is_laid_out_as_well():
    failed = Panel("a", *SHORT, {0: None}, {0: "failed"})
    check(sheets([Panel("original"), failed], TITLE))


MODELS = [f"vit_{name}\ninit weights" for name in ("vanilla", "mjp", "shuffle", "nope", "sincos")]
DEFENSES = [f"defense {name}" for name in ("none", "noise(sigma=0.1)", "clip", "prune", "round")]
VICTIMS = [(model, defense) for model in MODELS for defense in DEFENSES]


@pytest.mark.parametrize(
    ("rows", "attacks", "victims"),
    [
        (1, ["a"], 1),
        (8, ["a"], 1),
        (4, ["mean", "gradinv", "pe_ls", "auto"], 2),
        (3, [f"attack{i}" for i in range(12)], 1),
        (5, ["pe_ls"], 11),
    ],
)
def test_every_sheet_fits_a_screen_and_together_they_show_each_picture_once(rows, attacks, victims):
    given = panels(rows, attacks, VICTIMS[:victims])
    for number, panel in enumerate(given):
        panel.captions = {image: f"no. {number}:{image}" for image in panel.tiles}
    drawn = sheets(given, "title")
    shown = []
    for canvas in drawn:
        width, height = canvas.get_size_inches() * canvas.dpi
        assert width <= SCREEN[0]
        assert height <= SCREEN[1]
        shown += [text.get_text() for text in canvas.texts if text.get_text().startswith("no. ")]
    answers = [text for text in shown if not text.startswith("no. 0:")]
    assert sorted(answers) == sorted(c for panel in given[1:] for c in panel.captions.values())
    assert set(shown) - set(answers) == set(given[0].captions.values())
    numbers = [
        text.get_text() for canvas in drawn for text in canvas.texts if "title" in text.get_text()
    ]
    if len(drawn) == 1:
        assert numbers == ["title"]
    else:
        assert numbers == [f"title, sheet {i + 1} of {len(drawn)}" for i in range(len(drawn))]


def test_the_demo_is_one_sheet():
    assert len(sheets(panels(4, ["mean", "gradinv", "pe_ls", "auto"], VICTIMS[:6:5]), TITLE)) == 1


def test_each_answer_stands_beside_its_original_and_below_its_own_heading():
    given = panels(8, ["a", "b"], [VICTIMS[0], VICTIMS[1], VICTIMS[5]])
    for number, panel in enumerate(given):
        panel.heading = f"column {number}"
        panel.captions = {image: f"{number}:{image}" for image in panel.tiles}
    checked = 0
    for canvas in sheets(given, TITLE):
        texts, frames = boxes(canvas)
        places = dict(texts)
        for text, box in texts:
            if ":" not in text:
                continue
            number, image = text.split(":")
            assert box.y1 == pytest.approx(places[f"0:{image}"].y1, abs=2)
            columns = [one for name, one in texts if squeezed(name) == f"column{number}"]
            middles = [(one.x0 + one.x1) / 2 for one in columns]
            middle = pytest.approx((box.x0 + box.x1) / 2, abs=2)
            assert middle in middles
            assert any((f.x0 + f.x1) / 2 == middle and 0 < f.y0 - box.y1 < 15 for _, f in frames)
            checked += number != "0"
    assert checked == 8 * (len(given) - 1)


def squeezed(text):
    return re.sub(r"\s+", "", text)


def test_no_part_of_a_label_is_left_out():
    drawn = sheets(panels(2, ATTACKS, (LONG, OTHER)), TITLE)
    written = "\n".join(squeezed(text) for one in drawn for text, _ in boxes(one)[0])
    for wanted in (*ATTACKS, *LONG[0].split("\n"), LONG[1], OTHER[1], TITLE, "original", INPUT):
        assert squeezed(wanted) in written


def test_a_network_input_is_shown_once_and_only_where_it_is_not_the_original():
    victims = [(f"vit_{model}\ninit weights", f"defense {d}") for model in "xy" for d in "ab"]
    line = panels(2, ATTACKS[:1], victims)
    for panel in line:
        if panel.heading == INPUT and "vit_y" in panel.victim:
            panel.tiles = dict.fromkeys(range(2), PIXELS + 1)
    kept = [(panel.heading, panel.victim, panel.defense) for panel in _telling(line)]
    attack = ATTACKS[0]
    assert kept == [
        ("original", "", ""),
        *((attack, *victim) for victim in victims[:2]),
        (INPUT, *victims[2]),
        *((attack, *victim) for victim in victims[2:]),
    ]


def test_a_png_has_the_size_of_the_sheet_and_no_trace_of_its_maker():
    [png] = draw(panels(2, ATTACKS[:2]), TITLE)
    [sheet] = sheets(_telling(panels(2, ATTACKS[:2])), TITLE)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == tuple(map(int, sheet.get_size_inches() * sheet.dpi))
        assert "Software" not in picture.info
    assert draw(panels(2, ATTACKS[:2]), TITLE) == [png]


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
    assert len(save_all(list(store.records()), store)) == 3
    assert len(save_all([done()], store)) == 1, "one victim needs no grid of all"


def test_a_grid_of_many_victims_has_numbered_sheets_and_leaves_no_older_ones(tmp_path):
    many = [done(model=f"vit_{i}", defense=[d]) for i in range(4) for d in ("none", "a", "b")]
    store = stored(tmp_path, *many)
    paths = save(store.records(), store, joined=True)
    assert len(paths) > 1
    assert [Path(path).name for path in paths] == [
        f"side-by-side-{number}.png" for number in range(1, len(paths) + 1)
    ]
    (store.folder / "grids" / "side-by-side-mine.png").touch()
    save(many[:1], store, joined=True)
    there = {path.name for path in (store.folder / "grids").iterdir()}
    assert there == {"side-by-side.png", "side-by-side-mine.png"}


def test_victims_keep_their_order_and_the_undefended_update_comes_first(tmp_path):
    store = stored(
        tmp_path, *(done(model=m, defense=[d]) for d in ("b", "none", "a") for m in "yx")
    )
    group = [done(model=m, defense=[d]) for d in ("b", "none", "a") for m in "yx"]
    found = [
        (p.victim.split("\n")[0], p.defense) for p in _panels(group, store) if p.heading == "pe_ls"
    ]
    assert found == [(m, f"defense {d}") for m in "yx" for d in ("none", "a", "b")]


@pytest.mark.parametrize("other", [{"seed": 1}, {"knows": ["labels"]}, {"dataset": "photos"}])
@pytest.mark.parametrize("joined", [True, False])
def test_what_ran_under_other_conditions_never_shares_a_picture(other, joined, tmp_path):
    store = stored(tmp_path, done(), done(**other))
    assert len(set(save(store.records(), store, joined=joined))) == 2


@pytest.mark.parametrize(
    "loss", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x89PNG")]
)
def test_a_lost_or_torn_picture_leaves_an_empty_frame(loss, tmp_path):
    record, others = done(), [done(images=(1,)), lost(images=(2,))]
    store = stored(tmp_path, record, *others)
    loss(store.path(record.case, ".png"))
    [panel] = [one for one in _panels([record, *others], store) if one.heading == "pe_ls"]
    assert [panel.tiles[image] is None for image in range(3)] == [True, False, True]
    assert panel.captions == {0: "no picture", 1: "10.0 dB", 2: "failed"}
    assert len(save(store.records(), store)) == 1


def test_the_tiles_are_the_pictures_of_the_record(tmp_path):
    store = stored(tmp_path, done())
    rows = [list(panel.tiles.values()) for panel in _panels([done()], store)]
    expected = torch.linspace(0, 1, 3 * 8 * 8).view(3, 8, 8).permute(1, 2, 0).mul(255).round()
    for (tile,), wanted in zip(rows, (expected, expected, 255 - expected), strict=True):
        assert np.abs(tile - wanted.numpy()).max() <= 1
