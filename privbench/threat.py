"""The nouns of the benchmark; this module imports nothing else of privbench."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, device

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
    """Updates that a client shares on its one batch, each with new random draws; the model stays,
    as if the others' updates moved it little."""
    wire: Literal["gradient", "weights", "difference"] = "gradient"
    """What travels: the update itself, the new weights, or what the steps changed in them."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Format that it travels in."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """AdamW with the settings that torch gives it."""
    clients: Annotated[int, Field(ge=1)] = 1
    """Clients whose mean alone the server sees, as behind secure aggregation: each has a batch and
    random draws of its own."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps that a client's AdamW took before, on batches of other pictures, at weights like those
    that the server sends now; 0 is a fresh state. The state is the client's own secret."""
    batch_size: int = 1
    """Pictures of a step; of each client, unless it holds more."""
    pictures: Annotated[int, Field(ge=0)] = 0
    """Pictures of each client, which takes a step on every batch of them, in an order of its own;
    0 for one batch."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How often a client goes over all of its pictures, each time in another order."""

    @property
    def held(self) -> int:
        """Pictures of each client."""
        return self.pictures or self.batch_size

    @property
    def steps(self) -> int:
        """Steps of each client."""
        if self.pictures:
            return self.epochs * self.pictures // self.batch_size
        return self.local_steps

    @property
    def exact(self) -> bool:
        """Whether an update travels as it was computed."""
        return self.wire == "gradient" and self.precision == "float32"

    @property
    def simulated(self) -> bool:
        """Whether an update is far from any gradient, so that nothing but the steps explain it."""
        return self.optimizer == "adamw" and (self.steps > 1 or self.warmup > 0)


@dataclass(frozen=True)
class ThreatModel(Protocol):
    """What a server knows and does, and how clients compute their updates."""

    knows: frozenset[Knowledge] = frozenset()
    server: Literal["honest", "malicious"] = "honest"
    """An honest-but-curious one only looks; a malicious one also sends weights of its choice."""

    @property
    def protocol(self) -> Protocol:
        """What attacks are told of the clients."""
        return Protocol(**{one.name: getattr(self, one.name) for one in fields(Protocol)})


@dataclass(frozen=True)
class Randomness:
    """What a defense draws at random for one step; the first axis of every tensor is the image.

    A defense that draws has a subclass of its own: a frozen dataclass whose fields are tensors,
    None, or other randomness.
    """

    @property
    def treated(self) -> Bool[Tensor, "b n"] | None:
        """Which patches the defense treats; None where it treats no patches by themselves."""
        return None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Randomness":
        """Return the same randomness with another tensor in the place of each."""

        def of(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, Randomness):
                return value.map(change)
            return tuple(map(of, value)) if isinstance(value, tuple) else value

        return replace(self, **{one.name: of(getattr(self, one.name)) for one in fields(self)})

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in the order in which `map` asks for them."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)
        return found

    def rows(self, indices: Sequence[int]) -> "Randomness":
        """Return the randomness of these images of the batch."""
        return self.map(lambda tensor: tensor[list(indices)])

    def to(self, where: device) -> "Randomness":
        """Return the same randomness on a device."""
        return self.map(lambda tensor: tensor.to(where))


@dataclass(frozen=True)
class Draw(Randomness):
    """Patches that a defense masks and moves; one row per image, also when all rows are equal."""

    mask: Bool[Tensor, "b n"]
    """Which patches the defense treats."""
    order: Int[Tensor, "b n"]
    """Position i gets the patch that stood at order[i]."""
    inner: Int[Tensor, "b q"] | None = None
    """Pixel j of every patch is the one that stood at inner[j]; None where pixels stay."""

    @property
    def treated(self) -> Bool[Tensor, "b n"]:
        """The mask."""
        return self.mask


@dataclass(frozen=True)
class Joint(Randomness):
    """What several defenses in a row draw: one entry for each, None where one draws nothing."""

    parts: tuple[Randomness | None, ...]

    @property
    def treated(self) -> Bool[Tensor, "b n"] | None:
        """The patches that the one positional scheme treats."""
        found = (part.treated for part in self.parts if part is not None)
        return next((mask for mask in found if mask is not None), None)

    def rows(self, indices: Sequence[int]) -> "Joint":
        """Return the randomness of these images, each part by its own rule."""
        kept = (None if part is None else part.rows(indices) for part in self.parts)
        return replace(self, parts=tuple(kept))


@dataclass(frozen=True)
class Update:
    """What a client shares: the gradient of its loss, by parameter name.

    After several steps, one of AdamW's, or where weights travel: what was subtracted from the
    weights, over the learning rate. Behind secure aggregation: the mean over the clients.
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
    """The network input: after the defense moved, mixed or changed pictures."""
    labels: Int[Tensor, " b"]
    draw: Randomness | None


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
    draw: Randomness | None = None
    """The defense's random draw as the attack inferred it, where the update does not show it."""
    placed: bool = False
    """Whether every patch is known to be where it stood, so that nobody has to guess an order."""
