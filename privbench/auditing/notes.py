"""What of an audit's files was left out, assumed, or read off the update itself."""

from privbench.auditing.naming import Model, Named
from privbench.auditing.rate import read_rate
from privbench.auditing.update import Client, Difference
from privbench.vit import ViT

SHOWN = 3
"""Names that a note lists."""
NEARLY = 0.1
"""Relative difference of rates that is none."""


def notes(
    model: Model, first: Named, second: Named, update: Difference, client: Client
) -> tuple[str, ...]:
    """Say what of the files was left out or assumed."""
    vit, said = model.vit, []
    if update.withheld and not update.head_only(vit):
        names = sorted(one.removeprefix(ViT.BACKBONE) for one in update.withheld)
        shown = ", ".join(names[:SHOWN]) + (
            f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        )
        said.append(f"Frozen or absent, so taken as withheld: {shown}.")
    if extra := sorted({**first.extra, **second.extra}):
        said.append(
            f"Left out: {len(extra)} tensors of an adapter, first {extra[0]}. The attacks run the "
            "model without them, so what the adapter's own gradient gives away was not looked at."
        )
    if update.precision != "float32":
        said.append(
            f"The files are in {update.precision}: rounding covers what is below its last digit."
        )
    if client.noise:
        said.append(
            f"Noise of {client.noise:.3g} was added, so what attacks leave unexplained of the "
            "update is measured in it."
        )
    if client.optimizer == "adamw":
        said.append(
            "A first step of AdamW is nearly the gradient's sign; it is undone where its size "
            "shows, and several steps are simulated. What attacks do not find may still be there."
        )
        return tuple(said)
    rate = read_rate(vit, update, client.batch_size) if client.steps == 1 else None
    if client.rate is None and update.rounding:
        told = f"; the head says {rate.factor:.3g}" if rate and rate.fits else ""
        said.append(
            f"The learning rate is unknown{told}. Attacks on a single step need none; attacks on "
            "several steps do."
        )
    elif rate and rate.fits and abs(rate.factor - 1) > NEARLY:
        said.append(
            f"The update is {rate.factor:.3g} times what one step at this rate makes of the head: "
            "another rate, or clipping."
        )
    elif rate and not rate.fits:
        said.append(
            "The head's bias is not that of one plain SGD step on one picture: several steps, "
            "another batch size, label smoothing, momentum, or noise."
        )
    return tuple(said)
