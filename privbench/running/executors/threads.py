"""Threads of this process."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

from privbench.attack import Tick
from privbench.running.attempt import Stopped, run_together
from privbench.running.environment import lanes
from privbench.running.executor import Executor, Keep, cells, crowds, numbers_per_layer
from privbench.running.jobs import Job
from privbench.running.listener import Listener
from privbench.running.victims import Victims


class Threads(Executor):
    """One process, victim by victim; small cases side by side, a core each."""

    def run(self, jobs: Sequence[Job], victims: Victims, listener: Listener, keep: Keep) -> None:
        """Run all jobs and hand each result to `keep` at once, from a thread of its own."""
        for cell in cells(jobs):
            self._run_cell(cell, victims, listener, keep)

    def _run_cell(
        self, jobs: Sequence[Job], victims: Victims, listener: Listener, keep: Keep
    ) -> None:
        stop = Event()

        def tick_of(job: Job) -> Tick:
            def tick(done: int, steps: int, objective: float) -> None:
                if stop.is_set():
                    raise Stopped
                listener.ticks(job.case, done, steps, objective)

            return tick

        def attempt(crowd: Sequence[Job]) -> None:
            for job in crowd:
                listener.begins(job.case)
            for record, tensors in run_together(crowd, victims, tick_of):
                keep(record, tensors)

        device, numbers = victims.device, numbers_per_layer(jobs, victims)
        with lanes(device, numbers, self.at_once) as count, ThreadPoolExecutor(count) as pool:
            try:
                sent = [pool.submit(attempt, crowd) for crowd in crowds(jobs, device.type)]
                for future in as_completed(sent):
                    future.result()
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
