"""Speed of gradient matching against breaching's: python -m tests.bench.matching [--device cuda].

The peer is a package of the group `bench`: pip install --group bench.
"""

import argparse
import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from privbench.attack import Attack
from privbench.component import make
from privbench.dataset import Dataset
from privbench.observation import Observation
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Knowledge, ThreatModel
from privbench.victims.load import load

FEW, MORE = 3, 13
"""Steps of a short and a longer run: their difference is of steps alone, not of preparations."""
ROUNDS = 7
MANY = 32


def observe(count: int, device: torch.device) -> list[Observation]:
    """Pictures that clients of an untrained victim have shared, each by itself, with labels."""
    victim = load("vit_vanilla", {}, (), "init", device)
    loaded = make(Dataset, "cifar10", {}).load(range(count), 32, 10)
    images, labels = (one.to(device) for one in loaded)
    threat = ThreatModel(knows=frozenset({Knowledge.LABELS}))
    return [
        share(victim, images[i : i + 1], labels[i : i + 1], threat, (i,))[0] for i in range(count)
    ]


def ours(seen: Sequence[Observation], steps: int) -> None:
    """Take the steps of `gradinv_published` on all observations."""
    attack = make(Attack, "gradinv_published", {"steps": steps})
    rngs = [generator("bench", i) for i in range(len(seen))]
    attack.reconstruct_many(seen, rngs, [lambda *_: None] * len(seen))


class Peer:
    """The attack "invertinggradients" of breaching on the same model: the same objective."""

    def __init__(self, seen: Observation) -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            breaching = import_module("breaching")
            self.settings = breaching.get_attack_config("invertinggradients")
        vit = seen.model.vit
        setup = {"device": vit.mean.device, "dtype": torch.float}
        self.attacker = breaching.attacks.OptimizationBasedAttacker(
            vit.backbone, nn.CrossEntropyLoss(), self.settings, setup
        )
        self.server = [
            {
                "parameters": list(vit.backbone.parameters()),
                "buffers": [],
                "metadata": _Metadata(
                    shape=seen.shape[1:],
                    mean=vit.mean.flatten().tolist(),
                    std=vit.std.flatten().tolist(),
                    modality="vision",
                ),
            }
        ]

    def run(self, seen: Observation, steps: int) -> None:
        """Take the steps on one observation."""
        self.settings.optim.max_iterations = steps
        gradients = [t for n, t in seen.update.tensors.items() if n.startswith("backbone.")]
        about: dict[str, Any] = {"labels": seen.labels, "num_data_points": 1}
        about["local_hyperparams"] = None
        shared = [{"gradients": gradients, "buffers": [], "metadata": about}]
        self.attacker.reconstruct(self.server, shared, {})


class _Metadata(dict[str, Any]):
    """A mapping whose items are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def seconds(run: Callable[[int], None], device: torch.device) -> float:
    """Seconds of a step, of this process's own work: a busy computer changes them less.

    An accelerator works while the process waits, so there it is the clock's.
    """
    now = time.process_time if device.type == "cpu" else time.perf_counter

    def whole(steps: int) -> float:
        start = now()
        run(steps)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return now() - start

    return (whole(MORE) - whole(FEW)) / (MORE - FEW)


def main() -> None:
    """Print seconds a step and image, alone and together, and their ratios to the peer's."""
    console, parser = Console(), argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = torch.device(parser.parse_args().device)
    if device.type == "cuda" and not torch.cuda.is_available():
        console.print("This computer has no CUDA device, so nothing was timed.")
        return
    try:
        peer = Peer(observe(1, device)[0])
    except ImportError:
        console.print("Gradient matching is compared with breaching: pip install --group bench.")
        return
    torch.set_num_threads(1)
    seen = observe(MANY, device)
    rows: list[tuple[float, float, float]] = []
    for round_ in range(ROUNDS + 1):
        theirs = seconds(lambda steps: peer.run(seen[0], steps), device)
        alone = seconds(lambda steps: ours(seen[:1], steps), device)
        together = seconds(lambda steps: ours(seen, steps), device) / MANY
        if round_:  # the first round warms up
            rows.append((alone, together, theirs))
    table = Table("gradient matching, one step", "ours, ms", "peer, ms", "ratio")
    where = "one thread" if device.type == "cpu" else torch.cuda.get_device_name(device)
    table.title = f"{where}, median of {ROUNDS} rounds"
    for column, what in enumerate(("one image", f"an image of {MANY} at once")):
        own, other = (statistics.median(row[i] for row in rows) for i in (column, 2))
        ratio = statistics.median(row[column] / row[2] for row in rows)
        table.add_row(what, f"{1e3 * own:.1f}", f"{1e3 * other:.1f}", f"{ratio:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
