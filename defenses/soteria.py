"""Soteria: gradients of telling features are pruned in the last layer (Sun et al., CVPR 2021)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor

from privbench.defense import Again, Defense, Outputs
from privbench.vit import ViT

HEADS = (ViT.HEAD, ViT.HEAD.replace("head", "head_dist"))
AT_ONCE = 8
"""Features that are differentiated side by side: on a CPU 4.6 ms a feature of a picture of 32 px,
5.5 at 16 and 8.3 at 64."""


class Soteria(Defense):
    """Soteria: the head's gradient loses the columns of features that tell most of a picture."""

    paper: ClassVar[str] = "arXiv:2012.06043"
    reveals: ClassVar[frozenset[str]] = frozenset({"pruned columns"})
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    percentile: Annotated[float, Field(ge=0, lt=100)] = 80.0
    """Of features whose column is zeroed: the paper's against gradient matching by cosine; it has
    1 against DLG."""

    def finish(
        self, gradients: Mapping[str, Tensor], outputs: Outputs, rng: Generator
    ) -> dict[str, Tensor]:
        """Zero the columns of the features with the smallest ratio of slope to size."""
        assert outputs.again is not None
        found = dict(gradients)
        heads = [name for name in HEADS if name in found]
        ratio = ratios(outputs.again)
        pruned = ratio < torch.quantile(ratio, self.percentile / 100)
        for name, columns in zip(heads, pruned.chunk(len(heads) or 1), strict=False):
            found[name] = torch.where(columns, 0, found[name])
        return found

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Leave out columns that are zero altogether."""
        shared = {name: tensors[name] for name in HEADS if name in tensors}
        kept = {name: (tensor != 0).any(0).expand_as(tensor) for name, tensor in shared.items()}
        return {name: kept_in for name, kept_in in kept.items() if not kept_in.all()}


def ratios(again: Again) -> Float[Tensor, " f"]:
    """Sum over pictures of |dr_i / dx| / |r_i|, for each feature r_i that the head sees."""
    images = again.images.detach().requires_grad_()
    features = again.run(images, {})[1].features
    whole, slopes = features.sum(0), []
    for rows in torch.eye(len(whole)).to(whole).split(AT_ONCE):
        (slope,) = torch.autograd.grad(
            whole, images, rows, retain_graph=True, is_grads_batched=True
        )
        slopes.append(slope.flatten(2).norm(dim=2))  # features, then pictures
    return (torch.cat(slopes) / features.detach().T.abs()).sum(1).nan_to_num(nan=torch.inf)
