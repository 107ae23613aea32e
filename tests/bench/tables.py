"""How long 20,000 records take to become a table: `python -m tests.bench.tables [FOLDER]`.

Records are made by hand: 10 victims, 20 attacks, 100 pictures, 8 metrics, all different numbers.
With a folder, its records are kept, and the table is written beside them.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from privbench.records.case import Record
from privbench.records.store import Store
from privbench.reports.leaderboard import leaderboard, to_csv
from tests.sample_records import FACTS, case, part

VICTIMS, ATTACKS, PICTURES = 10, 20, 100
METRICS = ("psnr", "psnr_fed", "psnr_masked", "psnr_matched", "psnr_unmasked", "placed", "ssim")
NAMES = (*METRICS, "lpips")


def make(folder: Path) -> None:
    """Write the records without flushing each to the disk, which is not what is measured."""
    rng = np.random.default_rng(0)
    store = Store(folder)
    for victim in range(VICTIMS):
        model = "vit_vanilla" if not victim else part(f"vit_{victim}", depth=12, width=384)
        for attack in range(ATTACKS):
            settings: dict[str, Any] = {f"setting_{n}": 0.1 * n for n in range(8)}
            for picture in range(PICTURES):
                one = case(part(f"attack_{attack}", **settings), model, (picture,))
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


def main() -> None:
    """Print seconds for reading and for the table."""
    with TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        if not (folder / "cases").is_dir():
            make(folder)
        begun = time.perf_counter()
        records = list(Store(folder).records())
        read = time.perf_counter()
        table = to_csv(leaderboard(records))
        done = time.perf_counter()
        (folder / "leaderboard.csv").write_bytes(table)
        sys.stdout.write(
            f"{len(records):,} records: read {read - begun:.1f} s, table {done - read:.1f} s, "
            f"together {done - begun:.1f} s\n"
        )


if __name__ == "__main__":
    main()
