"""Attack: turns an observation into images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Generator

from privbench.component import Component, find, names
from privbench.errors import NotGranted
from privbench.observation import Observation, PublicModel
from privbench.roles import NAMES, Role
from privbench.threat import Knowledge, Protocol, Reconstruction
from privbench.vit import ViT

PLAIN = Protocol()

Tick = Callable[[int, int, float], None]
"""Called with the steps done, all steps, and the objective."""


class Attack(Component, ABC):
    """Turns an observation into images."""

    shelf: ClassVar[str] = "attacks"
    needs: ClassVar[frozenset[Knowledge]] = frozenset()
    """What the threat model has to grant."""
    roles: ClassVar[frozenset[Role]] = frozenset()
    """Parts that the victim must have, and whose gradients have to be in the update."""
    demands: ClassVar[Mapping[str, Any]] = {}
    """Settings that a victim must have, such as first_block: april."""
    malicious: ClassVar[bool] = False
    """Whether `tamper` changes the weights that the server sends."""
    many_rounds: ClassVar[bool] = False
    """Whether it reads the updates of later rounds."""
    any_steps: ClassVar[bool] = False
    """Whether it does without a gradient: it simulates a client's steps, or reads no update."""
    instead: ClassVar[tuple[str, ...]] = ()
    """Attacks that take what a client's steps on several batches changed, where this one cannot."""
    batches: ClassVar[bool] = False
    """Whether `reconstruct_many` is faster on an accelerator than one observation at a time."""

    def nested(self) -> tuple[str, ...]:
        """Name the attacks that this one runs inside; their versions are part of the case."""
        return ()

    def tamper(self, model: PublicModel, rng: Generator) -> PublicModel:
        """Return what a malicious server sends its client: other weights in the same shapes."""
        return model

    @abstractmethod
    def reconstruct(self, seen: Observation, rng: Generator, tick: Tick) -> Reconstruction:
        """Reconstruct the private batch behind one observation."""

    def reconstruct_many(
        self, seen: Sequence[Observation], rngs: Sequence[Generator], ticks: Sequence[Tick]
    ) -> list[Reconstruction]:
        """Reconstruct what is behind each of several observations of one model."""
        return [self.reconstruct(*one) for one in zip(seen, rngs, ticks, strict=True)]


def check(
    attack: Attack,
    name: str,
    knows: frozenset[Knowledge],
    shared: Iterable[str],
    vit: ViT,
    protocol: Protocol = PLAIN,
) -> None:
    """Refuse an attack that lacks knowledge, a part of the victim, a tensor or a gradient.

    Raises NotGranted.
    """
    if protocol.optimizer == "adamw" and not attack.any_steps:
        if protocol.steps > 1:
            raise NotGranted(_steps(name, f"{protocol.steps} steps of AdamW"))
        if protocol.clients > 1:
            raise NotGranted(_steps(name, f"the mean of {protocol.clients} clients' AdamW steps"))
        if protocol.warmup:
            raise NotGranted(_steps(name, "steps of AdamW on a state that the client keeps"))
    if protocol.pictures and attack.instead:
        raise NotGranted(
            f"Attack '{name}' reads the step of one batch, and this client took {protocol.steps} "
            f"on several. Choose {' or '.join(attack.instead)}, or leave threat.pictures out."
        )
    if missing := sorted(attack.needs - knows):
        granted = ", ".join(sorted(knows)) or "nothing"
        raise NotGranted(
            f"Attack '{name}' needs {', '.join(missing)}; this threat model grants {granted}. "
            f"Add `--set threat.knows={','.join(missing)}` or choose another attack "
            "(`privbench list attacks`)."
        )
    if lacking := [role for role in sorted(attack.roles) if not vit.supports(role)]:
        raise NotGranted(
            f"Attack '{name}' needs {NAMES[lacking[0]]}, which {type(vit.backbone).__name__} has "
            "not. Choose another attack (`privbench list attacks`) or another victim."
        )
    reads = frozenset().union(*(vit.names_of(role) for role in attack.roles))
    if absent := sorted(reads - frozenset(shared)):
        raise NotGranted(
            f"Attack '{name}' reads the gradient of {', '.join(absent)}, which this victim does "
            "not train or its client withholds. Choose another attack (`privbench list attacks`) "
            "or another victim."
        )


def _steps(name: str, what: str) -> str:
    able = [one for one in names(Attack.shelf) if find(Attack, one).any_steps]
    return (
        f"Attack '{name}' reads a gradient, and {what} are too far from any. Choose "
        f"{', '.join(able[:-1])} or {able[-1]}, or leave threat.optimizer out."
    )
