"""What travelling left of an update: the errors of rounding, and AdamW's first step undone.

A fresh AdamW step subtracts u = g / (|g| + eps) and a decay that anybody can compute. So u is
nearly the sign of g, and g = eps u / (1 - |u|) as far as the wire leaves 1 - |u| to be seen.
"""

import torch
from torch import Tensor

from privbench.observation import Observation
from privbench.threat import Protocol
from privbench.wire import ADAMW_EPS, FORMATS, decayed, ulp

ARITHMETIC = 1e-7
"""What float32 leaves of a step of size 1 before it is rounded into the weights."""
SURE = 4.0
"""Standard deviations within which a step counts as none: rounding is off by sqrt(3) at most."""


def rounding(seen: Observation) -> dict[str, Tensor]:
    """Return the standard deviation of each entry's error by rounding, in units of the update.

    By name, float64; empty where an update travels as it was computed. An error is uniform over
    one step of the format: of new weights at their own size, over the learning rate.
    """
    protocol, shared = seen.protocol, seen.update.tensors
    if protocol.exact:
        return {}
    before = seen.model.vit.trained()
    return {n: _error(t.double(), before[n].detach().double(), protocol) for n, t in shared.items()}


def _error(tensor: Tensor, before: Tensor, protocol: Protocol) -> Tensor:
    over, rate = (12 * protocol.clients) ** 0.5, protocol.local_rate
    kind = FORMATS[protocol.precision]
    if protocol.wire == "gradient":
        return ulp(tensor, kind) / over
    after = (before - rate * tensor).float()  # from just below a power of two to it
    own = ulp(after, torch.float32) * protocol.steps**0.5
    own = (own.square() + ulp(rate * tensor, torch.float32).square()).sqrt()  # of the step itself
    if protocol.precision == "float32":
        return own / over / rate
    value = after if protocol.wire == "weights" else rate * tensor
    return (own.square() + ulp(value, kind).square()).sqrt() / over / rate


def as_gradient(seen: Observation) -> dict[str, Tensor]:
    """Return the shared tensors; after AdamW, as far as that goes, the gradient behind them."""
    return _undone(seen)[0] if seen.protocol.optimizer == "adamw" else dict(seen.update.tensors)


def as_steps(seen: Observation) -> dict[str, Tensor]:
    """Return the shared tensors without AdamW's decay: what a client's steps subtract."""
    if seen.protocol.optimizer != "adamw":
        return dict(seen.update.tensors)
    return _undone(seen, divided=False)[0]


def errors(seen: Observation) -> dict[str, Tensor]:
    """Return the standard deviations of what `as_gradient` gives; empty where nothing is known."""
    return _undone(seen)[1] if seen.protocol.optimizer == "adamw" else rounding(seen)


def _undone(
    seen: Observation, *, divided: bool = True
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Undo one step of one client, or its decay alone; of more no division can be undone."""
    protocol, shared, wrong = seen.protocol, seen.update.tensors, rounding(seen)
    before = seen.model.vit.trained()
    decay = decayed(protocol)
    found, doubts = {}, {}
    for name, tensor in shared.items():
        u = tensor.double() - decay * before[name].detach().double()
        # where no step was taken, as on a position that is masked, rounding is all there is
        u = torch.where(u.abs() < SURE * wrong[name], 0, u)
        error = (wrong[name].square() + (ARITHMETIC * u).square()).sqrt()
        if divided and not (protocol.simulated or protocol.clients > 1):
            rest = torch.maximum(1 - u.abs(), error)
            u, error = ADAMW_EPS * u / rest, ADAMW_EPS * error / rest.square()
        found[name], doubts[name] = u.to(tensor), error
    return found, doubts
