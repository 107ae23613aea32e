"""Dropout Inversion Attack (Scheliga, Mäder and Seeland, AAAI 2023, arXiv:2208.06163).

A client in training mode drops activations by masks that nobody shares, and a gradient computed
without them matches nothing. The attack moves the masks, as numbers, along with the pixels. In
place of the published cosine and signed Adam (see `gradinv_published`) it descends as
`gradinv` does, token by token, and compares all other tensors, too: only they know of most masks.
Those behind the position table and in the last block are not guessed: what they drop is zero in
the update of one image. Without dropout this is plain matching; `pe_ls` is immune to all of it.
"""

import copy
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._matching.distances import by_token
from privbench.attacks._matching.fading import BOX, fading
from privbench.attacks._matching.optimizers import LBFGS, Index, Rows, Values
from privbench.attacks._matching.recipe import Recipe, Scalar, Stage
from privbench.attacks._update.reading import from_pictures, labels, told
from privbench.errors import BadUpdate
from privbench.observation import Observation, PublicModel
from privbench.threat import Images, Reconstruction
from privbench.variants import Dropout, dropouts
from privbench.vit import ViT

NOISE = 0.01
"""Spread of the noise on a gray start, in pixels' units."""
STRIDE = 0.1
"""What a mask moves by where the pixels, in units of their normalization, move by one."""
LAST = (
    ("attn.proj_drop", "attn.proj.bias", None),
    ("mlp.drop1", "mlp.fc2.weight", 0),
    ("mlp.drop2", "mlp.fc2.bias", None),
)
"""Dropouts of the last block, the gradients that show them, and the axis to be looked along."""
LEAST = 0.05
"""Share of entries that a mask keeps at least; below, the zeros were made by a defense."""


class DropoutInversion(Attack):
    """Gradient matching over pixels and dropout masks together."""

    paper: ClassVar[str] = "after arXiv:2208.06163"
    version: ClassVar[int] = 3
    steps: Annotated[int, Field(ge=2)] = 462
    """Gradient evaluations, which are steps and trials of L-BFGS."""
    mask_weight: Annotated[float, Field(ge=0)] = 1e-2
    """Of the penalty on masks with a mean off the rate, or entries outside [0, 1].

    Published is 1e-4, beside a cosine.
    """

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the point with the lowest objective; raises BadUpdate or NotGranted."""
        return _Search(self, seen, rng, tick).answer()


class _Search:
    """Pixels and masks of one observation on their way."""

    def __init__(
        self, attack: DropoutInversion, seen: Observation, rng: Generator, tick: Tick
    ) -> None:
        self.attack, self.seen, self.tick = attack, seen, tick
        shared = from_pictures(seen)
        if not all(tensor.isfinite().all() for tensor in shared.values()):
            raise BadUpdate("The update holds NaN or infinity, so nothing can be matched to it.")
        vit = copy.deepcopy(seen.model.vit)  # its dropouts get masks of their own
        self.model = PublicModel(vit, seen.model.defense)
        self.mean, self.std = vit.mean, vit.std
        self.labels, self.draw = labels(seen), told(seen)
        self.drops = dropouts(vit) if seen.protocol.training else {}
        once = seen.shape[0] == 1 and seen.protocol.steps == 1
        made = seen.model.defense.measured(seen.update.tensors)
        whole = {name: tensor for name, tensor in shared.items() if name not in made}
        self.fixed = _read(self.drops, whole, vit) if once else {}
        self.shapes = self._shapes()
        others = [n for n in shared if n not in (ViT.POSITIONS, ViT.PROJECTION)]
        self.asked = by_token(seen, shared, beside=others if self.drops else ())
        noise = torch.randn(seen.shape, generator=rng).to(self.mean)
        kept = [self.mean.new_zeros(shape.numel()) for shape in self.shapes.values()]
        self.start = torch.cat([(NOISE * noise / self.std).flatten(), *kept])
        self.best, self.lowest, self.calls = self.start, float("inf"), 0

    def _shapes(self) -> dict[str, torch.Size]:
        """Shapes of the masks that are to be found."""
        found: dict[str, torch.Size] = {}

        def note(name: str, shape: torch.Size) -> Tensor:
            found[name] = shape
            return self.mean.new_ones(())

        for name, module in self.drops.items():
            module.masks = lambda shape, name=name: note(name, shape)
        with torch.no_grad():
            blank = self.mean.expand(self.seen.shape)
            self.model.logits(blank, self.draw)
        return {name: shape for name, shape in found.items() if name not in self.fixed}

    def answer(self) -> Reconstruction:
        """Descend."""
        recipe = Recipe(LBFGS(), self.attack.steps, stages=fading(), priors=BOX)
        self.total = sum(recipe.counts())
        stages = [
            (count, _Evaluation(self, stage))
            for count, stage in zip(recipe.counts(), recipe.stages, strict=True)
        ]
        recipe.optimizer.run(self.start[None], stages, None)
        images, masks = self.split(self.best)
        warnings = []
        if not self.drops:
            warnings.append("The client drops nothing: this is plain gradient matching.")
        elif self.seen.protocol.steps > 1:
            warnings.append(
                f"The client took {self.seen.protocol.steps} local steps, each with masks of "
                "its own; one gradient with one set of masks is matched to them all."
            )
        if self.lowest == float("inf"):
            images = self.mean.expand(self.seen.shape)
            warnings.append("The objective was never finite, so this is the mean color.")
        report = {"masks": float(sum(map(Tensor.numel, masks.values())))}
        return Reconstruction(
            images.clamp(0, 1).clone(),
            objective=self.lowest,
            labels=self.labels,
            gradient_calls=self.calls,
            report=report,
            warnings=tuple(warnings),
        )

    def split(self, point: Float[Tensor, " p"]) -> tuple[Images, dict[str, Tensor]]:
        """Pictures in [0, 1] (not clamped), and masks by module."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        pixels, *masks = point.split([self.mean.expand(self.seen.shape).numel(), *sizes])
        named = zip(self.shapes.items(), masks, strict=True)
        return (
            pixels.view(self.seen.shape) * self.std + self.mean,
            {n: 1 - self.drops[n].p + STRIDE * one.view(shape) for (n, shape), one in named},
        )

    def objective(self, point: Float[Tensor, " p"], stage: Stage) -> tuple[Scalar, Scalar]:
        """Return what is descended, and what decides which point is the best."""
        images, masks = self.split(point)
        for name, one in (masks | self.fixed).items():
            self.drops[name].masks = lambda _, one=one: one
        found = self.model.gradient(images, self.labels, self.draw, of=self.asked.names)
        always = [self.asked.distance(found, self.asked.facts)]
        always += [weight * term(images) for weight, term in BOX]
        always += [self.attack.mask_weight * self._odd(name, one) for name, one in masks.items()]
        score = torch.stack(always).sum()
        now = [weight * term(images) for weight, term in stage.priors]
        return torch.stack([score, *now]).sum(), score

    def _odd(self, name: str, one: Tensor) -> Scalar:
        """Squared distance of a mask's mean from the share kept, and of entries from [0, 1]."""
        kept = 1 - self.drops[name].p
        return (one.mean() - kept).square() + (one - one.clamp(0, 1)).square().mean()


class _Evaluation:
    """The objective of one stage, as an optimizer asks for it."""

    def __init__(self, search: _Search, stage: Stage) -> None:
        self.search, self.stage = search, stage

    def __call__(self, points: Rows, rows: Index) -> tuple[Values, Rows]:
        """Return objectives and slopes of the one row."""
        search = self.search
        point = points[0].detach().requires_grad_()
        value, score = search.objective(point, self.stage)
        (slope,) = torch.autograd.grad(value, point)
        search.calls += 1
        if (lowest := score.item()) < search.lowest:
            search.lowest, search.best = lowest, point.detach()
        search.tick(search.calls, search.total, value.item())
        return value.detach()[None], slope[None]


def _read(
    drops: Mapping[str, Dropout], shared: Mapping[str, Tensor], vit: ViT
) -> dict[str, Tensor]:
    """Read masks off zeros of the update; only that of one image and one step shows them.

    Position rows without any gradient are masked by the defense and show nothing; they count as
    kept. In the last block only the class token has a gradient, so what is zero in its layers'
    biases and inputs was dropped there; masks of other tokens change nothing. Where nothing is
    zero, something was added, and where nearly all is, something was taken: no mask is read there,
    nor in a tensor that the defense has filled with zeros of its own.
    """
    if not drops:
        return {}
    found: dict[str, Tensor] = {}
    if ViT.POSITIONS in shared:
        rows = shared[ViT.POSITIONS]
        kept = (rows != 0) | (rows == 0).all(dim=2, keepdim=True)
        found["backbone.pos_drop"] = kept.to(rows)
    last = f"{ViT.BACKBONE}blocks.{vit.depth - 1}"
    if vit.backbone.global_pool == "token":
        for drop, layer, axis in LAST:
            if (tensor := shared.get(f"{last}.{layer}")) is not None:
                kept = tensor != 0 if axis is None else (tensor != 0).any(dim=axis)
                found[f"{last}.{drop}"] = kept.to(tensor)
    return {name: one for name, one in found.items() if LEAST < one.mean() < 1}
