"""Ray: tasks on a cluster, or on one that is started here (Moritz et al., arXiv:1712.05889)."""

import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from privbench.attack import Tick
from privbench.errors import NoCluster
from privbench.running.attempt import Result, Tensors, failed, run_together
from privbench.running.environment import device as pick
from privbench.running.environment import shares
from privbench.running.executor import Executor, Keep, cells, crowds, numbers_per_layer
from privbench.running.jobs import Job
from privbench.running.listener import Listener, Pace
from privbench.running.victims import Victims

RETRIES = 3
"""How often Ray begins a task again whose worker or node dies."""
PATIENCE = 5.0
"""Seconds that a cluster has to answer in."""
BETWEEN = 0.5
"""Seconds between two reports of progress."""
_VICTIMS: dict[str, Victims] = {}
"""Of a worker, which runs many tasks; by device."""


Progress = tuple[int, int, float]
"""Steps done, all steps, the objective."""


class Board:
    """An actor where workers write how far each case is, and the driver reads it."""

    def __init__(self) -> None:
        self.latest: dict[str, Progress] = {}

    def write(self, key: str, progress: Progress) -> None:
        """Replace what was written of a case."""
        self.latest[key] = progress

    def take(self) -> dict[str, Progress]:
        """Return what was written since the last time."""
        taken, self.latest = self.latest, {}
        return taken


class Ray(Executor):
    """Tasks on a Ray cluster; one is started here unless an address names another."""

    address: str | None = None
    """Such as 10.0.0.1:6379, or auto for the one that runs on this computer."""

    def __post_init__(self) -> None:
        """Raise NoCluster, before anything is planned, where Ray or the cluster is not there."""
        _ray()
        if self.address is not None:
            _require(self.address)

    def run(self, jobs: Sequence[Job], victims: Victims, listener: Listener, keep: Keep) -> None:
        """Run all jobs and hand each result to `keep` at once, from this thread."""
        device, cores = victims.device, torch.get_num_threads()
        numbers = numbers_per_layer(jobs, victims)
        count, threads = shares(device, numbers, self.at_once, cores)
        with _cluster(self.address, count * threads) as ray:
            need = _need(ray, device, count, threads)
            task = ray.remote(work).options(max_retries=RETRIES, **need)
            board = ray.remote(Board).options(num_cpus=0).remote()
            waiting = deque(crowd for cell in cells(jobs) for crowd in crowds(cell, device.type))
            flying: dict[Any, Sequence[Job]] = {}
            try:
                while waiting or flying:
                    while waiting and len(flying) < (self.at_once or _room(ray, need)):
                        crowd = waiting.popleft()
                        for job in crowd:
                            listener.begins(job.case)
                        flying[task.remote(crowd, device.type, threads, board)] = crowd
                    ended, _ = ray.wait(list(flying), timeout=BETWEEN)
                    cases = {job.case.key: job.case for crowd in flying.values() for job in crowd}
                    for key, progress in _read(ray, board).items():
                        if key in cases:  # what a case wrote before its worker died may come late
                            listener.ticks(cases[key], *progress)
                    for one in ended:
                        crowd = flying.pop(one)
                        waiting.extendleft(_hear(ray, one, crowd, device, keep))
            finally:
                for one in flying:
                    ray.cancel(one, force=True)


def work(crowd: Sequence[Job], device: str, threads: int, board: Any) -> list[Result]:
    """Run one crowd in a worker, with the victims that it has built already."""
    torch.set_num_threads(threads)
    victims = _VICTIMS.setdefault(device, Victims(pick(device)))

    def tick_of(job: Job) -> Tick:
        pace = Pace(BETWEEN)

        def tick(done: int, steps: int, objective: float) -> None:
            if pace.due(done, steps):
                # nobody waits for an answer: progress never holds up an attack
                board.write.remote(job.case.key, (done, steps, objective))

        return tick

    return run_together(crowd, victims, tick_of)


def _read(ray: Any, board: Any) -> Mapping[str, Progress]:
    """Return what workers wrote; nothing where the board was lost, without which all goes on."""
    try:
        return ray.get(board.take.remote(), timeout=PATIENCE)
    except (ray.exceptions.RayError, TimeoutError):
        return {}


def _hear(
    ray: Any, task: Any, crowd: Sequence[Job], device: torch.device, keep: Keep
) -> list[list[Job]]:
    """Keep what came of a task; return what is to be run again, each case by itself."""
    try:
        results: list[Result] = ray.get(task)
    except ray.exceptions.RayError as error:
        if len(crowd) > 1:
            return [[job] for job in crowd]
        what = type(error).__name__
        reason = f"The case's worker was lost, {RETRIES + 1} times ({what}); memory may be short."
        keep(failed(crowd[0], reason, device), Tensors())
        return []
    for record, tensors in results:
        keep(record, tensors)
    return []


@contextmanager
def _cluster(address: str | None, cpus: int) -> Iterator[Any]:
    """Connect, or start a cluster of this computer's; what was there before stays."""
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    given: dict[str, Any] = {"address": address}
    if address is None:
        given = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **given)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise NoCluster(
            f"No Ray cluster answers at {address or 'this computer'}: {error}. Start one with `ray "
            "start --head`, or leave --address out."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _need(ray: Any, device: torch.device, count: int, threads: int) -> dict[str, float]:
    """Return what a task takes of a node: cores, or a part of an accelerator."""
    if device.type == "cuda":
        return {"num_cpus": 1.0, "num_gpus": 1 / count}
    sizes = [one["Resources"].get("CPU", 0) for one in ray.nodes() if one["Alive"]]
    return {"num_cpus": float(min([threads, *(size for size in sizes if size >= 1)]))}


def _room(ray: Any, need: dict[str, float]) -> int:
    """Return how many tasks all nodes that are there now run at once; one at least."""
    kind, each = ("GPU", need["num_gpus"]) if "num_gpus" in need else ("CPU", need["num_cpus"])
    return max(1, int(ray.cluster_resources().get(kind, 0) / each))


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise NoCluster(
            "--executor ray needs Ray, which is not installed. Install it with `pip install "
            "'privbench[ray]'`, or take --executor processes."
        ) from None


def _require(address: str) -> None:
    """Raise NoCluster where nobody listens; Ray itself would try for half a minute."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise NoCluster(
            f"No Ray cluster answers at {address} ({error}). Start one with `ray start --head`, or "
            "leave --address out."
        ) from None
