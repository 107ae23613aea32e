"""Corruptions against imagecorruptions-imaug: python -m tests.bench.corruptions [GOLDEN.json].

First fidelity, from the same draws, then speed, in turns, each on one core. With a file name, what
the package made is written there as tests/golden/corruptions.json, for tests that do without it;
beside it what we make at 32 px, for which the package has no parameters.
The peer is a package of the group `bench`: pip install --group bench.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from privbench.corruption_names import NAMES, SEVERITIES
from privbench.corruptions import corrupt
from tests.corruption_cases import SEED, Shared, draws, picture, sketch

ROUNDS = 7
Golden = dict[str, dict[str, list[list[float]]]]
"""Sketches by recipe, corruption and severity."""
ELSEWHERE = {
    "frost": "five of six textures, as the authors' code draws them; none resized",
    "elastic_transform": "with the affine part and the authors' distances",
    "snow": "flakes cut to 8 bits before they fall",
}
"""Where the package leaves the authors' formula and we follow it."""


class Peer:
    """The package, its draws taken from numpy's global stream."""

    def __init__(self) -> None:
        self.module: Any = import_module("imagecorruptions.corruptions")
        self.made = import_module("imagecorruptions").corrupt
        import_module("cv2").setNumThreads(1)

    def __call__(self, pixels: NDArray[np.uint8], name: str, severity: int) -> NDArray[np.uint8]:
        """Corrupt as a user of the package would."""
        return self.made(pixels, severity, name)

    def seeded(self, pixels: NDArray[np.uint8], name: str, severity: int) -> NDArray[np.uint8]:
        """Corrupt from SEED; compiled code has a stream of its own, so it runs uncompiled."""
        slow = self.module._shuffle_pixels_njit_glass_blur.py_func

        def displaced(*arguments: Any) -> NDArray[np.uint8]:
            with patch("numpy.random.seed"):
                return slow(*arguments)

        settings = {"seed": np.random.default_rng(SEED)} if name == "impulse_noise" else {}
        np.random.seed(SEED)
        with patch.object(self.module, "_shuffle_pixels_njit_glass_blur", displaced):
            return self.made(pixels, severity, name, **settings)


def elastic(pixels: NDArray[np.uint8], severity: int) -> NDArray[np.uint8]:
    """Return elastic_transform from OpenCV's affine warp and scipy's own Gaussian filter."""
    cv2: Any = import_module("cv2")
    filtered = import_module("scipy.ndimage").gaussian_filter
    reach, sigma, skew = (
        (488, 170.8, 24.4),
        (488, 19.52, 48.8),
        (12.2, 2.44, 4.88),
        (17.08, 2.44, 4.88),
        (29.28, 2.44, 4.88),
    )[severity - 1]
    rng, side = Shared(SEED), pixels.shape[0]
    corners = np.array([[186, 186], [186, 38], [38, 38]], np.float32)
    moved = corners + rng.uniform(-skew, skew, (3, 2)).astype(np.float32)
    x = cv2.warpAffine(
        pixels / np.float32(255),
        cv2.getAffineTransform(corners, moved),
        (side, side),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    right, down = (
        reach * filtered(rng.uniform(-1, 1, (side, side)), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    )
    y0, x0 = np.mgrid[:side, :side]
    found = cv2.remap(
        x,
        np.float32(x0 + right),
        np.float32(y0 + down),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return (found.clip(0, 1) * 255).astype(np.uint8)


def fidelity(peer: Peer, golden: Golden) -> Table:
    """Compare all cells; sketches of what the package made go into golden."""
    table = Table(title="mean (largest) absolute difference in levels, by severity")
    for column in ("corruption", *map(str, SEVERITIES), "energy, ours / peer", "where they differ"):
        table.add_column(column)
    pixels = picture()
    for name in NAMES:
        cells, energy = [], []
        for severity in SEVERITIES:
            made = corrupt(pixels, name, severity, draws(name), "imagenet")
            ours = made.astype(np.float64)
            theirs = peer.seeded(pixels, name, severity)
            energy.append(((ours - pixels) ** 2).mean() / ((theirs - 1.0 * pixels) ** 2).mean())
            if name == "elastic_transform":
                theirs = elastic(pixels, severity)
            golden["imagenet"].setdefault(name, []).append(
                sketch(made if name == "frost" else theirs)
            )
            gap = np.abs(ours - theirs)
            cells.append(f"{gap.mean():.3f} ({gap.max():.0f})")
        ratios = " ".join(f"{ratio:.2f}" for ratio in energy)
        table.add_row(name, *cells, ratios, ELSEWHERE.get(name, ""))
    table.caption = "elastic_transform: differences from OpenCV's warp, energy against the package"
    return table


def small() -> dict[str, list[list[float]]]:
    """Sketch what we make at 32 px."""
    pixels = picture(32)
    return {
        name: [sketch(corrupt(pixels, name, s, draws(name), "cifar10")) for s in SEVERITIES]
        for name in NAMES
    }


def speed(peer: Peer) -> Table:
    """Time both in turns; medians over rounds, means over severities 1, 3 and 5."""
    table = Table(title="pictures of 224 px per second on one core")
    for column in ("corruption", "ours", "peer", "our time / theirs"):
        table.add_column(column, justify="right")
    pixels, totals = picture(), [0.0, 0.0]
    for name in NAMES:
        took = np.zeros((2, ROUNDS, 3))
        for turn in range(ROUNDS + 1):
            for at, severity in enumerate((1, 3, 5)):
                starts = [time.process_time()]
                corrupt(pixels, name, severity, np.random.default_rng(turn), "imagenet")
                starts.append(time.process_time())
                peer(pixels, name, severity)
                starts.append(time.process_time())
                if turn:  # the first loads textures and compiles
                    took[:, turn - 1, at] = np.diff(starts)
        ours, theirs = np.median(took, 1).mean(1)
        totals = [totals[0] + ours, totals[1] + theirs]
        table.add_row(name, f"{1 / ours:.0f}", f"{1 / theirs:.0f}", f"{ours / theirs:.2f}")
    table.add_row("all", *(f"{len(NAMES) / t:.0f}" for t in totals), f"{totals[0] / totals[1]:.2f}")
    return table


def main() -> None:
    """Print both tables."""
    try:
        peer = Peer()
    except ModuleNotFoundError:
        sys.exit("imagecorruptions-imaug is not installed: pip install --group bench")
    console = Console(width=160)
    golden: Golden = {"imagenet": {}, "cifar10": small()}
    console.print(fidelity(peer, golden))
    console.print(speed(peer))
    for path in sys.argv[1:]:
        Path(path).write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
