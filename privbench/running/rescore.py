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
from privbench.running.scoring import Marks, all_metrics, facts, mark
from privbench.running.victims import Batch, Victims, load_pictures
from privbench.threat import Images


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
    answers = stored_answers(record, store.path(record.case, ".npz"))
    marks = marks_of(answers, truth_of(record, answers, data_root, victims), metrics)
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


def truth_of(record: Record, answers: Answers, data_root: Path | None, victims: Victims) -> Images:
    """Return the private pictures of a record, on the victims' device; raises BadData."""
    return batch_of(record, answers, data_root, victims)[0].to(victims.device)


def batch_of(record: Record, answers: Answers, data_root: Path | None, victims: Victims) -> Batch:
    """Return the private pictures of a record, and their labels; raises BadData."""
    case, side = record.case, answers.images.shape[-1]
    dataset = victims.dataset(case.dataset, _root(case.dataset.label, data_root))
    return load_pictures(
        dataset, case.dataset, case.images, case.images_sha256, side, answers.classes
    )


def marks_of(answers: Answers, truth: Images, metrics: Mapping[str, Metric]) -> Marks:
    """Score stored answers against the private pictures, on their device; raises NotFinite."""

    def tensor(pictures: np.ndarray) -> Tensor:
        return torch.from_numpy(pictures).to(truth.device)

    entered, mask = answers.entered, answers.mask
    target = Target(
        images=truth,
        fed=truth if entered is None else tensor(entered),
        moved=entered is not None,
        patch=answers.patch,
        mask=None if mask is None else torch.from_numpy(mask).to(truth.device),
    )
    return mark(
        metrics,
        target,
        tensor(answers.images),
        tensor(answers.mean).expand(truth.shape),
        {name: tensor(one) for name, one in answers.members.items()},
    )


def _merged(old: Scores, new: Scores, metrics: Mapping[str, Metric]) -> Scores:
    return {name: one for name, one in old.items() if name not in metrics} | dict(new)


def stored_answers(record: Record, path: Path) -> Answers:
    """Return what lies beside a record; raises BadData where it is not what the record says."""
    if not record.answers_sha256:
        raise BadData(
            "The record is of a time when no answers were stored. Run its case again with another "
            "--out."
        )
    try:
        content = path.read_bytes()
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
