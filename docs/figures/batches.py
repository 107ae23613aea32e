"""Draw results/batch/batches.png and .svg: python docs/figures/batches.py."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[2] / "results" / "batch"
VICTIMS = {
    "vit_patch8": ("#0072b2", "o", "vanilla"),
    "vit_patch8_shuffle": ("#e69f00", "s", "naive shuffling"),
    "vit_patch8_mjp": ("#009e73", "^", "MJP"),
}
"""Color and marker (Okabe and Ito's colors), and what a reader calls it."""
BOUND = (192 - 1) / 17
"""B (N + 1) = d - 1 at width 192, with 16 patches and a class token."""


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each victim, its weights and batch: `auto`, and `peel` past the bound."""
    kept = table[(table["defense"] == "none") & table["attack"].isin(["auto", "peel"])].copy()
    kept["batch"] = kept["threat"].str.extract(r"batch (\d+)$").astype(int)
    kept["trained"] = kept["weights"] != "init"
    return kept[(kept["attack"] == "auto") | (kept["batch"] > BOUND)].sort_values("batch")


def draw(table: pd.DataFrame) -> Figure:
    """Draw matched PSNR against the batch, with intervals, floor and bound."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    chosen = rows(table)
    for place, trained in zip(axes, (True, False), strict=True):
        for number, (name, (color, marker, label)) in enumerate(VICTIMS.items()):
            own = chosen[(chosen["model"] == name) & (chosen["trained"] == trained)]
            mean, low, high = (own[f"psnr_matched{end}"] for end in ("", "_lo", "_hi"))
            off = 0.12 * (number - 1)  # bars that would hide each other
            place.errorbar(
                own["batch"] + off,
                mean,
                [mean - low, high - mean],
                color=color,
                marker=marker,
                capsize=3,
                label=label,
            )
        place.axhline(chosen["psnr_floor"].mean(), color="#777777", ls=":", label="mean color")
        place.axvline(BOUND, color="#777777", ls="-.", label="B (N + 1) = d - 1")
        place.set(title="trained" if trained else "untrained", xlabel="pictures of a batch, B")
        place.set_xticks([1, 2, 3, 4, 6, 8, 12])
        place.grid(alpha=0.3)
    axes[0].set(ylabel="PSNR, patches matched, dB (95 %)", ylim=(0, 105))
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.suptitle("Batches behind one update, 24 pictures a point: auto, and peel past the bound")
    figure.tight_layout()
    return figure


def main() -> None:
    """Draw both files."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "batches"
    figure = draw(pd.read_csv(FOLDER / "leaderboard.csv"))
    figure.savefig(FOLDER / "batches.png", dpi=110, metadata={"Software": None})
    figure.savefig(FOLDER / "batches.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
