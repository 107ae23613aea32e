"""An update that Opacus' optimizer made is audited like any other."""

import copy

import pytest
import torch

from privbench.auditing.audit import audit
from tests.audit import plain

opacus = pytest.importorskip("opacus")
pytestmark = pytest.mark.filterwarnings("ignore")  # of its hooks; its users see them, too
CLIP = 1.0


def private_step(noise: float) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Take one step of DPOptimizer on one picture; return the model before, and weights after."""
    before = plain.network()
    model = opacus.GradSampleModule(copy.deepcopy(before))
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=plain.RATE),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        expected_batch_size=1,
        generator=torch.Generator().manual_seed(0),
    )
    loss = torch.nn.functional.cross_entropy(
        model((plain.picture() - 0.5) / 0.5), torch.tensor([3])
    )
    loss.backward()
    optimizer.step()
    return before, dict(model._module.state_dict())


def test_clipping_alone_hides_nothing():
    before, after = private_step(0.0)
    found = audit(before, after=after, lr=plain.RATE)
    assert found.kind == "exact"
    assert torch.equal((found.images * 255).round(), (plain.picture() * 255).round())
    assert any("another rate, or clipping" in note for note in found.notes)


@pytest.mark.slow
def test_common_noise_is_not_proved():
    before, after = private_step(1.0)
    noise = plain.RATE * CLIP
    found = audit(before, after=after, lr=plain.RATE, noise=noise, tier="smoke")
    assert found.kind == "open"
