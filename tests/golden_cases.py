"""Small cases of every component, and a few numbers of what it answers in each of them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from privbench.attack import Attack
from privbench.component import find, make
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.metric import Metric, Target
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Knowledge, ThreatModel
from privbench.victims.load import Victim, load
from tests.conftest import CPU, cheap, quiet

Numbers = dict[str, list[float]]
PLACES = 8
"""Numbers that are remembered of a tensor: its mean, its size, and values spread over it."""


def answers(shelf: str, name: str) -> Numbers:
    """Return the numbers of a component's cases; empty where it has none."""
    torch.set_num_threads(1)
    return OF_SHELF[shelf](name) if shelf in OF_SHELF else {}


def _attack(name: str) -> Numbers:
    kind = find(Attack, name)
    attack = make(Attack, name, cheap(kind.setting_names()))
    found: Numbers = {}
    for scheme in ("vit_vanilla", "vit_mjp"):
        victim = _victim(scheme, **kind.demands)
        sent = attack.tamper(victim.model, generator("tamper"))
        victim = Victim(victim.preset, victim.settings, sent, "init", "")
        threat = ThreatModel(knows=frozenset(Knowledge))
        seen, _ = share(victim, *_pictures(1), threat, (0,))
        answer = attack.reconstruct(seen, generator("attack"), quiet)
        found[scheme] = [*_few(answer.images), answer.objective]
    return found


def _defense(name: str) -> Numbers:
    """Update of a client of a victim with this defense, be it a scheme or one on the update."""
    victim = load("vit_vanilla", {"depth": 2}, (make(Defense, name, {}),), "init", CPU)
    seen, secret = share(victim, *_pictures(2), ThreatModel(batch_size=2), (0,))
    found = {key: _few(tensor) for key, tensor in sorted(seen.update.tensors.items())}
    return found | {"network input": _few(secret.fed)}


def _metric(name: str) -> Numbers:
    images, _ = _pictures(2)
    rng = generator("metric")
    found = (images + 0.1 * torch.randn(images.shape, generator=rng)).clamp(0, 1)
    mask = torch.arange(64).expand(2, 64) % 3 == 0
    target = Target(images=images, fed=images.roll(4, 3), moved=True, patch=4, mask=mask)
    return {"scores": make(Metric, name, {}).score(found, target).tolist()}


def _dataset(name: str) -> Numbers:
    """Bundled pictures; data sets of the user's own folders have no case here."""
    if name not in ("cifar10", "photos"):
        return {}
    images, labels = make(Dataset, name, {}).load(range(3), 32, 10)
    return {"pictures": _few(images), "labels": [float(one) for one in labels.tolist()]}


OF_SHELF: dict[str, Callable[[str], Numbers]] = {
    "attacks": _attack,
    "defenses": _defense,
    "metrics": _metric,
    "datasets": _dataset,
}


def _victim(name: str, **settings: Any) -> Victim:
    return load(name, {"depth": 2} | settings, (make(Defense, "none", {}),), "init", CPU)


def _pictures(count: int) -> tuple[Tensor, Tensor]:
    return make(Dataset, "cifar10", {}).load(range(count), 32, 10)


def _few(tensor: Tensor) -> list[float]:
    flat = tensor.detach().double().flatten()
    places = torch.linspace(0, len(flat) - 1, PLACES).round().long()
    values: Iterable[float] = [float(flat.mean()), float(flat.norm()), *flat[places].tolist()]
    return [float(f"{value:.8g}") for value in values]
