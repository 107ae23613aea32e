"""The page of the shelf: its tables are those of the committed results."""

import runpy
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "figures" / "shelf.py"
BOARD = ["model", "defense", "attack", "n", "psnr_matched", "psnr_oracle"]
INTERVAL = ["psnr", "psnr_lo", "psnr_hi"]


def test_the_page_says_what_the_results_say():
    script = runpy.run_path(str(SCRIPT))
    assert script["page"]() == script["PAGE"].read_text(encoding="utf-8")
    assert "| `none`" in script["page"]()


def test_rows_begin_with_the_worst_and_name_what_had_more_patience(tmp_path):
    rows = [
        ("v", "weak", "auto(tier=smoke)", 24, 31.0, 30.5, 30.0, 28.0, 32.0),
        ("v", "weak", "map", 4, 41.0, 40.0, 40.0, 35.0, 45.0),
        ("v", "weak", "mean", 24, 12.0, 12.0, 12.0, 11.0, 13.0),
        ("v", "none", "auto(tier=smoke)", 24, 100.0, 100.0, 20.0, 19.0, 21.0),
        ("v", "none", "auto", 8, 100.0, 100.0, 100.0, 100.0, 100.0),
        ("other", "none", "auto", 8, 1.0, 1.0, 1.0, 1.0, 1.0),
    ]
    pd.DataFrame(rows, columns=BOARD + INTERVAL).to_csv(tmp_path / "leaderboard.csv")
    names = {"model": ["v", "v"], "defense": ["weak", "none"]}
    ends = {"ceiling_lo": [50.0, None], "ceiling_hi": [54.0, None]}
    ceiling = names | {"ceiling": [52.25, None], "n": [4, 1]} | ends
    pd.DataFrame(ceiling).to_csv(tmp_path / "bounds.csv")
    lost = {"price": [0.021, None], "price_lo": [0.012, None], "price_hi": [0.03, None]}
    pd.DataFrame(names | lost).to_csv(tmp_path / "price.csv")
    script = runpy.run_path(str(SCRIPT))
    script["lines"].__globals__["FOLDER"] = tmp_path
    assert script["lines"]("v")[2:] == [
        "| `none` | 8 | 100.0 | 100.0 | 100.0 |  | not resolved |  |",
        "| `weak`* | 24 | 30.0 (28.0 to 32.0) | 31.0 | 30.5 | `map` 40.0 (35.0 to 45.0), n 4 "
        "| 52.2 (50.0 to 54.0), n 4 | 2.1 (1.2 to 3.0) |",
    ]
