"""What the pages of mathematics say is so: their code, their commands, their constants."""

import re
import runpy
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt

from privbench.attack import Attack
from privbench.component import find
from tests.commands import Call, caller

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/math"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
BLOCK = re.compile(r"(<!-- slow -->\n)?```(\w+)\n(.*?)```\n", flags=re.DOTALL)
CONSTANT = re.compile(r"`(\w+)\.(\w+) = ([^`]+)`")
NUMBER = re.compile(r"\d+\.\d+")

pages = pytest.mark.parametrize("page", PAGES)


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks in a language."""
    return [code for _, name, code in BLOCK.findall(PAGES[page]) if name == language]


def commands() -> Iterator[object]:
    """Each shell command, with what stands in the block below it."""
    for page, text in PAGES.items():
        found = BLOCK.findall(text)
        for (slow, name, code), (_, below, says) in zip(
            found, [*found[1:], ("",) * 3], strict=True
        ):
            if name == "sh":
                assert below == "text", f"{page} does not say what {code} prints"
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(code.replace("\\\n", ""), says, marks=marks, id=page)


def test_there_is_a_page_for_each_closed_form():
    assert {"ambiguity", "imprint", "pe_ls", "span", "watermark"} <= set(PAGES)


@pages
def test_python_on_a_page_runs_as_it_stands(page):
    assert blocks(page, "python")
    space: dict[str, object] = {"__name__": page}
    before = torch.get_default_dtype()
    try:
        with torch.random.fork_rng():
            for code in blocks(page, "python"):
                assert "assert" in code
                exec(compile(code, f"{page}.md", "exec"), space)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(("command", "says"), list(commands()))
def test_a_command_on_a_page_prints_what_the_page_says(
    command: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    call: Call = caller(monkeypatch, capsys)
    program, *arguments = command.split()
    assert program == "privbench"
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = call(*arguments, "--out", tmp_path)
    assert code == 0, err
    wanted = " ".join(says.split())
    printed = " ".join((out + err).split())
    found = re.search(_loose(wanted), printed)
    assert found, f"{wanted!r} is not in {printed}"
    for told, got in zip(NUMBER.findall(wanted), found.groups(), strict=True):
        # beyond what float32 holds, another processor's order of sums decides
        assert float(got) == pytest.approx(float(told), abs=1.0 if float(told) < 40 else 10.0)


def _loose(wanted: str) -> str:
    """Pattern of a line of output whose decimal numbers may be others."""
    return r"(\d+\.\d+)".join(map(re.escape, NUMBER.split(wanted)))


@pages
def test_pseudo_code_fits_a_glance(page):
    longest = max(blocks(page, "text"), key=lambda code: len(code.splitlines()))
    assert 5 < len(longest.splitlines()) <= 25


@pages
def test_a_page_has_one_figure_that_is_there_and_small(page):
    (path,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGES[page])
    figure = FOLDER / path
    assert figure.stem == page
    assert 0 < figure.stat().st_size < 100_000


def test_the_script_draws_a_figure_for_each_page():
    assert set(runpy.run_path(str(FOLDER / "figures.py"))["PAGES"]) == set(PAGES)


@pytest.mark.slow
def test_the_script_draws_every_figure(tmp_path: Path):
    script = runpy.run_path(str(FOLDER / "figures.py"))
    for draw in script["PAGES"].values():
        figure = draw()
        figure.savefig(tmp_path / "figure.png")
        script["plt"].close(figure)


@pages
def test_constants_are_the_codes(page):
    assert CONSTANT.findall(PAGES[page])
    for module, name, value in CONSTANT.findall(PAGES[page]):
        assert repr(_constant(module, name)) == value, f"{module}.{name}"


def _constant(module: str, name: str) -> object:
    """Value of a constant in the module of that name, or of a setting of the attack."""
    (path,) = (ROOT / "attacks").rglob(f"{module}.py")
    parts = path.relative_to(ROOT).with_suffix("").parts
    found = import_module(".".join(("privbench", *parts)))
    return getattr(found, name) if name.isupper() else getattr(find(Attack, module), name)


@pages
def test_every_test_on_a_page_exists(page):
    section = PAGES[page].split("## How it was verified")[1]
    sources = re.findall(r"`(tests/[\w/]+\.py)`", section)
    defined = "".join((ROOT / path).read_text(encoding="utf-8") for path in sources)
    tests = re.findall(r"`(test_\w+)`", section)
    assert tests
    assert [name for name in tests if f"def {name}(" not in defined] == []


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", PAGES[page]):
        assert (FOLDER / link).is_file(), link


@pages
def test_formulas_survive_markdown_that_does_not_know_them(page):
    """Hosts differ in when they look for formulas; these are plain text to all of them."""
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    formulas = re.findall(r"\$\$.*?\$\$|\$[^$]+\$", text, flags=re.DOTALL)
    assert formulas
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    plain = "".join("\n" if one.type == "softbreak" else one.content for one in inline)
    for one in formulas:
        assert one in plain, one
        assert not re.search(r"\\[^A-Za-z]|\\operatorname|[<>]", one), one
    lines = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL).splitlines()
    for line in lines:
        assert line.count("$") % 2 == 0, line
        for one in re.finditer(r"\$[^$]+\$", line):
            before, behind = line[: one.start()][-1:], line[one.end() :][:1]
            assert before in (*" (", ""), line
            assert behind in (*" ,.;:)", ""), line
