"""Stack: several defenses in a row, which together are one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from privbench.accounting import Privacy
from privbench.defense import Defense, Labels, LowRank, Outputs, Terms
from privbench.errors import BadSetting
from privbench.threat import Images, Joint, Randomness, Update
from privbench.vit import ViT


class Stack(Defense):
    """Several defenses in a row; every hook of every part is called, or the row is refused."""

    draws: ClassVar[type[Randomness]] = Joint
    parts: tuple[Defense, ...]

    def __post_init__(self) -> None:
        """Refuse parts of which one would undo or hide what the other does; raises BadSetting."""
        rows = (part.parts if isinstance(part, Stack) else (part,) for part in self.parts)
        object.__setattr__(self, "parts", tuple(part for row in rows for part in row))
        self._refuse(
            [part for part in self.parts if part.places or part.changes("positions")],
            "change the forward pass, and a client runs only one such scheme. Choose a victim "
            "without one, or another defense.",
        )
        self._refuse(
            [part for part in self.parts if part.selects],
            "decide which parameters are trained, and nothing would be left of one of them. "
            "Choose one of them.",
        )
        self._refuse(
            [part for part in self.parts if part.changes("forward")],
            "run the network in a way of their own, and a client runs it once. Choose one of them.",
        )
        self._refuse(
            [part for part in self.parts if part.per_example],
            "make one gradient out of the examples' gradients, and after the first of them there "
            "are none left. Choose one of them.",
        )
        self._refuse(
            [part for part in self.parts if part.feeds_back],
            "add what they leave out to their next update, and rounds of both cannot be joined. "
            "Leave feedback to one of them.",
        )
        drawing = [part for part in self.parts if part.changes("draw")]
        for part in drawing:
            self._refuse(
                [one for one in drawing if issubclass(one.draws, part.draws)],
                f"draw randomness of one kind, {part.draws.__name__}, and a server could not tell "
                "whose it is. Choose one of them.",
            )

    @staticmethod
    def _refuse(parts: list[Defense], reason: str) -> None:
        if len(parts) > 1:
            names = [type(part).__module__.rpartition(".")[2] for part in parts]
            raise BadSetting(f"{' and '.join(names)} both {reason}")

    def _each(self, randomness: Randomness | None) -> Iterator[tuple[Defense, Randomness | None]]:
        """Yield the parts, each with what it drew, or with what a server knows of that."""
        for number, part in enumerate(self.parts):
            if isinstance(randomness, Joint):
                yield part, randomness.parts[number]
            else:
                known = part.changes("draw") and isinstance(randomness, part.draws)
                yield part, randomness if known else None

    def _joined(self, drawn: Iterable[Randomness | None]) -> Randomness | None:
        """Return what all parts drew; of a single one, as it is."""
        every = tuple(drawn)
        found = [one for one in every if one is not None]
        if len(found) > 1:
            return Joint(every)
        return found[0] if found else None

    def changes(self, hook: str) -> bool:
        """Whether any part overrides a hook."""
        return any(part.changes(hook) for part in self.parts)

    def equip(self, vit: ViT, rng: Generator) -> None:
        """Let each part change the architecture."""
        for part in self.parts:
            part.equip(vit, rng)

    def draw(self, vit: ViT, batch: int, rng: Generator) -> Randomness | None:
        """Draw for each part in turn."""
        return self._joined([part.draw(vit, batch, rng) for part in self.parts])

    def draw_at_rest(self, vit: ViT, batch: int, rng: Generator) -> Randomness | None:
        """Draw for each part that is no positional scheme."""
        return self._joined([part.draw_at_rest(vit, batch, rng) for part in self.parts])

    def simulate(
        self, vit: ViT, batch: int, rng: Generator, known: Randomness | None = None
    ) -> Randomness | None:
        """Simulate each part with what is known of its own draw."""
        return self._joined([p.simulate(vit, batch, rng, own) for p, own in self._each(known)])

    def told(
        self,
        vit: ViT,
        tensors: Mapping[str, Tensor],
        batch: int,
        known: Randomness | None = None,
    ) -> Randomness | None:
        """Return what each part's draw is known to be."""
        return self._joined([p.told(vit, tensors, batch, own) for p, own in self._each(known)])

    def prepare(
        self, vit: ViT, images: Images, labels: Labels, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Prepare pictures and labels in turn."""
        for part, own in self._each(randomness):
            images, labels = part.prepare(vit, images, labels, own)
        return images, labels

    def positions(self, vit: ViT, randomness: Randomness | None) -> Float[Tensor, "_ k d"]:
        """Return the table of the one part that changes it."""
        for part, own in self._each(randomness):
            if part.changes("positions"):
                return part.positions(vit, own)
        return vit.positions

    def forward(
        self,
        vit: ViT,
        images: Images,
        positions: Float[Tensor, "_ k d"],
        randomness: Randomness | None,
    ) -> Outputs:
        """Run the network as the one part does that has a way of its own."""
        for part, own in self._each(randomness):
            if part.changes("forward"):
                return part.forward(vit, images, positions, own)
        return super().forward(vit, images, positions, randomness)

    def losses(
        self,
        terms: Terms,
        outputs: Outputs,
        labels: Labels,
        randomness: Randomness | None,
        progress: float,
    ) -> Terms:
        """Change the losses in turn."""
        for part, own in self._each(randomness):
            terms = part.losses(terms, outputs, labels, own, progress)
        return terms

    def penalty(
        self, vit: ViT, randomness: Randomness | None, progress: float = 1.0
    ) -> Float[Tensor, ""] | None:
        """Return the sum of the parts' terms."""
        terms = [part.penalty(vit, own, progress) for part, own in self._each(randomness)]
        found = [term for term in terms if term is not None]
        return torch.stack(found).sum() if found else None

    @property
    def per_example(self) -> bool:
        """Whether any part asks for the examples' gradients."""
        return any(part.per_example for part in self.parts)

    def combine(self, gradients: Mapping[str, Tensor], rng: Generator) -> dict[str, Tensor]:
        """Combine them as the one part does that asks for them."""
        for part in self.parts:
            if part.per_example:
                return part.combine(gradients, rng)
        return super().combine(gradients, rng)

    def finish(
        self, gradients: Mapping[str, Tensor], outputs: Outputs, rng: Generator
    ) -> dict[str, Tensor]:
        """Change the gradient in turn."""
        found = dict(gradients)
        for part in self.parts:
            found = part.finish(found, outputs, rng)
        return found

    def withholds(self, names: Iterable[str]) -> frozenset[str]:
        """Return all that any part withholds."""
        known = list(names)
        return frozenset().union(*(part.withholds(known) for part in self.parts))

    def protect(self, update: Update, rng: Generator) -> Update:
        """Change the update in turn."""
        for part in self.parts:
            update = part.protect(update, rng)
        return update

    @property
    def feeds_back(self) -> bool:
        """Whether any part does."""
        return any(part.feeds_back for part in self.parts)

    def protect_rounds(
        self, updates: Sequence[Update], rngs: Sequence[Generator]
    ) -> Sequence[Update]:
        """Change the updates of all rounds in turn."""
        for part in self.parts:
            updates = part.protect_rounds(updates, rngs)
        return updates

    def joined(self, updates: Sequence[Update]) -> Sequence[Update]:
        """Join them as each part does, the last one first."""
        for part in reversed(self.parts):
            updates = part.joined(updates)
        return updates

    def disclosed(self) -> frozenset[str]:
        """Return all that any part reveals."""
        return frozenset().union(*(part.disclosed() for part in self.parts))

    @property
    def by_tensor(self) -> bool:
        """Whether any part scales every tensor by itself."""
        return any(part.by_tensor for part in self.parts)

    def measured(self, tensors: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """Return the entries that no part made."""
        found: dict[str, Tensor] = {}
        for part in self.parts:
            for name, kept in part.measured(tensors).items():
                found[name] = found[name] & kept if name in found else kept
        return found

    def low_rank(self, tensors: Mapping[str, Tensor]) -> dict[str, LowRank]:
        """Return what the one part says that cuts ranks, if all others leave no errors."""
        found = {n: part.low_rank(tensors) for n, part in enumerate(self.parts)}
        said = [n for n in found if self.parts[n].changes("low_rank")]
        others = [p for n, p in enumerate(self.parts) if n not in said and p.changes("protect")]
        if len(said) != 1 or not all(part.changes("deviations") for part in others):
            return {}
        wrong = self.measured(tensors) or any(part.deviations(tensors) for part in others)
        return {} if wrong else found[said[0]]

    def deviations(
        self, tensors: Mapping[str, Tensor], batch: int = 1
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return what the parts' independent errors come to, if each part that changes it tells.

        A factor that comes later shrinks errors by as much as nobody knows.
        """
        return self._together([part.deviations(tensors, batch) for part in self.parts])

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return what those errors come to at the true gradient, which each part is told.

        What parts before it added moves an entry within its cell, and changes no law of places.
        """
        return self._together([part.deviations_at(gradient, tensors, share) for part in self.parts])

    def _together(self, told: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        squares: dict[str, Tensor] = {}
        known = True
        for part, errors in zip(self.parts, told, strict=True):
            if part.changes("protect") and not part.changes("measured"):
                known &= part.changes("deviations") and not (squares and not errors)
            for name, error in errors.items():
                squares[name] = squares.get(name, 0) + error.square()
        return {name: square.sqrt() for name, square in squares.items()} if known else {}

    def privacy(self, entries: int, delta: float) -> Privacy | None:
        """Return the strongest guarantee: what other parts do before or after takes none away."""
        found = [part.privacy(entries, delta) for part in self.parts]
        return min(filter(None, found), key=lambda one: one.epsilon, default=None)
