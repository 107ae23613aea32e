"""The grid that pictures of eight bits lie on."""

from jaxtyping import Float
from torch import Tensor

LEVELS = 255
"""Steps from black to white."""


def rounded(pixels: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Nearest points of the grid, for pixels in [0, 1]."""
    return (LEVELS * pixels).round() / LEVELS
