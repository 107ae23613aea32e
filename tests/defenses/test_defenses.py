"""Promises that every defense keeps; a new file on the shelf is held to them unasked."""

from dataclasses import replace

import pytest
import torch

from privbench.component import find, make, names
from privbench.defense import HOOKS, Defense
from privbench.errors import BadSetting, UnknownName
from privbench.patches import cut
from privbench.running.client import share
from privbench.stack import Stack
from privbench.threat import ThreatModel, Update
from privbench.vit import ViT

DEFENSES = names("defenses")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def update(seed=0, **shapes):
    shapes = shapes or {"a": (3, 4, 5), "b": (40,), "c": (1,), "d": (), "e": (12, 12)}
    dice = rng(seed)
    return Update({name: torch.randn(shape, generator=dice) for name, shape in shapes.items()})


def protect(name, before, seed=0, **settings):
    return make(Defense, name, settings).protect(before, rng(seed))


def rms(tensor):
    return tensor.square().mean().sqrt()


@pytest.mark.parametrize("name", DEFENSES)
def test_defaults_suffice_and_the_docstring_fits_a_line(name):
    make(Defense, name, {})
    assert 0 < len((find(Defense, name).__doc__ or "").splitlines()[0]) <= 100


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_update_keeps_its_names_and_shapes_but_for_what_is_withheld(
    name, batch, victim, shared
):
    subject = victim("vit_vanilla", name)
    seen, _ = shared(subject, batch)
    trained = subject.model.vit.trained()
    assert seen.update.tensors.keys() == trained.keys() - seen.update.withheld
    assert seen.update.tensors.keys() == subject.shared()
    for key, tensor in seen.update.tensors.items():
        assert tensor.shape == trained[key].shape
        assert tensor.dtype == trained[key].dtype
        assert tensor.isfinite().all()


PROTECTING = [n for n in DEFENSES if find(Defense, n).protect is not Defense.protect]
"""Only of a defense that changes updates does it mean anything that the given one stays."""


def untouched(defense):
    """Whether a defense leaves a given update as it was, and shares another one."""
    before = update()
    copies = {key: tensor.clone() for key, tensor in before.tensors.items()}
    after = defense.protect(before, rng())
    assert any(not torch.equal(after.tensors[key], copy) for key, copy in copies.items())
    return before.tensors.keys() == copies.keys() and all(
        torch.equal(before.tensors[key], copy) for key, copy in copies.items()
    )


@pytest.mark.parametrize("name", PROTECTING)
def test_the_tensors_that_it_was_given_stay_as_they_were(name):
    assert untouched(make(Defense, name, {}))


class InPlace(Defense):
    """Writes into the tensors that it is given."""

    def protect(self, update: Update, rng: torch.Generator) -> Update:
        for tensor in update.tensors.values():
            tensor.zero_()
        return update


def test_a_defense_that_writes_into_given_tensors_is_found_out():
    assert len(PROTECTING) >= 4
    assert not untouched(InPlace())


@pytest.mark.parametrize("name", DEFENSES)
def test_the_pictures_stay_as_they_were(name, victim, pictures):
    images, labels = pictures(2)
    before = images.clone()
    share(victim("vit_vanilla", name), images, labels, ThreatModel(batch_size=2), (0,))
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", DEFENSES)
def test_same_seed_same_bits(name, victim, shared):
    (one, hidden), (two, other) = (shared(victim("vit_vanilla", name), 2, seed=3) for _ in "ab")
    tensors = two.update.tensors
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in one.update.tensors.items())
    assert torch.equal(hidden.fed, other.fed)


@pytest.mark.parametrize("name", DEFENSES)
def test_the_global_generator_is_left_alone(name, victim, shared):
    subject, state = victim("vit_vanilla", name), torch.get_rng_state()
    shared(subject)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["none", "vanilla"])
def test_no_defense_overrides_no_hook(name, victim, shared):
    kind = find(Defense, name)
    assert all(getattr(kind, hook) is getattr(Defense, hook) for hook in HOOKS)
    seen, secret = shared(victim("vit_vanilla", name), 2)
    plain = seen.model.gradient(secret.images, secret.labels, differentiable=False)
    assert all(torch.equal(tensor, plain[key]) for key, tensor in seen.update.tensors.items())
    assert torch.equal(secret.fed, secret.images)
    assert secret.draw is None


@pytest.mark.parametrize("sigma", [0.01, 0.5])
@pytest.mark.parametrize("relative", [True, False])
def test_noise_has_the_stated_sigma(sigma, relative):
    before = update(a=(300, 300), b=(90_000,))
    before = Update({"a": before.tensors["a"] * 7, "b": before.tensors["b"] / 100})
    after = protect("noise", before, seed=9, sigma=sigma, relative=relative)
    for key, tensor in before.tensors.items():
        noise = after.tensors[key] - tensor
        scale = rms(tensor) if relative else 1.0
        assert rms(noise) == pytest.approx(float(sigma * scale), rel=0.02)
        assert abs(noise.mean()) < 0.02 * sigma * scale
        assert abs((noise * tensor).mean()) < 0.02 * sigma * scale * rms(tensor)


def test_noise_is_fresh_for_every_tensor_and_seed():
    before = Update({key: torch.zeros(50) for key in "ab"})
    one, other = (protect("noise", before, seed, relative=False).tensors for seed in (0, 1))
    assert not torch.equal(one["a"], one["b"])
    assert not torch.equal(one["a"], other["a"])


def total(shared):
    return torch.cat([tensor.flatten() for tensor in shared.tensors.values()]).norm()


def test_clip_gives_exactly_the_bound_in_the_same_direction():
    before = update()
    after = protect("clip", before, norm=0.5)
    assert total(after) == pytest.approx(0.5, rel=1e-6)
    for key, tensor in before.tensors.items():
        assert torch.allclose(after.tensors[key], tensor * 0.5 / total(before))


def test_clip_of_tensors_scales_each_by_itself_whatever_its_size():
    sizes = {"a": 1.0, "tiny": 1e-30, "huge": 1e30}
    before = Update({name: torch.full((5,), size) for name, size in sizes.items()})
    after = protect("clip", before, of="tensor", norm=0.5).tensors
    for name, tensor in before.tensors.items():
        room = min(1.0, 0.5 / float(tensor.double().norm()))
        assert torch.allclose(after[name], tensor * room, rtol=1e-5, atol=0)


@pytest.mark.parametrize("room", [1.0, 1.001, 50.0])
def test_clip_leaves_a_small_update_alone(room):
    before = update()
    after = protect("clip", before, norm=float(total(before)) * room)
    assert all(
        torch.allclose(after.tensors[key], tensor, rtol=1e-6, atol=0)
        for key, tensor in before.tensors.items()
    )
    zero = Update({"a": torch.zeros(3)})
    assert torch.equal(protect("clip", zero).tensors["a"], torch.zeros(3))


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.9, 0.999])
def test_prune_keeps_exactly_the_largest_of_each_tensor(ratio):
    before = update()
    after = protect("prune", before, ratio=ratio)
    for key, tensor in before.tensors.items():
        kept = after.tensors[key] != 0
        assert kept.sum() == max(1, round(tensor.numel() * (1 - ratio)))
        assert torch.equal(after.tensors[key][kept], tensor[kept])
        if not kept.all():
            assert tensor[kept].abs().min() >= tensor[~kept].abs().max()


def test_prune_keeps_the_count_also_among_equals():
    after = protect("prune", Update({"a": torch.ones(10)}), ratio=0.7).tensors["a"]
    assert (after != 0).sum() == 3


def test_withhold_takes_names_and_patterns_away(victim, shared):
    trained = set(victim("vit_vanilla").model.vit.trained())
    for pattern, expected in {
        ViT.POSITIONS: {ViT.POSITIONS},
        "backbone.head.*": {ViT.HEAD, ViT.HEAD_BIAS},
        f"{ViT.POSITIONS}, *.proj.bias": {
            ViT.POSITIONS,
            *(name for name in trained if name.endswith(".proj.bias")),
        },
        "*": trained,
    }.items():
        assert make(Defense, "withhold", {"tensors": pattern}).withholds(trained) == expected
    seen, _ = shared(victim("vit_vanilla", "withhold"))
    assert seen.update.withheld == {ViT.POSITIONS}
    assert ViT.POSITIONS not in seen.update.tensors


def test_withhold_names_the_nearest_parameter_when_a_pattern_fits_none():
    with pytest.raises(UnknownName, match=rf"Did you mean '{ViT.HEAD}'"):
        make(Defense, "withhold", {"tensors": "backbone.head.wieght"}).withholds([ViT.HEAD, "x"])


def test_withhold_finds_nothing_to_withhold_where_no_positions_are_trained(victim):
    assert victim("vit_nope", "withhold").shared() == victim("vit_nope").shared()


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_rounding_is_that_of_the_format(scale):
    before = Update({key: tensor * scale for key, tensor in update().tensors.items()})
    short = protect("round", before)
    half = protect("round", before, format="fp16", loss_scale=1024)
    for key, tensor in before.tensors.items():
        assert torch.equal(short.tensors[key], tensor.bfloat16().float())
        assert torch.equal(half.tensors[key], (tensor * 1024).half().float() / 1024)
        assert short.tensors[key].dtype == torch.float32


@pytest.mark.parametrize("name", ["sincos", "nope"])
def test_a_fixed_table_is_not_trained_and_the_class_token_stays(name, victim, shared):
    subject = victim(f"vit_{name}")
    vit = subject.model.vit
    assert not [key for key in subject.shared() if "pos_embed" in key]
    assert "backbone.cls_token" in subject.shared()
    assert (vit.positions[:, : vit.prefix] == 0).all()
    seen, _ = shared(subject)
    assert seen.update.tensors["backbone.cls_token"].abs().max() > 0
    flat = (vit.positions == 0).all()
    assert bool(flat) is (name == "nope")


def test_sincos_tells_every_place_from_every_other(victim):
    rows = victim("vit_sincos").model.vit.positions[0, 1:]
    assert len(rows.unique(dim=0)) == 64


@pytest.mark.parametrize("per", ["batch", "image"])
def test_shuffling_only_moves_patches(per, victim, shared):
    _, secret = shared(victim("vit_shuffle", ratio=0.6, per=per), 3)
    before, after = cut(secret.images, 4), cut(secret.fed, 4)
    assert not torch.equal(before, after)
    for one, two in zip(before, after, strict=True):
        assert sorted(map(tuple, one.tolist())) == sorted(map(tuple, two.tolist()))
    same = ~secret.draw.mask
    assert torch.equal(before[same], after[same]), "patches outside the mask stay"


def test_a_ratio_of_zero_moves_nothing(victim, shared):
    _, secret = shared(victim("vit_shuffle", ratio=0.0), 2)
    assert torch.equal(secret.images, secret.fed)


def test_a_stack_acts_in_order():
    noise, clip = make(Defense, "noise", {"sigma": 1.0}), make(Defense, "clip", {"norm": 0.5})
    before = update()
    assert total(Stack(parts=(noise, clip)).protect(before, rng())) == pytest.approx(0.5, rel=1e-5)
    assert total(Stack(parts=(clip, noise)).protect(before, rng())) > 0.6


def test_a_stack_withholds_and_discloses_what_any_part_does(victim):
    jigsaw, withhold = make(Defense, "mjp", {}), make(Defense, "withhold", {})
    stack = Stack(parts=(jigsaw, withhold))
    assert stack.withholds([ViT.POSITIONS, ViT.HEAD]) == {ViT.POSITIONS}
    assert stack.disclosed() == jigsaw.disclosed() == {"mask"}


def test_a_stack_hands_on_what_was_withheld_before():
    before = replace(update(), withheld=frozenset({"x"}))
    for name in DEFENSES:
        assert protect(name, before).withheld == {"x"}


@pytest.mark.parametrize("scheme", ["mjp", "shuffle", "nope", "sincos"])
def test_two_schemes_at_once_are_refused(scheme):
    parts = tuple(make(Defense, name, {}) for name in ("shuffle", "none", scheme))
    with pytest.raises(BadSetting, match=rf"shuffle and {scheme} both change the forward pass"):
        Stack(parts=parts)
    Stack(parts=parts[:2])


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("noise", "sigma", -1),
        ("noise", "sigma", float("inf")),
        ("clip", "norm", 0),
        ("clip", "norm", float("nan")),
        ("prune", "ratio", 1),
        ("round", "format", "fp8"),
        ("shuffle", "ratio", 1.5),
        ("mjp", "init_std", 0),
    ],
)
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(BadSetting, match=f"{name}: '{setting}' cannot be"):
        make(Defense, name, {setting: value})


def test_sincos_refuses_a_width_that_four_does_not_divide(victim):
    with pytest.raises(BadSetting, match="embed_dim is 126"):
        victim("vit_sincos", embed_dim=126, num_heads=3)
