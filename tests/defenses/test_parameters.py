"""Defenses that decide what is trained: which gradients leave, and that they are the right ones."""

from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.func import functional_call

from privbench.component import make
from privbench.defense import Defense
from privbench.defenses._parameters import before
from privbench.errors import BadSetting, BadWeights
from privbench.running.client import share
from privbench.seeds import generator
from privbench.stack import Stack
from privbench.threat import ThreatModel
from privbench.victims.load import load
from privbench.vit import ViT
from tests.conftest import CPU

SMALL = {"depth": 2, "embed_dim": 16, "num_heads": 2, "patch_size": 8}
HEAD = {ViT.HEAD, ViT.HEAD_BIAS}
STEM = {ViT.POSITIONS, "backbone.cls_token", ViT.PROJECTION, "backbone.patch_embed.proj.bias"}
SELECTING = ("head_only", "bitfit", "withhold_first", "lora", "adapter")


def subject(*names, model="vit_vanilla", weights="init", **settings) -> Any:
    parts = [make(Defense, name, settings if name == names[-1] else {}) for name in names]
    return load(model, SMALL, tuple(parts), weights, CPU)


def updates(victim, pictures, batch=2, seed=0) -> Any:
    images, labels = pictures(batch)
    return share(victim, images, labels, ThreatModel(batch_size=batch), (seed,))


def in_block(number):
    def named(name):
        return name.startswith(f"backbone.blocks.{number}.")

    return named


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("head_only", {}, lambda n: n in HEAD),
        ("bitfit", {}, lambda n: n.endswith(".bias") or n == ViT.HEAD),
        ("bitfit", {"head": False}, lambda n: n.endswith(".bias")),
        ("withhold_first", {"blocks": 0}, lambda n: n not in STEM),
        ("withhold_first", {}, lambda n: n not in STEM and not in_block(0)(n)),
        ("withhold_first", {"keep": "local"}, lambda n: n not in STEM and not in_block(0)(n)),
        ("withhold_first", {"blocks": 2}, lambda n: n.startswith("backbone.norm.") or n in HEAD),
        ("frozen", {}, lambda n: n != ViT.POSITIONS),
    ],
)
def test_what_is_shared_is_the_plain_gradient_of_the_named_parameters(
    name, settings, wanted, pictures
):
    victim = subject(name, **settings)
    seen, _ = updates(victim, pictures)
    plain, _ = updates(subject("none"), pictures)
    everything = plain.update.tensors
    assert seen.update.tensors.keys() == {one for one in everything if wanted(one)}
    assert all(torch.equal(t, everything[n]) for n, t in seen.update.tensors.items())
    local = settings.get("keep") == "local"
    assert (victim.model.vit.trained().keys() == everything.keys()) is local
    assert seen.update.withheld == ({n for n in everything if not wanted(n)} if local else set())


def test_what_stands_in_front_of_a_block_is_told_from_its_number_not_its_digits():
    names = [f"backbone.blocks.{n}.mlp.fc1.bias" for n in (0, 1, 2, 10)]
    others = ["backbone.norm.bias", "backbone.head.weight", "localizer.0.weight"]
    assert before([*names, *others, ViT.POSITIONS], 2) == {*names[:2], ViT.POSITIONS}
    assert before(["unknown_embed"], 0) == {"unknown_embed"}


def test_more_blocks_than_there_are_is_refused():
    with pytest.raises(BadSetting, match=r"keeps 3 blocks and the model has 2\. Set defense"):
        subject("withhold_first", blocks=3)


@pytest.mark.parametrize("first", SELECTING)
def test_two_that_decide_what_is_trained_are_refused(first):
    for second in SELECTING:
        with pytest.raises(BadSetting, match=f"{first} and {second} both decide which parameters"):
            Stack(parts=(make(Defense, first, {}), make(Defense, second, {})))


def test_a_penalty_on_what_is_not_trained_adds_nothing(pictures):
    victim = subject("head_only", model="vit_mjp")
    seen, secret = updates(victim, pictures)
    assert seen.model.penalty_gradient(secret.draw) == {}
    assert seen.update.tensors.keys() == HEAD


def merged(victim):
    """A plain network with the weights W + scale * up @ down, by hand."""
    state = {n: t.detach().clone() for n, t in victim.model.vit.state_dict().items()}
    for name in [n.removesuffix(".down") for n in state if n.endswith(".down")]:
        down, up = state.pop(f"{name}.down"), state.pop(f"{name}.up")
        state[f"{name}.weight"] = state[f"{name}.weight"] + 2.0 * up @ down
    return state


@pytest.mark.parametrize(
    ("layers", "count"), [("qkv", 1), ("attention", 2), ("mlp", 2), ("all", 4)]
)
def test_lora_is_the_network_with_merged_weights_and_the_chain_rule(layers, count, pictures):
    victim = subject("lora", layers=layers, rank=3, alpha=6.0)
    vit = victim.model.vit
    images, labels = pictures(2)
    plain = subject("none").model.vit
    assert torch.equal(vit(images), plain(images)), "it begins as the network without adapters"
    start, _ = updates(victim, pictures)
    downs = [n for n in start.update.tensors if n.endswith(".down")]
    assert len(downs) == 2 * count
    assert not any(start.update.tensors[n].any() for n in downs), "behind zeros"
    rng = generator("up")
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if name.endswith(".up"):
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    state = merged(victim)
    assert torch.allclose(vit(images), functional_call(plain, state, (images,)), atol=1e-5)
    leaves = {n: t.requires_grad_() for n, t in state.items()}
    loss = nn.functional.cross_entropy(functional_call(plain, leaves, (images,)), labels)
    truth = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    found = updates(victim, pictures)[0].update.tensors
    assert found.keys() == HEAD | set(downs) | {n.replace(".down", ".up") for n in downs}
    for name in downs:
        up, layer = name.replace(".down", ".up"), name.replace(".down", ".weight")
        slope, own = truth[layer], victim.model.vit.state_dict()
        assert torch.allclose(found[name], 2 * own[up].T @ slope, atol=1e-6)
        assert torch.allclose(found[up], 2 * slope @ own[name].T, atol=1e-6)


def test_adapters_are_the_papers_bottleneck_behind_each_sublayer(pictures):
    victim = subject("adapter", width=3)
    vit, (images, _) = victim.model.vit, pictures(2)
    layer = vit.backbone.blocks[1].mlp.fc2
    rng = generator("inside")
    with torch.no_grad():
        for own in (layer.down, layer.offset, layer.up, layer.shift):
            own += torch.randn(own.shape, generator=rng)
    hand = nn.Sequential(nn.Linear(16, 3), nn.GELU(), nn.Linear(3, 16))
    hand.load_state_dict(
        {
            "0.weight": layer.down,
            "0.bias": layer.offset,
            "2.weight": layer.up,
            "2.bias": layer.shift,
        }
    )
    hidden = torch.randn(5, 64, generator=rng)
    given = nn.functional.linear(hidden, layer.weight, layer.bias)
    assert torch.allclose(layer(hidden), given + hand(given), atol=1e-6)
    shared = updates(victim, pictures)[0].update.tensors
    inner = {f"backbone.blocks.{b}.{at}." for b in (0, 1) for at in ("attn.proj", "mlp.fc2")}
    adapters = {f"{at}{own}" for at in inner for own in ("down", "offset", "up", "shift")}
    norms = {n for n in subject("none").shared() if ".norm" in n}
    assert shared.keys() == adapters | norms | HEAD
    fresh = subject("adapter").model.vit
    weights = torch.cat([fresh.get_parameter(n).flatten() for n in adapters if n[-3:] == "own"])
    assert float(weights.detach().abs().max()) <= 0.02
    near = subject("none").model.vit(images)
    assert torch.allclose(fresh(images), near, atol=1e-2), "nearly the identity at first"


def test_what_a_defense_added_begins_as_drawn_and_travels_with_saved_weights(tmp_path):
    plain, file = subject("none").model.vit, tmp_path / "plain.safetensors"
    safetensors.torch.save_file(plain.state_dict(), file)
    victim = subject("lora", weights=str(file))
    assert any("begin as drawn: plain.safetensors has none" in note for note in victim.notes)
    assert torch.equal(victim.model.vit.state_dict()[ViT.HEAD], plain.state_dict()[ViT.HEAD])
    own = {n: t + 1 for n, t in victim.model.vit.state_dict().items()}
    safetensors.torch.save_file(own, tmp_path / "own.safetensors")
    again = subject("lora", weights=str(tmp_path / "own.safetensors"))
    assert not any("as drawn" in note for note in again.notes)
    assert all(torch.equal(t, own[n]) for n, t in again.model.vit.state_dict().items())
    with pytest.raises(BadWeights, match="no such tensor"):
        subject("none", weights=str(tmp_path / "own.safetensors"))
    del own[ViT.HEAD]
    safetensors.torch.save_file(own, tmp_path / "less.safetensors")
    with pytest.raises(BadWeights, match=r"head\.weight \(missing"):
        subject("lora", weights=str(tmp_path / "less.safetensors"))


@pytest.mark.parametrize("name", ["head_only", "frozen"])
def test_weights_of_what_is_not_trained_are_loaded_all_the_same(name, tmp_path):
    state = {n: t + 1 for n, t in subject("none").model.vit.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    found = subject(name, weights=str(tmp_path / "other.safetensors")).model.vit.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in found.items())
    with pytest.raises(BadWeights, match="not the fixed values"):
        subject("random_positions", weights=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("per", ["batch", "image"])
def test_random_positions_are_a_table_of_this_step_alone(per, pictures):
    victim = subject("random_positions", per=per, std=0.5)
    (seen, secret), (_, later) = (updates(victim, pictures, 3, seed) for seed in (0, 1))
    (table,), (other,) = secret.draw.tensors(), later.draw.tensors()
    assert not torch.equal(table, other)
    assert torch.equal(table[0], table[1]) is (per == "batch")
    assert float(table[0].std()) == pytest.approx(0.5, rel=0.1)
    assert ViT.POSITIONS not in seen.update.tensors
    leaves = dict(subject("none").model.vit.named_parameters())
    plain = subject("none").model.vit
    losses = []
    for row in range(3):  # each picture by itself, on a network that holds the table as its own
        held = {n: p for n, p in leaves.items() if n != ViT.POSITIONS} | {
            ViT.POSITIONS: table[[row]]
        }
        logits = functional_call(plain, held, (secret.images[[row]],))
        losses.append(nn.functional.cross_entropy(logits, secret.labels[[row]]))
    names = list(seen.update.tensors)
    truth = torch.autograd.grad(torch.stack(losses).mean(), [leaves[n] for n in names])
    for name, slope in zip(names, truth, strict=True):
        assert torch.allclose(seen.update.tensors[name], slope, atol=1e-5)
    guess = seen.model.simulate(3, generator("server"))
    assert guess is not None
    assert not guess.tensors()[0].any(), "the mean of all tables, for one that is not known"
    assert torch.equal(seen.model.simulate(3, generator("s"), secret.draw).tensors()[0], table)


def test_masks_of_pictures_are_their_own_where_asked(pictures):
    seen, secret = updates(subject("mjp", per="image", ratio=0.5), pictures, 2)
    one, two = secret.draw.mask
    assert not torch.equal(one, two)
    rows = seen.update.tensors[ViT.POSITIONS][0, 1:]
    assert torch.equal((rows == 0).all(1), one & two), "only what all of them mask shows"


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("lora", "rank", 0),
        ("lora", "alpha", 0),
        ("lora", "layers", "heads"),
        ("adapter", "width", 0),
        ("withhold_first", "blocks", -1),
        ("withhold_first", "keep", "none"),
        ("random_positions", "std", 0),
    ],
)
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(BadSetting, match=f"{name}: '{setting}' cannot be"):
        make(Defense, name, {setting: value})
