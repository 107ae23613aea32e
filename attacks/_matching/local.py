"""A client's local training, differentiable in its pictures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from privbench.client_step import ClientStep
from privbench.observation import PublicModel
from privbench.threat import Images, Protocol, Randomness
from privbench.wire import ADAMW_BETAS, ADAMW_DECAY, ADAMW_EPS

Client = tuple[Tensor, Tensor, Randomness | None]
"""Pictures, labels and draw; smaller batches than the one that they are parts of."""


@dataclass(frozen=True)
class LocalModel(PublicModel):
    """A model whose "gradient" is the update of a client that takes several steps."""

    protocol: Protocol
    soft: float = 0.0
    """Share of its root mean square that is added to what AdamW divides a tensor by: its first step
    is nearly a sign, along whose slope nothing descends."""

    def gradient(
        self,
        images: Images,
        labels: Tensor,
        draw: Randomness | None = None,
        *,
        of: Iterable[str] | None = None,
        differentiable: bool = True,
    ) -> dict[str, Tensor]:
        """Sum of what the optimizer subtracts but for decay, in units of the learning rate.

        Differentiated through all steps; of several clients, their mean. Of more pictures than a
        batch every epoch takes them in the order that is given, as the client's own is unknown;
        AdamW begins afresh. A penalty of the defense moves the weights as it does at the first
        step, and is in the sum of AdamW alone.
        """
        parts = split(images, labels, draw, self.protocol.clients)
        clients = [self._client(*part, of) for part in parts]
        total = clients[0]
        if len(clients) > 1:
            total = {n: torch.stack([one[n] for one in clients]).mean(0) for n in total}
        return total if differentiable else {n: part.detach() for n, part in total.items()}

    def _client(
        self, images: Images, labels: Tensor, draw: Randomness | None, of: Iterable[str] | None
    ) -> dict[str, Tensor]:
        own = ClientStep(self.vit, self.defense).apart()  # other threads use the model
        weights = {name: p.detach().requires_grad_() for name, p in self.vit.trained().items()}
        wanted = tuple(weights) if of is None else tuple(of)
        pull = {name: part.detach() for name, part in super().penalty_gradient(draw).items()}
        batches, rate = self._batches(images, labels, draw), self.protocol.local_rate
        adamw = self.protocol.optimizer == "adamw"
        decay = rate * ADAMW_DECAY if adamw else 0.0
        moves = AdamW(pull, self.soft) if adamw else Momentum(pull, self.protocol.momentum)
        total: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            slopes = own.gradient(
                *batch,
                weights=weights,
                of=wanted if last else None,
                differentiable=True,
            )
            told, moved = moves.step(slopes)
            total = {n: total[n] + told[n] if total else told[n] for n in wanted}
            if not last:
                weights = {n: (1 - decay) * p - rate * moved[n] for n, p in weights.items()}
        return total

    def penalty_gradient(self, draw: Randomness | None = None) -> dict[str, Tensor]:
        """Gradient of a penalty that is not in `gradient` already."""
        return {} if self.protocol.optimizer == "adamw" else super().penalty_gradient(draw)

    def _batches(self, images: Images, labels: Tensor, draw: Randomness | None) -> list[Client]:
        """Return what each step sees."""
        protocol = self.protocol
        if not protocol.pictures:
            return [(images, labels, draw)] * protocol.local_steps
        parts = len(images) // protocol.batch_size
        return split(images, labels, draw, parts) * protocol.epochs


def split(images: Images, labels: Tensor, draw: Randomness | None, parts: int) -> list[Client]:
    """Return equal parts of some pictures, as of each client or of each step."""
    rows = torch.arange(len(images)).chunk(parts)
    return [(images[row], labels[row], draw and draw.rows(row.tolist())) for row in rows]


class Momentum:
    """SGD: what a step subtracts because of the pictures, and all that it subtracts."""

    def __init__(self, pull: Mapping[str, Tensor], momentum: float) -> None:
        self.pull, self.momentum = pull, momentum
        self.velocity: dict[str, Tensor] = {}
        self.pulled: dict[str, Tensor] = {}

    def step(self, slopes: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
        """Take gradients of some tensors."""
        for name, slope in slopes.items():
            before = self.velocity.get(name)
            self.velocity[name] = slope if before is None else self.momentum * before + slope
        for name, part in self.pull.items():
            before = self.pulled.get(name)
            self.pulled[name] = part if before is None else self.momentum * before + part
        whole = {n: v + self.pulled[n] if n in self.pull else v for n, v in self.velocity.items()}
        return self.velocity, whole


class AdamW:
    """AdamW with fresh state, but for its decay; what it subtracts is of one piece."""

    def __init__(self, pull: Mapping[str, Tensor], soft: float = 0.0) -> None:
        self.pull, self.soft, self.steps = pull, soft, 0
        self.mean: dict[str, Tensor] = {}
        self.square: dict[str, Tensor] = {}

    def step(self, slopes: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take gradients of some tensors."""
        self.steps += 1
        (first, second), moved = ADAMW_BETAS, {}
        for name, slope in slopes.items():
            slope = slope + self.pull[name] if name in self.pull else slope
            mean, square = self.mean.get(name, 0.0), self.square.get(name, 0.0)
            self.mean[name] = first * mean + (1 - first) * slope
            self.square[name] = second * square + (1 - second) * slope.square()
            # the root of zero has no slope
            square = self.square[name] / (1 - second**self.steps) + ADAMW_EPS**4
            over = square.sqrt() + ADAMW_EPS
            if self.soft:
                over = over + self.soft * slope.detach().square().mean().sqrt()
            moved[name] = self.mean[name] / (1 - first**self.steps) / over
        return moved, moved
