"""Block-wise masks of patches, and the moves inside them."""

import math
import random
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from privbench.patches import cut, join
from privbench.threat import Draw, Images

Sampler = Literal["blockwise", "blockwise_exact", "uniform"]

ASPECT = math.log(1 / 0.3)
"""Logarithm of the longest rectangle's ratio of sides, as BEiT has it."""
ATTEMPTS = 10
"""Rectangles in a row that may fail, as BEiT has it."""
SMALLEST, LARGEST = 8, 75
"""Patches in a block, as released; the cap is never scaled with the ratio."""


def blockwise(grid: int, count: int, smallest: int, largest: int, rng: random.Random) -> list[bool]:
    """Rectangles until count cells are masked, or until ten rectangles in a row fail.

    The sampler of BEiT (arXiv:2106.08254) as MJP's released code runs it: it may stop short of
    count, never exceeds it, and prefers the center. The cap on a rectangle is drawn as it is
    there, also when it lies below the smallest block.
    """
    mask = [[False] * grid for _ in range(grid)]
    masked = 0
    while masked < count:
        added = _rectangle(mask, min(count - masked, largest), smallest, rng)
        if not added:
            break
        masked += added
    return [cell for row in mask for cell in row]


def _rectangle(mask: list[list[bool]], cap: int, smallest: int, rng: random.Random) -> int:
    """Mask one rectangle in place; return how many cells are new, 0 if no attempt fits."""
    grid = len(mask)
    for _ in range(ATTEMPTS):
        area = rng.uniform(smallest, cap)
        aspect = math.exp(rng.uniform(-ASPECT, ASPECT))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h >= grid or w >= grid:
            continue
        top, left = rng.randint(0, grid - h), rng.randint(0, grid - w)
        cells = [(y, x) for y in range(top, top + h) for x in range(left, left + w)]
        new = [(y, x) for y, x in cells if not mask[y][x]]
        if 0 < len(new) <= cap:
            for y, x in new:
                mask[y][x] = True
            return len(new)
    return 0


def extend(mask: list[bool], grid: int, count: int, rng: random.Random) -> list[bool]:
    """Grow a mask cell by cell at its border until it has exactly count cells."""
    mask = list(mask)
    while sum(mask) < count:
        free = [i for i in range(grid**2) if not mask[i]]
        border = [i for i in free if any(mask[j] for j in _neighbors(i, grid))]
        mask[rng.choice(border or free)] = True
    return mask


def _neighbors(cell: int, grid: int) -> list[int]:
    y, x = divmod(cell, grid)
    around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    return [v * grid + u for v, u in around if 0 <= v < grid and 0 <= u < grid]


def sample(
    sampler: Sampler, grid: int, ratio: float, smallest: int, largest: int, rng: random.Random
) -> list[bool]:
    """Mask of grid x grid patches, True where treated, at a nominal ratio of them."""
    count = int(grid**2 * ratio)
    if sampler == "uniform":
        chosen = set(rng.sample(range(grid**2), count))
        return [i in chosen for i in range(grid**2)]
    mask = blockwise(grid, count, smallest, largest, rng)
    return mask if sampler == "blockwise" else extend(mask, grid, count, rng)


def blockwise_draw(grid: int, ratio: float, rngs: Sequence[Generator]) -> Draw:
    """Draw a block-wise mask and its permutation from each generator, as released."""
    draws = []
    for rng in rngs:
        words = random.Random(int(torch.randint(2**62, (), generator=rng)))
        mask = sample("blockwise", grid, ratio, SMALLEST, LARGEST, words)
        draws.append(draw_moves(torch.tensor([mask]), rng))
    return Draw(torch.cat([d.mask for d in draws]), torch.cat([d.order for d in draws]))


def still(mask: Bool[Tensor, "b n"]) -> Draw:
    """Pair a mask with patches that stay where they are."""
    return Draw(mask, torch.arange(mask.shape[1]).repeat(len(mask), 1))


def draw_moves(mask: Bool[Tensor, "b n"], rng: Generator) -> Draw:
    """Pair a mask with a uniform permutation of its patches; fixed points are allowed."""
    draw = still(mask)
    for row, cells in zip(draw.order, mask, strict=True):
        places = cells.nonzero().flatten()
        row[places] = places[torch.randperm(len(places), generator=rng)]
    return draw


def moved(images: Images, patch: int, draw: Draw) -> Images:
    """Feed position i the patch that stood at order[i]."""
    patches = cut(images, patch)
    order = draw.order.to(images.device)
    return join(patches.gather(1, order[..., None].expand_as(patches)), patch)
