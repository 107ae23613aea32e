"""Jobs to records: goes on where an earlier run stopped, and keeps every result at once."""

from collections.abc import Sequence
from threading import Lock

from privbench.component import make
from privbench.records.asked import Asked, named
from privbench.records.case import Record
from privbench.records.store import Store
from privbench.running.attempt import Tensors
from privbench.running.executor import Executor
from privbench.running.jobs import Job
from privbench.running.listener import Listener
from privbench.running.victims import Victims

DEFAULT = "threads"


def run(
    jobs: Sequence[Job],
    store: Store,
    listener: Listener,
    victims: Victims,
    executor: Executor | None = None,
    *,
    retry_failed: bool = False,
) -> list[Record]:
    """Run what has no record yet; return the records of all jobs, in their order.

    No answer depends on the executor, on how many cases run at once or in which order. On an
    accelerator some attacks take cases side by side, which rounds otherwise; records say so. A
    crashed attack is a failed record; the other cases go on. Raises Unwritable.
    """
    asked = {job.case.key: Asked(job.case.dataset.label, job.data, job.suite) for job in jobs}
    known = store.known(job.case for job in jobs)
    store.ask(asked, known)
    again = ("failed", "refused") if retry_failed else ("refused",)
    records = {k: r for k, r in known.items() if r is not None and r.status not in again}
    listener.planned(len(jobs), len(records))
    lock = Lock()

    def keep(record: Record, tensors: Tensors) -> None:
        store.put(record, tensors.picture, tensors.answers)
        listener.ends(record)
        with lock:
            records[record.case.key] = record

    missing = [job for job in jobs if job.case.key not in records]
    for job in missing:
        if job.refusal is not None:
            keep(Record(job.case, "refused", error=job.refusal), Tensors())
    if able := [job for job in missing if job.refusal is None]:
        (executor or make(Executor, DEFAULT, {})).run(able, victims, listener, keep)
    return [named(records[job.case.key], asked[job.case.key]) for job in jobs]
