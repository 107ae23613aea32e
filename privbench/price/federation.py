"""Federated SGD under a defense, stopped and gone on with at any step."""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from privbench.errors import BadUpdate, NotFinite
from privbench.observation import PublicModel
from privbench.price.protocol import MEASURED_EVERY, PROTOCOL
from privbench.price.wire import bytes_of
from privbench.running.client import answer
from privbench.seeds import generator
from privbench.threat import Images
from privbench.threat import Protocol as Clients
from privbench.training.checkpoint import write_tensors
from privbench.training.split import Split
from privbench.wire import mean

SAVED_EVERY = 10
"""Steps between two checkpoints; the ends are the same wherever it was stopped."""
CLIENTS = Clients(training=True)
"""One plain step each, dropout active where the victim has any."""


@dataclass
class Progress:
    """What is known of a training under way, beside its weights."""

    step: int = 0
    sent: list[int] = field(default_factory=list)
    """Bytes of the updates that were measured."""
    entries: int = 0
    seconds: float = 0.0


def train(
    model: PublicModel,
    train: Split,
    steps: int,
    seed: int,
    place: Path,
    key: str,
    tick: Callable[[int], None],
) -> Progress:
    """Change a victim's weights by all steps, from its checkpoint on where there is one.

    Pictures, their order and all random draws depend on the seed, the step and the client alone,
    so that every defense meets the same. Raises NotFinite where it diverges.
    """
    found = _resume(place, key, model)
    while found.step < steps:
        begin = time.perf_counter()
        order = epoch(len(train), found.step, seed)
        images, labels = train.load(order)
        take(model, images, labels, found, steps, seed, begin)
        found.step += 1
        if found.step % SAVED_EVERY == 0 and found.step < steps:
            _save(place, key, model, found)
        tick(found.step)
    return found


def epoch(count: int, step: int, seed: int) -> list[int]:
    """Return the pictures of a step: every epoch is a permutation, of which the rest is left."""
    each = count // PROTOCOL.batch
    number, place = divmod(step, each)
    order = torch.randperm(count, generator=generator("price", seed, number))
    return order[place * PROTOCOL.batch : (place + 1) * PROTOCOL.batch].tolist()


def take(
    model: PublicModel,
    images: Images,
    labels: Int[Tensor, " b"],
    found: Progress,
    steps: int,
    seed: int,
    begin: float,
) -> None:
    """Take a step: the mean of the clients' defended updates, as long as the protocol says.

    What clients withhold stays with the server as it was.
    """
    device = model.vit.mean.device
    parts = zip(images.chunk(PROTOCOL.clients), labels.chunk(PROTOCOL.clients), strict=True)
    try:
        updates = [
            answer(
                model,
                (own.to(device), known.to(device)),
                None,
                CLIENTS,
                ("price", seed, found.step, number),
            )[0]
            for number, (own, known) in enumerate(parts)
        ]
    except BadUpdate:
        raise _diverged(found.step, "a client's update") from None
    whole = mean(updates).tensors
    norm = sum(float(t.double().square().sum()) for t in whole.values()) ** 0.5
    if norm not in (0.0, float("inf")) and norm == norm:
        scale = PROTOCOL.rate(found.step, steps) / norm
        with torch.no_grad():
            for name, tensor in whole.items():
                model.vit.get_parameter(name).sub_(scale * tensor)
    elif norm:
        raise _diverged(found.step, "the mean of the updates")
    found.seconds += time.perf_counter() - begin
    if found.step % MEASURED_EVERY == 0:
        found.sent.append(bytes_of(updates[0].tensors))
        found.entries = sum(t.numel() for t in updates[0].tensors.values())


def timed(model: PublicModel, train: Split, steps: int, seed: int) -> float:
    """Return the seconds of a first step, which is then forgotten."""
    apart, begin = copy.deepcopy(model), time.perf_counter()
    images, labels = train.load(epoch(len(train), 0, seed))
    take(apart, images, labels, found := Progress(), steps, seed, begin)
    return found.seconds


def _diverged(step: int, what: str) -> NotFinite:
    return NotFinite(
        f"The training diverged: in step {step + 1} {what} was NaN or infinite, so there is no "
        "accuracy to compare. Choose weaker settings of the defense."
    )


def _save(place: Path, key: str, model: PublicModel, found: Progress) -> None:
    told = json.dumps({"key": key, **asdict(found)}, sort_keys=True)
    write_tensors(place, model.vit.state_dict(), {"privbench": told})


def _resume(place: Path, key: str, model: PublicModel) -> Progress:
    """Fill the weights from a checkpoint of this very case; what is torn or another's is none."""
    try:
        with safe_open(place, "pt") as file:
            told = json.loads(file.metadata()["privbench"])
        if told.pop("key") != key:
            return Progress()
        found, tensors = Progress(**told), safetensors.torch.load_file(place)
        if tensors.keys() != model.vit.state_dict().keys():
            return Progress()
        model.vit.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return Progress()
    return found
