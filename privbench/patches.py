"""Pictures cut into patches, and joined again."""

from jaxtyping import Float
from torch import Tensor

from privbench.threat import Images


def cut(images: Images, side: int) -> Float[Tensor, "b n p"]:
    """Patches of side x side pixels, row by row; inside a patch channel, then y, then x."""
    b, c, h, w = images.shape
    blocks = images.reshape(b, c, h // side, side, w // side, side)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * side * side)


def join(patches: Float[Tensor, "b n p"], side: int) -> Images:
    """Square pictures from their patches; the inverse of `cut`."""
    b, n, p = patches.shape
    g, c = round(n**0.5), p // side**2
    blocks = patches.reshape(b, g, g, c, side, side)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(b, c, g * side, g * side)
