"""Roles that parts of a victim play for attacks, whatever its family calls them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor, nn


class Role(StrEnum):
    """A part of a vision transformer that an attack may need."""

    STEM = "stem"
    """One linear map from the pixels of a patch to its token, nothing behind it."""
    POSITIONS = "positions"
    """A table of position embeddings that is added at the input."""
    QKV = "qkv"
    """The first block's queries, keys and values, in one matrix."""
    NORM = "norm"
    """A LayerNorm that all tokens pass, as they are, right before that matrix."""
    TOKENS = "tokens"
    """A first block of LayerNorm, attention, LayerNorm and MLP with GELU, with residuals."""
    MLP = "mlp"
    """The first layer of the first block's MLP."""


NAMES = {
    Role.STEM: "a linear patch embedding",
    Role.POSITIONS: "a table of position embeddings at the input",
    Role.QKV: "one matrix of queries, keys and values in its first block",
    Role.NORM: "a LayerNorm alone between its tokens and their queries, keys and values",
    Role.TOKENS: "a plain first block (LayerNorm, attention, LayerNorm, MLP with GELU, residuals)",
    Role.MLP: "blocks with an MLP of two linear layers",
}
"""Roles as a sentence says them."""


@dataclass(frozen=True)
class Linear:
    """A linear layer: its parameters, and the names of their gradients in an update."""

    name: str
    weight: Tensor
    bias: Tensor | None

    @property
    def weight_name(self) -> str:
        """Name of the weight's gradient."""
        return f"{self.name}.weight"

    @property
    def bias_name(self) -> str:
        """Name of the bias's gradient, where there is a bias."""
        return f"{self.name}.bias"

    @property
    def names(self) -> frozenset[str]:
        """Names of all its gradients."""
        return frozenset(
            (self.weight_name,) if self.bias is None else (self.weight_name, self.bias_name)
        )

    def __call__(self, values: Float[Tensor, "*r f"]) -> Float[Tensor, "*r g"]:
        """Apply the layer."""
        return nn.functional.linear(values, self.weight, self.bias)


@dataclass(frozen=True)
class Block:
    """A plain block: x + proj(heads(norm1(x))), then x + fc2(gelu(fc1(norm2(x)))).

    A layer scale behind proj and fc2 is folded into them; the rows of a weight's gradient then
    span the same, since it scales them one by one.
    """

    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    proj: Linear
    fc1: Linear
    fc2: Linear
    heads: Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"]]
    """What attention gives each token of normalized sequences, before the projection."""
