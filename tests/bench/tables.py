"""How long records take to become a table, and to show what is missing: -m tests.bench.tables.

Records are made by hand: 10 victims, 20 attacks, 8 metrics, all different numbers, and as many
pictures as it takes. The peer reads the same files by json into a pandas table, with no look at
seals, types and keys, and makes one mean a row, without intervals. Given a folder, its records are
kept, and the table is written beside them: `python -m tests.bench.tables FOLDER`.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from privbench.records.case import Case, Record
from privbench.records.store import Store
from privbench.reports import stats
from privbench.reports.leaderboard import leaderboard, to_csv
from tests.sample_records import FACTS, case, part

VICTIMS, ATTACKS = 10, 20
PICTURES = (5, 25, 100)
METRICS = ("psnr", "psnr_fed", "psnr_masked", "psnr_matched", "psnr_unmasked", "placed", "ssim")
NAMES = (*METRICS, "lpips")


def cases(pictures: int) -> list[Case]:
    """All cases of so many pictures, as a plan has them."""
    found = []
    for victim in range(VICTIMS):
        model = "vit_vanilla" if not victim else part(f"vit_{victim}", depth=12, width=384)
        for attack in range(ATTACKS):
            settings: dict[str, Any] = {f"setting_{n}": 0.1 * n for n in range(8)}
            tried = part(f"attack_{attack}", **settings)
            found += [case(tried, model, (picture,)) for picture in range(pictures)]
    return found


def make(folder: Path, pictures: int) -> None:
    """Write the records without flushing each to the disk, which is not what is measured."""
    rng = np.random.default_rng(0)
    store = Store(folder)
    for one in cases(pictures):
        record = _record(rng.uniform(0, 60, (2, len(NAMES))).tolist())
        path = store.path(one)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(replace(record, case=one).to_json(), encoding="utf-8")


def _record(numbers: list[list[float | None]]) -> Record:
    scores, floor = ({n: [v] for n, v in zip(NAMES, row, strict=True)} for row in numbers)
    return Record(
        case(),
        "done",
        scores=scores,
        floor=floor,
        metrics={name: FACTS | {"weights_sha256": ""} for name in NAMES},
        objective=0.5,
        seconds=2.0,
        gradient_calls=100,
        report={"residual": 1e-6, "rank": 64.0, "distance": 0.1},
        environment=dict.fromkeys(("privbench", "torch", "timm", "numpy", "python"), "1.2.3"),
    )


def table(folder: Path) -> bytes:
    """Records to the CSV of the leaderboard, with nothing remembered of an earlier table."""
    stats._INTERVALS.clear()
    return to_csv(leaderboard(Store(folder).records()))


def peer(folder: Path) -> object:
    """Mean PSNR a row, by json and pandas."""
    rows = []
    for path in sorted(folder.glob("cases/*/*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        named = (found["case"][key]["label"] for key in ("model", "attack"))
        rows.append((*named, *(found["scores"][name][0] for name in NAMES)))
    return (
        pd.DataFrame(rows, columns=["model", "attack", *NAMES]).groupby(["model", "attack"]).mean()
    )


def missing(folder: Path, planned: list[Case]) -> int:
    """How many cases of a plan have no whole record."""
    return sum(record is None for record in Store(folder).known(planned).values())


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of this process's own work, which others on the computer change
    less."""
    clock, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - own


def measured(folder: Path, pictures: int) -> str:
    """Make what is not there, and say how long table and look take."""
    planned = cases(pictures)
    if not (folder / "cases").is_dir():
        make(folder, pictures)
    seconds(lambda: peer(folder))  # the first reading warms the disk's cache
    theirs = seconds(lambda: peer(folder))[1]
    clock, work = seconds(lambda: table(folder))
    look, own = seconds(lambda: missing(folder, planned))
    return (
        f"{len(planned):,} records: table {clock:.1f} s ({work:.1f} s of work, "
        f"{work / theirs:.1f} times json and pandas), what is missing {look:.1f} s "
        f"({own:.1f} s of work, {own / theirs:.1f} times)\n"
    )


def main() -> None:
    """Print seconds of each, and ratios to the peer's."""
    with TemporaryDirectory() as temporary:
        for pictures in PICTURES:
            kept = len(sys.argv) > 1 and pictures == PICTURES[-1]
            folder = Path(sys.argv[1]) if kept else Path(temporary) / str(pictures)
            sys.stdout.write(measured(folder, pictures))
            if kept:
                (folder / "leaderboard.csv").write_bytes(table(folder))


if __name__ == "__main__":
    main()
