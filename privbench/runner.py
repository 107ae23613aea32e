"""Jobs to records: resumes, isolates failures, scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from scipy.optimize import linear_sum_assignment

from privbench import checks, strip
from privbench.case import Record, Scores
from privbench.client import generator, share
from privbench.component import make, names
from privbench.environment import describe, spread
from privbench.listener import Listener
from privbench.metric import Metric, Target
from privbench.plan import Job
from privbench.store import Store
from privbench.threat import Images, Reconstruction, Secret
from privbench.victim import Victim


def run(
    jobs: Sequence[Job], store: Store, listener: Listener, retry_failed: bool = False
) -> list[Record]:
    """Run what has no record yet; return the records of all jobs, in their order.

    A crashed attack is a failed record; the other cases go on. Raises Unwritable.
    """
    metrics = {name: make(Metric, name, {}) for name in names(Metric.shelf)}
    known = {job.case.key: store.get(job.case) for job in jobs}
    again = ("failed", "refused") if retry_failed else ("refused",)
    kept = {k: r for k, r in known.items() if r is not None and r.status not in again}
    listener.planned(len(jobs), len(kept))
    records = []
    for job in jobs:
        if (record := kept.get(job.case.key)) is None:
            listener.begins(job.case)
            record, picture = _attempt(job, metrics, listener)
            store.put(record, picture)
            listener.ends(record)
        records.append(record)
    return records


def _attempt(
    job: Job, metrics: Mapping[str, Metric], listener: Listener
) -> tuple[Record, bytes | None]:
    """Run one job; an error on the way is part of the record."""
    if job.refusal is not None:
        return Record(job.case, "refused", error=job.refusal), None
    victim = job.victim()
    environment = describe(victim.model.vit.mean.device)
    size = victim.model.vit.positions.numel()
    try:
        with spread(size * len(job.images)):
            return _attacked(job, victim, metrics, listener, environment)
    except Exception as error:  # whatever an attack may raise, its case is a row in the table
        reason = f"{type(error).__name__}: {error}"
        return Record(job.case, "failed", error=reason, environment=environment), None


def _attacked(
    job: Job,
    victim: Victim,
    metrics: Mapping[str, Metric],
    listener: Listener,
    environment: Mapping[str, str],
) -> tuple[Record, bytes]:
    device = victim.model.vit.mean.device
    seen, secret = share(
        victim,
        job.images.to(device),
        job.labels.to(device),
        job.threat,
        (job.case.seed, job.case.images_sha256),
    )
    rng = generator("attack", job.case.seed, job.case.images_sha256)
    start = time.perf_counter()
    answer = job.attack.reconstruct(seen, rng, listener.ticks)
    seconds = time.perf_counter() - start
    _demand(answer.images, seen.shape)
    order = _align(answer.images, secret.images)
    answer = replace(answer, images=answer.images[order])
    flat = victim.model.vit.mean.expand(seen.shape)
    target = Target(
        images=secret.images,
        fed=secret.fed,
        moved=not torch.equal(secret.images, secret.fed),
        patch=victim.model.vit.patch,
    )
    record = Record(
        job.case,
        "done",
        scores=_scores(metrics, answer.images, target),
        floor=_scores(metrics, flat, target),
        metrics={name: _facts(metric) for name, metric in metrics.items()},
        objective=answer.objective,
        seconds=seconds,
        gradient_calls=answer.gradient_calls,
        masked=_masked(secret),
        label_accuracy=_label_accuracy(answer, secret),
        report=answer.report,
        warnings=checks.warnings(seen.update, answer, secret, flat),
        environment=environment,
    )
    return record, strip.draw(secret.images, secret.fed, answer.images)


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
    return None if secret.draw is None else tuple(secret.draw.mask.sum(1).tolist())


def _label_accuracy(answer: Reconstruction, secret: Secret) -> float | None:
    """Share of the labels found, as a multiset."""
    if answer.labels is None:
        return None
    left = secret.labels.tolist()
    for found in answer.labels.tolist():
        if found in left:
            left.remove(found)
    return 1 - len(left) / len(secret.labels)
