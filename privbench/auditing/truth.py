"""Scores an audit's answer where the user has the client's pictures, as `run` does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment

from privbench.component import make
from privbench.dataset import Dataset
from privbench.errors import BadData
from privbench.metric import Target
from privbench.running.scoring import all_metrics, mark
from privbench.threat import Reconstruction
from privbench.vit import ViT

FOLDER = "folder"
"""The data set that takes any pictures."""


@dataclass(frozen=True)
class Score:
    """What the answer is worth, against the originals."""

    psnr: float
    """Mean in dB; 100 is exact."""
    floor: float
    """Of the mean color."""
    scores: Mapping[str, Sequence[float | None]]
    """By metric, one for each picture."""


def score(root: Path, vit: ViT, answer: Reconstruction) -> Score:
    """Compare with the nearest pictures of a folder; raises BadData."""
    pictures = make(Dataset, FOLDER, {"root": root})
    found = answer.images.cpu()
    if len(pictures) < len(found):
        raise BadData(
            f"'{root}' holds {len(pictures)} pictures, and the batch has {len(found)}. Name a "
            "folder with all pictures of the batch, or correct --batch-size."
        )
    truth, _ = pictures.load(range(len(pictures)), vit.side, vit.classes)
    cost = torch.cdist(found.flatten(1), truth.flatten(1)).square()
    order, chosen = linear_sum_assignment(cost.numpy())
    found, truth = found[list(order)], truth[list(chosen)]
    target = Target(images=truth, fed=truth, moved=False, patch=vit.patch)
    mean = vit.mean.cpu().expand(found.shape)
    marks = mark(all_metrics(), target, found, mean, {})
    psnr, floor = (_mean(one["psnr"]) for one in (marks.scores, marks.floor))
    return Score(psnr, floor, {name: list(one) for name, one in marks.scores.items()})


def _mean(values: Sequence[float | None]) -> float:
    known = [one for one in values if one is not None]
    return sum(known) / len(known)
