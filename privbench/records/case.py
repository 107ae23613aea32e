"""Case and Record: one cell of the grid, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, ClassVar, Literal

from privbench.component import Part
from privbench.records.defended import DefendedCase
from privbench.records.sealed import SealedCase, SealedRecord

UNDEFENDED = "none"
"""Name of the defense on the update that leaves it as it is."""

RATES = ("local_rate", "momentum")
"""Numbers that a threat model may hold and a table shows."""

NUMBERS = (*RATES, "local_steps", "rounds", "clients", "warmup", "pictures", "epochs")

WIRE = ("wire", "precision")
"""Words of a threat model for what travels."""

LARGEST = 2**63
"""Of a whole number: JSON has longer ones, of which no mean can be made."""

Status = Literal["done", "failed", "refused"]
Scores = Mapping[str, list[float | None]]


@dataclass(frozen=True)
class Case(DefendedCase):
    """One private batch, one victim, one attack, one threat model."""

    PARTS: ClassVar[tuple[str, ...]] = ("attack", "model", "dataset", "defense")
    OPTIONAL: ClassVar[tuple[str, ...]] = ("nested",)
    attack: Part
    images: tuple[int, ...]
    threat: Mapping[str, Any]
    nested: Mapping[str, int] = field(default_factory=dict)
    """Versions, by name, of the attacks that the attack runs inside; records of an earlier time
    do not hold them, and count as older."""

    @property
    def age(self) -> tuple[tuple[int, int], ...]:
        """Versions and numbers of settings, nested attacks right after the attack itself."""
        attack, *others = super().age
        return attack, (len(self.nested), sum(self.nested.values())), *others

    @cached_property
    def known(self) -> str:
        """The threat model, as a table shows it."""
        threat = self.threat
        words = [f"knows {'+'.join(threat['knows']) or 'nothing'}", f"batch {threat['batch_size']}"]
        words += [f"of {threat['pictures']} pictures"] if "pictures" in threat else []
        words += [f"{threat['epochs']} epochs"] if "epochs" in threat else []
        if "local_steps" in threat:
            words.append(f"{threat['local_steps']} local steps")
        words += [f"{name.replace('_', ' ')} {threat[name]:g}" for name in RATES if name in threat]
        words += ["training mode"] if threat.get("training") else []
        words += [threat["optimizer"]] if "optimizer" in threat else []
        words += [f"warm by {threat['warmup']} steps"] if "warmup" in threat else []
        if sent := [str(threat[name]) for name in WIRE if name in threat]:
            words.append(f"sent as {' '.join(reversed(sent))}")
        words += [f"mean of {threat['clients']} clients"] if "clients" in threat else []
        words += [f"{threat['rounds']} rounds"] if "rounds" in threat else []
        words += [f"{threat['server']} server"] if "server" in threat else []
        return ", ".join(words)


@dataclass(frozen=True)
class Record(SealedRecord[Case]):
    """What came of a case; everything a table shows is computed from this."""

    CASE: ClassVar[type[SealedCase]] = Case
    INDENT: ClassVar[int | None] = 1
    case: Case
    status: Status
    error: str | None = None
    scores: Scores = field(default_factory=dict)
    """One value per image and metric, for the answer that the attacker would hand in; None
    stands for NaN and infinity."""
    floor: Scores = field(default_factory=dict)
    """The same for the victim's mean color, which needs no update."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Unit, direction, cap and version of each metric."""
    objective: float | None = None
    seconds: float | None = None
    gradient_calls: int = 0
    masked: tuple[int, ...] | None = None
    """Patches that the client's defense really treated, per image."""
    label_accuracy: float | None = None
    report: Mapping[str, float | None] = field(default_factory=dict)
    members: Mapping[str, Scores] = field(default_factory=dict)
    """Scores of each member of an ensemble; the attacker cannot tell which is best."""
    choice: str = ""
    """The member whose answer was handed in, by the attack's own objective."""
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    answers_sha256: str = ""
    """Of the file of lossless answers beside the record; empty where there is none."""
    data: str = ""
    suite: str = ""

    def check(self) -> None:
        """Raise where a table would look for what is not there."""
        threat = self.case.threat
        numbers = [threat["batch_size"], *(threat[name] for name in NUMBERS if name in threat)]
        counts = [self.gradient_calls, *(self.masked or ())]
        if any(type(one) is int and abs(one) > LARGEST for one in (*counts, *numbers)):
            raise ValueError("a record that counts more than can be counted")
        if not all(type(one) in (int, float) and isfinite(one) for one in numbers):
            raise ValueError("a threat model whose numbers are none")
        if not all(isinstance(one, str) for one in threat["knows"]):
            raise ValueError("a threat model that knows no words")
        for scores in self.members.values():
            if any(len(self.scores.get(name, one)) != len(one) for name, one in scores.items()):
                raise ValueError("a member with more or fewer scores than the ensemble")
        for facts in (self.metrics[name] for name in self.scores):
            if type(facts["higher_is_better"]) is not bool:
                raise ValueError("a metric without direction")
            if facts["cap"] is not None and not isfinite(facts["cap"]):
                raise ValueError("a metric whose cap is no number")
