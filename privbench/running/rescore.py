"""New or changed metrics for old records: no attack runs, the stored answers are scored again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from privbench.errors import BadData, PrivbenchError
from privbench.metric import Metric, Target
from privbench.records.answers import Answers, unpack
from privbench.records.case import Record, Scores
from privbench.records.store import Store
from privbench.running.scoring import all_metrics, facts, mark
from privbench.running.victims import Victims, load_pictures


@dataclass
class Rescored:
    """What came of it."""

    changed: int = 0
    current: int = 0
    """Records that had every score already, of the metric's version."""
    left: dict[str, int] = field(default_factory=dict)
    """Why records stay as they are, with counts."""


def rescore(
    store: Store, chosen: Sequence[str], data_root: Path | None, device: torch.device
) -> Rescored:
    """Score stored answers by all metrics, or by those chosen; raises UnknownName.

    A record changes only in its scores; one whose answer or pictures are not there stays.
    """
    metrics, victims, outcome = all_metrics(chosen or None), Victims(device), Rescored()
    for record in store.survey()[0]:
        if record.status != "done":
            continue
        wanted = {n: m for n, m in metrics.items() if record.metrics.get(n) != facts(m)}
        if not wanted:
            outcome.current += 1
            continue
        try:
            store.put(_again(record, wanted, store, data_root, victims))
            outcome.changed += 1
        except PrivbenchError as error:
            outcome.left[str(error)] = outcome.left.get(str(error), 0) + 1
    return outcome


def _again(
    record: Record,
    metrics: Mapping[str, Metric],
    store: Store,
    data_root: Path | None,
    victims: Victims,
) -> Record:
    case, answers = record.case, _answers(record, store)
    side = answers.images.shape[-1]
    root = _root(case.dataset.label, data_root)
    dataset = victims.dataset(case.dataset, root)
    truth, _ = load_pictures(
        dataset, case.dataset, case.images, case.images_sha256, side, answers.classes
    )
    truth = truth.to(victims.device)

    def tensor(pictures: np.ndarray) -> Tensor:
        return torch.from_numpy(pictures).to(victims.device)

    entered, mask = answers.entered, answers.mask
    target = Target(
        images=truth,
        fed=truth if entered is None else tensor(entered),
        moved=entered is not None,
        patch=answers.patch,
        mask=None if mask is None else torch.from_numpy(mask).to(victims.device),
    )
    marks = mark(
        metrics,
        target,
        tensor(answers.images),
        tensor(answers.mean).expand(truth.shape),
        {name: tensor(one) for name, one in answers.members.items()},
    )
    return replace(
        record,
        scores=_merged(record.scores, marks.scores, metrics),
        floor=_merged(record.floor, marks.floor, metrics),
        members={
            name: _merged(record.members.get(name, {}), scores, metrics)
            for name, scores in marks.members.items()
        },
        metrics={**record.metrics, **marks.metrics},
    )


def _merged(old: Scores, new: Scores, metrics: Mapping[str, Metric]) -> Scores:
    return {name: one for name, one in old.items() if name not in metrics} | dict(new)


def _answers(record: Record, store: Store) -> Answers:
    if not record.answers_sha256:
        raise BadData(
            "The record is of a time when no answers were stored. Run its case again with another "
            "--out."
        )
    try:
        content = store.path(record.case, ".npz").read_bytes()
    except OSError:
        content = b""
    if (found := unpack(content, record.answers_sha256)) is None:
        raise BadData(
            "The file of answers beside the record is missing or was edited. Delete the record and "
            "run its case again."
        )
    return found


def _root(label: str, given: Path | None) -> Path | None:
    """Return the user's folder for a data set that came from one, and none for the bundled."""
    return given if "@" in label else None
