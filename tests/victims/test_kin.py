"""Weights meet the model that they were made for, in what shapes do not show, or a sentence."""

import json
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from privbench.errors import BadWeights
from privbench.victims.cards import bundled
from privbench.victims.facts import KEY, card_facts, facts, require_kin
from privbench.victims.import_checkpoint import import_weights
from privbench.victims.load import Victim, load
from privbench.victims.preset import parse_settings
from tests.commands import caller
from tests.conftest import CPU

TINY: dict[str, Any] = {"depth": 1, "embed_dim": 16, "num_heads": 2}


def written(victim: Victim, made_for: str, folder: Path, **card: Any) -> str:
    """Save a victim's weights with the card that import-weights and train give."""
    told = {"model": made_for, "settings": dict(victim.settings), KEY: facts(victim.model.vit)}
    path = folder / "made.safetensors"
    save_file(victim.model.vit.state_dict(), path, {"card": json.dumps({**told, **card})})
    return str(path)


def sets(error: BadWeights) -> dict[str, Any]:
    """Read the settings that a message advises."""
    quoted = re.findall(r"`([^`]*)`", str(error))
    words = shlex.split(next(one for one in quoted if "--set" in one))
    return parse_settings([word for word in words if "=" in word], ("model",))["model"]


@pytest.mark.parametrize(
    "other",
    [
        {"mean": [0.5, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.5]},
        {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]},
        {"num_heads": 4},
    ],
    ids=str,
)
def test_what_shapes_do_not_show_is_refused_and_the_advice_answers_alike(other, tmp_path):
    made = load("vit_vanilla", TINY | other, (), "init", CPU)
    weights = written(made, "vit_vanilla", tmp_path)
    with pytest.raises(BadWeights, match=f"with {next(iter(other))} .* would answer otherw") as no:
        load("vit_vanilla", TINY, (), weights, CPU)
    found = load("vit_vanilla", TINY | sets(no.value), (), weights, CPU)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.model.logits(images, None), made.model.logits(images, None))
    assert set(sets(no.value)) == set(other)


def test_another_network_of_the_same_shapes_is_refused(tmp_path):
    victim = load("vit_vanilla", TINY, (), "init", CPU)
    for key, value in [("activation", "QuickGELU"), ("norm", "LayerNorm (1e-12)")]:
        told = facts(victim.model.vit) | {key: value}
        card = {"model": "timm:vit_base_patch16_clip_224", KEY: told}
        weights = written(victim, "", tmp_path, **card)
        with pytest.raises(BadWeights, match=rf"{key} {re.escape(value)}, not .*--model timm:vit_"):
            load("vit_vanilla", TINY, (), weights, CPU)


def test_an_older_card_is_compared_by_what_its_model_is(tmp_path):
    victim = load("vit_vanilla", TINY, (), "init", CPU)
    card = {"model": "timm:vit_small_patch16_224", "settings": {}, KEY: None}
    weights = written(victim, "", tmp_path, **card)
    with pytest.raises(BadWeights, match=r"mean \[0\.5, 0\.5, 0\.5\], not \[0\.4914"):
        load("vit_vanilla", TINY, (), weights, CPU)
    for card in ({"model": "mine.py:f"}, {"model": 3}, {"model": "nix"}, {"settings": 3}, {}):
        assert card_facts(card) == {}


@pytest.mark.parametrize("name", ["vit_vanilla", "vit_mjp", "vit_nope", "vit_shuffle"])
def test_weights_that_come_along_are_kin_and_say_nothing(name):
    assert bundled(name)
    assert load(name, {}, (), "trained", CPU).notes == ()


def test_a_file_without_a_card_is_told(tmp_path):
    victim = load("vit_vanilla", TINY, (), "init", CPU)
    save_file(victim.model.vit.state_dict(), tmp_path / "a.safetensors")
    (note,) = load("vit_vanilla", TINY, (), str(tmp_path / "a.safetensors"), CPU).notes
    assert note.startswith("The weights file has no card: normalization, heads and activ")


def test_another_scheme_of_the_same_shapes_is_told(tmp_path, monkeypatch, capsys):
    weights = written(load("vit_shuffle", TINY, (), "init", CPU), "vit_shuffle", tmp_path)
    (note,) = load("vit_vanilla", TINY, (), weights, CPU).notes
    assert note.startswith("The weights were made for vit_shuffle, whose scheme is shuffle")
    call = caller(monkeypatch, capsys)
    words = ["--model", "vit_vanilla", "--weights", weights, "--images", 1, "--out", tmp_path / "o"]
    words += [word for key, value in TINY.items() for word in ("--set", f"model.{key}={value}")]
    for command in (["run", "--attack", "mean"], ["eval", "--eval", "accuracy"]):
        code, out, err = call(*command, *words)
        assert code == 0, err
        assert note in " ".join(out.split())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from([KEY, "settings", "model", "mean"]),
)
def test_no_card_is_a_traceback(value, key):
    told = {"model": "vit_vanilla", key: value, KEY: {"mean": value, "norm": value}}
    told |= {} if key == "mean" else {key: value}
    with suppress(BadWeights):
        require_kin(VIT, "vit_vanilla", "a", told)


VIT = load("vit_vanilla", TINY, (), "init", CPU).model.vit


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_weights_that_are_no_numbers_are_refused_at_load(bad, kind, tmp_path):
    victim = load("vit_vanilla", TINY, (), "init", CPU)
    state = {key: tensor.to(kind) for key, tensor in victim.model.vit.state_dict().items()}
    state["backbone.norm.weight"][3] = bad
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(BadWeights, match=r"1 of 16 values of backbone\.norm\.weight are infinite"):
        load("vit_vanilla", TINY, (), str(tmp_path / "a.safetensors"), CPU)


def test_float64_beyond_float32_and_own_models_are_checked_too(tmp_path, monkeypatch):
    state = load("vit_vanilla", TINY, (), "init", CPU).model.vit.state_dict()
    state["backbone.head.bias"] = torch.full((10,), 1e300, dtype=torch.float64)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(BadWeights, match=r"10 of 10 values of backbone\.head\.bias"):
        load("vit_vanilla", TINY, (), str(tmp_path / "a.safetensors"), CPU)
    (tmp_path / "mine.py").write_text(
        "from timm.models.vision_transformer import VisionTransformer as V\n"
        "def f():\n"
        "    net = V(img_size=8, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3)\n"
        "    net.head.weight.data[0, 0] = float('nan')\n"
        "    return net\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadWeights, match=r"mine\.py:f: 1 of 48 values of backbone\.head\.weight"):
        load("mine.py:f", {}, (), None, CPU)


def test_plain_names_are_answered_with_the_command_that_works(tmp_path, monkeypatch, capsys):
    made = load("vit_vanilla", TINY, (), "init", CPU).model.vit
    monkeypatch.chdir(tmp_path)
    save_file(made.backbone.state_dict(), tmp_path / "their model.safetensors")
    with pytest.raises(BadWeights, match="has other names of tensors") as no:
        load("vit_vanilla", TINY, (), "their model.safetensors", CPU)
    command, weights = (shlex.split(one) for one in re.findall(r"`([^`]*)`", str(no.value)))
    code, _, err = caller(monkeypatch, capsys)(*command[1:])
    assert code == 0, err
    found = load("vit_vanilla", TINY, (), weights[1], CPU).model.vit
    assert torch.equal(found.positions, made.positions)
    assert KEY in json.loads((tmp_path / weights[1]).with_suffix(".json").read_text())


@pytest.mark.parametrize(
    "other",
    [{"num_classes": 7}, {"depth": 2}, {"num_classes": 7, "embed_dim": 64}, {"global_pool": "avg"}],
    ids=str,
)
def test_advice_on_weights_that_do_not_fit_is_followed_and_they_fit(other, tmp_path):
    made = load("vit_vanilla", TINY | other, (), "init", CPU)
    weights = written(made, "vit_vanilla", tmp_path)
    with pytest.raises(BadWeights, match="belongs to another model than vit_vanilla") as no:
        load("vit_vanilla", TINY, (), weights, CPU)
    plain = {k.removeprefix("backbone."): t for k, t in load_file(weights).items()}
    save_file(plain, tmp_path / "plain.safetensors")
    with pytest.raises(BadWeights, match="does not fit vit_vanilla") as other_no:
        import_weights(
            tmp_path / "plain.safetensors", "vit_vanilla", tmp_path / "b.safetensors", TINY
        )
    advised = sets(no.value)
    assert advised == sets(other_no.value)
    import_weights(
        tmp_path / "plain.safetensors", "vit_vanilla", tmp_path / "b.safetensors", TINY | advised
    )
    found = load("vit_vanilla", TINY | advised, (), str(tmp_path / "b.safetensors"), CPU)
    assert torch.equal(found.model.vit.positions, made.model.vit.positions)
    assert other.items() <= advised.items()
