"""The nouns of the benchmark; this module imports nothing else of privbench."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Literal

from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

Images = Float[Tensor, "b 3 h w"]  # float32 in [0, 1]
Scalar = bool | int | float | str


class Knowledge(StrEnum):
    """A fact that an attack may need and that a threat model may grant."""

    LABELS = "labels"


@dataclass(frozen=True)
class Protocol:
    """How clients compute their updates; the server prescribes it, so every attack may know it."""

    local_steps: Annotated[int, Field(ge=1)] = 1
    """Steps of SGD that a client takes on its one batch; one step shares the gradient itself."""
    local_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    """Learning rate of those steps."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    training: bool = False
    """Whether a client's network is in training mode, so that its dropout is active."""
    rounds: Annotated[int, Field(ge=1)] = 1
    """Updates that a client shares on its one batch, each with new dice; the model stays, as if
    the others' updates moved it little."""


@dataclass(frozen=True)
class ThreatModel(Protocol):
    """What a server knows and does, and how clients compute their updates."""

    knows: frozenset[Knowledge] = frozenset()
    batch_size: int = 1
    server: Literal["honest", "malicious"] = "honest"
    """An honest-but-curious one only looks; a malicious one also sends weights of its choice."""

    @property
    def protocol(self) -> Protocol:
        """What attacks are told of the clients."""
        return Protocol(**{one.name: getattr(self, one.name) for one in fields(Protocol)})


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
    """What a client shares: the gradient of its loss, by parameter name.

    After several local steps: what they subtracted from the weights, over the learning rate.
    """

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
    members: Mapping[str, Images] = field(default_factory=dict)
    """What each member of an ensemble answered, this answer's source among them."""
    choice: str = ""
    """The member whose answer this is."""
    draw: Draw | None = None
    """The defense's dice as the attack inferred them, where the update does not show them."""
