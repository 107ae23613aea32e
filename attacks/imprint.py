"""Imprinting a stock ViT: each hidden unit a bin (Robbing the Fed, arXiv:2110.13057).

As Decepticons (arXiv:2201.12675) do with text: a malicious server sends weights that turn the
MLPs of all blocks but the last into bins, without changing a shape. The stream holds a patch's
pixels, its place, two constants and a mark of its image, which even attention in the first block
writes (the mean over all tokens). Unit k of a MLP is active for tokens whose u is above c_k, where
u is the place plus one pixel; all units write to one junk entry, so a token's part in the rows of
the first layer's gradient is the same in all bins below it. Rows of consecutive bins differ by the
tokens between, and where one is there alone, its row over its bias is the token, without its
LayerNorm's mean and scale, which the constants tell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import conv2d, interpolate

from privbench.attack import Attack, Tick
from privbench.attacks._linear.bins import Layout, layout, tampered
from privbench.attacks._update.reading import measured
from privbench.attacks._update.system import tensor
from privbench.observation import Observation, PublicModel
from privbench.patches import join
from privbench.roles import Role
from privbench.threat import Images, Reconstruction

ALONE = 1e-3
"""How far the mean square of a token's LayerNorm may be from one; a mixture's is smaller."""
EMPTY = 1e-4
"""Share of the largest bias difference below which a bin holds no token."""
OFF_PLACE = 0.05
OUTSIDE = 0.02
"""How far a bin's place may be from the one it is for, and pixels from [0, 1]."""
PART = 1e-2
"""Least weight of an image that has a part in an average."""
SAME = 2e-2
"""Distance of two marks, in units of the spread of all, up to which they are of one image."""


@dataclass(frozen=True)
class Bin:
    """What a bin holds: one token, or an average of several with unknown weights."""

    place: int
    """From 0; -1 where the defense has hidden it."""
    pixels: Float[Tensor, " p"]
    mark: Float[Tensor, " f"]
    doubt: float
    """How far it is from one token: an average has a smaller variance."""


Found = dict[int, Float[Tensor, " p"]]
"""Pixels of one image by place."""


class Imprint(Attack):
    """Malicious server: hidden units as bins over place and pixels give single patches away."""

    paper: ClassVar[str] = "after arXiv:2110.13057, arXiv:2201.12675"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.MLP})
    malicious: ClassVar[bool] = True

    def tamper(self, model: PublicModel, rng: Generator) -> PublicModel:
        """Return a model whose hidden units are bins; raises UnsupportedModel."""
        return tampered(model, rng)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Read all bins in float64, and sort their patches by place and mark."""
        vit, batch = seen.model.vit, seen.shape[0]
        plan = layout(vit)
        if not plan.fits(vit):
            tick(1, 1, 1.0)
            return Reconstruction(
                vit.mean.expand(seen.shape).clone(),
                objective=1.0,
                warnings=("The client did not run the weights of this attack: mean color.",),
            )
        bins = sorted(_bins(seen, plan), key=lambda one: one.doubt)
        groups = _by_image([one for one in bins if one.doubt < ALONE], batch)
        found = [_by_place(group) for group in groups]
        alone = sum(map(len, found))
        _peel(bins, groups, found)
        images = torch.cat(
            [
                _picture(one, _hidden(group), plan, seen)
                for one, group in zip(found, groups, strict=True)
            ]
        )
        count = sum(map(len, found))
        missing = 1 - count / (batch * plan.places)
        tick(1, 1, missing)
        warnings = []
        if missing:
            warnings.append(
                f"{count} of {batch * plan.places} patches were found with their places; the rest "
                "is filled in."
            )
        if plan.pool > 1:
            warnings.append(
                f"The width holds patches at 1/{plan.pool} of their side: the picture is small."
            )
        return Reconstruction(
            images.float(),
            objective=missing,
            report={"alone": alone / (batch * plan.places), "found": 1 - missing},
            warnings=tuple(warnings),
        )


def _bins(seen: Observation, plan: Layout) -> Iterator[Bin]:
    """Read the bins of all blocks; averages over several places are left out."""
    shared = measured(seen)
    for block in range(plan.blocks):
        layer = seen.model.vit.hidden(block)
        names = [layer.weight_name, layer.bias_name]
        if any(name not in shared for name in names):
            continue
        rows, bias = (tensor(shared, name)[: plan.bins] for name in names)
        sign = plan.signs.to(rows)
        rows, bias = rows * sign[:, None], bias * sign
        rows = rows - torch.cat([rows[1:], torch.zeros_like(rows[:1])])
        bias = bias - torch.cat([bias[1:], torch.zeros_like(bias[:1])])
        held = (bias.abs() > EMPTY * bias.abs().max()).nonzero().flatten()
        inputs = rows[held] / bias[held, None]
        if seen.model.defense.by_tensor and len(held):
            inputs = inputs / _factor(inputs, plan)
        for k, z in zip(held.tolist(), inputs, strict=True):
            scale = 2 * plan.constant / (z[plan.high] - z[plan.low])
            stream = (z - (z[plan.high] + z[plan.low]) / 2) * scale
            square = z.square().mean() * (1 + plan.eps / scale.square())
            place = float(stream[plan.place] * plan.places)
            pixels = stream[: plan.values]
            if abs(place - plan.slot(k)) < OFF_PLACE and _in_box(pixels):
                doubt = float((square - 1).abs())
                yield Bin(plan.slot(k) - 1, pixels, stream[plan.marks], doubt)


def _factor(inputs: Float[Tensor, "k d"], plan: Layout) -> Float[Tensor, ""]:
    """Factor of a weight's gradient against its bias's, where each was scaled by itself.

    Each bin tells the one at which it holds a single token; that of most bins is true.
    """
    square = inputs.square().mean(1)
    part = square * plan.eps * ((inputs[:, plan.high] - inputs[:, plan.low]) / 2).square()
    part = part / plan.constant**2
    each = ((square + (square.square() + 4 * part).sqrt()) / 2).sqrt()
    near = (each[:, None] - each).abs() < ALONE / 2 * each
    return each[near.sum(1).argmax()]


def _in_box(pixels: Float[Tensor, " p"]) -> bool:
    return float((pixels - pixels.clamp(0, 1)).abs().max()) < OUTSIDE


def _by_image(bins: Sequence[Bin], batch: int) -> list[list[Bin]]:
    """Sort tokens by their marks, the surest first; the largest groups are the images."""
    groups: list[list[Bin]] = []
    if bins:
        marks = torch.stack([one.mark for one in bins])
        near = SAME * float((marks - marks.mean(0)).norm(dim=1).max()) if batch > 1 else torch.inf
        for one in bins:
            gaps = [float((one.mark - group[0].mark).norm()) for group in groups]
            if gaps and min(gaps) <= near:
                groups[gaps.index(min(gaps))].append(one)
            else:
                groups.append([one])
    groups.sort(key=len, reverse=True)
    return (groups + [[] for _ in range(batch)])[:batch]


def _by_place(group: Sequence[Bin]) -> Found:
    """Keep the surest token of each place."""
    return {one.place: one.pixels for one in reversed(group) if one.place >= 0}


def _hidden(group: Sequence[Bin]) -> list[Float[Tensor, " p"]]:
    """Patches whose place is hidden, each once."""
    found: list[Tensor] = []
    for one in group:
        if one.place < 0 and all(float((one.pixels - o).abs().max()) > 1e-2 for o in found):
            found.append(one.pixels)
    return found


def _peel(bins: Sequence[Bin], groups: Sequence[Sequence[Bin]], found: Sequence[Found]) -> None:
    """Find tokens that share a bin with known ones; the marks tell the weights of the average."""
    if len(groups) < 2 or not all(groups) or len(groups) > len(groups[0][0].mark) + 1:
        return
    marks = torch.stack([group[0].mark for group in groups], dim=1)  # f b
    system = torch.linalg.pinv(torch.cat([marks, torch.ones_like(marks[:1])]))  # weights sum to 1
    one = torch.ones_like(marks[:1, 0])
    left = [
        (each, (system @ torch.cat([each.mark, one])).tolist())
        for each in bins
        if each.place >= 0 and each.doubt >= ALONE
    ]
    before = -1
    while before != (before := sum(map(len, found))):
        for each, weights in left:
            part = [image for image, weight in enumerate(weights) if abs(weight) > PART]
            new = [image for image in part if each.place not in found[image]]
            if len(new) != 1:
                continue
            rest = each.pixels.clone()
            for image in set(part) - set(new):
                rest -= weights[image] * found[image][each.place]
            if _in_box(pixels := rest / weights[new[0]]):
                found[new[0]][each.place] = pixels


def _picture(
    found: Found, hidden: Sequence[Float[Tensor, " p"]], plan: Layout, seen: Observation
) -> Images:
    """Paint what was found; hidden patches go to the places that are left, in any order."""
    mean = seen.model.vit.mean.double()
    side = plan.side
    patches = mean.expand(1, 3, side, side).flatten().repeat(plan.places, 1)
    known = torch.zeros(plan.places, dtype=torch.bool, device=mean.device)
    for place, pixels in found.items():
        patches[place], known[place] = pixels, True
    patches = _filled(patches, known, side)
    for place, pixels in zip((~known).nonzero().flatten().tolist(), hidden, strict=False):
        patches[place] = pixels
    picture = join(patches[None], side).clamp(0, 1)
    if plan.pool == 1:
        return picture
    return interpolate(picture, scale_factor=plan.pool, mode="bilinear", align_corners=False)


def _filled(
    patches: Float[Tensor, "n p"], known: Tensor, side: int, rounds: int = 64
) -> Float[Tensor, "n p"]:
    """Give unknown patches the mean color of their neighbors, from the known ones inward."""
    grid = round(len(patches) ** 0.5)
    colors = patches.view(grid, grid, 3, -1).mean(3).permute(2, 0, 1)  # 3 g g
    sure = known.view(1, grid, grid).to(colors)
    kernel = colors.new_tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    weight, filled = sure.clone(), colors * sure
    if not known.any():
        return patches
    for _ in range(rounds):
        around = conv2d((filled * weight)[:, None], kernel, padding=1)[:, 0]
        count = conv2d(weight[:, None], kernel, padding=1)[:, 0]
        reached = (count > 0).to(colors)
        filled = torch.where(sure > 0, colors, around / count.clamp(min=1))
        weight = torch.maximum(weight, reached)
    flat = filled.permute(1, 2, 0).reshape(-1, 3, 1).expand(-1, -1, side * side).flatten(1)
    return torch.where(known[:, None], patches, flat)
