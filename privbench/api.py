"""What a Python program calls: run a suite, get the table."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from privbench.auditing.audit import audit
from privbench.component import make
from privbench.errors import BadData
from privbench.records.case import Record
from privbench.records.store import Store
from privbench.reports.leaderboard import leaderboard, write_table
from privbench.running.environment import device as pick
from privbench.running.executor import Executor
from privbench.running.forecast import Forecast, forecast
from privbench.running.listener import Listener
from privbench.running.plan import plan
from privbench.running.runner import DEFAULT
from privbench.running.runner import run as run_jobs
from privbench.running.shard import belongs, parse_shard
from privbench.running.suite import Suite
from privbench.running.victims import Victims

__all__ = ["Outcome", "audit", "conduct", "execute", "foresee", "run"]


def run(
    attack: str | list[str] | None = None,
    model: str | list[str] | None = None,
    *,
    out: str | Path = "results",
    device: str = "auto",
    jobs: int | None = None,
    executor: str = DEFAULT,
    address: str | None = None,
    shard: str | None = None,
    suite: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Attack, score and return the table of this run, one row as in leaderboard.csv.

    Options are those of `privbench run`: defense, dataset, data_root, images, batch_size, seed,
    weights, and set=["attack.steps=500"]. Records go to out and are not computed twice.
    """
    chosen = Suite.build({"attack": attack, "model": model, **options}, suite)
    store = Store(Path(out))
    where = {"executor": executor, "address": address, "shard": shard}
    outcome = conduct(chosen, store, device, at_once=jobs, **where)  # type: ignore[arg-type]
    return leaderboard(outcome.records, beside=outcome.known)


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    records: list[Record]
    """Of this run's cases, in their order."""
    known: list[Record]
    """All that the results folder holds now."""


def execute(
    suite: Suite,
    store: Store,
    device: str = "auto",
    listener: Listener | None = None,
    **options: Any,
) -> list[Record]:
    """Run what is missing, write leaderboard.csv from all records, return those of this suite."""
    return conduct(suite, store, device, listener, **options).records


def conduct(
    suite: Suite,
    store: Store,
    device: str = "auto",
    listener: Listener | None = None,
    *,
    retry_failed: bool = False,
    at_once: int | None = None,
    executor: str = DEFAULT,
    address: str | None = None,
    shard: str | None = None,
) -> Outcome:
    """Run what is missing, write leaderboard.csv from all records, return both.

    A shard i/n is one of n parts of the suite, the same on every computer; parts may run at the
    same time, and share a results folder. The address is of the executor's cluster. Records are
    stored one by one and the table is written however the run ends.
    """
    given = {"at_once": at_once} | ({} if address is None else {"address": address})
    chosen = make(Executor, executor, given)
    part = parse_shard(shard) if shard else (1, 1)
    victims = Victims(pick(device))
    jobs = [job for job in plan(suite, victims.device, victims) if belongs(job.case.key, *part)]
    store.check_writable()
    try:
        records = run_jobs(
            jobs, store, listener or Listener(), victims, chosen, retry_failed=retry_failed
        )
    except BaseException:
        with suppress(BadData):  # what ended the run is the news
            _write_table(store)
        raise
    return Outcome(records, _write_table(store))


def foresee(
    suite: Suite,
    store: Store,
    device: str = "auto",
    *,
    retry_failed: bool = False,
    shard: str | None = None,
) -> list[Forecast]:
    """Return what `conduct` would run, and its cost as records of the same kind had it.

    Nothing runs and nothing is written. Victims are built one by one, since a case's key holds the
    digest of its weights.
    """
    part, where = parse_shard(shard) if shard else (1, 1), pick(device)
    jobs = [job for job in plan(suite, where) if belongs(job.case.key, *part)]
    return forecast(jobs, store.survey()[0], retry_failed=retry_failed)


def _write_table(store: Store) -> list[Record]:
    known = list(store.records())
    write_table(store.folder, leaderboard(known))
    return known
