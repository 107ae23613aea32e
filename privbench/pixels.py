"""The grid that pictures of eight bits lie on."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

LEVELS = 255
"""Steps from black to white."""


def rounded(pixels: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Nearest points of the grid, for pixels in [0, 1]."""
    return (LEVELS * pixels).round() / LEVELS


def neighbor(pixels: Float[Tensor, "*any"], rng: Generator) -> Float[Tensor, "*any"]:
    """Pixels with one of them, drawn from rng, a step of the grid nearer to the other end."""
    near = pixels.clone().flatten()
    at = int(torch.randint(near.numel(), (), generator=rng))
    near[at] += (1 if near[at] < 0.5 else -1) / LEVELS
    return near.view_as(pixels)
