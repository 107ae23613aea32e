"""The wire: an update as it travels, rounded, and what the server makes of it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from privbench.threat import Protocol, Update

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ADAMW_BETAS, ADAMW_EPS, ADAMW_DECAY = (0.9, 0.999), 1e-8, 0.01
"""What torch's AdamW does unless told otherwise."""


def sent(update: Update, weights: Mapping[str, Tensor], protocol: Protocol) -> Update:
    """Return what the server reads of a client's update, in the update's units.

    Of new weights, rounded, it subtracts its own and divides by the rate; of their difference,
    which the client takes between float32 weights, it does the second alone. Weights are those
    before the steps, by name.
    """
    if protocol.exact:
        return update
    read = {name: _sent(t, weights[name].detach(), protocol) for name, t in update.tensors.items()}
    return Update(read, update.withheld)


def _sent(tensor: Tensor, before: Tensor, protocol: Protocol) -> Tensor:
    short, rate = FORMATS[protocol.precision], protocol.local_rate
    if protocol.wire == "gradient":
        return tensor.to(short).to(tensor)
    after = before - rate * tensor
    if protocol.wire == "weights":
        changed = before.double() - after.to(short).double()
    else:
        changed = (before - after).to(short).double()
    return (changed / rate).to(tensor)


def first_adamw(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return what a fresh AdamW subtracts in its first step, over the rate."""
    return gradient / (gradient.abs() + ADAMW_EPS) + ADAMW_DECAY * weight


def decayed(protocol: Protocol) -> float:
    """Share of the weights that AdamW's decay takes in all steps, over the rate.

    As if no step moved what it takes a share of, which costs less than a thousandth of it.
    """
    rate = protocol.local_rate
    return (1 - (1 - rate * ADAMW_DECAY) ** protocol.steps) / rate


def mean(updates: Sequence[Update]) -> Update:
    """Return the mean of several clients' updates, as secure aggregation shows it."""
    first, *others = updates
    if not others:
        return first
    stacks = {n: torch.stack([one.tensors[n].double() for one in updates]) for n in first.tensors}
    return Update({n: s.mean(0).to(first.tensors[n]) for n, s in stacks.items()}, first.withheld)


def ulp(tensor: Tensor, kind: torch.dtype) -> Tensor:
    """Return the step of a format at each entry, float64; below its exponents the smallest."""
    info = torch.finfo(kind)
    exponent = torch.frexp(tensor.double()).exponent.double()
    smallest = info.smallest_normal * info.eps
    step = torch.exp2(exponent - 1).mul(info.eps).clamp(min=smallest)
    return step.masked_fill(tensor == 0, smallest)  # zero's exponent is that of one half
