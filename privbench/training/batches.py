"""The batches of an epoch: which pictures, how they are augmented, and by whom."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from privbench.errors import BadData, PrivbenchError, WorkerLost
from privbench.seeds import generator
from privbench.threat import Images
from privbench.training.augment import Augmentation
from privbench.training.job import Training
from privbench.training.recipe import Recipe

LOST = "DataLoader worker"
"""How torch begins to say that a worker is gone."""

Example = tuple[Tensor, int, int]
"""Pixels, label and step."""


def batches(
    training: Training, epoch: int, steps: int, rows: Sequence[int]
) -> Iterator[tuple[Images, Float[Tensor, "b classes"]]]:
    """Yield these rows of every batch of an epoch, augmented and mixed.

    Raises BadData where a picture cannot be read any more, WorkerLost where a worker was killed.
    """
    vit, recipe = training.victim.model.vit, training.recipe
    augmentation = Augmentation(recipe, vit.side, vit.classes, vit.mean, vit.std)
    rng = generator("epoch", training.seed, epoch)
    order = _order(len(training.train), recipe, rng).tolist()
    seeds = torch.randint(2**31, (steps, recipe.batch_size + 1), generator=rng).tolist()

    def one(place: tuple[int, int]) -> Example | str:
        step, row = place
        index = order[step * recipe.batch_size + row]
        try:
            picture = training.train.picture(index)
        except PrivbenchError as error:  # out of a worker, torch would raise its whole traceback
            return str(error)
        pixels = augmentation.each(picture, seeds[step][row])
        return pixels, int(training.train.labels[index]), step

    def batch(given: list[Example | str]) -> tuple[Images, Float[Tensor, "b classes"]] | str:
        found = [example for example in given if not isinstance(example, str)]
        if wrong := [sentence for sentence in given if isinstance(sentence, str)]:
            return wrong[0]
        pixels, labels, places = zip(*found, strict=True)
        seed = seeds[places[0]][-1]
        return augmentation.mix(torch.stack(pixels), torch.tensor(labels), seed)

    loader: DataLoader[Any] = DataLoader(
        Places(one, steps * recipe.batch_size),  # type: ignore[arg-type]
        batch_sampler=[[(step, row) for row in rows] for step in range(steps)],  # type: ignore[arg-type]
        collate_fn=batch,
        num_workers=training.workers,
        multiprocessing_context="fork" if training.workers else None,
    )
    try:
        for found in loader:
            if isinstance(found, str):
                raise BadData(found)
            yield found
    except RuntimeError as error:
        if not str(error).startswith(LOST):
            raise
        raise WorkerLost(
            "A process that augments pictures was killed, as happens where memory or /dev/shm runs "
            "short. The same command goes on where it was; add --workers 1, or 0 for none."
        ) from None


@dataclass(frozen=True)
class Places(torch.utils.data.Dataset[Any]):
    """A picture for each place in an epoch, a pair of step and row."""

    picture: Callable[[tuple[int, int]], Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self.picture(place)


def share_of(size: int, process: int, processes: int) -> list[int]:
    """Rows of a batch that one of several processes takes.

    A part of the first half and its mirror image in the second: mixing pairs mirrored rows, so
    that each process mixes exactly those pairs that one process with the whole batch would.
    """
    part = size // 2 // processes
    first = list(range(process * part, (process + 1) * part))
    return first + [size - 1 - row for row in reversed(first)]


def _order(count: int, recipe: Recipe, rng: Generator) -> Int[Tensor, " k"]:
    """Permutation of the pictures; with repeats each of a part of them comes several times."""
    order = torch.randperm(count, generator=rng)
    return order.repeat_interleave(recipe.repeats)[:count]
