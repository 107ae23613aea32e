"""The page says what the records say, loads nothing, and takes no text for markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from privbench.cli.catalog import entries
from privbench.cli.report import cards
from privbench.component import Part
from privbench.records.case import Record
from privbench.records.picture import draw
from privbench.records.store import Store
from privbench.reports.board import Section, board
from privbench.reports.leak_figures import leak_figures, sweeps
from privbench.reports.page.finding import finding
from privbench.reports.page.gallery import LARGEST, gallery
from privbench.reports.page.write import Card, Sources, digest, page
from privbench.reports.ranks import Rank
from privbench.reports.stats import mean_interval
from tests.commands import Call, caller
from tests.reports.test_board import accuracy, images
from tests.sample_records import done, part

EVIL = "<script>alert('x')</script>\"'&"
VOID = {"area", "br", "circle", "col", "hr", "img", "input", "link", "meta", "path", "rect", "use"}
LOADING = {"src", "srcset", "data", "poster", "background", "action", "formaction"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and holds tags to be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def records() -> list[Record]:
    found = images(range(50, 74), model="vit_vanilla") + images(range(20, 44))
    return found + images([9.0] * 24, model="vit_vanilla", attack="gradinv")


def put(store: Store, some: list[Record], side: int = 8) -> None:
    rng = np.random.default_rng(0)
    for record in some:
        strips = rng.uniform(size=(3, len(record.case.images), 3, side, side))
        store.put(record, draw(*strips))


def render(some: list[Record], store: Store, **given: object) -> str:
    sections = board(some, [accuracy([1, 0, 1])])
    pooled = board(some, [accuracy([1, 0, 1])], by=["model", "defense"])
    cards = {"Victims": [Card("vit_mjp", "A victim.", [("Source", "arXiv:1")])]}
    sources = Sources(some, 1, sections, leak_figures(some, pooled), cards, {"gradinv"})
    return page(sources, store, **given)  # type: ignore[arg-type]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    store = Store(tmp_path)
    put(store, records())
    text = render(records(), store)
    reader = read(text)
    assert len(reader.all("img")) >= 12
    for attributes in (attributes for _, attributes in reader.tags):
        for name, value in attributes.items():
            if name in LOADING:
                assert value is not None
                assert value.startswith("data:"), (name, value)
    assert all(one["href"] == "data:," for one in reader.all("link"))
    assert not re.search(r"@import|url\((?!#)", text), "styles load nothing"
    [policy] = [one["content"] for one in reader.all("meta") if "http-equiv" in one]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_says_what_it_shows_and_every_link_leads_somewhere(tmp_path):
    put(Store(tmp_path), records())
    reader = read(render(records(), Store(tmp_path)))
    assert all(one["alt"] for one in reader.all("img"))
    names = [one["id"] for _, one in reader.tags if "id" in one]
    assert len(names) == len(set(names))
    for one in reader.all("a"):
        assert one["href"] is not None
        assert one["href"].removeprefix("#") in names
    labelled = {one.get("for") for one in reader.all("label")}
    inputs = [one for one in reader.all("input") if one.get("type") == "search"]
    assert {one["id"] for one in inputs} <= labelled


def test_no_text_from_a_file_is_markup(tmp_path):
    model = Part(EVIL, EVIL, 1, {"num_classes": 10})
    some = images(range(24), model=model, attack=EVIL, defense=[EVIL], dataset=EVIL, control=EVIL)
    some = [replace(one, warnings=(EVIL,), environment={EVIL: EVIL}) for one in some]
    some += images(range(24), model=model, attack=EVIL, dataset=EVIL, control=EVIL)
    put(Store(tmp_path), some)
    sections = board(some, [accuracy([1, 0, 1], EVIL)])
    figures = leak_figures(some, board(some, [accuracy([1, 0, 1], EVIL)], by=["model", "defense"]))
    cards = {EVIL: [Card(EVIL, EVIL, [(EVIL, EVIL)])]}
    text = page(Sources(some, 1, sections, figures, cards, set()), Store(tmp_path))
    reader = read(text)
    assert len(reader.all("script")) == 1
    assert "alert(" not in "".join(re.findall(r"<script>.*?</script>", text, re.DOTALL))
    assert "".join(reader.text).count("alert('x')") > 10, "it is there, as text"


def test_a_sweep_with_markup_in_its_name_stays_text():
    name = "<b>&"
    some = [
        one
        for sigma in (0.1, 0.2, 0.3)
        for one in images([30 * sigma] * 2, defense=[part(name, sigma=sigma)])
    ]
    from privbench.reports.axes import svg
    from privbench.reports.leak_figures import draw as draw_sweep

    [sweep] = sweeps(some)
    text = svg(draw_sweep(sweep), "x")
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_the_finding_is_computed():
    some = records()
    vanilla, mjp = (
        " to ".join(f"{end:.1f}" for end in mean_interval([float(v) for v in values])[1:])
        for values in (range(50, 74), range(20, 44))
    )
    assert finding(board(some)[0], {"gradinv"}) == [
        f"From the undefended vit_vanilla, pe_ls brings pictures back at 61.5 dB ({vanilla}, "
        "n = 24), where a flat picture in the mean color has 8.0 dB.",
        f"vit_mjp leaves 31.5 dB ({mjp}, n = 24) to pe_ls (30.0 dB less than undefended on "
        "the same pictures, 30.0 to 30.0).",
        "Gradient matching (gradinv) on the undefended vit_vanilla reaches 9.0 dB (9.0 to 9.0, "
        "n = 24), 1.0 dB above the flat picture, so its failure behind a defense would show "
        "something.",
    ]


def test_the_finding_is_about_the_victim_that_others_are_compared_with_and_tells_of_order():
    moved = [
        replace(
            one,
            scores={**one.scores, "psnr_matched": [90.0]},
            metrics={**one.metrics, "psnr_matched": one.metrics["psnr"]},
        )
        for one in images([20.0, 30.0])
    ]
    some = [*moved, *images([50.0, 60.0], model="vit_vanilla")]
    some += images([99.0, 99.0], model="vit_patch8", control=None)
    first, second, _ = finding(board(some)[0], set())
    assert first.startswith("From the undefended vit_vanilla, pe_ls brings")
    assert "to pe_ls, 90.0 dB once patches are in the order that fits best (30.0 dB less" in second


def test_what_met_no_attack_made_for_it_is_not_said_to_hide_most():
    def under(name, leaks):
        return images([leaks] * 2, model="vit_vanilla", defense=[part(name)])

    plain = images([50.0, 60.0], model="vit_vanilla")
    some = [*plain, *under("clip", 40.0), *under("noise", 30.0), *under("head_only", 9.5)]
    second = finding(board(some)[0], set())[1]
    assert second.startswith("Of 3 defended victims, vit_vanilla with clip hides least")
    assert (
        "; of the 2 whose rows no flag keeps from being evidence, vit_vanilla with noise" in second
    )
    assert " hides most, with 30.0 dB" in second
    for ceiling, told in ((32.3, True), (30.4, False)):
        table = pd.DataFrame([{"model": "vit_vanilla", "defense": "noise", "ceiling": ceiling}])
        second = finding(board(some, tables=[table])[0], set())[1]
        assert ("where the ceiling for any attack is 32.3 dB; " in second) is told
        assert second.endswith("; 1 other shares its rank."), "two pictures tell no rows apart"
    some = [*plain, *under("clip", 40.0), *under("head_only", 9.5)]
    second = finding(board(some)[0], set())[1]
    assert second.endswith("; no other has faced an attack that is made for its defense.")


def test_what_no_record_shows_is_said_to_be_unknown():
    first, second, third = finding(board(images([30.0], control="vit_vanilla"))[0], set())
    assert first.startswith("No undefended victim is among these records")
    assert second == "vit_mjp leaves 30.0 dB (n = 1) to pe_ls."
    assert third.startswith("No gradient matching without a defense is among these records")
    weak = images([8.5], model="vit_vanilla", attack="dlg")
    first, second, third = finding(board(weak)[0], {"dlg"})
    assert first.startswith("No attack here brings anything back even from vit_vanilla")
    assert second == "No defended victim is among these records."
    assert third.endswith("so where it fails behind a defense, that shows nothing.")


def test_a_flat_picture_is_no_attack():
    floor = [done([8.0], [8.0], images=(i,), attack="mean") for i in range(3)]
    first, second, _ = finding(board(floor)[0], set())
    assert first.startswith("No undefended victim")
    assert second == "No defended victim is among these records."
    floor = [done([8.0], [8.0], images=(i,), attack="mean", control=None) for i in range(3)]
    assert "the best of them, mean, reaches 8.0 dB" in finding(board(floor)[0], set())[0]


def test_the_gallery_shows_most_median_and_least(tmp_path):
    some = images([10.0, 50.0, 30.0])
    put(Store(tmp_path), some, side=2 * LARGEST)
    [exhibit] = gallery(board(some)[0], Store(tmp_path))
    assert [strip.tiles[0].caption for strip in exhibit.strips] == ["no. 1", "no. 2", "no. 0"]
    assert [strip.tiles[-1].caption for strip in exhibit.strips] == [
        "50.0 dB",
        "30.0 dB",
        "10.0 dB",
    ]
    assert exhibit.columns == ["original", "network input", "pe_ls"]


def test_pictures_from_a_folder_are_shown_on_request_alone(tmp_path):
    some = images([10.0, 50.0], dataset="folder@mine")
    put(Store(tmp_path), some)
    assert not gallery(board(some)[0], Store(tmp_path))
    assert gallery(board(some)[0], Store(tmp_path), everything=True)
    text = render(some, Store(tmp_path))
    assert "data:image" not in text
    assert "privbench report --pictures" in text


def test_lost_and_torn_pictures_leave_a_gap(tmp_path):
    some = images([10.0, 50.0])
    put(Store(tmp_path), some)
    Store(tmp_path).path(some[0].case, ".png").unlink()
    Store(tmp_path).path(some[1].case, ".png").write_bytes(b"torn")
    assert not gallery(board(some)[0], Store(tmp_path))


def test_the_digest_follows_the_scores_and_no_order():
    some = records()
    assert digest(some) == digest(some[::-1])
    assert digest(some) != digest(some[1:])
    assert digest(some) != digest([replace(some[0], scores={"psnr": [1.0]}), *some[1:]])


def test_what_fails_on_the_control_too_is_not_said_to_hide_most():
    def row(model, leak, flags, n=24):
        facts = {"control": "vit_vanilla", "defense": "none", "attack": "gradinv", "n": n}
        return facts | {"model": model, "psnr": leak, "psnr_floor": 8.0, "flags": flags}

    rows = [
        row("vit_mjp", 40.0, "", 8),
        row("vit_shuffle", 40.0, ""),
        row("vit_nope", 30.0, "void"),
    ]
    second = finding(Section({}, rows, []), set())[1]
    assert second.startswith("Of 3 defended victims, vit_shuffle and 1 more hide least and leave")
    assert second.endswith("no other has faced an attack that is made for its defense.")
    rows[0] |= {"psnr": 39.0, "rank": Rank(1, 2)}
    rows[1] |= {"rank": Rank(1, 2)}
    second = finding(Section({}, rows, []), set())[1]
    assert "evidence, vit_mjp hides most, with 39.0 dB" in second
    assert second.endswith("; 1 other shares its rank.")


def test_a_page_without_records_is_a_sentence(call, tmp_path):
    code, _, err = call("report", "--out", tmp_path / "empty")
    assert code == 2
    assert "No records under" in err
    assert "Traceback" not in err
    assert not (tmp_path / "empty").exists()


def test_the_command_writes_page_and_figures_with_cards_from_the_components(call, tmp_path):
    some = [
        replace(one, metrics={"psnr": one.metrics["psnr"]})
        for sigma in (0.1, 0.2, 0.3)
        for one in images([30 * sigma] * 2, defense=[part("noise", sigma=sigma)])
    ]
    put(Store(tmp_path), some)
    code, out, _ = call("report", "--out", tmp_path)
    assert code == 0
    assert str(tmp_path / "report" / "index.html") in out
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    said = "".join(read(text).text)
    attacks, defenses = ({e.name: e for e in entries(s)} for s in ("attacks", "defenses"))
    assert attacks["pe_ls"].summary in said
    assert defenses["noise"].summary in said
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"index.html", "defense-sigma.svg", "defense-sigma.png"}
    assert str(tmp_path) not in text, "no path of this machine"
    again = text
    call("report", "--out", tmp_path)
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == again


def test_the_files_of_the_page_travel_with_the_package():
    import tomllib

    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    kinds = project["tool"]["setuptools"]["package-data"]["privbench.reports.page"]
    folder = root / "privbench" / "reports" / "page"
    found = {path.suffix for path in folder.iterdir() if path.suffix not in ("", ".py", ".pyc")}
    assert found == {kind.removeprefix("*") for kind in kinds}


def test_a_card_names_every_version_that_took_part():
    some = images([20.0], attack="pe_ls") + images([20.0], attack="random")
    old = [
        replace(one, case=replace(one.case, attack=replace(one.case.attack, version=version)))
        for one in some[:1]
        for version in (12, 9)
    ]
    facts = {card.name: dict(card.facts) for card in cards([*old, *some[1:]])["Attacks"]}
    assert facts["pe_ls"]["Versions"] == "9, 12"
    assert facts["random"]["Version"] == str(some[1].case.attack.version)
