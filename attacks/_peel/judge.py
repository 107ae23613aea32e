"""Labels of pictures that are found, each its own, and how near their gradient comes."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from privbench.attacks._matching.distances import relative
from privbench.attacks._update.reading import from_pictures, labels
from privbench.attacks._update.wire import as_gradient
from privbench.errors import NotGranted
from privbench.observation import Observation
from privbench.pixels import rounded
from privbench.threat import Draw, Images
from privbench.vit import ViT


class Judged(NamedTuple):
    """Pictures, their labels, how near their gradient comes, and the gradients that it took."""

    images: Images
    objective: float
    labels: Int[Tensor, " b"] | None
    calls: int


def nearest(seen: Observation, images: Images, draw: Draw | None, *, levels: bool) -> Judged:
    """Judge pictures as they are, on 256 levels too if asked, and return the nearer."""
    shared = from_pictures(seen)
    known, objective = judged(seen, shared, images, draw)
    calls = int(known is not None)
    if levels:  # most pictures have them, and the gradient tells whether these do
        exact = rounded(images)
        again, nearer = judged(seen, shared, exact, draw)
        if nearer < objective:
            return Judged(exact, nearer, again, 2 * calls)
    return Judged(images, objective, known, calls)


def of_each(seen: Observation, images: Images, draw: Draw | None) -> Int[Tensor, " b"] | None:
    """Label of each picture of a batch; None where the head's gradient does not show them.

    The head's gradient is the sum of (q - y) f^T over pictures of features f, which are known by
    now; solved for each picture's q - y, only the entry of its label is negative.
    """
    found = _misses(seen, images, draw)
    return None if found is None else found[0].argmin(1)


def soft_of_each(
    seen: Observation, images: Images, draw: Draw | None
) -> Float[Tensor, "b c"] | None:
    """Return what each picture was trained on, as mixed labels: y out of q - y, for known features.

    Of an update that nobody scaled.
    """
    found = _misses(seen, images, draw)
    if found is None:
        return None
    miss, features = found
    with torch.no_grad():
        odds = seen.model.vit.classify(features.to(images)).double().softmax(1)
    return odds - len(images) * miss


def _misses(
    seen: Observation, images: Images, draw: Draw | None
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b f"]] | None:
    """Return each picture's part q - y of the head's gradient, and its features."""
    vit, shared = seen.model.vit, as_gradient(seen)
    if ViT.HEAD not in shared or len(vit.heads) != 1:
        return None
    tables = seen.model.defense.positions(vit, draw)
    with torch.no_grad():
        features = vit.features(vit.encode(images, tables)).double()
    columns, rows = features.T, shared[ViT.HEAD].double().T  # d b, d c
    if ViT.HEAD_BIAS in shared:
        columns = torch.cat([columns, torch.ones_like(columns[:1])])
        rows = torch.cat([rows, shared[ViT.HEAD_BIAS].double()[None]])
    return torch.linalg.lstsq(columns, rows).solution, features


def judged(
    seen: Observation, shared: Mapping[str, Tensor], images: Images, draw: Draw | None
) -> tuple[Int[Tensor, " b"] | None, float]:
    """Return the labels, granted or shown, and the distance to the pictures' shared gradient.

    Infinite where no labels are shown, or where the gradient is undefined.
    """
    try:
        known = seen.labels
        if known is None and len(images) > 1:
            known = of_each(seen, images, draw)
        known = labels(seen) if known is None else known
    except NotGranted:
        return None, float("inf")
    gradient = seen.model.gradient(images, known, draw, differentiable=False)
    value = float(relative({name: gradient[name] for name in shared}, shared))
    return known, value if value == value else float("inf")
