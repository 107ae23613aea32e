"""Processes of this computer: a crash, or the memory's end, costs one case and not the run."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from privbench.attack import Tick
from privbench.running.attempt import Tensors, failed, run_together
from privbench.running.environment import device as pick
from privbench.running.environment import shares
from privbench.running.executor import Executor, Keep, cells, crowds, numbers_per_layer
from privbench.running.jobs import Job
from privbench.running.listener import Listener, Pace
from privbench.running.victims import Victims

TRIES = 2
"""How often a case is begun whose process dies."""
BETWEEN = 0.1
"""Seconds between two reports of progress."""


@dataclass
class Worker:
    """A process, the pipe to it, and what it works on."""

    process: SpawnProcess
    pipe: Connection
    crowd: Sequence[Job] = ()


class Processes(Executor):
    """A process a core, each with victims of its own; a script needs `if __name__ ...` for it."""

    def run(self, jobs: Sequence[Job], victims: Victims, listener: Listener, keep: Keep) -> None:
        """Run all jobs and hand each result to `keep` at once, from this thread."""
        device = victims.device
        waiting = deque(crowd for cell in cells(jobs) for crowd in crowds(cell, device.type))
        cores = torch.get_num_threads()
        count = min(self.at_once or cores, len(waiting))
        _, threads = shares(device, numbers_per_layer(jobs, victims), count, cores)
        tries: dict[str, int] = {}
        team: list[Worker] = []
        try:
            while waiting or any(one.crowd for one in team):
                while len(team) < count and len(team) < len(waiting) + _busy(team):
                    team.append(_start(device, threads))
                for worker in team:
                    if waiting and not worker.crowd:
                        _give(worker, waiting.popleft(), listener)
                ready = wait([one.pipe for one in team])
                for worker in [one for one in team if one.pipe in ready]:
                    if not _hear(worker, listener, keep):
                        team.remove(worker)
                        waiting.extendleft(_bury(worker, tries, device, keep))
        finally:
            for worker in team:
                worker.process.terminate()
            for worker in team:
                worker.process.join()


def _busy(team: Sequence[Worker]) -> int:
    return sum(bool(one.crowd) for one in team)


def _start(device: torch.device, threads: int) -> Worker:
    # a fork would inherit locks that nobody opens again; a spawned process inherits nothing
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, device.type, threads), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _give(worker: Worker, crowd: Sequence[Job], listener: Listener) -> None:
    worker.crowd = crowd
    for job in crowd:
        listener.begins(job.case)
    try:
        worker.pipe.send(crowd)
    except OSError:  # it is dead: the next look at its pipe says so
        return


def _hear(worker: Worker, listener: Listener, keep: Keep) -> bool:
    """Take one message; False once the process is gone."""
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, OSError):
        return False
    if kind == "tick":
        number, *progress = content
        listener.ticks(worker.crowd[number].case, *progress)
        return True
    worker.crowd = ()
    for record, tensors in content:
        keep(record, tensors)
    return True


def _bury(
    worker: Worker, tries: dict[str, int], device: torch.device, keep: Keep
) -> list[list[Job]]:
    """Return what of a dead process's work is to be run again, each case by itself."""
    worker.process.join()
    code = worker.process.exitcode or 0
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    again: list[list[Job]] = []
    for job in worker.crowd:
        tries[job.case.key] = tries.get(job.case.key, 0) + 1
        if tries[job.case.key] < TRIES:
            again.append([job])
        else:
            reason = f"The case's process was ended {how}, {TRIES} times; memory may be too short."
            keep(failed(job, reason, device), Tensors())
    return again


def work(pipe: Connection, device: str, threads: int) -> None:
    """Run what the pipe brings, until it closes; Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    victims = Victims(pick(device))
    while True:
        try:
            crowd: Sequence[Job] = pipe.recv()
        except (EOFError, OSError):
            return
        pace = Pace(BETWEEN)

        def tick_of(job: Job, crowd: Sequence[Job] = crowd, pace: Pace = pace) -> Tick:
            number = [one.case.key for one in crowd].index(job.case.key)

            def tick(done: int, steps: int, objective: float) -> None:
                if pace.due(done, steps):
                    pipe.send(("tick", (number, done, steps, objective)))

            return tick

        pipe.send(("done", run_together(crowd, victims, tick_of)))
