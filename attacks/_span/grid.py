"""Patches on the 8-bit grid of pictures, inside what linear algebra leaves open."""

from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._linear.ambiguity import Ambiguity
from privbench.patches import cut
from privbench.pixels import LEVELS, rounded
from privbench.vit import ViT

SNAPS = 30
"""Projections onto the grid of pixels; set by reason."""
MET = 0.05
"""Distance to that grid, in steps of it, below which a patch lies on it; set by reason."""


def on_grid(
    open_: Ambiguity, vit: ViT, coefficients: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k"], Bool[Tensor, " n"]]:
    """Return where alternating projections end, and which patches then lie on the grid."""
    off = coefficients.new_zeros(len(coefficients))
    for _ in range(SNAPS):
        pixels = vit.pixels(open_.patches(coefficients)[None])
        near = rounded(pixels)
        off = cut(LEVELS * (near - pixels), vit.patch)[0].square().mean(1).sqrt()
        coefficients = open_.coordinates(vit.patches(near)[0])
    return coefficients, off < MET
