"""Mixtures of pictures of one batch, and of their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator

from privbench.defense import Labels
from privbench.errors import BadSetting
from privbench.threat import Images, Randomness

Kind = TypeVar("Kind", bound="Mixture")


@dataclass(frozen=True)
class Mixture(Randomness):
    """Which pictures each network input is made of, and the share of each; shares sum to one."""

    parts: Int[torch.Tensor, "b k"]
    shares: Float[torch.Tensor, "b k"]

    def rows(self: Kind, indices: Sequence[int]) -> Kind:
        """Return the mixtures of some pictures; what they are made of has to be among them."""
        places = {image: place for place, image in enumerate(indices)}
        found = super().rows(indices)
        assert isinstance(found, type(self))
        if not places.keys() >= set(found.parts.flatten().tolist()):
            raise BadSetting(
                "This defense mixes any pictures of a batch, so a batch cannot be shared among "
                "processes. Train in one process, without torchrun."
            )
        moved = [[places[image] for image in row] for row in found.parts.tolist()]
        return replace(found, parts=torch.tensor(moved))

    def mixed(self, images: Images, labels: Labels) -> tuple[Images, Labels]:
        """Mix pictures, and labels alike."""
        shares, parts = self.shares.to(images), self.parts.to(images.device)
        pictures = (shares[:, :, None, None, None] * images[parts]).sum(1)
        return pictures, (shares[:, :, None].to(labels) * labels[parts]).sum(1)


def library(rng: Generator) -> np.random.Generator:
    """NumPy's generator, for distributions that torch draws from its global one alone."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
