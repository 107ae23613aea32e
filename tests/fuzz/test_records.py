"""Results folders: torn, foreign or forged records do not count, and none of them is lost."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from privbench.records.case import Record
from privbench.records.sealed import SealedRecord, seal
from privbench.records.store import Store
from privbench.records.utility import UtilityRecord, UtilityStore
from tests.commands import contents
from tests.fuzz.civil import command, many, sizes, trees
from tests.sample_records import accuracy_case, done, lost

Change = tuple[str, int, Any]


def utility(model: str = "vit_mjp") -> UtilityRecord:
    case = accuracy_case(model)
    return UtilityRecord(case, {"top1": [1.0, 0.0], "top5": [1.0, 1.0]}, 1.0)


GOOD: dict[str, SealedRecord[Any]] = {
    "cases": done(
        psnr=(10.0, 12.0), floor=(8.0, 8.0), images=(0, 1), knows=("labels",), defense=("clip",)
    ),
    "utility": utility(),
}
COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "cases": [("leaderboard",), ("report",), ("grid",), ("rescore",)],
    "utility": [("compare", "vit_mjp", "vit_vanilla"), ("leaderboard",)],
}


def places(content: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to everything in a record's JSON."""
    items: Any = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def forged(kind: str, change: Change) -> tuple[str, str]:
    """Change one thing in a record, seal it again, and return the file's name and its text."""
    what, where, value = change
    good = GOOD[kind]
    content = json.loads(json.dumps(good.content()))
    ways = list(places(content))
    *above, last = ways[where % len(ways)]
    holder = content
    for key in above:
        holder = holder[key]
    if what == "replaced":
        holder[last] = value
    elif what == "removed":
        del holder[last]
    elif isinstance(holder, dict):
        holder[str(value)[:20]] = value
    else:
        holder.append(value)
    try:
        content["key"] = type(good).CASE.read(copy.deepcopy(content["case"])).key
    except Exception:
        content["key"] = good.case.key
    text = json.dumps(seal(content), indent=type(good).INDENT, sort_keys=True)
    if what == "cut":
        text = text[: where % len(text)]
    return str(content["key"]), text


changes = st.tuples(
    st.sampled_from(["replaced", "removed", "added", "cut"]), st.integers(0, 400), trees
)


def check(kind: str, folder: Path, name: str, text: str, inputs: settings) -> None:
    file = folder / kind / name[:2] / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    was = file.read_bytes() if file.is_file() else None
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    before = contents(folder / kind)
    for words in COMMANDS[kind] if inputs is many else COMMANDS[kind][:1]:  # drawing takes time
        command(*words, "--out", str(folder))
        after = contents(folder / kind)
        lost_files = [one for one in before if after.get(one) != before[one]]
        assert not lost_files, f"{words} changed {lost_files}"
    file.unlink() if was is None else file.write_bytes(was)


def fill(folder: Path) -> None:
    store = Store(folder)
    for record in (done(), done(model="vit_vanilla"), lost(images=(3,)), GOOD["cases"]):
        assert isinstance(record, Record)
        store.put(record)
    measured = UtilityStore(folder)
    for one in (utility(), utility("vit_vanilla")):
        measured.put(one)


@sizes
@pytest.mark.parametrize("kind", GOOD)
def test_any_forged_record_counts_or_does_not(inputs: settings, kind: str, tmp_path: Path):
    fill(tmp_path)

    @inputs
    @seed(9)
    @given(change=changes)
    @example(change=("replaced", 0, [[]]))
    @example(change=("cut", 100, None))
    def run(change: Change) -> None:
        check(kind, tmp_path, *forged(kind, change), inputs)

    run()


@sizes
@pytest.mark.parametrize("kind", GOOD)
def test_any_foreign_file_among_records_does_not_count(inputs: settings, kind: str, tmp_path: Path):
    fill(tmp_path)
    texts: st.SearchStrategy[str] = trees.map(lambda tree: json.dumps(tree)) | st.text(max_size=50)

    @inputs
    @seed(10)
    @given(text=texts, name=st.sampled_from(["ab" * 32, "a b", "ab", ".ab", "é" * 60]))
    @example(text="[" * 100_000, name="ab" * 32)
    @example(text="9" * 5000, name="ab" * 32)
    @example(text='{"schema": 1}', name="ab" * 32)
    @example(text='{"schema": 1, "sha256": {"a": []}}', name="ab" * 32)
    def run(text: str, name: str) -> None:
        check(kind, tmp_path, name, text, inputs)

    run()


@pytest.mark.parametrize("kind", GOOD)
def test_what_the_forgeries_are_made_of_is_good(kind: str, tmp_path: Path):
    read: Callable[[str], Any] = type(GOOD[kind]).from_json
    assert read(GOOD[kind].to_json()) == GOOD[kind]
    fill(tmp_path)
    code, text = command(*COMMANDS[kind][0], "--out", str(tmp_path))
    assert code == 0, text
