"""What the README says is so."""

import re
from pathlib import Path

import pytest
import torch

from privbench.attack import Attack
from privbench.cli.main import app
from privbench.component import names
from privbench.seeds import generator
from tests.conftest import quiet

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_attack_runs_as_it_stands(victim, shared):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    space: dict[str, object] = {"__name__": "privbench.attacks.stripes"}
    exec(compile(code, "stripes.py", "exec"), space)
    kind = space["Stripes"]
    assert isinstance(kind, type)
    assert issubclass(kind, Attack)
    seen, _ = shared(victim("vit_vanilla"), 2)
    images = kind().reconstruct(seen, generator("readme"), quiet).images
    assert images.shape == seen.shape
    assert 0 <= images.min() <= images.max() <= 1
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("shelf", ["attacks"])
def test_every_attack_is_named(shelf):
    assert [name for name in names(shelf) if f"`{name}`" not in README] == []


def test_every_command_in_it_exists():
    commands = [one for one in app.registered_commands if one.callback]
    known = {one.name or one.callback.__name__.strip("_") for one in commands if one.callback}
    known |= {group.name for group in app.registered_groups}
    used = set(re.findall(r"^\.venv/bin/privbench ([\w-]+)", README, flags=re.MULTILINE))
    used |= set(re.findall(r"`privbench ([\w-]+)", README))
    assert {"run", "train", "eval", "study", "import-weights"} <= used <= known


def test_every_picture_in_it_is_in_the_repository():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[1] / path).is_file()
