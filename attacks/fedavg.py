"""Data leakage in federated averaging (Dimitrov et al., TMLR 2022, arXiv:2206.12395).

The attacker runs the client's local steps, on pixels of its own, and differentiates through them
until its update equals the shared one. The paper's client cuts its data into batches, whose order
the attack has to average out; here it takes one order, which decides no more than the order of
what it finds, but for later epochs. In place of the paper's cosine the update is compared token by
token, as `gradinv` does: a cosine does not work on ViTs. Steps of AdamW are compared as they are,
with a softer division in the simulation, as the first is nearly a sign. For one image `pe_ls` needs
none of this.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Generator

from privbench.attack import Tick
from privbench.attacks._matching.distances import by_token
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.fading import BOX, fading
from privbench.attacks._matching.local import LocalModel
from privbench.attacks._matching.optimizers import LBFGS
from privbench.attacks._matching.recipe import Comparison, Gradient, Recipe
from privbench.attacks._update.wire import as_steps
from privbench.observation import Observation
from privbench.threat import Reconstruction
from privbench.variants import dropouts


class FederatedAveraging(Matching):
    """Gradient matching through all local steps of the client."""

    paper: ClassVar[str] = "after arXiv:2206.12395"
    version: ClassVar[int] = 3
    batches: ClassVar[bool] = False
    any_steps: ClassVar[bool] = True
    steps: Annotated[int, Field(ge=1)] = 462
    """Steps and trials of L-BFGS; each costs as many gradients as the client took steps."""
    soft: Annotated[float, Field(ge=0)] = 0.1
    """Of AdamW: share of a gradient's root mean square that is added to what it is divided by."""

    def compare(self, seen: Observation, shared: Gradient) -> Comparison:
        """Compare token by token."""
        return by_token(seen, shared)

    def descent(self, seen: Observation) -> Recipe:
        """Let the smoothness prior fade."""
        return Recipe(LBFGS(), self.steps, stages=fading(), priors=BOX)

    def reconstruct_many(
        self, seen: Sequence[Observation], rngs: Sequence[Generator], ticks: Sequence[Tick]
    ) -> list[Reconstruction]:
        """Descend on one update after the other; raises BadUpdate."""
        return [self._one(*each) for each in zip(seen, rngs, ticks, strict=True)]

    def _one(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        protocol = seen.protocol
        local = LocalModel(seen.model.vit, seen.model.defense, protocol, self.soft)
        (found,) = super().reconstruct_many([stepped(seen, local)], [rng], [tick])
        warnings = found.warnings
        if protocol.warmup:
            warnings += (
                "The client's AdamW has a state from earlier steps, which only the client knows; "
                "its simulation begins afresh.",
            )
        if protocol.training and dropouts(seen.model.vit):
            warnings += ("The client drops activations, and its simulation does not.",)
        calls = protocol.steps * found.gradient_calls
        return replace(found, gradient_calls=calls, warnings=warnings)


def stepped(seen: Observation, local: LocalModel) -> Observation:
    """Return what the client's steps subtract, to be met by the model that simulates them.

    Those of AdamW are neither undone nor is a penalty taken out: the simulation has both.
    """
    if seen.protocol.optimizer != "adamw":
        return replace(seen, model=local)
    update = replace(seen.update, tensors=as_steps(seen))
    return replace(
        seen, model=local, update=update, protocol=replace(seen.protocol, optimizer="sgd")
    )
