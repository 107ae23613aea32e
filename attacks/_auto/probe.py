"""What an update says about itself, before anything is attacked."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from privbench.attacks._map.low_rank import low_rank
from privbench.attacks._update.mixing import mixes
from privbench.attacks._update.noise import grid, pruned, quantized
from privbench.attacks._update.reading import from_pictures, in_its_units, mask
from privbench.attacks._update.stated import of_defense
from privbench.attacks._update.wire import errors
from privbench.observation import Observation
from privbench.vit import ViT

HIDDEN = 3e-6
"""Share of the embedding gradient's norm above which a direction off the tokens is real."""

ROUNDED = 1e-4
"""Share of the embedding gradient above which the wire's errors leave no spans to be seen."""


@dataclass(frozen=True)
class Probe:
    """Facts of one observation that decide which attacks make sense."""

    batch: int
    masked: int
    """Rows of the position gradient that are zero, or as small as the update's noise."""
    positions: bool
    """Whether the position gradient is shared."""
    stem: bool
    """Whether the gradient of the patch projection is shared."""
    hidden: int
    """Rank of the embedding gradient off the span of the token gradients: none for one plain
    picture, one for each masked patch, one for each further picture's patch."""
    open_dimensions: int
    """Numbers of the picture that linear algebra cannot decide."""
    tokens: int
    """Of the whole batch, in the first block."""
    room: int
    """Most of them that the gradients of its layers tell apart: the width less one."""
    largest_batch: int
    """Most pictures that have no more tokens than that."""
    precision: str
    """exact, bfloat16, float16, pruned, quantized, or rounded on the wire."""
    told: bool
    """Whether the defense names the size of the errors that it leaves."""
    gaps: bool
    """Whether the defense leaves entries out, and tells those that it kept."""
    low_rank: bool
    """Whether it says which directions a truncation of singular values left exact."""
    mixed: bool
    """Whether the defense mixes pictures of a batch."""
    local_steps: int
    rounds: int
    dropout: bool

    def facts(self) -> dict[str, float]:
        """Return what a record keeps."""
        return {
            "probe_masked": float(self.masked),
            "probe_hidden_rank": float(self.hidden),
            "probe_open_dimensions": float(self.open_dimensions),
            "probe_tokens": float(self.tokens),
            "probe_largest_batch": float(self.largest_batch),
        }


def probe(seen: Observation) -> Probe:
    """Read an update; no evaluation of the model."""
    vit, shared, draw = seen.model.vit, from_pictures(seen), mask(seen)
    n, batch = vit.grid**2, seen.shape[0]
    masked = int(draw.mask[0].sum()) if draw is not None else 0
    hidden, free, precision = 0, n * vit.patch**2 * 3, "exact"
    if ViT.PROJECTION in shared:
        weight = shared[ViT.PROJECTION].flatten(1).double()
        precision = "pruned" if pruned(weight) else grid(weight) or "exact"
        if quantized(weight):
            precision = "quantized"
        noise = _noise(seen, shared)
        if precision == "exact" and noise > ROUNDED * float(weight.square().mean().sqrt()):
            precision = "rounded"
        d, p = weight.shape
        free = n * min(n * batch, p)
        if ViT.POSITIONS in shared:
            rows = shared[ViT.POSITIONS][0, vit.prefix :].double()
            basis = torch.linalg.svd(rows, full_matrices=False).Vh
            size = torch.linalg.svdvals(weight - basis.T @ (basis @ weight))
            hidden = int((size > HIDDEN * weight.norm() + 3 * noise * (d**0.5 + p**0.5)).sum())
            free = _open(n, d, p, batch, masked)
    protocol, each, room = seen.protocol, vit.tokens, vit.width - 1
    return Probe(
        batch,
        masked,
        ViT.POSITIONS in shared,
        ViT.PROJECTION in shared,
        hidden,
        free,
        batch * each,
        room,
        room // each,
        precision,
        any(bool(t.any()) for t in of_defense(seen).values()),
        any(not bool(t.all()) for t in seen.model.defense.measured(seen.update.tensors).values()),
        bool(low_rank(seen)),
        batch > 1 and mixes(seen),
        protocol.steps,
        1 + len(seen.later),
        protocol.training,
    )


def _noise(seen: Observation, shared: Mapping[str, Tensor]) -> float:
    """Return the root mean square of the embedding gradient's errors that the wire makes known."""
    known = in_its_units(seen, shared, errors(seen))
    return float(known[ViT.PROJECTION].square().mean().sqrt()) if ViT.PROJECTION in known else 0.0


def _open(n: int, d: int, p: int, batch: int, masked: int) -> int:
    if masked:
        return n * min(masked - 1, p) * batch
    if batch > 1:
        return n * min((batch - 1) * n, p) * batch
    return max(0, n - (d - 1)) * p
