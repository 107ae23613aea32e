"""Defense: named parts of a client's step; override only what the defense changes.

A step goes through them in this order: `draw`, `prepare`, `positions`, `forward`, `losses`, then
the gradient, `combine` where it is one per example, `finish`, `withholds` and `protect`. Without
randomness (None) every part does what it does in evaluation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from privbench.accounting import Privacy
from privbench.component import Component
from privbench.threat import Images, Randomness, Update
from privbench.vit import ViT

Labels = Float[Tensor, "b classes"]
"""Soft labels: the share of each class, one row per image."""
Terms = Float[Tensor, " b"]
"""One loss per example."""

HOOKS = (
    *("equip", "draw", "draw_at_rest", "simulate", "told", "prepare", "positions", "forward"),
    *("losses", "penalty", "per_example", "combine", "finish", "withholds", "protect"),
    *("feeds_back", "protect_rounds", "joined"),
    *("disclosed", "by_tensor", "measured", "low_rank", "deviations", "deviations_at", "privacy"),
)
"""What a defense may override."""
FIXED = ("feed", "logits", "penalty_gradient", "gradient")
"""What follows from the hooks: an override would not be called everywhere."""


@dataclass(frozen=True)
class Again:
    """A step that `finish` may take once more, on other input or at other weights."""

    images: Images
    """The network input."""
    weights: Mapping[str, Tensor]
    """Trained parameters, by name."""
    run: Callable[[Images, Mapping[str, Tensor]], tuple[Float[Tensor, ""], "Outputs"]]
    """Gives loss and outputs for network input, and for weights in the place of those named."""


@dataclass(frozen=True)
class Outputs:
    """What a network gives for a batch."""

    logits: Float[Tensor, "b classes"]
    features: Float[Tensor, "b f"]
    """Before the last linear layer."""
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    """Whatever `losses` or `finish` need beyond that, by name; the first axis is the image."""
    again: Again | None = None
    """Only where a client's step hands them to `finish`."""


class LowRank(NamedTuple):
    """What a shared matrix W of low rank still says of the one that it was made of, G.

    Along left and right directions, both orthonormal, U^T W = U^T G and W V = G V.
    """

    left: Float[Tensor, "o k"]
    right: Float[Tensor, "f k"]
    rest: float
    """Norm of G - W, which lies off both, as a share of that of W: as far as anybody can tell."""


class Defense(Component):
    """Changes what a client's update gives away."""

    shelf: ClassVar[str] = "defenses"
    reveals: ClassVar[frozenset[str]] = frozenset()
    """Side information that anybody can read off the update, e.g. the mask."""
    draws: ClassVar[type[Randomness]] = Randomness
    """Kind of what `draw` returns: in a row of defenses each gets its own kind back."""
    answered_by: ClassVar[tuple[str, ...]] = ()
    """Attacks, by name, that adapt to it: a table ranks it only after one of them has run."""
    selects: ClassVar[bool] = False
    """Whether it decides which parameters are trained: a client runs only one such."""
    places: ClassVar[bool] = False
    """Whether it is a positional scheme, which decides where patches stand, or what the model
    knows of their places: a client runs only one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse an override that no step would call, and randomness that nobody owns."""
        super().__init_subclass__(**kwargs)
        for name in FIXED:
            if name in vars(cls):
                raise TypeError(f"{cls.__name__}.{name} is no hook; override {', '.join(HOOKS)}.")
        if "draw" in vars(cls) and cls.draws is Randomness:
            raise TypeError(f"{cls.__name__} overrides draw, so it must say what kind it `draws`.")
        if "combine" in vars(cls) and cls.per_example is Defense.per_example:
            raise TypeError(f"{cls.__name__} overrides combine, so it must be `per_example`.")

    def changes(self, hook: str) -> bool:
        """Whether this defense overrides a hook."""
        return getattr(type(self), hook) is not getattr(Defense, hook)

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Change the architecture, before training; new weights come from rng.

        Read what is added as an attribute of vit: torch.func puts tensors in a parameter's place.
        """

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Randomness | None:
        """Draw what a client's step needs at random, with one row per image."""
        return None

    def draw_at_rest(self, vit: ViT, batch: int, rng: Generator) -> Randomness | None:
        """Draw for a training step that leaves the positional scheme out."""
        return None if self.places else self.draw(vit, batch, rng)

    def simulate(
        self, vit: ViT, batch: int, rng: Generator, known: Randomness | None = None
    ) -> Randomness | None:
        """Return what a server runs the step with: what it knows of a draw, or one of its own.

        By default an unknown draw is left out.
        """
        return known

    def told(
        self,
        vit: ViT,
        tensors: Mapping[str, Tensor],
        batch: int,
        known: Randomness | None = None,
    ) -> Randomness | None:
        """Return what anybody reads of the draw off one client's update, or what else is known."""
        return known

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Return the network input and the labels that it is trained on."""
        return images, labels

    def positions(self, vit: ViT, randomness: Randomness | None) -> Float[Tensor, "_ k d"]:
        """Position table of this step: one, or one per image."""
        return vit.positions

    def forward(
        self,
        vit: ViT,
        images: Images,
        positions: Float[Tensor, "_ k d"],
        randomness: Randomness | None,
    ) -> Outputs:
        """Run the network on prepared pictures with the step's position table.

        The table may be another defense's, so it is an argument here.
        """
        features = vit.features(vit.encode(images, positions))
        return Outputs(vit.classify(features), features)

    def losses(
        self,
        terms: Terms,
        outputs: Outputs,
        labels: Labels,
        randomness: Randomness | None,
        progress: float,
    ) -> Terms:
        """Change the examples' losses, which begin as cross-entropies; progress is 0 ... 1."""
        return terms

    def penalty(
        self, vit: ViT, randomness: Randomness | None, progress: float = 1.0
    ) -> Float[Tensor, ""] | None:
        """Term of the loss that weights and randomness alone decide, at a share of the training.

        Apart from `losses`, since a server knows it and subtracts its gradient.
        """
        return None

    @property
    def per_example(self) -> bool:
        """Whether `combine` is to get the gradient of every example."""
        return False

    def combine(self, gradients: Mapping[str, Tensor], rng: Generator) -> dict[str, Tensor]:
        """Make one gradient out of those of single examples, whose first axis is the example."""
        return {name: tensor.mean(0) for name, tensor in gradients.items()}

    def finish(
        self, gradients: Mapping[str, Tensor], outputs: Outputs, rng: Generator
    ) -> dict[str, Tensor]:
        """Change a batch's gradient by means of activations, whose graph is still there."""
        return dict(gradients)

    def withholds(self, names: Iterable[str]) -> frozenset[str]:
        """Names of trained parameters that are not shared."""
        return frozenset()

    def protect(self, update: Update, rng: Generator) -> Update:
        """Change what is about to be shared."""
        return update

    @property
    def feeds_back(self) -> bool:
        """Whether a client keeps something of an update that it adds to its next one."""
        return False

    def protect_rounds(
        self, updates: Sequence[Update], rngs: Sequence[Generator]
    ) -> Sequence[Update]:
        """Change what is about to be shared in rounds of one client, one after the other.

        Override it where what is shared depends on the rounds before; `protect` is the first round.
        """
        return [self.protect(*one) for one in zip(updates, rngs, strict=True)]

    def joined(self, updates: Sequence[Update]) -> Sequence[Update]:
        """Return fewer updates that say all that rounds on one batch do, or these.

        What is known of their entries is what `measured` and `deviations` say of them.
        """
        return updates

    def disclosed(self) -> frozenset[str]:
        """Side information that this defense, with these settings, reveals."""
        return self.reveals

    @property
    def by_tensor(self) -> bool:
        """Whether `protect` multiplies every tensor by a positive factor of its own.

        One factor for all tensors needs no word: no attack takes an update's size for evidence.
        """
        return False

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Which entries of shared tensors say what the gradient was; a tensor left out, all.

        The others are what this defense provably put there, as pruned zeros: no evidence.
        """
        return {}

    def low_rank(self, tensors: Mapping[str, Tensor]) -> dict[str, LowRank]:
        """Return along which directions shared tensors say what the gradient was, float64.

        By name, of what was cut to the singular values that it has; left out where none is missing.
        A tensor is the matrix that it is once reshaped to as many rows as `left` has.
        """
        return {}

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return how far entries of shared tensors may be off: standard deviations, float64.

        By name, of what anybody can compute from the shared tensors, the settings and the number of
        pictures; empty where that is left to be read off, as noise is where a true gradient has
        nothing, or where errors are none of their own, as those of what a low rank leaves out.
        """
        return {}

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return `deviations` as they are at the true gradient of shared tensors.

        A bound asks, never an attack: where errors are no Gaussians, those Gaussian ones that would
        tell as much. `share` is the number of unknowns to each entry that says something: it
        decides how far an entry is open when all others are known.
        """
        return self.deviations(tensors)

    def privacy(self, entries: int, delta: float) -> Privacy | None:
        """Return what the noise in one update of so many entries guarantees at a delta.

        None where nobody claims differential privacy.
        """
        return None

    def feed(self, vit: ViT, images: Images, randomness: Randomness | None) -> Images:
        """Return the network input: the pictures that `prepare` gives."""
        return self.prepare(vit, images, images.new_zeros(len(images), vit.classes), randomness)[0]

    def logits(
        self, vit: ViT, images: Images, randomness: Randomness | None = None
    ) -> Float[Tensor, "b classes"]:
        """Answer to pictures; without randomness, as in evaluation."""
        prepared = self.feed(vit, images, randomness)
        return self.forward(vit, prepared, self.positions(vit, randomness), randomness).logits

    def penalty_gradient(
        self, vit: ViT, randomness: Randomness | None, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """Gradient of the penalty by parameter name; empty without one."""
        term = self.penalty(vit, randomness, progress)
        if term is None or not term.requires_grad:  # of weights that are not trained
            return {}
        trained = vit.trained()
        found = torch.autograd.grad(term, list(trained.values()), materialize_grads=True)
        return dict(zip(trained, found, strict=True))
