"""APRIL's closed form (Lu et al., CVPR 2022, arXiv:2112.14087, section 3.2).

Where the first block's attention sees the tokens Z (t x d) themselves, its gradients hold them:
with A = dL/dZ, which is the position gradient, A^T Z = sum over queries, keys and values of
W^T dL/dW. Patches follow from Z through the pseudo-inverse of the embedding, which loses what a
narrow one has lost. Stock ViTs put a LayerNorm and a residual around that attention, and then
the equation is wrong; `pe_ls` needs neither the change nor the embedding's inverse.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._update.reading import from_pictures
from privbench.attacks._update.system import relative, tensor
from privbench.errors import BadUpdate, UnsupportedModel
from privbench.observation import Observation
from privbench.roles import Linear, Role
from privbench.threat import Reconstruction
from privbench.variants import FirstBlock
from privbench.vit import ViT

HOLDS = 1e-4
"""Relative residual up to which the equation counts as valid; float32 alone leaves 1e-7."""


class AttentionClosedForm(Attack):
    """Closed form of a first block without LayerNorm and residuals; no label, no descent."""

    paper: ClassVar[str] = "arXiv:2112.14087"
    version: ClassVar[int] = 2
    roles: ClassVar[frozenset[Role]] = frozenset({Role.POSITIONS, Role.QKV})
    demands: ClassVar[Mapping[str, Any]] = {"first_block": "april"}
    threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    """Singular values of A below this share of the largest count as zero.

    In float32 they are noise; before training attention is nearly even, and most of A is so small.
    """

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve for the tokens in float64; raises UnsupportedModel, NotGranted or BadUpdate."""
        vit, shared = seen.model.vit, from_pictures(seen)
        slopes = tensor(shared, ViT.POSITIONS)[0]  # t d
        qkv = _queries(vit)
        wanted = qkv.weight.detach().double().T @ tensor(shared, qkv.weight_name)  # d d
        if not slopes.any() or not wanted.any():
            raise BadUpdate("The first block's gradient is zero: it holds nothing of the picture.")
        # What is known of the tokens: everything but the pictures.
        rest = wanted - slopes.T @ _blank(vit)
        slopes = slopes[vit.prefix :]
        u, s, vh = torch.linalg.svd(slopes, full_matrices=False)
        rank = int((s > self.threshold * s[0]).sum())
        embedded = u[:, :rank] @ ((vh[:rank] @ rest) / s[:rank, None])  # n d
        residual = relative(rest - slopes.T @ embedded, rest)
        embed = vit.stem.weight.detach().double()  # d p
        inverse = torch.linalg.pinv(embed)  # p d
        patches = embedded @ inverse.T
        picture = vit.pixels(patches[None])
        tick(1, 1, residual)
        warnings = []
        if seen.shape[0] > 1:
            warnings.append(
                f"A batch of {seen.shape[0]}: the equations mix its images, and this is one "
                "mixture for all."
            )
        if rank < len(slopes):
            warnings.append(f"Rank {rank} of {len(slopes)} patches: minimum-norm solution.")
        if residual > HOLDS:
            warnings.append(
                f"The equation fails by {residual:.2g} of its right side: the update was altered, "
                "or tokens are not the sums of a patch and its position."
            )
        if len(embed) < patches.shape[1]:
            warnings.append(
                f"Width {len(embed)} is below the {patches.shape[1]} values of a patch: "
                "the embedding lost the rest."
            )
        return Reconstruction(
            picture.clamp(0, 1).float().expand(seen.shape).clone(),
            objective=residual,
            report={
                "rank": float(rank),
                "condition": float(s[0] / s[rank - 1]) if rank else float("inf"),
                "residual": residual,
            },
            warnings=tuple(warnings),
        )


def _queries(vit: ViT) -> Linear:
    """Return the qkv layer where nothing stands between them and the position table."""
    if isinstance(vit.backbone.blocks[0], FirstBlock) and vit.prefix_has_rows:
        return vit.qkv
    raise UnsupportedModel(
        "april needs a first block without LayerNorm and residuals, right behind positions for all "
        "tokens, which no stock ViT has. Add `--set model.first_block=april`, or run pe_ls, which "
        "needs no change of the model."
    )


def _blank(vit: ViT) -> Float[Tensor, "t d"]:
    """Tokens of a picture in the mean color, for which the normalized patches are zero."""
    tokens = vit.embed(vit.mean.expand(1, -1, vit.side, vit.side))
    return vit.sequence(tokens)[0].detach().double()
