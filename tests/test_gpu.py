"""The same answers on an accelerator; run with pytest -m gpu where there is one."""

import pytest
import torch

from privbench.attack import Attack
from privbench.component import find, make, names
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import ThreatModel
from privbench.victims.load import load
from tests.conftest import cheap, psnr, quiet

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", names("attacks"))
def test_every_attack_runs_and_stays_on_its_device(name, pictures):
    cuda = torch.device("cuda")
    images, labels = (tensor.to(cuda) for tensor in pictures(1))
    victim = load("vit_mjp", {"depth": 2}, (), "init", cuda)
    seen, _ = share(victim, images, labels, ThreatModel(), (0,))
    attack = make(Attack, name, cheap(find(Attack, name).setting_names()))
    answer = attack.reconstruct(seen, generator("attack"), quiet)
    assert answer.images.device.type == "cuda"
    assert torch.isfinite(answer.images).all()


def test_the_closed_form_is_as_exact_as_on_a_processor(pictures):
    cuda = torch.device("cuda")
    images, labels = (tensor.to(cuda) for tensor in pictures(1))
    seen, _ = share(load("vit_vanilla", {}, (), "init", cuda), images, labels, ThreatModel(), (0,))
    answer = make(Attack, "pe_ls", {}).reconstruct(seen, generator("attack"), quiet)
    assert psnr(answer.images, images) > 75
