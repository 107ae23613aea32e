"""The page in a real browser, headless: `make test-browser`."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from privbench.records.store import Store
from tests.reports.test_page import put, records, render

pytestmark = pytest.mark.browser
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
STEPS = """
<script>
const table = document.querySelector("table.board");
const column = (name) => [...table.tHead.rows[0].cells].findIndex(
  (head) => head.textContent.startsWith(name));
const values = (name) => [...table.tBodies[0].rows].map(
  (row) => row.cells[column(name)].textContent);
const shown = (one) => one.checkVisibility();
const press = (name) => table.tHead.rows[0].cells[column(name)].querySelector("button").click();
const type = (text) => {
  const input = document.getElementById("filter-text");
  input.value = text;
  input.dispatchEvent(new Event("input"));
  return [...table.tBodies[0].rows].filter(shown).map((row) => row.textContent);
};
const found = {};
found.before = values("attack");
press("attack"); found.up = values("attack");
found.said = table.tHead.rows[0].cells[column("attack")].getAttribute("aria-sort");
press("attack"); found.down = values("attack");
press("PSNR"); found.numbers = values("PSNR");
press("top-1"); found.empty = values("top-1");
found.filtered = type("mjp").length;
found.count = document.getElementById("filter-count").textContent;
found.none = type("nobody").length;
found.all = type("").length;
const hidden = table.querySelector("td.g1");
found.hidden = shown(hidden);
document.getElementById("show-1").click();
found.shown = shown(hidden);
found.pictures = [...document.images].map((one) => one.complete && one.naturalWidth > 0);
found.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.focus = [...document.querySelectorAll("a, button, input, [tabindex]")].filter(shown).map(
  (one) => { one.focus(); return document.activeElement === one; });
found.named = [...document.querySelectorAll("button, input, [role=region], svg[role=img]")].map(
  (one) => (one.textContent.trim() || one.getAttribute("aria-label") ||
    (one.labels && one.labels.length)) ? "" : one.outerHTML.slice(0, 80)).filter(Boolean);
const report = document.createElement("pre");
report.id = "found";
report.textContent = JSON.stringify(found);
document.body.append(report);
</script>
"""


def browse(path: Path, *options: str, width: int = 1280) -> subprocess.CompletedProcess[str]:
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program is not None, "`make test-browser` installs one"
    given = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    given += ["--enable-logging=stderr", "--virtual-time-budget=5000", *options, path.as_uri()]
    return subprocess.run(
        [program, *given], capture_output=True, text=True, timeout=120, check=True
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    put(Store(folder), records())
    path = folder / "index.html"
    path.write_text(render(records(), Store(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[1280, 390], ids=lambda width: f"{width} px")
def seen(request: pytest.FixtureRequest, written: Path) -> dict[str, Any]:
    """What the steps found; the policy, which forbids them, is taken out of a copy."""
    text = POLICY.sub("", written.read_text(encoding="utf-8"))
    path = written.with_name("steps.html")
    path.write_text(text.replace("</body>", f"{STEPS}</body>"), encoding="utf-8")
    page = browse(path, "--dump-dom", width=request.param).stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    return json.loads(html.unescape(found[1]))


def test_it_loads_without_a_word_on_the_console(written):
    result = browse(written, "--dump-dom")
    assert "CONSOLE" not in result.stderr
    assert 'id="filter-text"' in result.stdout
    assert '<p id="filter" hidden' not in result.stdout, "its own script ran"


def test_its_policy_lets_no_other_script_run(written):
    path = written.with_name("foreign.html")
    text = written.read_text(encoding="utf-8")
    foreign = '<script>document.body.append("foreign ran")</script></body>'
    path.write_text(text.replace("</body>", foreign), encoding="utf-8")
    result = browse(path, "--dump-dom")
    assert "Content Security Policy" in result.stderr
    assert ">foreign ran" not in result.stdout.replace(foreign, "")


def test_it_sorts_both_ways_by_text_and_number(seen):
    assert seen["up"] == sorted(seen["before"])
    assert seen["down"] == seen["up"][::-1]
    assert seen["said"] == "ascending"
    numbers = [float(text.split()[0]) for text in seen["numbers"]]
    assert numbers == sorted(numbers)


def test_what_was_not_measured_comes_last(seen):
    assert seen["empty"][0]
    assert not seen["empty"][-1]


def test_it_filters_and_says_how_many_rows_are_left(seen):
    assert (seen["filtered"], seen["none"], seen["all"]) == (1, 0, 3)
    assert seen["count"] == "1 of 3 rows"


def test_columns_come_on_demand(seen):
    assert (seen["hidden"], seen["shown"]) == (False, True)


def test_every_picture_is_shown(seen):
    assert len(seen["pictures"]) >= 12
    assert all(seen["pictures"])


def test_nothing_is_wider_than_the_screen(seen):
    assert seen["width"] <= 0


def test_the_keyboard_reaches_everything_and_everything_has_a_name(seen):
    assert len(seen["focus"]) > 15
    assert all(seen["focus"])
    assert seen["named"] == []


def test_without_scripts_all_rows_are_there(written):
    path = written.with_name("still.html")
    text = written.read_text(encoding="utf-8")
    path.write_text(re.sub("script-src '[^']*'", "script-src 'none'", text), encoding="utf-8")
    result = browse(path, "--dump-dom")
    assert '<p id="filter" hidden' in result.stdout
    assert result.stdout.count('role="row"') == 3
