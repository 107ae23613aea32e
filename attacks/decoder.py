"""Decoder: what pictures with such features look like, learned on pictures that nobody took.

Fine-tuning shares few numbers, yet nearly always the head's gradient, and that holds the features
before the head. The server has the network: it invents pictures, looks at their features, and
learns to go back. Learning to Invert (Wu et al., arXiv:2210.10880) does so with a network on
updates of public pictures. Here the map is linear, which is enough for hundreds of numbers, and its
pictures are drawn from what everybody knows: how colors and shapes hang together in any picture.
"""

import copy
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate

from privbench.attack import Attack, Tick
from privbench.attacks._decoder.features import Features, features
from privbench.attacks._decoder.pictures import invented
from privbench.attacks._update.reading import labels, told
from privbench.defense import Defense
from privbench.observation import Observation
from privbench.threat import Images, Randomness, Reconstruction
from privbench.vit import ViT

AT_ONCE = 64
"""Pictures of a step."""
FINEST = 32
"""Side in pixels beyond which pictures are decoded at half the size, a third, and so on."""
TINY = 1e-9
"""Variance that every feature has at least, as a share of the usual: some may never change."""


class Moments:
    """Means and products of what is drawn together: features, and pictures as columns."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, drawn: Float[Tensor, "n f"], images: Float[Tensor, "n p"]) -> None:
        """Take in more of them."""
        both = torch.cat([drawn, images], 1).double()
        first = self.count == 0
        self.count += len(drawn)
        parts = both.sum(0), drawn.double().T @ both
        if first:
            self.sums, self.products = parts
        else:
            self.sums, self.products = self.sums + parts[0], self.products + parts[1]

    def means(self) -> tuple[Float[Tensor, " f"], Float[Tensor, " p"]]:
        """Return the mean features and the mean picture."""
        f = len(self.products)
        both = self.sums / self.count
        return both[:f], both[f:]

    def covariances(self) -> tuple[Float[Tensor, "f f"], Float[Tensor, "f p"]]:
        """Return covariances of features, and of features with pixels."""
        f = len(self.products)
        both = self.sums / self.count
        found = self.products / self.count - torch.outer(both[:f], both)
        return found[:, :f], found[:, f:]


class Decoder(Attack):
    """Linear decoder of the features before the head, learned on invented pictures; blurred."""

    version: ClassVar[int] = 2
    paper: ClassVar[str] = "after arXiv:2210.10880 and arXiv:2509.11451"
    steps: Annotated[int, Field(ge=1)] = 64
    """Batches of 64 invented pictures that it learns from; 32 give up 0.05 dB, 128 add nothing."""
    ridge: Annotated[float, Field(gt=0)] = 0.03
    """Error of features as a share of their variance, as invented pictures are no photographs; on
    48 training pictures of CIFAR-10 0.01 to 0.1 came out alike."""

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Learn, then decode; raises NotGranted without the head's gradient, or BadUpdate."""
        model, known, shown = seen.model, labels(seen), told(seen)
        vit = copy.deepcopy(model.vit).requires_grad_(False).eval()
        one = None if shown is None else shown.rows([0] * AT_ONCE)
        drawn = model.simulate(AT_ONCE, rng, one)
        moments = Moments()
        for number in range(self.steps):
            images = invented(vit, AT_ONCE, number, rng)
            moments.add(_before_head(vit, model.defense, images, drawn), _coarse(images))
            tick(number, self.steps, float("inf"))
        usual = moments.means()[0]
        read = features(seen, known, usual)
        images = _fine(decoded(moments, read, self.ridge), vit).clamp(0, 1)
        drawn = model.simulate(len(images), rng, shown)
        again = _before_head(vit, model.defense, images, drawn).double()
        objective = float((again - read.values).norm() / (read.values - usual).norm())
        tick(self.steps, self.steps, objective)
        report = {"forward_passes": float(self.steps * AT_ONCE), "features": float(len(usual))}
        return Reconstruction(images, objective, known, report=report)


def decoded(moments: Moments, read: Features, ridge: float) -> Float[Tensor, "b p"]:
    """Return the pictures that are best in the mean, linear in the features, float64."""
    usual, gray = moments.means()
    spread, shared = moments.covariances()
    doubt = ridge * spread.diagonal() + TINY * spread.diagonal().mean()
    found = []
    for values, variances in zip(read.values, read.variances, strict=True):
        there = variances.isfinite()
        whole = spread + torch.diag(doubt + torch.where(there, variances, 0))
        away = torch.linalg.solve(whole[there][:, there], (values - usual)[there])
        found.append(gray + away @ shared[there])
    return torch.stack(found)


def _before_head(
    vit: ViT, defense: Defense, images: Images, drawn: Randomness | None
) -> Float[Tensor, "n f"]:
    """Return what the head sees of pictures; of two heads the first."""
    width = vit.heads[0].in_features
    with torch.no_grad():
        table = defense.positions(vit, drawn)
        return defense.forward(vit, images, table, drawn).features[:, :width]


def _coarse(images: Images) -> Float[Tensor, "n p"]:
    """Return pictures with a side of at most FINEST, as rows."""
    return avg_pool2d(images, -(-images.shape[-1] // FINEST), ceil_mode=True).flatten(1)


def _fine(rows: Float[Tensor, "b p"], vit: ViT) -> Images:
    """Return pictures of the victim's side from rows."""
    side = round((rows.shape[1] / 3) ** 0.5)
    images = rows.view(-1, 3, side, side).to(vit.mean)
    if side == vit.side:
        return images
    return interpolate(images, vit.side, mode="bilinear", align_corners=False)
