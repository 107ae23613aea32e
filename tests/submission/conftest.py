"""A submission that holds, made once, and a copy of it to spoil."""

import shutil
from pathlib import Path

import pytest
import torch

from privbench.api import execute
from privbench.records.store import Store
from privbench.running.suite import Suite
from privbench.running.victims import Victims

GIVEN = {"attack": "mean,auto", "model": "vit_mjp", "images": "2", "set": ["attack.tier=smoke"]}


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records as a run leaves them: two attacks on the bundled weights and pictures."""
    folder = tmp_path_factory.mktemp("sound") / "results"
    execute(Suite.build(GIVEN), Store(folder), "cpu")
    return folder


@pytest.fixture(scope="session")
def victims() -> Victims:
    """Victims that all these tests share."""
    return Victims(torch.device("cpu"))


@pytest.fixture
def submission(sound: Path, tmp_path: Path) -> Path:
    """A copy of these."""
    return Path(shutil.copytree(sound, tmp_path / "results"))
