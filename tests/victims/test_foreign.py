"""Checkpoints as trainings of this field leave them: each answers as before, or a sentence."""

import re
import shlex
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from privbench.errors import BadSetting, BadWeights, UnknownName
from privbench.victims.checkpoint_file import choose
from privbench.victims.checkpoint_names import merge_class_row, rename
from privbench.victims.families import wrap
from privbench.victims.import_checkpoint import import_weights, told
from privbench.victims.load import load
from tests.commands import caller
from tests.conftest import CPU

TINY: dict[str, Any] = {"depth": 1, "embed_dim": 16, "num_heads": 2}


def network(seed: int = 7, **changes: Any) -> VisionTransformer:
    shape: dict[str, Any] = {"img_size": 32, "patch_size": 4, "num_classes": 10, **TINY}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(**shape | changes).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def take(folder: Path, content: object, model: str = "vit_vanilla", **options: Any) -> dict:
    torch.save(content, folder / "theirs.pth")
    asked = TINY | options.pop("settings", {}) if not model.startswith("timm:") else {}
    asked |= options.pop("asked", {})
    return import_weights(
        folder / "theirs.pth", model, folder / "ours.safetensors", asked, **options
    )


@torch.no_grad()
def check(folder: Path, theirs: VisionTransformer, **asked: Any) -> None:
    """Logits are those of the network that the checkpoint was made of."""
    weights, images = str(folder / "ours.safetensors"), torch.rand(2, 3, 32, 32)
    found = load("vit_vanilla", TINY | asked, (), weights, CPU).model.vit
    expected = theirs((images - found.mean) / found.std)
    assert torch.allclose(found(images), expected, atol=1e-5)


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return names as ViTForImageClassification has them."""
    names = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "attn.proj": "attention.output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    found: dict[str, Tensor] = {"vit.embeddings.mask_token": torch.zeros(1, 1, 16)}
    for key, tensor in state.items():
        stem, _, kind = key.rpartition(".")
        if key in names:
            found[names[key]] = tensor
        elif match := re.fullmatch(r"blocks\.(\d+)\.(.+)", stem):
            at = f"vit.encoder.layer.{match[1]}"
            if match[2] == "attn.qkv":
                for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    found[f"{at}.attention.attention.{name}.{kind}"] = part
            else:
                found[f"{at}.{names[match[2]]}.{kind}"] = tensor
        else:
            last = {"norm": "vit.layernorm", "head": "classifier"}
            found[f"{last.get(stem) or names[stem]}.{kind}"] = tensor
    return found


STATE = network().state_dict()
EMA = network(8).state_dict()
CHECKPOINTS: dict[str, tuple[dict, str]] = {
    "model_state_dict": ({"model_state_dict": STATE, "epoch": 3}, "model_state_dict"),
    "net": ({"net": under("module.", STATE), "acc": 93.1}, "net"),
    "params": ({"params": STATE}, "params"),
    "deep": ({"state": {"model": under("_orig_mod.module.", STATE)}}, "state.model"),
    "lightning": (
        {
            "state_dict": under("model.", STATE) | {"criterion.weight": torch.ones(3)},
            "hyper_parameters": {"lr": 0.1},
            "pytorch-lightning_version": "2.1",
        },
        "state_dict",
    ),
    "swa": ({"n_averaged": torch.tensor(3), **under("module.", STATE)}, "the whole file"),
    "ddp ema": ({"ema": {"module": EMA}, "model": under("module.", STATE)}, "model"),
    "dino": (
        {"student": under("module.backbone.", EMA), "teacher": under("backbone.", STATE)},
        "teacher",
    ),
    "flat pair": (under("student.vit.", EMA) | under("teacher.vit.", STATE), "teacher.vit"),
    "moco": (
        {
            "state_dict": under("module.base_encoder.", STATE)
            | under("module.momentum_encoder.", EMA)
            | {"module.predictor.0.weight": torch.ones(2, 2)}
        },
        "state_dict.module.base_encoder",
    ),
    "flat ema": (under("ema.", EMA) | STATE, "the whole file"),
    "head outside": (
        {
            **{f"encoder.{k}": t for k, t in STATE.items() if not k.startswith("head.")},
            **{f"classifier.{k[5:]}": t for k, t in STATE.items() if k.startswith("head.")},
        },
        "the whole file",
    ),
    "mask token": (STATE | {"mask_token": torch.zeros(1, 16)}, "the whole file"),
    "mae": (
        STATE | {"decoder_embed.weight": torch.ones(3), "decoder_pos_embed": EMA["pos_embed"]},
        "the whole file",
    ),
    "hugging face": (hugging_face(STATE), "the whole file"),
    "wrapped hugging face": ({"model": under("module.", hugging_face(STATE))}, "model"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_answers_as_the_network_that_it_was_made_of(kind, tmp_path):
    content, part = CHECKPOINTS[kind]
    assert take(tmp_path, content)["part"] == part
    check(tmp_path, network())


WORDS = ("module.", "model.", "backbone.", "_orig_mod.", "encoder.", "vit.", "net.", "student.")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=5))
def test_names_begin_with_anything_in_any_order(words):
    folder = Path(SCRATCH)
    take(folder, {"model": under("".join(words), STATE)})
    found = load_file(folder / "ours.safetensors")
    assert found.keys() == {f"backbone.{key}" for key in STATE}
    assert all(torch.equal(found[f"backbone.{key}"], tensor) for key, tensor in STATE.items())


@pytest.fixture(autouse=True, scope="module")
def scratch(tmp_path_factory):
    global SCRATCH
    SCRATCH = tmp_path_factory.mktemp("foreign")


SCRATCH = Path()


def test_what_was_read_is_said_and_another_part_is_chosen(tmp_path):
    content = {"ema": EMA, "model": STATE, "optimizer": {"state": {0: {"step": 1}}}}
    said = " ".join(told(take(tmp_path, content)))
    assert "keys: ema, model, optimizer: took model; choose another by --part ema." in said
    assert take(tmp_path, content, part="ema")["part"] == "ema"
    check(tmp_path, network(8))
    with pytest.raises(UnknownName, match=r"No part of 'theirs\.pth' is called 'emma'.*'ema'"):
        take(tmp_path, content, part="emma")
    assert "mean [0.4914, 0.4822, 0.4465] and std [0.247, 0.2435, 0.2616]: the" in said
    said = " ".join(told(take(tmp_path, CHECKPOINTS["mask token"][0])))
    assert "Left out, since vit_vanilla has no such part: mask_token." in said
    assert "optimizer" not in " ".join(told(take(tmp_path, STATE)))


def test_numbers_paths_and_dates_beside_weights_are_no_obstacle(tmp_path):
    beside = {
        "best": np.float64(3.2),
        "epoch": np.int64(3),
        "history": np.zeros((2, 3), dtype=np.float32),
        "random": np.random.get_state(),
        "folder": Path("here"),
        "meters": defaultdict(list, {"loss": [0.1]}),
        "date": datetime(2026, 1, 2),
        "optimizer": torch.optim.AdamW(network().parameters()).state_dict(),
    }
    card = take(tmp_path, {"state_dict": STATE} | beside)
    assert (card["part"], card["other parts"]) == ("state_dict", [])
    check(tmp_path, network())


def test_torchvision_names_answer_alike(tmp_path):
    theirs = torchvision.models.VisionTransformer(32, 4, 1, 2, 16, 64, num_classes=10).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    assert take(tmp_path, {"model": theirs.state_dict()})["format"] == "torchvision"
    check(tmp_path, theirs)  # type: ignore[arg-type]


def test_average_pooling_of_mae_is_advised_and_then_answers_alike(tmp_path):
    theirs = network(global_pool="avg")
    with pytest.raises(BadWeights, match=r"Add `--set model\.global_pool=avg`"):
        take(tmp_path, theirs.state_dict())
    take(tmp_path, theirs.state_dict(), settings={"global_pool": "avg"})
    check(tmp_path, theirs, global_pool="avg")


def test_a_backbone_without_a_head_gets_a_new_one_where_it_is_asked_for(tmp_path):
    state = {key: tensor for key, tensor in STATE.items() if not key.startswith("head.")}
    dino = {"teacher": under("backbone.", state) | {"head.mlp.0.weight": torch.ones(3, 3)}}
    with pytest.raises(BadWeights, match=r"backbone without a linear head.*Add `--new-head`"):
        take(tmp_path, dino)
    card = take(tmp_path, dino, new_head=True)
    assert card["new head"]
    assert any("head is drawn" in line for line in told(card))
    found = load("vit_vanilla", TINY, (), str(tmp_path / "ours.safetensors"), CPU).model.vit
    drawn = load("vit_vanilla", TINY, (), "init", CPU).model.vit
    assert torch.equal(found.heads[0].weight, drawn.heads[0].weight)
    assert torch.equal(found.positions, STATE["pos_embed"])


@pytest.mark.parametrize("columns", ["1:11", "1,2:10,10", "FILE"])
def test_some_classes_of_a_larger_head_are_taken(columns, tmp_path):
    theirs = network(num_classes=11)
    with pytest.raises(BadWeights, match=r"11 classes in the file, 10 in.*`--columns 1:11`"):
        take(tmp_path, theirs.state_dict())
    if columns == "FILE":
        columns = str(tmp_path / "classes.txt")
        Path(columns).write_text("\n".join(map(str, range(1, 11))))
    assert take(tmp_path, theirs.state_dict(), columns=columns)["columns"]
    found = load("vit_vanilla", TINY, (), str(tmp_path / "ours.safetensors"), CPU).model.vit
    images = torch.rand(1, 3, 32, 32)
    expected = theirs((images - found.mean) / found.std)[:, 1:]
    assert torch.allclose(found(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("1:5", "names 4 classes, and the model has 10"),
        ("0:9,99", "knows classes 0 to 10"),
        ("nix", "reads numbers and ranges"),
        ("5:1", "is no range"),
        ("0:99999999999999", "is no range"),
    ],
)
def test_columns_that_are_none_are_refused(columns, says, tmp_path):
    with pytest.raises(BadSetting, match=says):
        take(tmp_path, network(num_classes=11).state_dict(), columns=columns)


def test_chunked_blocks_and_registers_of_dinov2_answer_alike(tmp_path):
    theirs = timm.create_model(
        "vit_small_patch14_reg4_dinov2", img_size=28, depth=2, embed_dim=64, num_heads=2
    )
    state = {
        f"blocks.0.{k[7:]}" if k.startswith("blocks.") else k: t
        for k, t in theirs.state_dict().items()
    }
    row = torch.randn(1, 1, 64)
    state |= {
        "register_tokens": state.pop("reg_token"),
        "pos_embed": torch.cat([row, state["pos_embed"]], dim=1),
        "cls_token": state["cls_token"] - row,
        "mask_token": torch.zeros(1, 64),
    }
    torch.save(state, tmp_path / "theirs.pth")
    named = choose(tmp_path / "theirs.pth").found
    vit = wrap(theirs, (0.5,) * 3, (0.5,) * 3)
    found = rename(named, vit.state_dict())
    tensors = merge_class_row(vit, found.tensors)
    assert found.left_out == ["mask_token"]
    assert tensors.keys() == vit.state_dict().keys()
    for key, tensor in vit.state_dict().items():
        assert torch.allclose(tensors[key], tensor, atol=1e-6), key


def test_a_checkpoint_of_another_model_of_timms_names_that_model(tmp_path, monkeypatch, capsys):
    """What --weights says of a plain file is typed, and then what import-weights said."""
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    monkeypatch.chdir(tmp_path)
    save_file(theirs.state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(BadWeights, match="other names") as no:
        load("vit_vanilla", {}, (), "tiny.safetensors", CPU)
    command, then = (shlex.split(one) for one in re.findall(r"`([^`]*)`", str(no.value)))
    assert "timm:vit_tiny_patch16_224" in command
    call = caller(monkeypatch, capsys)
    code, _, err = call(*command[1:])
    assert code == 0, err
    code, _, err = call("run", "--attack", "mean", "--images", 1, "--out", "o", *then)
    assert code == 0, err
