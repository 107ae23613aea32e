"""Outpost (Wang, Hugg and Li, INFOCOM 2023)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense, Outputs
from privbench.defenses._mixture import mixture
from privbench.threat import Images, Randomness
from privbench.vit import ViT


class Outpost(Defense):
    """Pruned tensors, with Gaussian noise on their entries of most Fisher information.

    The noise is as large as the weights of its tensor are spread, which everybody can compute. The
    authors' public program returns the gradient as it was; this is what their paper says.
    """

    paper: ClassVar[str] = "doi:10.1109/INFOCOM53939.2023.10228919"
    version: ClassVar[int] = 2
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    SPREAD: ClassVar[str] = "spread of "
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """Share of the entries of each tensor that become zero, the smallest ones."""
    noise: Annotated[float, Field(ge=0)] = 0.8
    """Standard deviation of the noise, in units of the variance of the tensor's weights or of 1,
    whichever is less."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Of all entries, those of largest square, which get noise."""

    def forward(
        self,
        vit: ViT,
        images: Images,
        positions: Float[Tensor, "_ k d"],
        randomness: Randomness | None,
    ) -> Outputs:
        """Run the network, and hand on how far each tensor's weights are spread."""
        outputs = super().forward(vit, images, positions, randomness)
        own = {}
        for name, weight in vit.named_parameters():
            wide = weight.detach().double()
            spread = (wide - wide.mean()).square().mean().clamp(max=1)
            own[self.SPREAD + name] = spread.expand(len(outputs.logits))
        return replace(outputs, auxiliary={**outputs.auxiliary, **own})

    def finish(
        self, gradients: Mapping[str, Tensor], outputs: Outputs, rng: Generator
    ) -> dict[str, Tensor]:
        """Prune each tensor, then add noise to the entries that were largest of all."""
        squares = torch.cat([t.flatten().double().square() for t in gradients.values()])
        place = len(squares) - round(self.share * len(squares))
        fisher = squares.kthvalue(max(place, 1)).values if place else -torch.inf
        found = {}
        for name, tensor in gradients.items():
            scale = self.noise * float(outputs.auxiliary[self.SPREAD + name][0])
            small = round(self.ratio * tensor.numel())
            order = tensor.flatten().abs().argsort(stable=True)
            kept = tensor.flatten().clone()
            kept[order[:small]] = 0
            noise = scale * torch.randn(tensor.shape, generator=rng).to(tensor)
            loud = tensor.double().square() > fisher
            found[name] = kept.view_as(tensor) + torch.where(loud, noise, 0)
        return found

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the entries that more likely were kept than dropped.

        Noise falls on dropped entries as well, so one that is not zero may be noise alone.
        """
        return {n: kept for n, (kept, _) in self._told(tensors).items() if not kept.all()}

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the noise of kept entries and the size of dropped ones, by their chances.

        An entry's expected squared error where its value is taken as it is, or as zero where it
        does not count as kept. Nothing without pruning: then noise is left to be read off.
        """
        return {name: square.sqrt() for name, (_, square) in self._told(tensors).items()}

    def _told(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return which entries count as kept, and squared errors, float64."""
        if not self.ratio or all(tensor.all() for tensor in tensors.values()):
            return {}  # nothing pruned, or covered by another defense's noise
        return {name: self._of_one(tensor) for name, tensor in tensors.items()}

    def _of_one(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        wide, there = tensor.double(), tensor != 0
        share = 1 - round(self.ratio * tensor.numel()) / tensor.numel()
        if not there.any() or not share:  # no entry was kept
            square = wide.square().sum() / there.sum().clamp(min=1)
            return torch.zeros_like(there), square.expand_as(wide)
        if not self.noise:
            low = wide.abs().masked_fill(~there, torch.inf).min()
            return there, torch.where(there, 0.0, low.square() / 3)
        law, seen = mixture(tensor, share), wide[there]
        chance, own, size = law.kept(seen), law.noise**2, seen.square()
        as_it_is = chance * own + (1 - chance) * (size + law.dropped)
        as_zero = chance * (size + own) + (1 - chance) * law.dropped
        square = torch.full_like(wide, law.floor**2 / 3)
        square[there] = torch.where(chance > 0.5, as_it_is, as_zero)
        kept = there.clone()
        kept[there] = chance > 0.5
        return kept, square
