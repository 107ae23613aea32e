"""Fishing for user data (Wen et al., ICML 2022, arXiv:2202.00580), then the closed form.

A malicious server edits the head so that one image of a batch makes nearly all of the gradient.
Only one class, the bait, keeps a row: W f + a for features f. Images of another class push on the
features by the bait's probability, which far below zero is exp(W f + a): the image farthest along
W outweighs the next one exponentially, and no threshold has to be met. An image of the bait's own
class outweighs them all, whatever its features are. What is left is the gradient of one image, and
`pe_ls` solves that exactly.
"""

import copy
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.component import make
from privbench.errors import BadSetting
from privbench.observation import Observation, PublicModel
from privbench.threat import Images, Reconstruction
from privbench.vit import ViT

LINE = 2.0
"""Where the bait's score is zero, in deviations above the mean of the features along W."""
SURROGATES = 64
ISOLATED = 1e-3
"""Relative residual of the closed form from which on several images share the gradient."""


class Fishing(Attack):
    """Malicious server: an edited head lets one image of a batch dominate; `pe_ls` solves it."""

    paper: ClassVar[str] = "after arXiv:2202.00580"
    reads: ClassVar[frozenset[str]] = frozenset({ViT.POSITIONS, ViT.PROJECTION})
    malicious: ClassVar[bool] = True
    bait: Annotated[int, Field(ge=0)] = 0
    """Class that keeps a row of the head."""
    sharpness: Annotated[float, Field(gt=0)] = 18.0
    """Factor e^sharpness between images that differ by one deviation along W."""

    def tamper(self, model: PublicModel, rng: Generator) -> PublicModel:
        """Return the model with another head; raises BadSetting.

        W is the direction in which features of synthetic pictures spread most: the server needs no
        data.
        """
        if self.bait >= model.vit.classes:
            raise BadSetting(
                f"fishing: bait {self.bait} is not one of {model.vit.classes} classes."
            )
        vit = copy.deepcopy(model.vit)
        tampered = PublicModel(vit, model.defense)
        heads = [
            one for one in (vit.backbone.head, getattr(vit.backbone, "head_dist", None)) if one
        ]
        with torch.no_grad():
            features = _features(tampered, pictures(SURROGATES, vit, rng))
            spread = features - features.mean(0)
            way = torch.linalg.svd(spread, full_matrices=False).Vh[0]
            along = features @ way
            factor = self.sharpness / float(along.std())
            for head in heads:  # a distilled model averages two heads
                head.weight.zero_()
                head.bias.zero_()
            row = factor * way
            line = float(along.mean() + LINE * along.std())
            heads[0].weight[self.bait] = len(heads) * row
            heads[0].bias[self.bait] = -len(heads) * factor * line
        return tampered

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve as for one image; the others are left in the mean color."""
        alone = replace(seen, shape=(1, *seen.shape[1:]), labels=None)
        catch = make(Attack, "pe_ls", {}).reconstruct(alone, rng, tick)
        images = seen.model.vit.mean.expand(seen.shape).clone()
        images[0] = catch.images[0]
        warnings = list(catch.warnings)
        if catch.objective > ISOLATED:
            warnings.append("No single image dominates the gradient: the answer is a mixture.")
        if seen.shape[0] > 1:
            warnings.append(f"1 of {seen.shape[0]} images was fished for; the rest is mean color.")
        return Reconstruction(
            images, catch.objective, report=catch.report, warnings=tuple(warnings)
        )


def pictures(count: int, vit: ViT, rng: Generator) -> Images:
    """Pictures that nobody took: 1/f noise with the brightness and contrast of photographs."""
    side, mean = vit.side, vit.mean
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / side)
    noise = torch.fft.rfft2(torch.randn(count, 4, side, side, generator=rng)) / frequency
    waves = torch.fft.irfft2(noise, s=(side, side))
    waves = waves / waves.std(dim=(2, 3), keepdim=True)
    gray, color = waves[:, :1], waves[:, 1:]
    level, contrast = torch.rand(2, count, 1, 1, 1, generator=rng)
    drawn = 0.2 + 0.6 * level + (0.1 + 0.2 * contrast) * (gray + 0.3 * color)
    return drawn.clamp(0, 1).to(mean)


def _features(model: PublicModel, images: Images) -> Float[Tensor, "b d"]:
    """Return what the head sees."""
    heard: list[Tensor] = []
    vit = model.vit
    hook = vit.backbone.head.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    model.defense.forward(vit, images, None)
    hook.remove()
    return heard[0]
