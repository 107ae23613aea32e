"""What stands on the documentation's pages: blocks, the marks before them, links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
)
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^>]+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
WHOLE = "quick"
"""Mark of a block without one."""


@dataclass(frozen=True)
class Block:
    """A fenced block; its mark stands in a comment on the line before it."""

    language: str
    mark: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that a reader writes this block into."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else None

    def commands(self) -> list[list[str]]:
        """Words of each command that calls privbench, without the program's name."""
        if self.language not in ("", "bash"):
            return []
        lines = [one for one in self.text.replace("\\\n", " ").splitlines() if "privbench" in one]
        words = [shlex.split(line, comments=True) for line in lines]
        return [one[1:] for one in words if one and one[0].endswith("privbench")]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    found = BLOCK.finditer(text)
    return [Block(one["language"], one["mark"] or WHOLE, one["text"]) for one in found]


def links(page: Path) -> list[str]:
    """Return the targets of all links and pictures that stay in the repository."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = [one["target"] for one in LINK.finditer(text)]
    return [one for one in found if not one.startswith(("https://", "http://"))]


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind #, as code hosts make it of headings."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def named(page: Path) -> str:
    """Return a page's path as a test's name."""
    return str(page.relative_to(ROOT))
