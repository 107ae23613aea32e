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
from timm.layers.attention import Attention
from torch import Generator, Tensor, nn

from privbench.attack import Attack, Tick
from privbench.attacks._update.reading import from_pictures
from privbench.attacks._update.system import relative, tensor
from privbench.errors import BadUpdate, UnsupportedModel
from privbench.observation import Observation
from privbench.patches import join
from privbench.threat import Reconstruction
from privbench.variants import FirstBlock
from privbench.vit import ViT

QKV = "backbone.blocks.0.attn.qkv.weight"
HOLDS = 1e-4
"""Relative residual up to which the equation counts as valid; float32 alone leaves 1e-7."""


class AttentionClosedForm(Attack):
    """Closed form of a first block without LayerNorm and residuals; no label, no descent."""

    paper: ClassVar[str] = "arXiv:2112.14087"
    reads: ClassVar[frozenset[str]] = frozenset({ViT.POSITIONS, QKV})
    demands: ClassVar[Mapping[str, Any]] = {"first_block": "april"}
    threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-6
    """Singular values of A below this share of the largest count as zero.

    In float32 they are noise; before training attention is nearly even, and most of A is so small.
    """

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Solve for the tokens in float64; raises UnsupportedModel, NotGranted or BadUpdate."""
        vit, shared = seen.model.vit, from_pictures(seen)
        slopes = tensor(shared, ViT.POSITIONS)[0]  # t d
        wanted = _attention(vit).qkv.weight.detach().double().T @ tensor(shared, QKV)  # d d
        if not slopes.any() or not wanted.any():
            raise BadUpdate("The first block's gradient is zero: it holds nothing of the picture.")
        # What is known of the tokens: everything but the pictures.
        rest = wanted - slopes.T @ _blank(vit)
        slopes = slopes[vit.prefix :]
        u, s, vh = torch.linalg.svd(slopes, full_matrices=False)
        rank = int((s > self.threshold * s[0]).sum())
        embedded = u[:, :rank] @ ((vh[:rank] @ rest) / s[:rank, None])  # n d
        residual = relative(rest - slopes.T @ embedded, rest)
        embed = vit.backbone.patch_embed.proj
        inverse = torch.linalg.pinv(embed.weight.detach().double().flatten(1))  # p d
        patches = embedded @ inverse.T
        picture = join(patches[None], vit.patch) * vit.std.double() + vit.mean.double()
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
        if embed.weight.shape[0] < patches.shape[1]:
            warnings.append(
                f"Width {embed.weight.shape[0]} is below the {patches.shape[1]} values of a patch: "
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


def _attention(vit: ViT) -> Attention:
    """Attention of the first block, where nothing stands between it and the position table."""
    backbone, block = vit.backbone, vit.backbone.blocks[0]
    plain = isinstance(backbone.norm_pre, nn.Identity) and not backbone.no_embed_class
    if isinstance(block, FirstBlock) and isinstance(block.attn, Attention) and plain:
        return block.attn
    raise UnsupportedModel(
        "april needs a first block without LayerNorm and residuals, right behind positions for all "
        "tokens, which no stock ViT has. Add `--set model.first_block=april`, or run pe_ls, which "
        "needs no change of the model."
    )


def _blank(vit: ViT) -> Float[Tensor, "t d"]:
    """Tokens of a picture in the mean color, for which the normalized patches are zero."""
    backbone, embed = vit.backbone, vit.backbone.patch_embed.proj
    prefix = [
        token.detach()[0]
        for token in (backbone.cls_token, getattr(backbone, "dist_token", None), backbone.reg_token)
        if token is not None
    ]
    patch = torch.zeros_like(embed.weight[:, 0, 0, 0]) if embed.bias is None else embed.bias
    patches = patch.detach().expand(vit.grid**2, -1)
    return (torch.cat([*prefix, patches]) + vit.positions.detach()[0]).double()
