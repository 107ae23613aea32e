"""The victims and pictures that one process has opened, each of them once."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from threading import RLock

import torch
from jaxtyping import Int
from torch import Tensor

from privbench.component import Part, make
from privbench.dataset import Dataset, fingerprint
from privbench.defense import Defense
from privbench.errors import BadData
from privbench.observation import PublicModel
from privbench.running.jobs import Job, Recipe
from privbench.running.labels import KEY, mapped, own_classes
from privbench.seeds import generator
from privbench.stack import Stack
from privbench.threat import Images
from privbench.victims.load import Victim, load

ROOM = 4 * 2**30
"""Bytes of weights that are kept; beyond them the victim that was used longest ago goes."""

Batch = tuple[Images, Int[Tensor, " b"]]


class Victims:
    """Builds what jobs name, and keeps it; defenses on the update share one network."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._built: OrderedDict[str, Victim] = OrderedDict()
        self._opened: dict[str, Dataset] = {}
        self._lock = RLock()

    def get(self, recipe: Recipe) -> Victim:
        """Return a victim; raises what `load` raises."""
        parts = tuple(make(Defense, one.name, one.settings) for one in recipe.defenses)
        # one that changes the architecture has a network of its own
        inside = parts if any(one.changes("equip") for one in parts) else ()
        named = recipe.defenses if inside else ()
        key = json.dumps(
            [recipe.model, recipe.settings, _weights(recipe.weights), [*map(vars, named)]],
            sort_keys=True,
            default=str,
        )
        with self._lock:
            if key not in self._built:
                self._built[key] = load(
                    recipe.model, recipe.settings, inside, recipe.weights, self.device
                )
                self._make_room()
            self._built.move_to_end(key)
            victim = self._built[key]
        if inside or not parts:
            return victim
        model = victim.model
        assert isinstance(model.defense, Stack)
        stack = Stack(parts=(*model.defense.parts, *parts))
        return replace(victim, model=PublicModel(model.vit, stack))

    def pictures(self, job: Job, side: int, classes: int) -> Batch:
        """Return a case's private batch; raises BadData where it is not the one planned."""
        case = job.case
        return load_pictures(
            self.dataset(case.dataset, job.data_root),
            case.dataset,
            case.images,
            case.images_sha256,
            side,
            classes,
        )

    def earlier(self, job: Job, side: int, classes: int) -> Batch:
        """Return other pictures, drawn by the case's seed, for what clients did before."""
        case, threat = job.case, job.threat
        made = self.dataset(case.dataset, job.data_root)
        others = sorted(set(range(len(made))) - set(case.images))
        count = threat.warmup * threat.batch_size * threat.clients
        rows = torch.randint(len(others), (count,), generator=generator("earlier", *job.seed))
        chosen = [others[row] for row in rows.tolist()]
        return labelled_load(made, case.dataset, tuple(chosen), side, classes)

    def dataset(self, part: Part, root: Path | None) -> Dataset:
        """Return an open data set."""
        key = json.dumps([part.name, part.settings, str(root)], sort_keys=True, default=str)
        with self._lock:
            if key not in self._opened:
                given = {} if root is None else {"root": root}
                settings = {k: v for k, v in part.settings.items() if k != KEY}
                self._opened[key] = make(Dataset, part.name, {**settings, **given})
            return self._opened[key]

    def _make_room(self) -> None:
        """Forget what was used longest ago, but never the last one built."""
        sizes = {key: _bytes(victim) for key, victim in self._built.items()}
        while len(self._built) > 1 and sum(sizes.values()) > ROOM:
            oldest, _ = self._built.popitem(last=False)
            del sizes[oldest]


def load_pictures(
    dataset: Dataset, part: Part, numbers: tuple[int, ...], sha256: str, side: int, classes: int
) -> Batch:
    """Return pictures and labels; raises BadData unless they have the digest of the record."""
    images, labels = labelled_load(dataset, part, numbers, side, classes)
    if fingerprint(images, labels) != sha256:
        raise BadData(
            f"Pictures {', '.join(map(str, numbers))} are not those that the record is about. "
            "Name their folder with --data-root, or run the case again."
        )
    return images, labels


def labelled_load(
    dataset: Dataset, part: Part, numbers: tuple[int, ...], side: int, classes: int
) -> Batch:
    """Return pictures and the columns of a model's head that their labels are."""
    placed = part.settings.get(KEY)
    images, labels = dataset.load(numbers, side, own_classes(dataset, placed, classes))
    return images, torch.tensor(mapped(dataset, labels.tolist(), placed))


def _weights(name: str | None) -> list[object]:
    """Identify weights; a file that was written anew is another one."""
    if name is None or not (path := Path(name)).is_file():
        return [name]
    found = path.stat()
    return [name, found.st_mtime_ns, found.st_size]


def _bytes(victim: Victim) -> int:
    return sum(one.numel() * one.element_size() for one in victim.model.vit.state_dict().values())
