"""Speed as ratios against a peer in the same run: python -m tests.bench.speed."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage.metrics import structural_similarity
from torch.nn.functional import cross_entropy

from privbench.attacks.pe_ls import PositionLeastSquares
from privbench.component import make
from privbench.dataset import Dataset
from privbench.metric import Target
from privbench.metrics.ssim import SSIM
from privbench.observation import Observation
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.victims.load import load
from privbench.vit import ViT

ROUNDS = 15


def paired(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float, float]:
    """Median seconds of both, run in turn, and the median of the ratios pair by pair."""
    seconds: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        theirs()
        seconds.append((middle - start, time.perf_counter() - middle))
    own, other = zip(*seconds[1:], strict=True)  # the first pair warms up
    ratios = [a / b for a, b in seconds[1:]]
    return statistics.median(own), statistics.median(other), statistics.median(ratios)


def observe(name: str, dataset: str) -> tuple[Observation, torch.Tensor, torch.Tensor]:
    """One picture that a client of an untrained victim has shared."""
    victim = load(name, {}, (), "init", torch.device("cpu"))
    vit = victim.model.vit
    images, labels = make(Dataset, dataset, {}).load([0], vit.side, vit.classes)
    return share(victim, images, labels, ThreatModel(), (0,))[0], images, labels


def solve() -> tuple[float, float, float]:
    """pe_ls at 224 px against numpy's least squares on the same system."""
    seen, _, _ = observe("vit_vanilla_small", "photos")
    token = seen.update.tensors[ViT.POSITIONS][0, 1:].double().numpy()
    embedding = seen.update.tensors[ViT.PROJECTION].flatten(1).double().numpy()
    attack, rng = PositionLeastSquares(), generator("bench")
    return paired(
        lambda: attack.reconstruct(seen, rng, lambda *_: None),
        lambda: np.linalg.lstsq(token.T, embedding, rcond=None),
    )


def similarity() -> tuple[float, float, float]:
    """Our SSIM of eight 224 px pictures against scikit-image's."""
    truth = make(Dataset, "photos", {}).load(range(8), 224, 10)[0]
    found = (truth + 0.1 * torch.randn(truth.shape, generator=generator("bench"))).clamp(0, 1)
    target, metric = Target(truth, truth, moved=False, patch=16), SSIM()
    pairs = [(a.double().numpy(), b.double().numpy()) for a, b in zip(found, truth, strict=True)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

    def peer() -> None:
        for a, b in pairs:
            structural_similarity(a, b, data_range=1.0, channel_axis=0, **options)

    return paired(lambda: metric.score(found, target), peer)


def matching_step() -> tuple[float, float, float]:
    """One differentiable gradient through the harness against the same through bare timm."""
    seen, images, labels = observe("vit_vanilla", "cifar10")
    vit, shared = seen.model.vit, seen.update.tensors
    images = images.clone().requires_grad_()
    parameters = list(vit.trained().values())

    def slope(gradient: list[torch.Tensor]) -> None:
        terms = [(a - b).square().sum() for a, b in zip(gradient, shared.values(), strict=True)]
        torch.autograd.grad(torch.stack(terms).sum(), images)

    def bare() -> None:
        logits = vit.backbone((images - vit.mean) / vit.std)
        loss = cross_entropy(logits, labels)
        slope(list(torch.autograd.grad(loss, parameters, create_graph=True)))

    return paired(lambda: slope(list(seen.model.gradient(images, labels).values())), bare)


def main() -> None:
    """Print a row for each pair."""
    table = Table("what", "ours, ms", "peer, ms", "ratio", title=f"median of {ROUNDS} pairs")
    for what in (solve, similarity, matching_step):
        ours, theirs, ratio = what()
        summary = (what.__doc__ or "").rstrip(".")
        table.add_row(summary, f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
