"""Central differential privacy as Flower's strategies have it, with a fixed or an adaptive norm."""

from collections.abc import Mapping
from math import exp, inf, isfinite, sqrt
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from privbench.accounting import Privacy, gaussian_epsilon
from privbench.defense import Defense
from privbench.defenses._clipping import factor, on_the_gradient
from privbench.errors import BadSetting
from privbench.threat import Update


class FlowerCentral(Defense):
    """Flower's DifferentialPrivacy...Clipping strategies: clipped updates, noise on their mean.

    The noise is the server's own, added to the new model: the server itself gets clipped updates
    without noise, or whole ones where it clips. Only who sees nothing but models is held off.

    The norm is to follow a quantile of the updates' norms (Andrew et al., NeurIPS 2021): after each
    round it is multiplied by exp(-rate (b - quantile)), where b is the share of clients whose
    update is not clipped. Flower counts those that are clipped instead, so its norm falls the more
    are clipped and rises the fewer are. It also scales the noise by the next norm, not by that of
    the clipping. Clients are weighted alike, where Flower's FedAvg counts their examples.
    """

    paper: ClassVar[str] = "arXiv:1905.03871"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
    seen: Literal["update", "model"] = "update"
    """What the attacker sees: what a client sends to the server, or only the mean with its noise.
    For that set threat.clients as `clients`: each client's part of the noise is on its update."""
    clips: Literal["client", "server"] = "client"
    """Who clips; where the server does, an update leaves its client as it is."""
    adaptive: bool = True
    """Whether the norm is adapted."""
    clipping_norm: Annotated[float, Field(gt=0)] = 0.1
    """L2 norm of all tensors together, in units of what is shared, before the first round."""
    rounds: Annotated[int, Field(ge=0)] = 0
    """Rounds that have adapted the norm until now."""
    clipped: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the clients whose updates were clipped in these rounds and in this one."""
    counts: Literal["clipped", "unclipped"] = "clipped"
    """Whose number the norm follows: Flower's, or the paper's."""
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.5
    """That the counted share is compared with."""
    rate: Annotated[float, Field(gt=0)] = 0.2
    """Of the adaptation."""
    noise_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of the noise on the sum, in units of the norm, that the settings claim."""
    clients: Annotated[int, Field(ge=1)] = 20
    """Of a round."""
    count_deviation: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of the noise on the count; by default a twentieth of the clients."""

    def __post_init__(self) -> None:
        """Refuse noise that the count alone uses up, and norms out of reach."""
        least = 2 * self._count_noise
        if self.adaptive and self.noise_multiplier >= least:
            raise BadSetting(
                f"a noise_multiplier of {self.noise_multiplier:g} is not below "
                f"{least:g}, which the noise on the count allows, twice count_deviation. Choose "
                "more clients, a larger count_deviation, or adaptive=false."
            )
        if not (self.norm and self._next and isfinite(self.norm + self._next)):
            raise BadSetting(
                f"{self.rounds} rounds at rate {self.rate:g} bring the norm from "
                f"{self.clipping_norm:g} to {self.norm:g}. Choose fewer rounds or a lower rate."
            )

    @property
    def norm(self) -> float:
        """L2 norm that this round's updates are clipped to."""
        return self._after(self.rounds)

    @property
    def _next(self) -> float:
        return self._after(self.rounds + 1)

    def _after(self, rounds: int) -> float:
        counted = self.clipped if self.counts == "clipped" else 1 - self.clipped
        power = -self.rate * rounds * (counted - self.quantile) if self.adaptive else 0.0
        return self.clipping_norm * exp(power) if power < 700 else inf

    @property
    def _count_noise(self) -> float:
        return self.clients / 20 if self.count_deviation is None else self.count_deviation

    @property
    def effective(self) -> float:
        """Noise multiplier of the sum; with the count's noise it makes up the claimed one."""
        claimed = self.noise_multiplier
        if not (self.adaptive and claimed):
            return claimed
        return (claimed**-2 - (2 * self._count_noise) ** -2) ** -0.5

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise in every entry of what is seen of one client."""
        if self.seen == "update":
            return 0.0
        return self.effective * self._next / sqrt(self.clients)

    def protect(self, update: Update, rng: Generator) -> Update:
        """Scale down to the norm, and add the client's part of the noise where that is seen."""
        if self.seen == "update" and self.clips == "server":
            return update
        scale, size = factor(update.tensors.values(), self.norm), self.deviation
        found = {name: scale * tensor for name, tensor in update.tensors.items()}
        if size:
            for name, tensor in found.items():
                found[name] = tensor + size * torch.randn(tensor.shape, generator=rng).to(tensor)
        return Update(found, update.withheld)

    def deviations(self, tensors: Mapping[str, Tensor], batch: int = 1) -> dict[str, Tensor]:
        """Return the noise, which is the same for every entry; nothing where there is none."""
        size = self.deviation
        return {n: torch.full_like(t, size).double() for n, t in tensors.items()} if size else {}

    def deviations_at(
        self, gradient: Mapping[str, Tensor], tensors: Mapping[str, Tensor], share: float
    ) -> dict[str, Tensor]:
        """Return the noise as it weighs on the gradient, which clipping made smaller."""
        return on_the_gradient(self.deviations(tensors), gradient, self.norm)

    def privacy(self, entries: int, delta: float) -> Privacy:
        """Return the guarantee of a client to those who see only models; none to the server.

        Of two Gaussian mechanisms in one round: the sum, which one client moves by the norm, and
        the count, which it moves by half of one from the middle.
        """
        claimed = gaussian_epsilon(self.noise_multiplier, delta)
        if self.seen == "update":
            return Privacy("update", inf, claimed=claimed)
        noise = self.effective * self._next / self.norm
        if self.adaptive and noise:
            noise = (noise**-2 + (2 * self._count_noise) ** -2) ** -0.5
        found = gaussian_epsilon(noise, delta)
        return Privacy("update", found, noise=noise, claimed=claimed)
