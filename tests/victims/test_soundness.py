"""What timm says of its models is checked on shapes alone: each is wrapped right, or refused."""

import re
import resource
import subprocess
import sys

import pytest
import timm
import torch
import yaml

from privbench.errors import BadSetting, PrivbenchError, UnknownName, UnsupportedModel
from privbench.victims import memory
from privbench.victims.backbone import build, of_timm, sketch
from privbench.victims.classifier import open_classifier
from privbench.victims.load import load
from privbench.victims.preset import model_preset
from tests.conftest import CPU

MODULES = ("beit", "deit", "eva", "vision_transformer", "vision_transformer_hybrid", "cait")
SAMPLE = (
    "cait_xxs24_224",
    "deit_tiny_distilled_patch16_224",
    "eva02_tiny_patch14_224",
    "naflexvit_base_patch16_gap",
    "test_vit2",
    "vit_base_mci_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "vit_tiny_r_s16_p8_224",
)
ADVICE = re.compile(r"--set model\.(\w+)=([\w.]+?)[`.]*(?:\s|$)")
STEPS = 4
"""Advice is followed so often at most."""


def everything() -> list[str]:
    return [name for module in MODULES for name in timm.list_models(module=module)]


def outcome(name: str, settings: dict) -> PrivbenchError | None:
    try:
        vit = sketch(model_preset(name), name, settings)
    except PrivbenchError as error:
        return error
    before = vit.tokens_before
    assert vit.positions.shape[1] - vit.grid**2 in (0, before)
    assert vit.patch * vit.grid == vit.side
    assert vit.backbone.patch_embed.proj.weight[0].numel() == 3 * vit.patch**2
    assert vit.heads[0].out_features == vit.classes > 0
    return None


def settled(name: str, first: dict | None = None) -> tuple[dict, PrivbenchError | None]:
    """Follow what the refusals advise until there is a victim, or no more such advice."""
    settings: dict = dict(first or {})
    error: PrivbenchError | None = None
    for _ in range(STEPS):
        error = outcome(name, settings)
        if error is None or not (advice := ADVICE.findall(str(error))):
            return settings, error
        assert re.fullmatch(r"(?!.*\. [A-Z].*\. [A-Z].*\. ).*\.", str(error)), "two sentences"
        settings |= {key: yaml.safe_load(value) for key, value in advice}
    raise AssertionError(f"advice for {name} leads nowhere: {error}")


def check(name: str) -> None:
    settings, error = settled(f"timm:{name}")
    convolutions = ("_r_", "_r26_", "_r50_", "resnet", "mci", "naflex", "cait")
    assert (error is not None) == any(part in name for part in convolutions), error
    if error is not None:
        assert isinstance(error, UnsupportedModel)
        return
    with torch.device("meta"):
        network = of_timm(name, settings)
    assert sketch(model_preset(f"timm:{name}"), name, settings).classes == network.num_classes


@pytest.mark.parametrize("name", SAMPLE)
def test_a_vision_transformer_of_timm_is_wrapped_right_or_refused_in_a_sentence(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*everything()} - {*SAMPLE}))
def test_all_vision_transformers_of_timm_are_wrapped_right_or_refused(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", everything())
def test_a_short_version_of_each_answers_as_timms_own(name):
    settings, error = settled(f"timm:{name}")
    if error is not None:
        pytest.skip(str(error))
    preset = model_preset(f"timm:{name}")
    side = 2 * sketch(preset, name, settings).patch
    short = settings | {"img_size": side, "num_classes": 3}
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patch:
        create = timm.create_model
        patch.setattr(timm, "create_model", lambda *a, **k: create(*a, **{"depth": 1} | k))
        try:
            vit = build(preset, name, short, seed=0).eval()
        except BadSetting as error:  # a list with an entry for each block has no short version
            pytest.skip(str(error))
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        assert torch.allclose(vit(images), vit.backbone((images - vit.mean) / vit.std), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:vit_tiny_r_s16_p8_224", "is a hybrid: convolutions stand before its patches"),
        ("timm:cait_xxs24_224", "it can be measured"),
        ("timm:vit_base_patch16_sapiens2", "takes pictures of 1024 x 768 px"),
        ("timm:naflexvit_base_patch16_gap", "is of no family whose parts attacks know"),
    ],
)
def test_reasons_are_true(name, says):
    assert says in str(outcome(name, {}))


def test_a_tag_names_published_weights():
    vit = sketch(model_preset(name := "timm:vit_tiny_patch16_224.augreg_in21k"), name, {})
    assert (vit.classes, vit.side) == (21843, 224)
    with pytest.raises(UnknownName, match=r"Did you mean 'vit_tiny_patch16_224\.augreg_in21k'"):
        of_timm("vit_tiny_patch16_224.augreg_in22k", {})


def test_what_cannot_be_attacked_is_measured_with_its_settings():
    found = open_classifier("timm:cait_xxs24_224", {"num_classes": 7, "std": [1, 1, 1]}, None, CPU)
    assert (found.classes, found.network(torch.rand(1, 3, 224, 224)).shape) == (7, (1, 7))
    assert "num_classes=7" in found.part.label
    with pytest.raises(UnknownName, match="can be measured only is called 'scheme'"):
        open_classifier("timm:cait_xxs24_224", {"scheme": "mjp"}, None, CPU)
    with pytest.raises(BadSetting, match="whole number from 1"):
        open_classifier("timm:cait_xxs24_224", {"num_classes": 0}, None, CPU)


def test_a_model_beyond_the_memory_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 10**8)
    monkeypatch.setattr(memory, "SMALLER", ("vit_small", "vit_tiny"))
    with pytest.raises(BadSetting, match=r"parameters and needs [\d.]+ GB .* 0\.1 GB are free"):
        load("timm:vit_base_patch16_224", {}, (), "init", CPU)
    said = r"has \d+ million parameters and needs [\d.]+ GB for its weights, .*timm:vit_small_patch"
    with pytest.raises(BadSetting, match=said):
        open_classifier("timm:vit_base_patch16_224", {}, "init", CPU)
    with pytest.raises(BadSetting, match=r"such as timm:vit_small_patch16_224"):
        open_classifier("timm:resnet50", {}, "init", CPU)
    monkeypatch.setattr(memory, "free", lambda: 10**6)
    with pytest.raises(BadSetting, match="Free some memory, or use"):
        load("vit_vanilla", {"num_classes": 10**6, "depth": 1}, (), "init", CPU)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"depth": 10**7, "embed_dim": 4}, "10000000 blocks of width 4 need"),
        ({"embed_dim": 4 * 10**6}, "6 blocks of width 4000000 need"),
        ({"img_size": 4 * 10**5}, "million parameters and needs"),
        ({"num_classes": 10**12}, "million parameters and needs"),
    ],
    ids=str,
)
def test_a_size_beyond_any_memory_is_refused_at_once(settings, says):
    with pytest.raises(BadSetting, match=says):
        load("vit_vanilla", settings, (), "init", CPU)


def test_a_picture_smaller_than_a_patch_is_refused_with_a_size_that_works():
    settings, error = settled("timm:vit_tiny_patch16_224", {"img_size": 8})
    assert (settings, error) == ({"img_size": 16}, None)


def test_limits_of_groups_and_processes_count(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    monkeypatch.setattr(memory, "_groups", lambda: [tmp_path / "none", tmp_path])
    assert memory.free() == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free() > 10**6


@pytest.mark.slow
def test_a_model_of_seven_billion_under_a_limit_is_a_sentence(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))

    words = "run --attack pe_ls --model timm:vit_7b_patch16_dinov3 --set model.num_classes=10"
    found = subprocess.run(
        [sys.executable, "-m", "privbench", *words.split(), "--weights", "init"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        preexec_fn=limit,
        check=False,
    )
    said = " ".join(found.stderr.split())
    assert found.returncode == 2, said
    assert re.search(r"has 67\d\d million parameters and needs 8\d\.\d GB for weights and", said)
    assert "Traceback" not in said
