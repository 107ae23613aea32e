"""Runs an audit: from two sets of weights to a verdict."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from privbench.auditing import naming
from privbench.auditing.arrays import Source, content
from privbench.auditing.ensemble import attacked, budget
from privbench.auditing.members import Row, rows
from privbench.auditing.naming import Named
from privbench.auditing.notes import notes
from privbench.auditing.opening import fill, open_model
from privbench.auditing.proof import Proof
from privbench.auditing.rate import read_rate
from privbench.auditing.told import noisy, protocol
from privbench.auditing.truth import Score, score
from privbench.auditing.update import Client, Difference, Optimizer, difference, gradient
from privbench.auditing.verdict import Evidence, Kind, advice, judge
from privbench.errors import BadSetting
from privbench.observation import Observation
from privbench.running.environment import device as pick_device
from privbench.seeds import generator
from privbench.threat import Images, Update
from privbench.vit import ViT


@dataclass(frozen=True)
class Audit:
    """What one update gives away."""

    kind: Kind
    sentence: str
    pictures: int
    notes: tuple[str, ...]
    attacks: tuple[Row, ...]
    advice: tuple[str, ...]
    distance: float
    """Of the best candidate's gradient to the update, squared and relative."""
    flat: float
    """Of the model's mean color."""
    seconds: float
    images: Images
    """The best candidate."""
    members: Mapping[str, Images] = field(default_factory=dict)
    labels: tuple[int, ...] = ()
    score: Score | None = None

    def above(self, decibels: float) -> bool:
        """Whether the measured leak, or without truth a proof, is above a limit."""
        if self.kind == "exact":
            return True
        return self.score is not None and self.score.psnr > decibels


def audit(
    model: str | nn.Module,
    before: Source | None = None,
    after: Source | None = None,
    *,
    gradient: Source | None = None,
    lr: float | None = None,
    steps: int = 1,
    batch_size: int = 1,
    optimizer: Optimizer = "sgd",
    noise: float = 0.0,
    truth: str | Path | None = None,
    attack: str = "auto",
    tier: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Audit:
    """Return what an update gives away, with a verdict that needs no truth.

    A model is the name of a victim, `timm:NAME`, FILE.py:FACTORY, or a module of timm's. Weights
    are files, state dicts, or lists of arrays in the state dict's order; without `before` they are
    the module's own. Settings are the model's, as for `--set model`. Raises BadWeights, BadUpdate,
    BadSetting, UnknownName or UnsupportedModel.
    """
    start = time.perf_counter()
    client = Client(lr, steps, batch_size, optimizer, noise)
    client.check()
    if (after is None) == (gradient is None):
        raise BadSetting("An audit reads either the weights after, or a gradient. Add `--after`.")
    if gradient is not None and optimizer != "sgd":
        raise BadSetting(
            f"A gradient is shared before {optimizer} steps with it. Leave --optimizer out, or "
            "name the weights after the step as --after."
        )
    chosen, public = open_model(model, settings or {}, pick_device(device), before is None)
    first = fill(chosen, before)
    shown = "The file of --gradient" if after is None else "The file of --after"
    other = content(after if gradient is None else gradient, shown)  # type: ignore[arg-type]
    named = naming.part(other, first.raw, chosen, shown, zero=after is None)
    update = _update(chosen.vit, first.named, named, client, is_gradient=after is None)
    said = notes(chosen, first.named, named, update, client)
    if after is not None and (found := _rate(chosen.vit, update, client)) is not None:
        client = replace(client, rate=found)
        update = _update(chosen.vit, first.named, named, client, is_gradient=False)
    where = chosen.vit.mean.device
    seen = Observation(
        noisy(public, update.noise),
        Update({k: t.to(where) for k, t in update.tensors.items()}, update.withheld),
        (batch_size, 3, chosen.vit.side, chosen.vit.side),
        protocol=protocol(client, update, weights=after is not None),
    )
    proof = Proof(seen, update, generator("proof", seed))
    answer, proved = attacked(seen, proof, attack, tier, seed)
    flat = chosen.vit.mean.expand(seen.shape)
    labels = answer.labels
    near, far = (
        (float("inf"), float("inf"))
        if labels is None
        else (proof.distance(answer.images, labels), proof.distance(flat, labels))
    )
    marks = None if truth is None else score(Path(truth), chosen.vit, answer)
    kind, sentence = judge(
        Evidence(
            batch_size,
            proved,
            update.head_only(chosen.vit),
            near,
            far,
            None if marks is None else marks.psnr,
            None if marks is None else marks.floor,
        )
    )
    return Audit(
        kind=kind,
        sentence=sentence,
        pictures=batch_size,
        notes=(*said, *(answer.warnings if not proved else ())),
        attacks=rows(attack, budget(attack, tier), seen, answer),
        advice=advice(seen, ViT.POSITIONS not in update.tensors),
        distance=near,
        flat=far,
        seconds=time.perf_counter() - start,
        images=answer.images.cpu(),
        members={name: one.cpu() for name, one in answer.members.items()},
        labels=() if labels is None else tuple(labels.tolist()),
        score=marks,
    )


def _rate(vit: ViT, update: Difference, client: Client) -> float | None:
    """Return an unknown rate where the head tells it."""
    if client.rate is not None or client.steps > 1 or client.optimizer != "sgd":
        return None
    read = read_rate(vit, update, client.batch_size)
    return read.factor if read and read.fits else None


def _update(
    vit: ViT, first: Named, second: Named, client: Client, *, is_gradient: bool
) -> Difference:
    if is_gradient:
        return gradient(vit, second.tensors, client)
    return difference(vit, first.tensors, second.tensors, client)
