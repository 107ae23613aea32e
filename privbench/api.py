"""What a Python program calls: run a suite, get the table."""

from pathlib import Path
from typing import Any

import pandas as pd

from privbench.records.case import Record
from privbench.records.store import Store, write
from privbench.reports.leaderboard import leaderboard, to_csv
from privbench.running.environment import device as pick
from privbench.running.listener import Listener
from privbench.running.plan import plan
from privbench.running.runner import run as run_jobs
from privbench.running.suite import Suite


def run(
    attack: str | list[str] | None = None,
    model: str | list[str] | None = None,
    *,
    out: str | Path = "results",
    device: str = "auto",
    jobs: int | None = None,
    suite: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Attack, score and return the table of this run, one row as in leaderboard.csv.

    Options are those of `privbench run`: defense, dataset, data_root, images, batch_size, seed,
    weights, and set=["attack.steps=500"]. Records go to out and are not computed twice.
    """
    chosen = Suite.build({"attack": attack, "model": model, **options}, suite)
    store = Store(Path(out))
    records = execute(chosen, store, device, at_once=jobs)
    return leaderboard(records, beside=store.records())


def execute(
    suite: Suite,
    store: Store,
    device: str = "auto",
    listener: Listener | None = None,
    *,
    retry_failed: bool = False,
    at_once: int | None = None,
) -> list[Record]:
    """Run what is missing, write leaderboard.csv from all records, return those of this suite."""
    planned = plan(suite, pick(device))
    store.check_writable()
    try:
        return run_jobs(
            planned, store, listener or Listener(), retry_failed=retry_failed, at_once=at_once
        )
    finally:
        write(store.folder / "leaderboard.csv", to_csv(leaderboard(store.records())))
