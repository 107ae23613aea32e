"""Victims and pictures that many tests share; small, and made in memory."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from privbench.attack import Attack
from privbench.component import make
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.observation import Observation
from privbench.running.client import share
from privbench.threat import Secret, ThreatModel
from privbench.victims.load import Victim, load

CPU = torch.device("cpu")
SMALL = 16
"""Side of a picture whose size makes no difference but in time: 16 patches of 4 px."""


@pytest.fixture(scope="session")
def victim() -> Callable[..., Victim]:
    """A victim by name; shallow unless a test says otherwise."""

    def build(name: str, defense: str = "none", **settings: Any) -> Victim:
        return load(name, {"depth": 2} | settings, (make(Defense, defense, {}),), "init", CPU)

    return build


@pytest.fixture(scope="session")
def pictures() -> Callable[..., tuple[Tensor, Tensor]]:
    """The first pictures of the bundled CIFAR-10 sample, with labels; halved where asked."""

    def load(count: int, side: int = 32) -> tuple[Tensor, Tensor]:
        images, labels = make(Dataset, "cifar10", {}).load(range(count), 32, 10)
        return avg_pool2d(images, 32 // side), labels

    return load


@pytest.fixture(scope="session")
def shared(pictures: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """A batch that a client has shared: what is seen, what is secret."""

    def build(
        victim: Victim, batch: int = 1, seed: int = 0, **threat: Any
    ) -> tuple[Observation, Secret]:
        images, labels = pictures(batch, victim.model.vit.side)
        model = ThreatModel(batch_size=batch, **threat)
        return share(victim, images, labels, model, (seed,))

    return build


def psnr(found: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, of a whole batch."""
    return float(-10 * torch.log10((found - truth).square().mean().clamp(min=1e-30)))


def quiet(*progress: object) -> None:
    """Ignore an attack's progress."""


def cheap(names: list[str]) -> Mapping[str, int | str]:
    """Settings that make any attack short."""
    fixed = {"tier": "smoke", "seeds": 1, "newton": 0}
    lowest = {name: value for name, value in fixed.items() if name in names}
    return lowest | {
        name: 2
        for name in ("steps", "inner", "rounds", "starts", "polish", "spans")
        if name in names
    }


def demanded(kind: type[Attack]) -> Mapping[str, Any]:
    """What a victim must be for an attack to run; small, but for a prior of pictures of 32 px."""
    size = {} if "prior" in kind.setting_names() else {"img_size": SMALL}
    return {**size, **kind.demands}
