"""A defense that runs the network once more leaves the victim alone: other threads attack it."""

import pytest
import torch

from privbench.component import make
from privbench.defense import Defense
from privbench.running.client import share
from privbench.threat import ThreatModel
from privbench.victims.load import load
from tests.conftest import CPU

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("censor", {"trials": 2}), ("censor", {"trials": 2, "variant": "official"}), ("soteria", {})],
)
def test_the_victim_has_its_own_weights_while_a_defense_tries_others(name, settings, pictures):
    victim = load("vit_vanilla", SMALL, (make(Defense, name, settings),), "init", CPU)
    vit = victim.model.vit
    weights = {n: (p, p.detach().clone()) for n, p in vit.named_parameters()}
    passes = []

    def look(*_: object) -> None:
        passes.append(None)
        for n, (parameter, before) in weights.items():
            assert vit.get_parameter(n) is parameter
            assert torch.equal(parameter, before)
            assert parameter.requires_grad

    hooked = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        images, labels = pictures(1)
        share(victim, images, labels, ThreatModel(), (0,))
    finally:
        hooked.remove()
    assert passes
