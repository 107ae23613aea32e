"""Executor: runs jobs somewhere. To add one, put a file into `executors/`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Annotated, ClassVar

from pydantic import Field

from privbench.component import Component
from privbench.records.case import Record
from privbench.running.attempt import Tensors, attack_of
from privbench.running.jobs import Job
from privbench.running.listener import Listener
from privbench.running.victims import Victims

MOST_AT_ONCE = 32
"""Cases that an attack takes side by side."""

Keep = Callable[[Record, Tensors], None]
"""Stores what came of a case; it may raise Unwritable, which ends the run."""


class Executor(Component, ABC):
    """Runs jobs; no answer depends on which one does."""

    shelf: ClassVar[str] = "running.executors"
    at_once: Annotated[int, Field(ge=1)] | None = None
    """Cases at the same time; by default what suits the device and the size of a case."""

    @abstractmethod
    def run(self, jobs: Sequence[Job], victims: Victims, listener: Listener, keep: Keep) -> None:
        """Run all jobs and hand each result to `keep` at once, from whatever thread.

        Whatever `keep` raises, and Ctrl-C, ends the attacks in flight and is raised again.
        """


def cells(jobs: Sequence[Job]) -> list[list[Job]]:
    """Split jobs, in their order, into those that follow each other on one victim."""
    return [list(cell) for _, cell in groupby(jobs, key=lambda job: job.recipe)]


def crowds(jobs: Sequence[Job], device: str) -> list[list[Job]]:
    """Put jobs together that an attack takes side by side; the others stay alone.

    Only an accelerator gains by it. Jobs of one crowd have one victim.
    """
    found: dict[object, list[Job]] = {}
    for job in jobs:
        attack = attack_of(job)
        together = device == "cuda" and attack.batches and not attack.malicious
        kind = (job.case.attack.label, len(job.case.images)) if together else job.case.key
        found.setdefault(kind, []).append(job)
    return [
        crowd[start : start + MOST_AT_ONCE]
        for crowd in found.values()
        for start in range(0, len(crowd), MOST_AT_ONCE)
    ]


def numbers_per_layer(jobs: Sequence[Job], victims: Victims) -> int:
    """Return how many numbers the tokens of the largest case have in one layer."""
    vit = victims.get(jobs[0].recipe).model.vit
    return vit.positions.numel() * max(len(job.case.images) for job in jobs)
