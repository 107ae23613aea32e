"""Victims that no preset describes: timm's by name, and the user's own."""

import pytest
import torch
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed

from privbench.errors import BadSetting, BadWeights, UnknownName, UnsupportedModel
from privbench.victims.load import load
from tests.commands import caller
from tests.conftest import CPU

TINY = "timm:vit_tiny_patch16_224"
FACTORY = """
from timm.models.vision_transformer import VisionTransformer

def small():
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10
    )

def convolution():
    import timm
    return timm.create_model("resnet18", num_classes=10)
"""


def test_settings_change_size_classes_pixels_and_scheme():
    settings = {"img_size": 48, "num_classes": 10, "mean": [0.5, 0.4, 0.3], "scheme": "mjp"}
    victim = load(TINY, settings | {"ratio": 0.4}, (), "init", CPU)
    vit = victim.model.vit
    assert (vit.side, vit.grid, vit.classes) == (48, 3, 10)
    assert vit.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert victim.settings["ratio"] == 0.4
    assert victim.settings["img_size"] == 48
    assert victim.preset.scheme == "mjp"
    assert "unknown_embed" in victim.shared()


def test_tables_of_weights_files_are_resampled_as_timm_does_it(tmp_path):
    first = load(TINY, {"img_size": 64, "num_classes": 10, "init_seed": 3}, (), "init", CPU)
    state = first.model.vit.state_dict()
    save_file(state, tmp_path / "four.safetensors")
    weights = str(tmp_path / "four.safetensors")
    second = load(TINY, {"img_size": 96, "num_classes": 10}, (), weights, CPU)
    expected = resample_abs_pos_embed(
        state["backbone.pos_embed"], new_size=[6, 6], old_size=[4, 4], num_prefix_tokens=1
    )
    assert torch.equal(second.model.vit.positions, expected)
    with pytest.raises(BadWeights, match="do not fit"):
        load(TINY, {"img_size": 96, "num_classes": 5}, (), weights, CPU)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("timm:vit_small_patch14_dinov2", {"img_size": 28}, r"--set model\.num_classes=10"),
        (TINY, {"img_size": 100}, r"such as `--set model\.img_size=96`"),
        (TINY, {"mean": [0.5, 0.5]}, "three numbers"),
        (TINY, {"std": [0.5, 0.5, 0]}, "three numbers"),
        (TINY, {"num_classes": 0}, "whole number from 1"),
        (TINY, {"scheme": "mjp", "sigma": 3}, "No setting of mjp is called 'sigma'"),
        ("timm:resnet18", {"img_size": 64}, "timm builds no resnet18 with img_size 64"),
    ],
)
def test_what_does_not_go_is_said_in_a_sentence(name, settings, says):
    with pytest.raises((BadSetting, UnknownName), match=says):
        load(name, settings, (), "init", CPU)


@pytest.mark.parametrize("scheme", ["mjp", "unk"])
def test_a_scheme_of_tables_is_refused_where_there_is_none(scheme):
    settings = {"img_size": 32, "num_classes": 10, "scheme": "mjp"}
    if scheme == "unk":
        settings |= {"move": False}
    with pytest.raises(UnsupportedModel, match="adds no position table"):
        load("timm:beit_base_patch16_224", settings, (), "init", CPU)


def test_a_factory_of_the_users_own_is_attacked(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    own = ["run", "--dataset", "cifar10", "--images", 1, "--out", "out", "--model"]
    code, _, said = call(*own, "mine.py:small", "--attack", "pe_ls,mean")
    assert code == 0, said
    text = (tmp_path / "out" / "leaderboard.csv").read_text()
    assert "mine.py:small" in text
    assert str(tmp_path) not in text
    code, _, said = call(*own, "mine.py:convolution", "--attack", "mean")
    assert code == 2
    assert "is of no family whose parts attacks know" in " ".join(said.split())
    code, _, said = call(*own, "mine.py:small", "--attack", "mean", "--weights", "init")
    assert code == 2
    assert "Leave --weights out" in " ".join(said.split())
