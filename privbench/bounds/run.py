"""Computes what has no record yet, picture by picture, and writes the table."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from privbench.bounds.alike import interchangeable, left_open
from privbench.bounds.ceiling import jacobian, precision, typical
from privbench.bounds.formal import informed, unaided
from privbench.bounds.held import Held
from privbench.bounds.plan import Request, Task, plan
from privbench.bounds.smoothness import covariance_within
from privbench.bounds.table import bound_tables
from privbench.records.bound import BoundRecord, BoundStore
from privbench.running.client import share
from privbench.running.environment import describe
from privbench.running.environment import device as pick
from privbench.running.finish import finish
from privbench.running.victims import Victims, load_pictures
from privbench.threat import ThreatModel

UNRESOLVED = (
    "So little error that float64 does not resolve {} of {} directions: there is no ceiling."
)
ALIKE = (
    "Of patches with one position embedding {} look so much like others that only in second order "
    "does an update tell them apart: how they differ counts as known, so the ceiling may be high."
)
DELTA = 1e-5
"""At which privacy is asked for; its noise is the same at any."""
Report = Callable[[str, int, int], None]
"""Called with what is under way, the columns that are done, and all of them."""


def bound(request: Request, device: str, out: Path, report: Report) -> list[BoundRecord]:
    """Return a ceiling for each victim, defense and picture; those on record are kept.

    Writes bounds.csv and joined/ceiling.csv from all records under out, however the run ends.
    Raises PrivbenchError before the first picture where a name, a setting or a folder is wrong.
    """
    victims, held = Victims(pick(device)), Held()

    def make(task: Task, _: Sequence[BoundRecord]) -> BoundRecord:
        return _bounded(task, victims, held, report)

    return finish(plan(request, victims), BoundStore(out), make, bound_tables)


def _bounded(task: Task, victims: Victims, held: Held, report: Report) -> BoundRecord:
    """Bound one picture; the products with the Jacobian are nearly all of the cost."""
    start, case = time.perf_counter(), task.case
    victim = victims.get(task.recipe)
    vit = victim.model.vit
    images, labels = load_pictures(
        victims.dataset(case.dataset, task.data_root),
        case.dataset,
        case.images,
        case.images_sha256,
        vit.side,
        vit.classes,
    )
    where = vit.mean.device
    seed = (case.seed, case.images_sha256)  # the update that an attack would be shown
    seen, secret = share(victim, images.to(where), labels.to(where), ThreatModel(), seed)
    title = f"{case.model.label} with {case.defended}, image {case.images[0]}"
    here = jacobian(seen, secret.images, secret.labels, secret.draw)
    gradient = dict(here.gradient)
    for name, part in seen.model.penalty_gradient(secret.draw).items():
        if name in gradient:
            gradient[name] = gradient[name] + part
    defense = seen.model.defense
    shared = typical(defense, gradient, seen.update.tensors)
    known = precision(defense, gradient, shared, len(here.at))

    def tick(done: int) -> None:
        report(title, done, len(here.at))

    matrix = held.information(here, known, tick)
    prior = covariance_within(vit, secret.images).to(matrix)
    groups = interchangeable(seen.model, secret.images, secret.draw)
    mse, unresolved, alike = left_open(
        matrix, prior, lambda found: here.weighed(known, found, tick), here.at, groups
    )
    notes = [UNRESOLVED.format(unresolved, len(prior))] if unresolved else []
    notes += [ALIKE.format(alike)] if alike else []
    record = BoundRecord(
        case,
        mse=mse,
        blind=float(prior.diagonal().mean()),
        seconds=time.perf_counter() - start,
        unknowns=len(prior),
        entries=sum(int((one > 0).sum()) for one in known.values()),
        environment=describe(where),
        warnings=(*task.notes, *notes),
        unresolved=unresolved,
    )
    entries = sum(one.numel() for one in seen.update.tensors.values())
    privacy = defense.privacy(entries, DELTA)
    if privacy is None or not privacy.noise:
        return record
    return replace(
        record,
        noise=privacy.noise,
        unaided=unaided(privacy.noise, secret.images, vit.mean, vit.std),
        informed=informed(privacy.noise, entries, torch.linalg.eigvalsh(prior)),
    )
