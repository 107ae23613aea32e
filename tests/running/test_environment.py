"""A record says from which commit it was made."""

import shutil
import subprocess
from pathlib import Path

import pytest

import privbench
from privbench.running.environment import revision

ROOT = Path(privbench.__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    found = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_the_commit_and_a_plus_where_the_code_was_edited(tmp_path, monkeypatch):
    code = tmp_path / "privbench" / "__init__.py"
    code.parent.mkdir()
    code.write_text("")
    monkeypatch.setattr(privbench, "__file__", str(code))
    assert not revision(), "no checkout"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert revision() == commit
    code.write_text("edited = True\n")
    assert revision() == f"{commit}+"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout")
def test_it_is_that_of_this_checkout():
    assert revision().removesuffix("+") == git(ROOT, "rev-parse", "HEAD")
