"""Each page says what is so: commands run, names exist, links resolve, nothing is stale."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperGroup

from privbench.cli.catalog import SHELVES
from privbench.cli.main import app
from privbench.cli.reference import page as reference
from privbench.component import names
from privbench.errors import PrivbenchError
from privbench.reports.leaderboard import KEYS, leaderboard
from privbench.running.plan import plan
from tests.commands import Call, caller
from tests.pages import PAGES, ROOT, WHOLE, Block, anchors, blocks, links, named

REFERENCE = {"attacks", "defenses", "metrics", "datasets", "evals", "suites", "models"}
READING = (ROOT / "docs" / "reading_the_table.md").read_text(encoding="utf-8")
every_page = pytest.mark.parametrize("page", PAGES, ids=named)


def with_commands(*marks: str) -> list[Path]:
    return [p for p in PAGES if any(b.mark in marks and b.commands() for b in blocks(p))]


def quick() -> list[Path]:
    return [
        page
        for page in PAGES
        # pages of mathematics are programs of their own, and tests/test_math_pages.py runs them
        if page.parent.name != "math"
        and any(b.mark == WHOLE and (b.commands() or b.language == "python") for b in blocks(page))
    ]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a reader follows a page; attacks and defenses in it are on the shelf."""
    monkeypatch.chdir(tmp_path)
    for shelf in ("attacks", "defenses"):
        (tmp_path / shelf).mkdir()
        package = import_module(f"privbench.{shelf}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / shelf)])
    return tmp_path


def fewest(words: list[str]) -> list[str]:
    """Return options that make a command short; the last one given wins."""
    batch = words[words.index("--batch-size") + 1] if "--batch-size" in words else "1"
    return ["--images", batch] if words[0] in ("run", "eval") else []


def shallow(words: list[str]) -> list[str]:
    """Return options that make a victim quick to build."""
    depth = [] if any(word.startswith("timm:") for word in words) else ["model.depth=1"]
    return [word for one in depth for word in ("--set", one)]


def write_file(block: Block, folder: Path) -> None:
    """Do as the reader does whom the page tells to put this into a file."""
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("page", quick(), ids=named)
def test_each_quick_command_runs_on_one_picture(page, reader, call):
    for block in blocks(page):
        write_file(block, reader)
        if block.language == "bash" and block.mark == WHOLE:
            for words in block.commands():
                code, _, err = call(*words, *fewest(words))
                assert code == 0, (words, err)
        elif block.language == "python" and block.mark == WHOLE:
            exec(compile(block.text, str(page), "exec"), {"__name__": "reader"})


@pytest.mark.slow
@pytest.mark.parametrize("page", with_commands("slow"), ids=named)
def test_each_slow_command_runs_on_one_picture(page, reader, call):
    for block in blocks(page):
        write_file(block, reader)
        if block.mark == "slow":
            for words in block.commands():
                code, _, err = call(*words, *fewest(words))
                assert code == 0, (words, err)


@pytest.mark.parametrize("page", with_commands("slow", "long"), ids=named)
def test_each_long_command_can_be_planned(page, reader, call, monkeypatch):
    class Planned(PrivbenchError):
        """Raised instead of attacking anybody."""

    def planned(suite, *_: object, **__: object) -> None:
        assert plan(suite, torch.device("cpu"))
        raise Planned

    monkeypatch.setattr("privbench.api.conduct", planned)
    for block in blocks(page):
        write_file(block, reader)
        for words in block.commands() if block.mark in ("slow", "long") else []:
            if words[0] == "run":
                code, _, err = call(*words, *fewest(words), *shallow(words))
                assert (code, err) == (2, "Error: \n"), words


@every_page
def test_each_command_and_option_exists(page):
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for block in blocks(page):
        for words in block.commands():
            name, rest, command = words[0], words[1:], group.commands[words[0]]
            while isinstance(command, TyperGroup):
                name, rest, command = rest[0], rest[1:], command.commands[rest[0]]
            command.make_context(name, list(rest))  # raises an error for a wrong option


@every_page
def test_each_command_in_a_sentence_exists(page):
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    used = set(re.findall(r"`(?:\.venv/bin/)?privbench ([a-z][\w-]*)", page.read_text("utf-8")))
    assert used <= set(group.commands)
    targets = set(re.findall(r"`make ([\w-]+)", page.read_text("utf-8")))
    known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    assert targets <= set(known)


@every_page
def test_each_link_leads_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), target
        if anchor:
            assert anchor in anchors(goal), target


def test_each_page_can_be_reached():
    found, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        found.add(page)
        goals = {(page.parent / one.partition("#")[0]).resolve() for one in links(page)}
        ahead += [one for one in goals - found if one.suffix == ".md" and one.is_file()]
    assert not [named(page) for page in PAGES if page not in found and "math" not in page.parts]


@pytest.mark.parametrize("shelf", sorted(REFERENCE))
def test_the_reference_is_not_stale(shelf):
    """`make docs` mends it."""
    file = ROOT / "docs" / "reference" / f"{shelf.replace('models', 'victims')}.md"
    assert file.read_text(encoding="utf-8") == reference(shelf)


def test_every_shelf_has_a_page():
    assert set(SHELVES) <= REFERENCE


def test_the_command_prints_the_page(call):
    code, out, _ = call("list", "metrics", "--format", "md")
    assert (code, out) == (0, reference("metrics"))


def test_every_column_is_explained():
    columns = [*KEYS, *leaderboard([]).columns, "n", "failed", "refused", "masked", "chosen"]
    columns += ["label_accuracy", "objective", "seconds", "gradient_calls", "notes"]
    endings = ["_lo", "_hi", "_oracle", "_floor", "_control", "_exact"]
    for name in [*columns, *endings, *names("metrics")]:
        assert f"`{name}`" in READING, name


NOTED = ("warnings", "warning", "notes", "doubts", "found")
"""Names under which code collects the sentences of a case."""


def sentences(path: Path) -> list[str]:
    """First words, up to the first number, of the sentences that a file hands to the reader."""
    said: list[ast.expr] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[text]):
                said += [text] if name in NOTED else []
            case ast.Assign(targets=[ast.Name(id=name)], value=text) if name in NOTED:
                said.append(text)
            case ast.keyword(arg="warnings", value=ast.Tuple(elts=texts)):
                said += texts
            case _:
                pass
    first = [one.values[0] if isinstance(one, ast.JoinedStr) else one for one in said]
    texts = [one.value for one in first if isinstance(one, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and text[:1].isupper()]


def test_every_note_is_explained():
    files = [*(ROOT / "attacks").rglob("*.py"), ROOT / "privbench" / "running" / "checks.py"]
    said = {text: path.name for path in files for text in sentences(path)}
    assert len(said) > 20
    for text, file in said.items():
        begins = " ".join(re.split(r"[(:]", text)[0].split()[:5])
        assert begins in READING, (file, text)


def test_the_readme_fits_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
