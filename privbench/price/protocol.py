"""The protocol by which all prices are measured: fixed, numbered, in a full and a short form."""

from dataclasses import asdict, dataclass

from privbench.component import Part

VERSION = 1
"""Of the protocol: a change of any number below, or of what a step does, is a new version."""


@dataclass(frozen=True)
class Form:
    """How long a training is, and on how many pictures it is tested."""

    name: str
    steps: int
    tested: int
    """Test pictures at most, drawn once for all."""


FULL = Form("full", 1170, 10_000)
"""Three epochs of CIFAR-10's 50,000 pictures."""
SHORT = Form("short", 20, 2_000)
"""For a first look, and for a busy computer."""


@dataclass(frozen=True)
class Protocol:
    """Federated SGD: each step, the mean of the clients' defended updates moves the weights."""

    clients: int = 8
    pictures: int = 16
    """Of each client in a step."""
    start: float = 0.5
    """Where it starts, on the way from the drawn weights to the trained ones."""
    length: float = 0.3
    """L2 norm of the first step, over all tensors; it falls to zero along a straight line.

    A server may scale what it gets, so what a defense does to the size of an update alone is no
    price of it: every step is as long as the protocol says.
    """

    @property
    def batch(self) -> int:
        """Pictures that a step takes."""
        return self.clients * self.pictures

    def rate(self, step: int, steps: int) -> float:
        """Return the length of a step, counted from zero."""
        return self.length * (1 - step / steps)


PROTOCOL = Protocol()
MEASURED_EVERY = 10
"""Steps between two updates whose bytes are counted."""


def part(form: Form, start: float) -> Part:
    """Return the protocol as records name it; start is 1 where weights are taken as they are."""
    numbers = asdict(PROTOCOL) | {"start": start, "steps": form.steps, "tested": form.tested}
    return Part("federated_sgd", form.name, VERSION, numbers)
