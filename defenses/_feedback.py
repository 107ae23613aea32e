"""Error feedback: what one update leaves out is added to the next (Lin et al., ICLR 2018)."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from privbench.defense import Defense
from privbench.threat import Update


class FedBack(Defense):
    """A defense that may add what one update leaves out to the next; `protect` chooses."""

    def protect_rounds(
        self, updates: Sequence[Update], rngs: Sequence[Generator]
    ) -> Sequence[Update]:
        """Choose from each with what the rounds before it left out, if feedback is asked for."""
        if not self.feeds_back:
            return super().protect_rounds(updates, rngs)
        return fed_back(updates, lambda update: self.protect(update, rngs[0]))

    def joined(self, updates: Sequence[Update]) -> Sequence[Update]:
        """Return the gradient of all entries that any of them shows, if they have feedback."""
        return [without_feedback(updates)] if self.feeds_back else updates


def fed_back(updates: Sequence[Update], choose: Callable[[Update], Update]) -> list[Update]:
    """Return what is shared of each round's update and of all that rounds before it left out."""
    left: dict[str, Tensor] = {}
    found = []
    for update in updates:
        whole = {n: t + left[n] if n in left else t for n, t in update.tensors.items()}
        chosen = choose(Update(whole, update.withheld))
        left = {name: tensor - chosen.tensors[name] for name, tensor in whole.items()}
        found.append(chosen)
    return found


def without_feedback(updates: Sequence[Update]) -> Update:
    """Return the gradient of every entry that was ever shared, exact where it stayed the same.

    An entry that is shared in round t brings all that it has gathered since the round before in
    which it was: the sum of what was shared of it is t times its gradient, t the last such round.
    """
    found = {}
    for name, first in updates[0].tensors.items():
        total, last = torch.zeros_like(first).double(), torch.zeros_like(first).double()
        for number, update in enumerate(updates, 1):
            total += update.tensors[name].double()
            last[update.tensors[name] != 0] = number
        found[name] = (total / last.clamp(min=1)).to(first)
    return Update(found, updates[0].withheld)
