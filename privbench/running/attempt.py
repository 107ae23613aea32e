"""One job to one record: a function of the job alone, wherever it runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isinf, isnan
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from privbench.attack import Attack, Tick
from privbench.component import find, make
from privbench.metric import Target
from privbench.observation import Observation
from privbench.records import picture
from privbench.records.answers import Answers, digest
from privbench.records.case import Record
from privbench.running import checks
from privbench.running.client import share
from privbench.running.environment import describe
from privbench.running.jobs import Job
from privbench.running.scoring import aligned, all_metrics, mark
from privbench.running.victims import Victims
from privbench.seeds import generator
from privbench.threat import Images, Reconstruction, Secret
from privbench.victims.load import Victim
from privbench.vit import ViT

SCORING = Lock()
"""Cases of one process are scored one by one."""
environment = cache(describe)


class Stopped(Exception):
    """Ends an attack in flight when the run is over."""


@dataclass(frozen=True)
class Tensors:
    """What a finished case leaves besides its record, as files."""

    picture: bytes | None = None
    answers: bytes | None = None


Result = tuple[Record, Tensors]
TickOf = Callable[[Job], Tick]


def silent(_: Job) -> Tick:
    """Hear nothing of a job's progress."""
    return lambda done, steps, objective: None


def run_case(job: Job, victims: Victims, tick: Tick | None = None) -> Result:
    """Attack, score, and return record and tensors; an attack's error is part of a record.

    Victims are those of this process; which of them are built already decides nothing.
    """
    try:
        return _attack([job], victims, silent if tick is None else lambda _: tick)[0]
    except Stopped:
        raise
    except Exception as error:  # whatever an attack may raise, its case is a row in the table
        return failed(job, f"{type(error).__name__}: {error}", victims.device), Tensors()


def run_together(jobs: Sequence[Job], victims: Victims, tick_of: TickOf = silent) -> list[Result]:
    """Run jobs of one attack, which takes them side by side.

    When that fails, each is run by itself, so that one case's error stays its own.
    """
    if len(jobs) > 1:
        try:
            return _attack(jobs, victims, tick_of)
        except Stopped:
            raise
        except Exception:  # noqa: S110 - which case it was shows below
            pass
    return [run_case(job, victims, tick_of(job)) for job in jobs]


def failed(job: Job, reason: str, device: torch.device) -> Record:
    """Return the record of a case that came to nothing."""
    return Record(job.case, "failed", error=reason, environment=environment(device))


def attack_of(job: Job) -> Attack:
    """Build a job's attack from its record."""
    return make(Attack, job.case.attack.name, job.case.attack.settings)


def _attack(jobs: Sequence[Job], victims: Victims, tick_of: TickOf) -> list[Result]:
    attack, victim = attack_of(jobs[0]), victims.get(jobs[0].recipe)
    shares = [_share(job, attack, victim, victims) for job in jobs]
    seen = [observation for observation, _ in shares]
    rngs = [generator("attack", *job.seed) for job in jobs]
    ticks = [tick_of(job) for job in jobs]
    start = time.perf_counter()
    if len(jobs) == 1:
        answers = [attack.reconstruct(seen[0], rngs[0], ticks[0])]
    else:
        answers = attack.reconstruct_many(seen, rngs, ticks)
    seconds = (time.perf_counter() - start) / len(jobs)
    for observation, answer in zip(seen, answers, strict=True):
        for images in (answer.images, *answer.members.values()):
            _demand(images, observation.shape)
        _demand_objective(answer)
    with SCORING:
        return [
            _judge(job, victim, *shared, answer, seconds, len(jobs))
            for job, shared, answer in zip(jobs, shares, answers, strict=True)
        ]


def _share(
    job: Job, attack: Attack, victim: Victim, victims: Victims
) -> tuple[Observation, Secret]:
    vit = victim.model.vit
    images, labels = victims.pictures(job, vit.side, vit.classes)
    device = vit.mean.device
    earlier = None
    if job.threat.warmup:
        other = victims.earlier(job, vit.side, vit.classes)
        earlier = other[0].to(device), other[1].to(device)
    sent = attack.tamper(victim.model, generator("tamper", *job.seed))
    return share(
        replace(victim, model=sent),
        images.to(device),
        labels.to(device),
        job.threat,
        job.seed,
        earlier,
    )


def _judge(
    job: Job,
    victim: Victim,
    seen: Observation,
    secret: Secret,
    answer: Reconstruction,
    seconds: float,
    company: int,
) -> Result:
    vit, truth = victim.model.vit, secret.images
    members = {name: aligned(images, truth) for name, images in answer.members.items()}
    said = (*victim.notes, *answer.warnings)
    answer = replace(answer, images=aligned(answer.images, truth), warnings=said)
    mean = vit.mean.expand(seen.shape)
    moved = not torch.equal(truth, secret.fed)
    mask = None if secret.draw is None else secret.draw.treated
    target = Target(images=truth, fed=secret.fed, moved=moved, patch=vit.patch, mask=mask)
    marks = mark(all_metrics(), target, answer.images, mean, members)
    answers = Answers(
        images=_array(answer.images),
        mean=_array(vit.mean.reshape(3, 1, 1)),
        patch=vit.patch,
        classes=vit.classes,
        members={name: _array(images) for name, images in members.items()},
        entered=_array(secret.fed) if moved else None,
        mask=None if mask is None else mask.cpu().numpy(),
    ).pack()
    record = Record(
        job.case,
        "done",
        scores=marks.scores,
        floor=marks.floor,
        metrics=marks.metrics,
        objective=answer.objective,
        seconds=seconds,
        gradient_calls=answer.gradient_calls,
        masked=None if mask is None else tuple(mask.sum(1).tolist()),
        label_accuracy=_label_accuracy(answer, secret),
        report={**answer.report, **_tokens(job, vit)},
        members=marks.members,
        choice=answer.choice,
        warnings=checks.warnings(seen.update, answer, secret, mean, _unread_rounds(job)),
        environment=environment(vit.mean.device) | _company(company),
        answers_sha256=digest(answers),
    )
    drawn = picture.draw(*(t.cpu() for t in (truth, secret.fed, answer.images)))
    return record, Tensors(drawn, answers)


def _array(images: Tensor) -> np.ndarray:
    return images.detach().cpu().numpy().astype(np.float32)


def _company(cases: int) -> dict[str, str]:
    """Say that a case was not alone: sums are then rounded otherwise than they would be."""
    return {"cases at once": str(cases)} if cases > 1 else {}


def _tokens(job: Job, vit: ViT) -> dict[str, float]:
    """Say how many tokens several clients' or batches' pictures have together."""
    several = job.threat.clients > 1 or job.threat.pictures
    return {"tokens": float(len(job.case.images) * vit.tokens)} if several else {}


def _unread_rounds(job: Job) -> int:
    """Return the rounds of a threat model whose later ones nothing reads; 1 without such."""
    attack, nested = attack_of(job), job.case.nested or {}
    read = attack.many_rounds or any(find(Attack, name).many_rounds for name in nested)
    return 1 if read else job.threat.rounds


def _demand(images: Images, shape: tuple[int, int, int, int]) -> None:
    if tuple(images.shape) != shape:
        raise ValueError(f"the answer has shape {tuple(images.shape)} instead of {shape}")
    if images.dtype != torch.float32 or images.requires_grad:
        raise ValueError("the answer is not a detached float32 tensor")
    if not torch.isfinite(images).all():
        raise ValueError("the answer holds NaN or infinity")
    if images.min() < 0 or images.max() > 1:
        raise ValueError("the answer leaves [0, 1]")


def _demand_objective(answer: Reconstruction) -> None:
    """Refuse what nobody explains: an attack that warns may hand in infinity."""
    if isnan(answer.objective) or (isinf(answer.objective) and not answer.warnings):
        raise ValueError(f"the answer's objective is {answer.objective}")


def _label_accuracy(answer: Reconstruction, secret: Secret) -> float | None:
    """Share of the labels found, as a multiset."""
    if answer.labels is None:
        return None
    left = secret.labels.tolist()
    for found in answer.labels.tolist():
        if found in left:
            left.remove(found)
    return 1 - len(left) / len(secret.labels)
