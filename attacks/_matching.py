"""Pieces of gradient matching: how far two updates are apart, and how rough a picture is."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.threat import Images

Gradient = Mapping[str, Tensor]


def squared(found: Gradient, shared: Gradient) -> Float[Tensor, ""]:
    """Sum of squared differences over all shared tensors (DLG, eq. 4)."""
    return torch.stack([(found[n] - t).square().sum() for n, t in shared.items()]).sum()


def cosine(found: Gradient, shared: Gradient) -> Float[Tensor, ""]:
    """One minus the cosine of the angle between two whole gradients (Geiping et al., eq. 4)."""
    dot = torch.stack([(found[n] * t).sum() for n, t in shared.items()]).sum()
    own = torch.stack([found[n].square().sum() for n in shared]).sum()
    theirs = torch.stack([t.square().sum() for t in shared.values()]).sum()
    return 1 - dot / (own * theirs).sqrt().clamp(min=torch.finfo(dot.dtype).tiny)


def total_variation(images: Images) -> Float[Tensor, ""]:
    """Mean absolute difference of neighboring pixels, down plus across."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    across = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().mean()
    return down + across
