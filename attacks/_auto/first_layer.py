"""How probable a picture is by the first layer alone, whose equations hold for any network.

The embedding's gradient is G = D^T X, with D the position gradient, and both are shared. With
errors of known size in D and in G, a row of G - D^T X is Gaussian for the right patches X: of
variance diag(of G) + X^T diag(of D) X. From afar a whole network's gradient says next to nothing
of how near a picture is; these equations are linear, so they do.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from privbench.attacks._update.noise import floored
from privbench.attacks._update.reading import comparable, from_pictures, mask
from privbench.attacks._update.stated import system_errors
from privbench.attacks._update.system import read
from privbench.observation import Observation
from privbench.threat import Images
from privbench.variants import dropouts
from privbench.vit import ViT

ROWS = 128
"""Most rows of G that are looked at, evenly spread: each takes a matrix of a patch's numbers."""
AT_ONCE = 16
"""Rows whose matrices are held at a time."""
PRUNED = "pruned"
UNKNOWN = ("of low rank", PRUNED)
"""Kinds of errors that depend on what they cover, so that no such variance is right."""


@dataclass(frozen=True)
class FirstLayer:
    """One client's equations of one picture, and the standard deviations of both sides."""

    vit: ViT
    token: Float[Tensor, "n d"]
    embedding: Float[Tensor, "d p"]
    of_token: Float[Tensor, "n d"]
    of_embedding: Float[Tensor, "d p"]
    kept: Bool[Tensor, "d p"]

    @property
    def slack(self) -> float:
        """What fitting all unknowns gains per entry, at most, on average: their share of it."""
        return len(self.token) / self.token.shape[1]

    def surprise(self, images: Images) -> float:
        """Return minus twice the log likelihood per entry of G, but for a constant."""
        patches = self.vit.patches(images)[0].double()
        off = self.embedding - self.token.T @ patches
        total, d = 0.0, len(off)
        chosen = torch.arange(0, d, -(-d // ROWS), device=off.device)
        for rows in chosen.split(AT_ONCE):
            kept = self.kept[rows]
            pairs = kept[:, :, None] & kept[:, None, :]
            inner = (patches.T * self.of_token[:, rows].T.square()[:, None]) @ patches
            own = torch.where(kept, self.of_embedding[rows].square(), 1.0)
            root = torch.linalg.cholesky(torch.where(pairs, inner, 0.0) + torch.diag_embed(own))
            rest = torch.where(kept, off[rows], 0.0)[:, :, None]
            white = torch.linalg.solve_triangular(root, rest, upper=False)
            logs = root.diagonal(dim1=1, dim2=2).log()
            total += float(white.square().sum() + 2 * logs.sum())
        return total / max(int(self.kept[chosen].sum()), 1)


def first_layer(seen: Observation) -> FirstLayer | None:
    """Read the equations; None where they are not those of one picture, or errors are not known.

    A masked position's row of D says nothing, so its errors are as large as the other rows. Gaps
    that a defense chose by size hold the smallest entries: their errors depend on what they hide.
    """
    vit, shared = seen.model.vit, from_pictures(seen)
    several = seen.shape[0] > 1 or seen.protocol.clients > 1
    sides = [shared[name] for name in (ViT.POSITIONS, ViT.PROJECTION) if name in shared]
    if several or len(sides) < 2 or not all(t.any() and t.isfinite().all() for t in sides):
        return None
    system, draw = read(shared, vit.prefix, comparable(seen)), mask(seen)
    token, embedding = system.token, system.embedding
    shown = torch.ones_like(token[:, 0], dtype=torch.bool) if draw is None else ~draw.mask[0]
    if not token[shown].any():
        return None
    part, of_embedding, kind = system_errors(seen, shared, system, shown)
    unstated = kind == PRUNED and not seen.model.defense.changes("measured")
    if _drops(seen) and (unstated or not part.any()):  # its zeros are as exact as the rest
        exact = (floored(torch.zeros_like(side), side) for side in (token[shown], embedding))
        part, of_embedding, kind = *exact, ""
    measured = seen.model.defense.measured(seen.update.tensors)
    rows = measured.get(ViT.POSITIONS, torch.ones_like(sides[0], dtype=torch.bool))
    kept = measured.get(ViT.PROJECTION, torch.ones_like(sides[1], dtype=torch.bool)).flatten(1)
    by_size = _by_size(token[shown], part, rows[0, vit.prefix :][shown])
    by_size |= _by_size(embedding, of_embedding, kept)
    if kind in UNKNOWN or by_size or not part.any() or not of_embedding.all():
        return None
    of_token = token[shown].square().mean().sqrt().expand_as(token).clone()
    of_token[shown] = part
    token = torch.where(shown[:, None], token, 0.0)
    return FirstLayer(vit, token, embedding, of_token, of_embedding, kept)


def _drops(seen: Observation) -> bool:
    """Whether the client drops activations in one step, which no simulation can repeat.

    Then no gradient tells candidates apart, and the equations hold as they do for any network, as
    exactly as float32 adds up.
    """
    return seen.protocol.training and seen.protocol.steps == 1 and bool(dropouts(seen.model.vit))


def _by_size(
    tensor: Float[Tensor, "r c"], errors: Float[Tensor, "r c"], kept: Bool[Tensor, "r c"]
) -> bool:
    """Whether all gaps are smaller than all other entries."""
    return bool(kept.any() and not kept.all() and errors[~kept].max() < tensor[kept].abs().min())
