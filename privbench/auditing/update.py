"""The difference of two sets of weights as an update, and what is wrong with it or special."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from privbench.errors import BadSetting, BadUpdate
from privbench.vit import ViT
from privbench.wire import ulp

Optimizer = Literal["sgd", "adamw"]
Precision = Literal["float32", "bfloat16", "float16"]
APART = 0.5
"""Share of the weights' norm that no single step moves; set by reason."""
REACH = 2.0
"""Cross-entropy's gradient has at most this 1-norm over the bias of the head."""
SLACK = 2.0
"""Over that bound: weight decay, or noise on the update."""
LARGEST = 10.0
"""Of AdamW's steps in units of its rate, with usual settings."""
NARROW: Mapping[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Client:
    """How the audited client computed its update, as far as the user knows."""

    rate: float | None = None
    steps: int = 1
    batch_size: int = 1
    optimizer: Optimizer = "sgd"
    noise: float = 0.0
    """Standard deviation of what was added to each weight, or to each entry of a gradient."""

    def check(self) -> None:
        """Raise BadSetting for what no client can have."""
        if self.batch_size < 1 or self.steps < 1:
            name = "--batch-size" if self.batch_size < 1 else "--steps"
            raise BadSetting(f"{name} is a whole number from 1 on. Leave it out for 1.")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise BadSetting(
                f"--lr is the client's learning rate, above zero, not {self.rate:g}. Leave it out "
                "where it is unknown."
            )
        if self.steps > 1 and self.rate is None:
            raise BadSetting(
                f"{self.steps} steps cannot be simulated without their learning rate. Add it, such "
                "as `--lr 0.01`."
            )
        if not 0 <= self.noise < float("inf"):
            raise BadSetting(
                f"--noise is the standard deviation of what the client added, not {self.noise:g}. "
                "Leave it out where nothing was added."
            )
        if self.optimizer not in ("sgd", "adamw"):
            raise BadSetting(f"--optimizer is sgd or adamw, not '{self.optimizer}'.")


@dataclass(frozen=True)
class Difference:
    """An update by parameter name, in float32."""

    tensors: dict[str, Tensor]
    withheld: frozenset[str]
    """Trained parameters that did not move, or were not there."""
    rounding: dict[str, Tensor]
    """Standard deviation of what rounding the new weights did to each entry, and known noise; empty
    for a gradient without."""
    noise: float
    """Standard deviation of the known noise alone."""
    precision: Precision
    """Of the coarsest of the files."""
    sent: Precision
    """Of what the client sent."""

    def head_only(self, vit: ViT) -> bool:
        """Whether nothing but the last layer moved."""
        return bool(self.tensors) and all(name.startswith(heads(vit)) for name in self.tensors)


def heads(vit: ViT) -> tuple[str, ...]:
    """Return what names of the last layers' parameters begin with."""
    return tuple(f"{ViT.BACKBONE}{name}." for name in ("head", "head_dist", "fc_norm"))


def difference(
    vit: ViT, before: Mapping[str, Tensor], after: Mapping[str, Tensor], client: Client
) -> Difference:
    """Subtract weights; raises BadUpdate where it cannot be what the client is said to have done.

    In units of the rate where it is known, else as it is.
    """
    names = list(vit.trained())
    _require_finite(after, "The weights after the step")
    moved = {name: before[name].double() - after[name].double() for name in names}
    if not any(tensor.any() for tensor in moved.values()):
        raise BadUpdate(
            "The weights before and after are equal, so nothing was shared. Name the weights that "
            "the client sent as --after."
        )
    rate = client.rate or 1.0
    found = {name: (tensor / rate).float() for name, tensor in moved.items() if tensor.any()}
    if not client.noise:
        if client.optimizer == "sgd" or client.rate is None:  # AdamW moves each by its rate
            _require_near(before, moved)
        _require_sign(found, client, "--before and --after are exchanged. Swap them")
        if client.rate is not None:
            _require_reach(moved, client)
    spread = {name: _spread(after[name], client) / rate for name in found}
    return Difference(
        found,
        frozenset(names) - frozenset(found),
        {name: one.float() for name, one in spread.items()},
        client.noise / rate,
        _precision(before, after),
        _precision(after),
    )


def _spread(after: Tensor, client: Client) -> Tensor:
    """Return the standard deviation of what rounding, at every step, and noise did to weights."""
    rounding = ulp(after, after.dtype).square() / 12
    return (client.steps * rounding + client.noise**2).sqrt()


def gradient(vit: ViT, found: Mapping[str, Tensor], client: Client) -> Difference:
    """Take a gradient as it is; raises BadUpdate."""
    _require_finite(found, "The gradient")
    tensors = {name: found[name].float() for name in vit.trained() if found[name].any()}
    if not tensors:
        raise BadUpdate("The gradient is zero everywhere, so nothing was shared. Name another.")
    if not client.noise:
        _require_sign(tensors, client, "This is minus the gradient. Multiply it by -1")
    withheld = frozenset(vit.trained()) - frozenset(tensors)
    spread = {k: torch.full_like(t, client.noise) for k, t in tensors.items() if client.noise}
    kind = _precision(found)
    return Difference(tensors, withheld, spread, client.noise, kind, kind)


def _precision(*files: Mapping[str, Tensor]) -> Precision:
    types = {one.dtype for file in files for one in file.values()}
    for name, kind in NARROW.items():
        if kind in types:
            return name
    return "float32"


def _require_finite(found: Mapping[str, Tensor], whose: str) -> None:
    for name, tensor in found.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise BadUpdate(
                f"{whose}: {name} is {kind}, and weights are floating-point numbers. Store what "
                "the client sent before it was turned into whole or complex numbers."
            )
        if wrong := int((~tensor.float().isfinite()).sum()):
            raise BadUpdate(
                f"{whose}: {wrong} of {tensor.numel()} values of {name} are infinite or no "
                "numbers. The client's training has failed; take another round."
            )


def _require_near(before: Mapping[str, Tensor], moved: Mapping[str, Tensor]) -> None:
    far = sum(float(one.square().sum()) for one in moved.values()) ** 0.5
    size = sum(float(before[name].double().square().sum()) for name in moved) ** 0.5
    if far > APART * size:
        raise BadUpdate(
            f"The weights before and after differ by {100 * far / size:.0f} % of their norm: too "
            "much for a step, so they are of two trainings, or noise was added. Name the weights "
            "that this client began with as --before, or the noise's deviation with --noise."
        )


def _require_sign(tensors: Mapping[str, Tensor], client: Client, fault: str) -> None:
    """Refuse a reversed update: only the batch's own classes pull the head's bias up."""
    bias = tensors.get(ViT.HEAD_BIAS)
    if bias is None or client.steps > 1 or len(bias) <= 2 * client.batch_size:
        return
    down, up = int((bias > 0).sum()), int((bias < 0).sum())
    if up > client.batch_size >= down > 0:
        raise BadUpdate(
            f"The update is reversed: it pulls {up} of {len(bias)} classes up, and a step on "
            f"{client.batch_size} pulls up at most {client.batch_size}. {fault}."
        )


def _require_reach(moved: Mapping[str, Tensor], client: Client) -> None:
    assert client.rate is not None
    total = client.rate * client.steps
    if client.optimizer == "adamw":
        largest = max(float(one.abs().max()) for one in moved.values())
        far, most = largest, LARGEST * total
    elif ViT.HEAD_BIAS in moved:
        far, most = float(moved[ViT.HEAD_BIAS].abs().sum()), REACH * SLACK * total
    else:
        return
    if far > most:
        raise BadUpdate(
            f"The weights moved {far / most:.3g} times as far as {client.steps} steps of "
            f"{client.optimizer} at a rate of {client.rate:g} can move them. Correct --lr, --steps "
            "or --optimizer, or leave --lr out."
        )
