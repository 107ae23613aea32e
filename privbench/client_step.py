"""The client's step: whatever needs a gradient of the victim takes it from here."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from privbench.defense import Again, Defense, Labels, Outputs
from privbench.errors import BadSetting
from privbench.threat import Images, Randomness
from privbench.variants import dropouts
from privbench.vit import ViT

Gradient = dict[str, Tensor]
"""By parameter name."""


@dataclass(frozen=True)
class Slopes:
    """A client's gradient, ready to be shared but for what protects an update."""

    gradient: Gradient
    loss: Float[Tensor, ""]
    """Mean over the batch, without the penalty."""


def soft(labels: Int[Tensor, " b"] | Labels, images: Images, classes: int) -> Labels:
    """Turn indices of classes into shares; shares stay."""
    if labels.is_floating_point():
        return labels
    every = torch.arange(classes, device=labels.device)
    return (labels[:, None] == every).to(images)


class ClientStep(nn.Module):
    """A victim, its defense and the loss of a batch; labels are indices or shares throughout.

    A module, so that torch.func may put other weights in for a moment; nobody else may then use
    the victim: `apart` has one of its own.
    """

    def __init__(self, vit: ViT, defense: Defense, *, bf16: bool = False) -> None:
        super().__init__()
        self.vit, self.defense, self.bf16 = vit, defense, bf16

    def apart(self) -> "ClientStep":
        """Return the same step on a copy of the weights, which need no gradient."""
        vit = copy.deepcopy(self.vit).requires_grad_(False)
        return ClientStep(vit, self.defense, bf16=self.bf16)

    def prepare(
        self, images: Images, labels: Tensor, randomness: Randomness | None
    ) -> tuple[Images, Labels]:
        """Return network input and soft labels."""
        shares = soft(labels, images, self.vit.classes)
        return self.defense.prepare(self.vit, images, shares, randomness)

    def forward(
        self,
        images: Images,
        labels: Tensor,
        randomness: Randomness | None = None,
        progress: float = 1.0,
        *,
        prepared: bool = False,
    ) -> tuple[Float[Tensor, ""], Outputs]:
        """Mean loss of a batch, and what the network gave; prepared pictures are input already.

        The defense's penalty is not in it: no picture changes that.
        """
        defense = self.defense
        randomness = None if randomness is None else randomness.to(images.device)
        if not prepared:
            images, labels = self.prepare(images, labels, randomness)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            table = defense.positions(self.vit, randomness)
            outputs = defense.forward(self.vit, images, table, randomness)
        if self.bf16:
            outputs = replace(outputs, logits=outputs.logits.float())
        labels = labels.to(outputs.logits.dtype)
        terms = cross_entropy(outputs.logits, labels, reduction="none")
        return defense.losses(terms, outputs, labels, randomness, progress).mean(), outputs

    def gradient(
        self,
        images: Images,
        labels: Tensor,
        randomness: Randomness | None = None,
        *,
        weights: Mapping[str, Tensor] | None = None,
        of: Iterable[str] | None = None,
        differentiable: bool = False,
    ) -> Gradient:
        """Gradient of the mean loss, at the victim's weights or at others that need a gradient.

        Of all trained parameters or of those named; differentiable in images, labels and weights
        if asked.
        """
        trained = self.vit.trained() if weights is None else weights
        chosen = {name: trained[name] for name in (trained if of is None else of)}
        if weights is None:
            loss, _ = self(images, labels, randomness)
        else:
            named = {f"vit.{name}": tensor for name, tensor in weights.items()}
            loss, _ = functional_call(self, named, (images, labels, randomness))
        found = torch.autograd.grad(
            loss, list(chosen.values()), create_graph=differentiable, materialize_grads=True
        )
        return dict(zip(chosen, found, strict=True))

    def pure(
        self,
        images: Images,
        labels: Tensor,
        randomness: Randomness | None = None,
        progress: float = 1.0,
        *,
        of: Iterable[str],
        prepared: bool = False,
    ) -> tuple[Gradient, Float[Tensor, ""]]:
        """Gradient and loss by functions that torch.func.vmap takes; only of a step `apart`."""

        def loss(chosen: Gradient) -> Tensor:
            named = {f"vit.{name}": tensor for name, tensor in chosen.items()}
            given = (images, labels, randomness, progress)
            return functional_call(self, named, given, {"prepared": prepared})[0]

        return grad_and_value(loss)({name: self.vit.get_parameter(name) for name in of})

    def each(
        self,
        images: Images,
        labels: Tensor,
        randomness: Randomness | None = None,
        progress: float = 1.0,
    ) -> tuple[Gradient, Float[Tensor, " b"]]:
        """Gradient and loss of every example, along a first axis; memory for all at once.

        Pictures are prepared together, as some defenses mix them. Dropout draws its masks one
        example after the other. Raises BadSetting where batch normalization ties them together.
        """
        if shared := [n for n, m in self.vit.named_modules() if isinstance(m, _BatchNorm)]:
            raise BadSetting(
                "A gradient for each example needs examples that do not depend on each other, and "
                f"{shared[0]} mixes them by the statistics of their batch. Choose a model without "
                "batch normalization, or a defense on the whole update."
            )
        names, step = tuple(self.vit.trained()), self.apart()
        images, labels = self.prepare(images, labels, randomness)
        drawn = [] if randomness is None else randomness.to(images.device).tensors()

        def one(image: Tensor, label: Tensor, row: list[Tensor]) -> tuple[Gradient, Tensor]:
            rest = iter(row)
            own = None if randomness is None else randomness.map(lambda _: next(rest)[None])
            return step.pure(image[None], label[None], own, progress, of=names, prepared=True)

        with torch.no_grad():
            if not (step.vit.training and dropouts(step)):
                return vmap(one, randomness="different")(images, labels, drawn)
            rows = zip(images, labels, strict=True)
            single = [one(*row, [t[i] for t in drawn]) for i, row in enumerate(rows)]
        gradient = {name: torch.stack([found[name] for found, _ in single]) for name in names}
        return gradient, torch.stack([loss for _, loss in single])

    def run(
        self,
        images: Images,
        labels: Tensor,
        randomness: Randomness | None,
        rng: Generator,
        progress: float = 1.0,
    ) -> Slopes:
        """Compute a client's gradient with all that the defense makes of it, and its penalty."""
        defense, trained = self.defense, self.vit.trained()
        finishes = defense.changes("finish")
        if defense.per_example:
            each, losses = self.each(images, labels, randomness, progress)
            found, loss = defense.combine(each, rng), losses.mean()
            outputs = self(images, labels, randomness, progress)[1] if finishes else None
        else:
            loss, outputs = self(images, labels, randomness, progress)
            slopes = torch.autograd.grad(
                loss, list(trained.values()), retain_graph=finishes, materialize_grads=True
            )
            found = dict(zip(trained, slopes, strict=True))
        for name, part in defense.penalty_gradient(self.vit, randomness, progress).items():
            found[name] = found[name] + part
        if finishes:
            assert outputs is not None
            again = self._again(images, labels, randomness, progress)
            found = defense.finish(found, replace(outputs, again=again), rng)
        return Slopes(found, loss.detach())

    def _again(
        self, images: Images, labels: Tensor, randomness: Randomness | None, progress: float
    ) -> Again:
        randomness = None if randomness is None else randomness.to(images.device)
        images, labels = self.prepare(images, labels, randomness)
        step = self.apart()  # other threads attack the same victim

        def run(images: Images, weights: Mapping[str, Tensor]) -> tuple[Tensor, Outputs]:
            named = {f"vit.{name}": tensor for name, tensor in weights.items()}
            given = (images, labels, randomness, progress)
            return functional_call(step, named, given, {"prepared": True})

        return Again(images, self.vit.trained(), run)
