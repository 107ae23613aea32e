"""The nouns of the benchmark; this module imports nothing else of privbench."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "b 3 h w"]  # float32 in [0, 1]
Scalar = bool | int | float | str


class Knowledge(StrEnum):
    """A fact that an attack may need and that a threat model may grant."""

    LABELS = "labels"


@dataclass(frozen=True)
class ThreatModel:
    """What an honest-but-curious server knows, and how much a client puts into one update."""

    knows: frozenset[Knowledge] = frozenset()
    batch_size: int = 1


@dataclass(frozen=True)
class Draw:
    """A defense's dice for one step; one row per image, also when all rows are equal."""

    mask: Bool[Tensor, "b n"]
    """Which patches the defense treats."""
    order: Int[Tensor, "b n"]
    """Position i is fed the patch that stood at order[i]."""
    inner: Int[Tensor, "b q"] | None = None
    """Pixel j of every patch is fed the one that stood at inner[j]; None where pixels stay."""


@dataclass(frozen=True)
class Update:
    """What a client shares: the gradient of its loss, by parameter name."""

    tensors: Mapping[str, Tensor]
    withheld: frozenset[str] = frozenset()
    """Parameters that are trained but not shared."""


@dataclass(frozen=True)
class Secret:
    """What the client keeps; only the scorer opens it."""

    images: Images
    """Before any defense."""
    fed: Images
    """What entered the network: after the defense moved patches or pixels."""
    labels: Int[Tensor, " b"]
    draw: Draw | None


@dataclass(frozen=True)
class Reconstruction:
    """An attack's answer, the objective that it reached and what it cost."""

    images: Images
    objective: float
    """Restarts are chosen by this, never by a metric; lower is better."""
    labels: Int[Tensor, " b"] | None = None
    """The labels that the attack inferred or was told."""
    gradient_calls: int = 0
    """Gradient evaluations of the model: each is one forward and one backward pass."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Facts about the answer that need no truth, such as a rank or a residual."""
    warnings: tuple[str, ...] = ()
