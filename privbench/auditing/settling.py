"""Puts a picture onto the 8-bit grid by the update's linear equations, not pixel by pixel.

The gradient of the patch embedding is G = D^T X with token gradients D that the position gradient
shows. Rounding each pixel by itself wastes that most errors lie along few directions; Babai's
nearest plane (Combinatorica 6, 1986) decides one patch after the other, each on what the earlier
ones leave, the surest first (sorted QR, Wuebben et al., Electron. Lett. 37, 2001).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.pixels import LEVELS, rounded
from privbench.roles import Role
from privbench.threat import Images
from privbench.vit import ViT


def on_grid(images: Images) -> Images:
    """Round each pixel to the nearest of 256 levels."""
    return rounded(images.clamp(0, 1))


def settled(vit: ViT, shared: Mapping[str, Tensor]) -> Images | None:
    """Return the one picture on the grid that the equations lead to; None where they do not.

    They need the gradients of positions and patch embedding, and no more patches than the width
    less one.
    """
    if not (vit.supports(Role.POSITIONS) and vit.supports(Role.STEM)):
        return None
    if not {ViT.POSITIONS, vit.stem.weight_name} <= shared.keys() or vit.grid**2 >= vit.width:
        return None
    token = shared[ViT.POSITIONS][0, vit.prefix :].double()  # n d
    embedding = shared[vit.stem.weight_name].flatten(1).double()  # d p
    black = vit.patches(torch.zeros(1, 3, vit.side, vit.side, device=vit.mean.device))[0].double()
    white = vit.patches(torch.ones(1, 3, vit.side, vit.side, device=vit.mean.device))[0].double()
    step = (white - black)[0] / LEVELS  # p
    levels = _nearest_plane(token.T, (embedding - token.T @ black) / step)
    return on_grid(vit.pixels((black + levels * step)[None]).float())


def _nearest_plane(a: Float[Tensor, "d n"], b: Float[Tensor, "d p"]) -> Float[Tensor, "n p"]:
    """Return whole numbers k in 0 ... 255 with a k near b, column by column."""
    q, r, order = _sorted_qr(a)
    y = q.T @ b
    found = torch.zeros_like(y)
    for i in range(len(r) - 1, -1, -1):
        rest = y[i] - r[i, i + 1 :] @ found[i + 1 :]
        found[i] = (rest / r[i, i]).round().clamp(0, LEVELS)
    back = torch.empty_like(found)
    back[order] = found
    return back.nan_to_num()


def _sorted_qr(a: Float[Tensor, "d n"]) -> tuple[Tensor, Tensor, list[int]]:
    """QR with the shortest remaining column next, so that what is decided first is surest."""
    q, n = a.clone(), a.shape[1]
    r = torch.zeros(n, n, dtype=a.dtype, device=a.device)
    order, sizes = list(range(n)), q.square().sum(0)
    for i in range(n):
        k = i + int(sizes[i:].argmin())
        order[i], order[k] = order[k], order[i]
        for table in (q, r):
            table[:, [i, k]] = table[:, [k, i]]
        r[i, i] = q[:, i].norm()
        q[:, i] /= r[i, i].clamp(min=torch.finfo(a.dtype).tiny)
        r[i, i + 1 :] = q[:, i] @ q[:, i + 1 :]
        q[:, i + 1 :] -= torch.outer(q[:, i], r[i, i + 1 :])
        sizes = q.square().sum(0)
    return q, r, order
