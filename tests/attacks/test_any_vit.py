"""Attacks on timm's vision transformers of all kinds: a result, or a refusal in a sentence."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from privbench.attack import Attack, check
from privbench.attacks._span.search import Search
from privbench.component import make
from privbench.defense import Defense
from privbench.errors import NotGranted
from privbench.observation import PublicModel
from privbench.running.client import share
from privbench.seeds import generator
from privbench.stack import Stack
from privbench.threat import ThreatModel
from privbench.victims.families import wrap
from privbench.victims.load import Victim
from privbench.victims.preset import model_preset
from tests.conftest import psnr, quiet

STARTS = {
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "deit3_small_patch16_224": 1,  # no_embed_class, layer scale
    "vit_medium_patch16_gap_240": 0,  # no class token, average pooling
    "vit_small_patch14_reg4_dinov2": 5,
}
"""Tokens that stand before the patches."""


def model_of(name: str, scheme: str = "vanilla") -> PublicModel:
    """Two narrow blocks of that kind on 32 px: the width leaves room for all tokens."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"img_size": 28 if "patch14" in name else 32, "depth": 2}
    settings |= {"embed_dim": 192, "num_heads": 3, "num_classes": 10}
    vit = wrap(timm.create_model(name, **settings).eval(), (0.5,) * 3, (0.25,) * 3)
    for label, parameter in vit.named_parameters():  # as after a training
        if label.endswith(("gamma", "_token")):
            torch.nn.init.normal_(parameter.data, mean=0.5, std=0.3)
    return PublicModel(vit, Stack(parts=(make(Defense, scheme, {}),)))


def seen_of(name, pictures, scheme="vanilla"):
    model = model_of(name, scheme)
    victim = Victim(model_preset("vit_vanilla"), {}, model, "init", "")
    images, labels = pictures(1)
    side = model.vit.side
    return share(victim, images[..., :side, :side], labels, ThreatModel(), (0,))


@pytest.mark.parametrize("name", STARTS)
def test_closed_form_is_exact_whatever_the_sequence_starts_with(name, pictures):
    seen, secret = seen_of(name, pictures)
    assert seen.model.vit.tokens_before == STARTS[name]
    found = make(Attack, "pe_ls", {}).reconstruct(seen, generator("a"), quiet)
    assert psnr(found.images, secret.images) > 60


@pytest.mark.parametrize("name", STARTS)
def test_true_tokens_are_roots_whatever_the_sequence_starts_with(name, pictures):
    """A class token twice, or none, would put all tokens off their hulls."""
    seen, secret = seen_of(name, pictures, "shuffle")
    search = Search(seen, generator("a"), 4, 4)
    truth = search.vit.patches(secret.fed.double())[0]
    right = cost(search, search.first, truth)
    assert right < 100
    assert cost(search, search.first, truth.flip(0) * 1.5) > 100 * right
    if len(search.first):
        assert cost(search, torch.cat([search.first, search.first[:1]]), truth) > 10 * right


def cost(search: Search, first: Tensor, patches: Tensor) -> float:
    """Median cost of a picture's tokens behind a start, in units of what their noise explains."""
    stream = torch.cat([first, search.stream(patches, search.every)])
    tokens = (stream + search.system.projected(search.system.attend(stream)))[len(first) :]
    noise = search.system.variances(tokens)
    units = float(noise[0].median()), float(noise[1].median())
    return float(search.system.cost(tokens, units).median())


@pytest.mark.parametrize(
    ("name", "attack", "lacks"),
    [
        ("beit_base_patch16_224", "pe_ls", "table of position embeddings"),
        ("beit_base_patch16_224", "span", "plain first block"),
        ("eva02_tiny_patch14_224", "span", "plain first block"),
        ("vit_base_patch32_clip_224", "span", "plain first block"),
        ("vit_base_patch32_clip_224", "pe_watermark", "LayerNorm alone"),
    ],
)
def test_a_role_that_is_missing_is_named(name, attack, lacks):
    model = model_of(name)
    with pytest.raises(NotGranted, match=lacks):
        check(make(Attack, attack, {}), attack, frozenset(), model.vit.trained(), model.vit)


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224"])
def test_gradients_of_families_without_positions_are_matched(name, pictures):
    seen, _ = seen_of(name, pictures)
    heard = []
    attack = make(Attack, "gradinv", {"steps": 4})
    found = attack.reconstruct(seen, generator("a"), lambda *tick: heard.append(tick[2]))
    assert found.objective < heard[0]
