"""Suites, presets and --set: whatever YAML holds, a run is planned or refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from privbench.running.plan import plan
from privbench.running.suite import Suite
from privbench.training.recipe import Recipe
from privbench.utility.plan import Request, plan_passes
from privbench.victims import preset as presets
from privbench.victims.load import known_settings, load
from privbench.victims.preset import model_preset
from tests.fuzz.civil import BOMB, NASTY, civil, sizes, trees

CPU = torch.device("cpu")
BASE: dict[str, Any] = {
    "attack": ["mean", "pe_ls"],
    "model": [{"name": "vit_mjp", "settings": {"depth": 1}}],
    "defense": "clip+noise",
    "dataset": "cifar10",
    "images": 2,
    "batch_size": 1,
    "seed": 0,
    "weights": "init",
    "set": ["defense.sigma=0.1"],
}
MODELS = Path(__file__).parents[2] / "configs" / "models"
SMALL = {"depth", "embed_dim", "img_size", "num_classes", "num_heads", "patch_size"}
SETTINGS = (
    "attack.threshold",
    "attack.pe_ls.threshold",
    "attack.x",
    "attack.",
    "dataset.root",
    "dataset.split",
    "defense.sigma",
    "defense.clip.bound",
    "model.ratio",
    "model.sampler",
    "model.dropout",
    "model.first_block",
    "model.position_std",
    "model.init_seed",
    "threat.knows",
    "threat.local_rate",
    "threat.pictures",
    "threat.rounds",
    "threat.server",
    "x",
)
EVAL_SETTINGS = ("eval.ratios", "eval.draws", "dataset.split", "model.ratio", "eval.x")
values = st.sampled_from(NASTY) | trees.map(str) | st.text(max_size=30)


@st.composite
def documents(draw: st.DrawFn, base: Any) -> str:
    """Draw YAML: a good document with one or two fields replaced, cut short, or anything."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(values)
    content = dict(base)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from([*base, "extra"]))
        content[key] = draw(trees)
    text = yaml.safe_dump(content, allow_unicode=True)
    if kind == 1:
        return text[: draw(st.integers(0, len(text)))]
    if kind == 2:
        key = draw(st.sampled_from(list(base)))
        return (
            yaml.safe_dump({k: v for k, v in base.items() if k != key}) + f"{key}: {draw(values)}"
        )
    return text


def planned(suite: Suite) -> object:
    with torch.no_grad():
        return plan(suite, CPU)


@sizes
def test_any_suite_is_planned_or_refused(inputs: settings, tmp_path: Path):
    file = tmp_path / "fuzz.yaml"

    @inputs
    @seed(1)
    @given(text=documents(BASE))
    @example(text=BOMB)
    @example(text=f"attack: mean\nmodel: {BOMB}\n")
    @example(text=f"attack: mean\nmodel: vit_vanilla\nseed: {BOMB}\n")
    @example(text="attack: mean\nmodel: [{name: vit_mjp, settings: {ratio: &a [*a]}}]\n")
    @example(text="attack: mean\nmodel: [{name: vit_mjp, settings: &a {ratio: *a}}]\n")
    @example(text="[" * 3000)
    @example(text="attack: 2001-99-99")
    @example(text="attack: ._")
    @example(text="attack: " + "9" * 5000)
    def check(text: str) -> None:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        before = file.read_bytes()
        civil(lambda: planned(Suite.build({}, str(file))))
        assert file.read_bytes() == before

    check()


@sizes
def test_any_assignment_is_taken_or_refused(inputs: settings):
    @inputs
    @seed(2)
    @given(
        key=st.sampled_from(SETTINGS) | st.text(max_size=12),
        value=values,
        join=st.sampled_from("= :"),
    )
    @example(key="threat.knows", value=BOMB, join="=")
    @example(key="model.ratio", value=BOMB, join="=")
    @example(key="model.ratio", value="&a [*a]", join="=")
    @example(key="defense.sigma", value="9" * 5000, join="=")
    @example(key="dataset.root", value='"\\0"', join="=")
    @example(key="dataset.root", value="x" * 5000, join="=")
    @example(key="model.dropout", value="x" * 5000, join="=")
    @example(key="x\ny", value="1", join=" ")
    def check(key: str, value: str, join: str) -> None:
        changed = {**BASE, "set": [f"{key}{join}{value}"]}
        civil(lambda: planned(Suite.build(changed)))

    check()


@sizes
def test_any_assignment_of_an_evaluation_is_taken_or_refused(inputs: settings):
    @inputs
    @seed(3)
    @given(key=st.sampled_from(EVAL_SETTINGS), value=values)
    def check(key: str, value: str) -> None:
        request = Request(["vit_mjp"], assignments=["model.depth=1", f"{key}={value}"], images=2)
        civil(lambda: plan_passes(request, CPU))

    check()


PRESETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(MODELS.glob("*.yaml"))}
TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1}
FIELDS: dict[str, Any] = {
    **PRESETS["vit_vanilla"],
    "architecture": {**TINY, "num_classes": 10},
    "scheme": "mjp",
    "settings": {"ratio": 0.3},
    "recipe": Recipe().model_dump(),
    "like": "vit_mjp",
    "timm": "vit_tiny_patch16_224",
    "position_std": 0.1,
    "init_seed": 0,
}


@sizes
def test_any_preset_is_a_victim_or_refused(
    inputs: settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, content in PRESETS.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(presets, "files", lambda _: tmp_path)

    @inputs
    @seed(4)
    @given(text=documents({k: v for k, v in FIELDS.items() if k not in ("like", "timm")}))
    @example(text="like: broken")
    @example(text="like: [vit_mjp]")
    @example(text="[1, 2]")
    @example(text="")
    @example(text=BOMB)
    @example(text="summary: x\nscheme: [none]")
    @example(text="summary: x\narchitecture: {depth: 1}")
    @example(text="summary: x\narchitecture: {depth: 1, embed_dim: 1.5}")
    def check(text: str) -> None:
        (tmp_path / "broken.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        preset = civil(lambda: model_preset("broken"))
        if isinstance(preset, presets.Preset):
            civil(lambda: known_settings(preset))
            if all(value <= 64 for value in preset.architecture.values()) and not preset.timm:
                civil(lambda: load("broken", {}, (), "init", CPU))

    check()


def test_what_the_inputs_are_drawn_around_is_good():
    assert planned(Suite.build(BASE))
    assert plan_passes(Request(["vit_mjp"], assignments=["model.depth=1"], images=2), CPU)
