"""Jobs to records: resumes, isolates failures, scores."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from itertools import groupby
from threading import Event, Lock

import torch
from scipy.optimize import linear_sum_assignment

from privbench.component import make, names
from privbench.metric import Metric, Target
from privbench.observation import Observation
from privbench.records import picture
from privbench.records.case import Record, Scores
from privbench.records.store import Store
from privbench.running import checks
from privbench.running.client import share
from privbench.running.environment import describe, lanes
from privbench.running.listener import Listener
from privbench.running.plan import Job
from privbench.seeds import generator
from privbench.threat import Images, Reconstruction, Secret
from privbench.victims.load import Victim

MOST_AT_ONCE = 32
"""Cases that an attack takes side by side."""


class Stopped(Exception):
    """Ends an attack in flight when the run is over."""


def run(
    jobs: Sequence[Job],
    store: Store,
    listener: Listener,
    *,
    retry_failed: bool = False,
    at_once: int | None = None,
) -> list[Record]:
    """Run what has no record yet; return the records of all jobs, in their order.

    On a processor several cases run at once, in threads, and no answer depends on it. On an
    accelerator some attacks take cases side by side, which rounds otherwise; records say so. A
    crashed attack is a failed record; the other cases go on. Raises Unwritable.
    """
    known = {job.case.key: store.get(job.case) for job in jobs}
    again = ("failed", "refused") if retry_failed else ("refused",)
    records = {k: r for k, r in known.items() if r is not None and r.status not in again}
    listener.planned(len(jobs), len(records))
    missing = [job for job in jobs if job.case.key not in records]
    for _, cell in groupby(missing, key=lambda job: job.cell):
        for record in _run_cell(list(cell), store, listener, at_once):
            records[record.case.key] = record
    return [records[job.case.key] for job in jobs]


def _run_cell(
    jobs: Sequence[Job], store: Store, listener: Listener, at_once: int | None
) -> Iterator[Record]:
    """Yield records once they are stored; the jobs share a victim, which is loaded here, once."""
    for job in jobs:
        if job.refusal is not None:
            record = Record(job.case, "refused", error=job.refusal)
            store.put(record)
            listener.ends(record)
            yield record
    able = [job for job in jobs if job.refusal is None]
    if not able:
        return
    bench = Bench(able[0].victim(), store, listener)
    vit = bench.victim.model.vit
    numbers = vit.positions.numel() * max(len(job.images) for job in able)
    with lanes(vit.mean.device, numbers, at_once) as count, ThreadPoolExecutor(count) as pool:
        try:
            crowds = _crowds(able) if vit.mean.device.type == "cuda" else [[job] for job in able]
            for future in as_completed([pool.submit(bench.attempt, crowd) for crowd in crowds]):
                yield from future.result()
        finally:
            bench.stop.set()
            pool.shutdown(cancel_futures=True)


class Bench:
    """What the cases of one victim share, whichever thread they run in."""

    def __init__(self, victim: Victim, store: Store, listener: Listener) -> None:
        self.victim = victim
        self.store = store
        self.listener = listener
        self.metrics = {name: make(Metric, name, {}) for name in names(Metric.shelf)}
        self.environment = describe(victim.model.vit.mean.device)
        self.scoring = Lock()
        self.stop = Event()

    def attempt(self, jobs: Sequence[Job]) -> list[Record]:
        """Run jobs and store their records at once; an attack's error is part of a record.

        Several jobs have one attack, which takes them side by side; when that fails, each is run
        by itself, so that one case's error stays its own.
        """
        for job in jobs:
            self.listener.begins(job.case)
        if len(jobs) > 1:
            try:
                found = self._attack(jobs)
            except Stopped:
                raise
            except Exception:
                found = None
            if found is not None:
                return [self._store(*one) for one in found]
        return [self._store(*self._alone(job)) for job in jobs]

    def _alone(self, job: Job) -> tuple[Record, bytes | None]:
        try:
            return self._attack([job])[0]
        except Stopped:
            raise
        except Exception as error:  # whatever an attack may raise, its case is a row in the table
            reason = f"{type(error).__name__}: {error}"
            return Record(job.case, "failed", error=reason, environment=self.environment), None

    def _store(self, record: Record, picture: bytes | None) -> Record:
        self.store.put(record, picture)
        self.listener.ends(record)
        return record

    def _attack(self, jobs: Sequence[Job]) -> list[tuple[Record, bytes]]:
        shares = [self._share(job) for job in jobs]
        seen = [observation for observation, _ in shares]
        rngs = [generator("attack", *_seed(job)) for job in jobs]
        ticks = [partial(self._tick, job) for job in jobs]
        start = time.perf_counter()
        if len(jobs) == 1:
            answers = [jobs[0].attack.reconstruct(seen[0], rngs[0], ticks[0])]
        else:
            answers = jobs[0].attack.reconstruct_many(seen, rngs, ticks)
        seconds = (time.perf_counter() - start) / len(jobs)
        for observation, answer in zip(seen, answers, strict=True):
            for images in (answer.images, *answer.members.values()):
                _demand(images, observation.shape)
        with self.scoring:
            return [
                self._judge(job, *shared, answer, seconds, len(jobs))
                for job, shared, answer in zip(jobs, shares, answers, strict=True)
            ]

    def _tick(self, job: Job, done: int, steps: int, objective: float) -> None:
        if self.stop.is_set():
            raise Stopped
        self.listener.ticks(job.case, done, steps, objective)

    def _share(self, job: Job) -> tuple[Observation, Secret]:
        device = self.victim.model.vit.mean.device
        images, labels = job.images.to(device), job.labels.to(device)
        sent = job.attack.tamper(self.victim.model, generator("tamper", *_seed(job)))
        return share(replace(self.victim, model=sent), images, labels, job.threat, _seed(job))

    def _judge(
        self,
        job: Job,
        seen: Observation,
        secret: Secret,
        answer: Reconstruction,
        seconds: float,
        company: int,
    ) -> tuple[Record, bytes]:
        vit = self.victim.model.vit
        order = _align(answer.images, secret.images)
        answer = replace(answer, images=answer.images[order])
        flat = vit.mean.expand(seen.shape)
        moved = not torch.equal(secret.images, secret.fed)
        target = Target(
            images=secret.images,
            fed=secret.fed,
            moved=moved,
            patch=vit.patch,
            mask=None if secret.draw is None else secret.draw.treated,
        )
        record = Record(
            job.case,
            "done",
            scores=_scores(self.metrics, answer.images, target),
            floor=_scores(self.metrics, flat, target),
            metrics={name: _facts(metric) for name, metric in self.metrics.items()},
            objective=answer.objective,
            seconds=seconds,
            gradient_calls=answer.gradient_calls,
            masked=_masked(secret),
            label_accuracy=_label_accuracy(answer, secret),
            report=answer.report,
            members={
                name: _scores(self.metrics, images[_align(images, secret.images)], target)
                for name, images in answer.members.items()
            },
            choice=answer.choice,
            warnings=checks.warnings(seen.update, answer, secret, flat),
            environment=self.environment | _company(company),
        )
        return record, picture.draw(*(t.cpu() for t in (secret.images, secret.fed, answer.images)))


def _seed(job: Job) -> tuple[object, ...]:
    return (job.case.seed, job.case.images_sha256)


def _crowds(jobs: Sequence[Job]) -> list[list[Job]]:
    """Put jobs together that an attack takes side by side; the others stay alone."""
    crowds: dict[object, list[Job]] = {}
    for job in jobs:
        together = job.attack.batches and not job.attack.malicious
        kind = (job.case.attack.label, len(job.images)) if together else job.case.key
        crowds.setdefault(kind, []).append(job)
    return [
        crowd[start : start + MOST_AT_ONCE]
        for crowd in crowds.values()
        for start in range(0, len(crowd), MOST_AT_ONCE)
    ]


def _company(cases: int) -> dict[str, str]:
    """Say that a case was not alone: sums are then rounded otherwise than they would be."""
    return {"cases at once": str(cases)} if cases > 1 else {}


def _demand(images: Images, shape: tuple[int, int, int, int]) -> None:
    if tuple(images.shape) != shape:
        raise ValueError(f"the answer has shape {tuple(images.shape)} instead of {shape}")
    if images.dtype != torch.float32 or images.requires_grad:
        raise ValueError("the answer is not a detached float32 tensor")
    if not torch.isfinite(images).all():
        raise ValueError("the answer holds NaN or infinity")
    if images.min() < 0 or images.max() > 1:
        raise ValueError("the answer leaves [0, 1]")


def _align(found: Images, truth: Images) -> list[int]:
    """Match a batch one to one by squared error, once for all metrics."""
    cost = torch.cdist(found.flatten(1), truth.flatten(1)).square()  # found truth
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    order = [0] * len(rows)
    for row, column in zip(rows, columns, strict=True):
        order[column] = int(row)
    return order


def _scores(metrics: Mapping[str, Metric], found: Images, target: Target) -> Scores:
    return {
        name: metric.score(found, target).tolist()
        for name, metric in metrics.items()
        if metric.applies(target)
    }


def _facts(metric: Metric) -> dict[str, object]:
    return {
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "cap": metric.cap,
        "version": metric.version,
        "weights_sha256": metric.weights_sha256,
    }


def _masked(secret: Secret) -> tuple[int, ...] | None:
    mask = None if secret.draw is None else secret.draw.treated
    return None if mask is None else tuple(mask.sum(1).tolist())


def _label_accuracy(answer: Reconstruction, secret: Secret) -> float | None:
    """Share of the labels found, as a multiset."""
    if answer.labels is None:
        return None
    left = secret.labels.tolist()
    for found in answer.labels.tolist():
        if found in left:
            left.remove(found)
    return 1 - len(left) / len(secret.labels)
