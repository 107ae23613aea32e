"""Outpost (Wang, Hugg and Li, INFOCOM 2023)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Defense, Outputs
from privbench.threat import Images, Randomness
from privbench.vit import ViT


class Outpost(Defense):
    """Pruned tensors, with Gaussian noise on their entries of most Fisher information.

    The noise is as large as the weights of its tensor are spread, which everybody can compute. The
    authors' public program returns the gradient as it was; this is what their paper says.
    """

    paper: ClassVar[str] = "doi:10.1109/INFOCOM53939.2023.10228919"
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

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that are not zero."""
        return {name: t != 0 for name, t in tensors.items() if self.ratio and not t.all()}
