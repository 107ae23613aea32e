"""Case and Record: one cell of the grid, and what came of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from privbench.component import Part

SCHEMA = 1
UNDEFENDED = "none"
"""Name of the defense on the update that leaves it as it is."""

RATES = ("local_rate", "momentum")
"""Numbers that a threat model may hold and a table shows."""

Status = Literal["done", "failed", "refused"]
Scores = Mapping[str, list[float | None]]


@dataclass(frozen=True)
class Case:
    """One private batch, one victim, one attack, one threat model."""

    model: Part
    control: str | None
    """Label of the undefended victim."""
    weights: str
    weights_sha256: str
    defense: tuple[Part, ...]
    attack: Part
    dataset: Part
    images: tuple[int, ...]
    images_sha256: str
    """Of the pixels and labels that the client holds."""
    threat: Mapping[str, Any]
    seed: int

    @cached_property
    def key(self) -> str:
        """Content hash of all that decides the answer; labels decide nothing."""
        content: dict[str, Any] = asdict(self) | {"schema": SCHEMA}
        del content["control"]
        for part in (content["model"], content["attack"], content["dataset"], *content["defense"]):
            del part["label"]
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def defended(self) -> str:
        """The defenses on the update, as a table shows them."""
        return "+".join(part.label for part in self.defense)

    @property
    def known(self) -> str:
        """The threat model, as a table shows it."""
        threat = self.threat
        words = [f"knows {'+'.join(threat['knows']) or 'nothing'}", f"batch {threat['batch_size']}"]
        if "local_steps" in threat:
            words.append(f"{threat['local_steps']} local steps")
        words += [f"{name.replace('_', ' ')} {threat[name]:g}" for name in RATES if name in threat]
        words += ["training mode"] if threat.get("training") else []
        words += [f"{threat['rounds']} rounds"] if "rounds" in threat else []
        words += [f"{threat['server']} server"] if "server" in threat else []
        return ", ".join(words)


@dataclass(frozen=True)
class Record:
    """What came of a case; everything a table shows is computed from this."""

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

    def to_json(self) -> str:
        """Return text that `from_json` reads; NaN and infinity become null."""
        content = seal(finite({"key": self.case.key} | asdict(self)))
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read what `to_json` wrote; anything else raises ValueError, KeyError or TypeError."""
        content = unseal(text)
        key = content.pop("key")
        case = content.pop("case")
        for name in ("model", "attack", "dataset"):
            case[name] = Part(**case[name])
        case["defense"] = tuple(Part(**part) for part in case["defense"])
        case["images"] = tuple(case["images"])
        content["warnings"] = tuple(content["warnings"])
        if content["masked"] is not None:
            content["masked"] = tuple(content["masked"])
        record = cls(case=Case(**case), **content)
        if record.case.key != key:
            raise ValueError("a record whose key does not fit its content")
        return record


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's content with its schema and the sha256 of it all."""
    sealed = {"schema": SCHEMA, **content}
    return sealed | {"sha256": _digest(sealed)}


def unseal(text: str) -> dict[str, Any]:
    """Return what was sealed; raises ValueError, KeyError or TypeError on anything else."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop("schema") != SCHEMA:
        raise ValueError("a record of another schema")
    if content.pop("sha256") != _digest({"schema": SCHEMA} | content):
        raise ValueError("a record that somebody edited")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """Return what JSON can hold; NaN and infinity become None."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            finite(one) for one in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
