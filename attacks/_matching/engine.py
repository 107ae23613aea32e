"""Gradient matching: moves pixels until the model's own gradient equals the shared one.

An attack says what is compared and by which recipe; any number of observations of one victim, and
of restarts, descend side by side.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Int
from torch import Generator, Tensor

from privbench.attack import Attack, Tick
from privbench.attacks._matching.descent import Descent, Task
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.attacks._update.reading import from_pictures, labels, told
from privbench.errors import BadUpdate
from privbench.observation import Observation
from privbench.threat import Reconstruction


class Matching(Attack):
    """An attack by gradient matching; a subclass says what it compares, and by which recipe."""

    batches: ClassVar[bool] = True

    @abstractmethod
    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Say what to match of the tensors in which pictures have a part."""

    @abstractmethod
    def descent(self, seen: Observation) -> Recipe:
        """Say how to descend; the same for all observations of a victim."""

    def known(self, seen: Observation) -> Int[Tensor, " b"]:
        """Labels that the descent takes for granted, where it does not look for them itself."""
        return labels(seen)

    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Return the point with the lowest objective, of all points and restarts."""
        return self.reconstruct_many([seen], [rng], [tick])[0]

    def reconstruct_many(
        self, seen: Sequence[Observation], rngs: Sequence[Generator], ticks: Sequence[Tick]
    ) -> list[Reconstruction]:
        """Let observations of one victim descend side by side; raises BadUpdate."""
        recipe = self.descent(seen[0])
        found: dict[int, Reconstruction] = {}
        groups: dict[object, list[tuple[int, Task]]] = {}
        for number, (one, rng, tick) in enumerate(zip(seen, rngs, ticks, strict=True)):
            shared = _legible(one)
            if not any(tensor.any() for tensor in shared.values()):
                tick(1, 1, 0.0)
                found[number] = _nothing(one)
                continue
            asked = self.compare(one, shared)
            taken = None if recipe.joint else self.known(one)
            known = told(one) if recipe.aware else None
            draw = one.model.simulate(one.shape[0], rng, known)
            kind = (one.shape, asked.names, frozenset(asked.facts), known is None)
            task = Task(one, asked, taken, draw, rng, tick)
            groups.setdefault(kind, []).append((number, task))
        for group in groups.values():
            answers = Descent(recipe, [task for _, task in group]).answers()
            found.update(zip((number for number, _ in group), answers, strict=True))
        return [found[number] for number in range(len(seen))]


def _legible(seen: Observation) -> Gradient:
    for name, tensor in seen.update.tensors.items():
        if not tensor.isfinite().all():
            raise BadUpdate(
                f"The shared gradient of {name} holds NaN or infinity, so nothing can be matched "
                "to it. Look at the client's loss, or at the defense on the update."
            )
    return from_pictures(seen)


def _nothing(seen: Observation) -> Reconstruction:
    return Reconstruction(
        seen.model.vit.mean.expand(seen.shape).clone(),
        objective=0.0,
        warnings=("The shared tensors are zero: nothing to match, so this is the mean color.",),
    )
