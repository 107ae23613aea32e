"""Weights that come from elsewhere: they arrive whole, or one sentence says why not."""

import argparse
import json
import logging
import pickle
import random
import re
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

from privbench.defenses.mjp import MaskedJigsaw
from privbench.errors import BadSetting, BadWeights, UnknownName
from privbench.victims import cards
from privbench.victims.import_checkpoint import import_weights
from privbench.victims.load import load
from privbench.victims.preset import Preset, model_preset
from privbench.victims.weights import fill, label, published
from privbench.vit import ViT

CPU = torch.device("cpu")
TINY = {"depth": 1, "embed_dim": 16, "num_heads": 2}
SHAPE: dict[str, Any] = {"img_size": 32, "patch_size": 4, "num_classes": 10, **TINY}
F64 = torch.float64


def backbone(seed: int = 7, **changes: Any) -> VisionTransformer:
    """timm's own model in the tiny shape, with weights and biases that all matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(**SHAPE | changes).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def plain(**changes: Any) -> dict:
    return backbone().state_dict() | changes


def released(state: dict, layers: str = "nonlinear") -> dict:
    """A state dict in the layout of MJP's released code, made of timm's."""
    width = state["pos_embed"].shape[-1]
    found = {key: tensor for key, tensor in state.items() if key != "pos_embed"}
    found["pos_embed.weight"] = torch.cat([state["pos_embed"][0], torch.full((1, width), 0.5)])
    sizes = {"nonlinear": {"0.": width, "2.": 2}, "linear": {"": 2}, "none": {}}[layers]
    for at, size in sizes.items():
        found[f"dlocr.layers.{at}weight"] = torch.randn(size, width)
        found[f"dlocr.layers.{at}bias"] = torch.randn(size)
    return found


def saved(folder: Path, content: object, **options: Any) -> Path:
    torch.save(content, folder / "foreign.pth", **options)
    return folder / "foreign.pth"


def take(file: Path, model: str = "vit_vanilla", **settings: object) -> dict:
    return import_weights(file, model, file.parent / "out.safetensors", TINY | settings)


def refused(file: Path, words: str, model: str = "vit_vanilla") -> None:
    """One or two sentences, and nothing is written."""
    with pytest.raises(BadWeights, match=words) as caught:
        take(file, model)
    assert re.fullmatch(r"(?!.*\. .*\. ).*\.", str(caught.value)), "one line, two sentences"
    assert not (file.parent / "out.safetensors").exists()


@torch.no_grad()
def check(folder: Path, victim: str = "vit_vanilla", atol: float = 1e-5, **settings: Any) -> None:
    """The imported file gives the logits of timm's model on pictures, normalized."""
    found = load(victim, TINY | settings, (), str(folder / "out.safetensors"), CPU).model
    images, preset = torch.rand(2, 3, 32, 32), model_preset(victim)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preset.mean, preset.std))
    expected = backbone()((images - mean) / std)
    assert torch.allclose(found.logits(images, None), expected, atol=atol)


WRAPPED = {
    "plain": (lambda state: state, "the whole file"),
    "model": (lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {}}}, "model"),
    "state_dict": (lambda state: {"state_dict": state}, "state_dict"),
    "ema": (lambda state: {"model_ema": state, "epoch": 3}, "model_ema"),
    "both": (lambda state: {"model_ema": backbone(1).state_dict(), "model": state}, "model"),
    "module": (lambda state: {f"module.{k}": t for k, t in state.items()}, "the whole file"),
    "options": (lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)}, "model"),
    "ours": (lambda state: {f"backbone.{k}": t for k, t in state.items()}, "the whole file"),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_timm_checkpoint_answers_as_before(wrapping, zipped, tmp_path):
    wrap, part = WRAPPED[wrapping]
    card = take(saved(tmp_path, wrap(plain()), _use_new_zipfile_serialization=zipped))
    check(tmp_path)
    assert (card["part"], card["format"]) == (part, "privbench" if wrapping == "ours" else "timm")


def test_the_card_says_where_the_weights_come_from(tmp_path):
    both = torch.randn(16)  # safetensors has no two names for one memory
    state = plain(**{"norm.weight": both, "norm.bias": both})
    card, out = take(saved(tmp_path, {"model": state})), tmp_path / "out.safetensors"
    assert cards.card(out) == card == json.loads(out.with_suffix(".json").read_text())
    assert (card["model"], card["source"]) == ("vit_vanilla", "foreign.pth")
    assert (card["settings"]["depth"], card["tensors"]) == (1, len(load_file(out)))
    assert len(card["source sha256"]) == 64
    assert str(tmp_path) not in out.with_suffix(".json").read_text()
    assert load("vit_vanilla", TINY, (), str(out), CPU).weights_sha256 == card["weights sha256"]
    assert {file.name for file in tmp_path.iterdir()} == {"foreign.pth", "out.json", out.name}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, F64])
def test_safetensors_are_known_by_content_and_only_float64_changes(kind, tmp_path):
    save_file({key: tensor.to(kind) for key, tensor in plain().items()}, tmp_path / "model.bin")
    take(tmp_path / "model.bin")
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "out.safetensors").values()}
    assert kinds == {torch.float32 if kind == F64 else kind}
    check(tmp_path, atol=1e-5 if torch.float32 in kinds else 0.1)


@pytest.mark.parametrize(("head", "last"), [("nonlinear", "2."), ("linear", ""), ("none", None)])
def test_a_released_mjp_checkpoint_arrives_with_its_unknown_embedding(head, last, tmp_path):
    state = released(plain(), head)
    card = take(saved(tmp_path, {"model": state}), "vit_mjp", localization=head)
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found[ViT.POSITIONS], plain()["pos_embed"])
    assert torch.equal(found[MaskedJigsaw.UNKNOWN], torch.full((1, 16), 0.5))
    for key in ("weight", "bias") if last is not None else ():
        tensor = found[f"{MaskedJigsaw.LOCALIZER}.{last or '0.'}{key}"]
        assert torch.equal(tensor, state[f"dlocr.layers.{last}{key}"])
    check(tmp_path, "vit_mjp", localization=head)
    assert card["format"] == "MJP's released code"


def test_options_of_yacs_are_read_without_yacs(tmp_path, monkeypatch):
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    options = node(lr=0.1, MODEL=node(NAME="vit"))
    options.__dict__["__immutable__"] = True
    with monkeypatch.context() as patch:
        module = ModuleType("yacs.config")
        module.CfgNode = node  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "yacs", ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", module)
        file = saved(tmp_path, {"model": released(plain()), "config": options})
    assert take(file, "vit_mjp")["part"] == "model"


BARE = r"5 tensors differ, first unknown_embed \(missing in the file.* It fits .*vit_vanilla"
HEADLESS = r"first localizer.0.weight \(missing in the file.* It fits vit_mjp_unlocalized, vit_unk"
NOT_FITTING = {
    "plain into vit_mjp": (plain(), BARE),
    "headless into vit_mjp": (released(plain(), "none"), HEADLESS),
    "distilled": (plain(dist_token=torch.zeros(1, 1, 16)), "vit_vanilla has no distillation token"),
    "mjp": (released(plain()), r"vit_vanilla: 5 tensors differ, first unknown_embed \(1x16 in the"),
    "mjp, advice": (released(plain()), "It fits vit_mjp, vit_mjp_uniform"),
    "deeper": (backbone(depth=2).state_dict(), r"blocks.1\S+ \(16 in the file, no such tensor in"),
    "classes": (plain(**{"head.bias": torch.zeros(11)}), "1 tensors differ, first backbone.head.b"),
    "nothing known": ({"a": torch.zeros(2)}, "Choose the model that it was made for"),
    "no weights": ({"epoch": 3, "optimizer": {}}, "holds no state dict .* it holds epoch, optimiz"),
    "list": ([1, 2], "it holds list"),
    "nan": (plain(**{"head.bias": torch.full((10,), float("nan"))}), "head.bias has values that"),
    "float64": (plain(**{"head.bias": torch.full((10,), 1e300, dtype=F64)}), "are infinite or no"),
    "sparse": (plain(**{"head.bias": torch.zeros(10).to_sparse()}), "is no plain tensor of float"),
    "complex": (plain(**{"head.bias": torch.zeros(10) + 0j}), "is no plain tensor of floating-poi"),
}


@pytest.mark.parametrize("kind", NOT_FITTING)
def test_what_does_not_fit_is_refused(kind, tmp_path):
    content, words = NOT_FITTING[kind]
    refused(saved(tmp_path, content), words, "vit_mjp" if "into" in kind else "vit_vanilla")


@pytest.mark.parametrize("model", ["vit_nope", "vit_sincos"])
def test_learned_positions_do_not_slip_into_a_victim_without(model, tmp_path):
    file, words = saved(tmp_path, plain()), "not the fixed values that the model has there"
    refused(file, words + ".* It fits .*vit_vanilla", model)
    take(file)
    with pytest.raises(BadWeights, match=words):
        load(model, TINY, (), str(tmp_path / "out.safetensors"), CPU)
    own = load(model, TINY, (), "init", CPU).model.vit.state_dict()
    for kind in (torch.float16, torch.bfloat16):  # rounding is no difference
        save_file({key: t.to(kind) for key, t in own.items()}, tmp_path / "own.safetensors")
        load(model, TINY, (), str(tmp_path / "own.safetensors"), CPU)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("way", ["zip", "old", "pickle"])
def test_pickled_code_is_refused_and_never_runs(way, protocol, tmp_path):
    made, file = tmp_path / "made", tmp_path / "foreign.pth"
    code = type("Code", (), {"__reduce__": lambda _: (Path.touch, (made,))})()
    if way == "pickle":
        file.write_bytes(pickle.dumps(code, protocol=protocol))
    else:
        options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": way == "zip"}
        saved(tmp_path, {"model": plain(), "config": code}, **options)
    usual = way != "pickle" and protocol == 2
    refused(file, r"more than tensors \(\S+\), which could run code" if usual else "Where|damaged")
    assert not made.exists()
    pickle.loads(pickle.dumps(code, protocol=protocol))
    assert made.exists(), "the code is real"


BROKEN = {
    "empty": (b"", "is empty"),
    "text": (b"these are no weights at all\n", "no checkpoint of tensors, or a damaged one"),
    "torn zip": (b"PK\x03\x04 torn", "no checkpoint of tensors, or a damaged one"),
    "torn pickle": (b"\x80\x02}q\x00(X", "no checkpoint of tensors, or a damaged one"),
    "torn safetensors": (b"\x90\x00\x00\x00\x00\x00\x00\x00{torn", "cannot be read"),
    "huge header": (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", "cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_checkpoint_is_refused_and_has_no_card(kind, tmp_path):
    content, words = BROKEN[kind]
    (tmp_path / "broken").write_bytes(content)
    refused(tmp_path / "broken", words)
    refused(tmp_path, "is a folder")
    refused(tmp_path / "nowhere", "There is no file")
    assert all(cards.card(tmp_path / place) is None for place in ("broken", ".", "nowhere"))


def test_half_a_file_is_refused_and_a_flipped_byte_is_no_crash(tmp_path):
    whole = saved(tmp_path, plain()).read_bytes()
    dice, file = random.Random(0), tmp_path / "torn.pth"
    for _ in range(20):
        file.write_bytes(whole[: dice.randrange(1, len(whole) - 1)])
        refused(file, "no checkpoint of tensors|cannot be read")
    for _ in range(20):
        at = dice.randrange(len(whole))
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with suppress(BadWeights):
            take(file)


def test_an_unknown_model_or_a_bad_out_is_refused(tmp_path):
    file = saved(tmp_path, plain())
    with pytest.raises(UnknownName, match="Did you mean 'vit_vanilla'"):
        take(file, "vit_vanila")
    with pytest.raises(BadSetting, match=r"--out names a \.safetensors file"):
        import_weights(file, "vit_vanilla", tmp_path / "out.json", TINY)
    file = file.rename(tmp_path / "out.safetensors")
    with pytest.raises(BadSetting, match="is the file itself"):
        take(file)


@pytest.mark.parametrize("name", ["timm:deit_tiny_patch16_224", "vit_vanilla_small"])
def test_pretrained_weights_are_timms(name, monkeypatch):
    real, given = timm.create_model, {}

    def create(name, pretrained=False):
        model = given[name, pretrained] = real(name, pretrained=False).eval()
        for parameter in model.parameters() if pretrained else ():
            torch.nn.init.normal_(parameter, std=0.05)
        return model

    monkeypatch.setattr(timm, "create_model", create)
    state = torch.random.get_rng_state()
    found = load(name, {}, (), "pretrained", CPU)
    assert torch.equal(torch.random.get_rng_state(), state), "the dice are as they were"
    assert found.weights == "pretrained"
    model = given[found.preset.timm or found.preset.pretrained, True]
    mean, std = (torch.tensor(model.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    images = torch.rand(2, 3, 224, 224)
    expected = model((images - mean) / std)
    assert torch.allclose(found.model.vit(images), expected, atol=1e-4)
    if not name.startswith("timm:"):
        with pytest.raises(BadWeights, match=rf"do not fit {name} as it is set: \d+ tensors"):
            load(name, {"depth": 1}, (), "pretrained", CPU)


def test_victims_without_published_weights_say_who_has_them(monkeypatch, victim):
    monkeypatch.setattr(timm, "create_model", None)
    words = "no pretrained weights for vit_mjp, only for timm:NAME and .*vit_vanilla_small"
    with pytest.raises(BadWeights, match=words):
        load("vit_mjp", TINY, (), "pretrained", CPU)
    preset = Preset(summary="", timm="vit_base_patch16_18x2_224")
    with pytest.raises(BadWeights, match="timm publishes no weights for vit_base_patch16_18x2_224"):
        fill(victim("vit_vanilla").model.vit, "timm:any", preset, "pretrained")


def test_without_a_network_there_is_a_sentence_at_once(monkeypatch, tmp_path, capfd, caplog):
    def unreachable(*_, **__):
        raise OSError("Network is unreachable")

    for name in ("getaddrinfo", "create_connection", "socket.connect"):
        monkeypatch.setattr(f"socket.{name}", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(BadWeights, match=r"could not be fetched from http\S+ \(\w+\)\. Try again"):
        published("test_vit")
    assert time.perf_counter() - start < 10
    assert (*capfd.readouterr(), caplog.records) == ("", "", [])


def test_a_download_prints_nothing_and_logging_is_as_before(monkeypatch, capfd, caplog):
    def create(name, pretrained):
        logging.getLogger("huggingface_hub").error("Retrying in 1s")
        warnings.warn("unauthenticated", stacklevel=1)
        raise RuntimeError(f"{name} is not there")

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("privbench.victims.weights.get_session", Mock())
    with pytest.raises(BadWeights, match="RuntimeError"):
        published("test_vit")
    assert (*capfd.readouterr(), caplog.records) == ("", "", [])
    logging.getLogger("huggingface_hub").error("heard")
    assert len(caplog.records) == 1


def test_bundled_weights_are_found_and_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(cards, "files", lambda _: tmp_path)
    assert cards.bundled("vit_vanilla") is None
    with pytest.raises(BadWeights, match="No trained weights come with vit_vanilla yet"):
        load("vit_vanilla", TINY, (), "trained", CPU)
    path = tmp_path / "weights" / "vit_vanilla.safetensors"
    import_weights(saved(tmp_path, plain()), "vit_vanilla", path, TINY)
    assert (cards.bundled("vit_vanilla"), cards.bundled("vit_nope")) == (path, None)
    victim = load("vit_vanilla", TINY, (), "trained", CPU)
    assert victim.weights == label("trained") == "trained"
    assert label("some/where/mine.safetensors") == "mine.safetensors"
    assert torch.equal(victim.model.vit.positions, plain()["pos_embed"])


def test_a_card_is_read_without_torch_or_there_is_none(tmp_path):
    path, tensors = tmp_path / "a.safetensors", {"a": torch.zeros(2, dtype=torch.bfloat16)}
    for text in ("torn {", "[1]", "[" * 100_000, "null", None):
        save_file(tensors, path, {"card": text} if text else None)
        assert cards.card(path) is None
    save_file(tensors, path, {"card": '{"model": "vit_mjp"}'})
    assert cards.card(path) == {"model": "vit_mjp"}
    program = f"import sys; from pathlib import Path; from privbench.victims.cards import *; \
bundled('vit_mjp'); assert card(Path({str(path)!r})); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
