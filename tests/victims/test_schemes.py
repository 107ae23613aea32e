"""Positional schemes: what a shuffle changes, what it cannot change, and the model that stays."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer

from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.threat import Draw
from privbench.victims.preset import preset_names
from privbench.vit import ViT

CELLS = 64
UNKNOWN = "unknown_embed"
VICTIMS = [name for name in preset_names("models") if not name.endswith("_small")]
MASKING = ["vit_mjp", "vit_mjp_uniform", "vit_mjp_unlocalized", "vit_unk"]


@st.composite
def jigsaws(draw, batch=1):
    """Any masks, and any permutations of the patches in them."""
    masks = torch.zeros(batch, CELLS, dtype=torch.bool)
    orders = torch.arange(CELLS).repeat(batch, 1)
    for mask, order in zip(masks, orders, strict=True):
        places = draw(st.lists(st.integers(0, CELLS - 1), min_size=2, unique=True))
        mask[places] = True
        order[places] = torch.tensor(draw(st.permutations(places)))
    return Draw(masks, orders)


def still(draw):
    return Draw(draw.mask, torch.arange(CELLS).expand_as(draw.order))


def noise(batch=1, dtype=torch.float64):
    """Pictures of which no two patches are alike, with labels."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, 32, 32, generator=rng, dtype=dtype), torch.arange(batch)


@pytest.fixture(scope="module")
def double(victim):
    """A model in float64 by the name of its victim."""
    built = {}

    def build(name):
        if name not in built:
            built[name] = victim(name).model
            built[name].vit.double()
        return built[name]

    return build


def outcome(model, images, labels, draw):
    """Logits, and the gradient of every parameter."""
    gradient = model.gradient(images, labels, draw, differentiable=False)
    return gradient | {"logits": model.logits(images, draw).detach()}


def differences(one, two):
    """Largest difference of each tensor, relative to its largest entry."""
    assert one.keys() == two.keys()
    tiny = torch.finfo(torch.float64).tiny
    return {
        name: float((one[name] - tensor).abs().max() / tensor.abs().max().clamp(min=tiny))
        for name, tensor in two.items()
    }


@pytest.mark.parametrize("name", ["vit_mjp", "vit_unk"])
@settings(max_examples=15, deadline=None)
@given(one=jigsaws(), two=jigsaws(batch=2))
def test_moving_patches_without_positions_changes_no_answer_and_no_gradient(double, name, one, two):
    model = double(name)
    for draw in (one, two):
        images, labels = noise(len(draw.mask))
        results = [outcome(model, images, labels, dice) for dice in (draw, still(draw))]
        assert max(differences(*results).values()) < 1e-10


@settings(max_examples=15, deadline=None)
@given(draw=jigsaws())
def test_moving_patches_under_their_positions_changes_answers_and_gradients(double, draw):
    assume(not torch.equal(draw.order, still(draw).order))
    model, (images, labels) = double("vit_shuffle"), noise()
    found = differences(*(outcome(model, images, labels, dice) for dice in (draw, still(draw))))
    assert found["logits"] > 1e-5
    assert found[ViT.POSITIONS] > 1e-5
    assert found[ViT.PROJECTION] > 1e-5


@settings(max_examples=10, deadline=None)
@given(draw=jigsaws())
def test_the_unknown_embedding_is_what_makes_the_shuffle_vain(double, draw):
    """The same pictures with the same moves, and positions kept: no longer the same."""
    assume(not torch.equal(draw.order, still(draw).order))
    model, (images, _) = double("vit_mjp"), noise()
    fed = (model.defense.feed(model.vit, images, dice) for dice in (draw, still(draw)))
    one, two = (model.vit(pictures) for pictures in fed)
    assert (one - two).abs().max() > 1e-5 * two.abs().max()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_masking_alone_equals_masking_and_moving(double, seed):
    images, labels = noise(2)
    models = [double(name) for name in ("vit_unk", "vit_mjp_unlocalized")]
    states = [model.vit.state_dict() for model in models]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    draws = [m.defense.draw(m.vit, 2, torch.Generator().manual_seed(seed)) for m in models]
    assert torch.equal(draws[0].mask, draws[1].mask)
    assert torch.equal(draws[0].order, still(draws[0]).order)
    assert not torch.equal(draws[1].order, still(draws[1]).order)
    results = [outcome(m, images, labels, draw) for m, draw in zip(models, draws, strict=True)]
    assert max(differences(*results).values()) < 1e-10


@pytest.mark.parametrize("per", ["batch", "image"])
def test_masking_alone_moves_no_pixel(victim, shared, per):
    _, secret = shared(victim("vit_unk", per=per), 3)
    assert secret.draw.mask.any(1).all()
    assert torch.equal(secret.fed, secret.images)
    _, secret = shared(victim("vit_unk", per=per, move=True), 3)
    assert not torch.equal(secret.fed, secret.images)


@pytest.mark.parametrize("name", ["vit_shuffle", *MASKING, "vit_pps"])
def test_one_draw_for_a_batch_or_one_for_each_image(victim, name):
    for per, count in (("batch", 1), ("image", 4)):
        model = victim(name, per=per).model
        draw = model.defense.draw(model.vit, 4, torch.Generator().manual_seed(0))
        dice = [draw.mask, draw.order] if draw.inner is None else [draw.order, draw.inner]
        rows = torch.cat(dice, dim=1)
        assert len(rows) == 4
        assert len(rows.unique(dim=0)) == count


@pytest.mark.parametrize("name", VICTIMS)
def test_without_dice_every_victim_is_timms_own_model(victim, name):
    images, _ = noise(2, torch.float32)
    subject = victim(name)
    vit = subject.model.vit
    architecture = subject.preset.architecture
    stock = VisionTransformer(**{**architecture, "depth": subject.settings["depth"]}).eval()
    stock.load_state_dict(vit.backbone.state_dict(), strict=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (subject.preset.mean, subject.preset.std))
    with torch.no_grad():
        expected = stock((images - mean) / std)
        found = subject.model.logits(images, None)
    assert expected.std() > 0.01
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_shuffle", *MASKING, "vit_pps"])
def test_with_dice_the_answer_is_another(victim, name):
    images, _ = noise(2, torch.float32)
    model = victim(name).model
    draw = model.defense.draw(model.vit, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (model.logits(images, dice) for dice in (draw, None))
    assert (one - two).abs().max() > 1e-4 * two.abs().max()


def fed(victim, images, per="batch", seed=0, patch=4):
    """Pictures after patch and pixel shuffling, and the dice."""
    model = victim("vit_pps", per=per, patch_size=patch).model
    draw = model.defense.draw(model.vit, len(images), torch.Generator().manual_seed(seed))
    return model.defense.feed(model.vit, images, draw), draw, model


@pytest.mark.parametrize("per", ["batch", "image"])
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_patch_and_pixel_shuffling_is_a_permutation_of_pixels(victim, per, patch):
    images, side = noise(3, torch.float32)[0], 32 // patch
    after, draw, _ = fed(victim, images, per, patch=patch)
    expected = np.empty((3, 3, 32, 32), dtype=np.float32)
    for b in range(3):
        for place, source in enumerate(draw.order[b].tolist()):
            for pixel, origin in enumerate(draw.inner[b].tolist()):
                to = place // side * patch + pixel // patch, place % side * patch + pixel % patch
                y = source // side * patch + origin // patch
                x = source % side * patch + origin % patch
                expected[b, :, *to] = images[b, :, y, x]
    assert (after.numpy() == expected).all()


def tiles(images, patch=4):
    """Pixels of each image's patches: image, row, column, channel, pixel."""
    b, c = images.shape[:2]
    split = images.unfold(2, patch, patch).unfold(3, patch, patch)
    return split.permute(0, 2, 3, 1, 4, 5).reshape(b, -1, c, patch**2)


@pytest.mark.parametrize("per", ["batch", "image"])
def test_patch_and_pixel_shuffling_keeps_each_patchs_values_by_channel(victim, per):
    images, _ = noise(3, torch.float32)
    after, draw, _ = fed(victim, images, per)
    assert draw.mask.all()
    assert not torch.equal(tiles(after), tiles(images))
    for one, two in zip(tiles(after), tiles(images), strict=True):
        found, known = (sorted(t.sort(-1).values.flatten(1).tolist()) for t in (one, two))
        assert found == known, "the same patches elsewhere, with the same values in each channel"
        moved = (one.sort(-1).values != two.sort(-1).values).any(-1).any(-1)
        assert moved.sum() > CELLS / 2


def test_pixels_move_alike_in_all_patches_and_channels(victim):
    pixel = torch.arange(16.0).view(4, 4).repeat(8, 8).expand(2, 3, -1, -1).contiguous() / 16
    one, two = tiles(fed(victim, pixel, "image")[0])
    for patches in (one, two):
        assert (patches == patches[0, 0]).all()
        assert not torch.equal(patches[0, 0], torch.arange(16.0) / 16)
    assert not torch.equal(one, two)


def test_patches_move_as_wholes(victim):
    number = torch.arange(float(CELLS)).view(8, 8) / CELLS
    flat = number.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, -1, -1).contiguous()
    patches = tiles(fed(victim, flat)[0])[0]
    assert (patches == patches[:, :1, :1]).all()
    assert sorted(patches[:, 0, 0].tolist()) == number.flatten().tolist()


@pytest.mark.parametrize("per", ["batch", "image"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_inverse_permutations_restore_the_picture(victim, per, seed):
    images, _ = noise(3, torch.float32)
    after, draw, model = fed(victim, images, per, seed)
    back = Draw(draw.mask, draw.order.argsort(1), draw.inner.argsort(1))
    assert not torch.equal(after, images)
    assert torch.equal(model.defense.feed(model.vit, after, back), images)
    assert model.defense.feed(model.vit, images, None) is images


def test_every_step_has_dice_of_its_own(victim):
    model, rng = victim("vit_pps").model, torch.Generator().manual_seed(0)
    one, two = (model.defense.draw(model.vit, 1, rng) for _ in "ab")
    assert not torch.equal(one.order, two.order)
    assert not torch.equal(one.inner, two.inner)


def test_two_victims_that_differ_in_their_scheme_face_the_same_mask(victim, shared):
    masks = [shared(victim(name), 2)[1].draw.mask for name in ("vit_shuffle", "vit_mjp", "vit_unk")]
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("name", ["vit_vanilla", "vit_mjp"])
def test_position_std_scales_the_table_and_nothing_else(victim, name):
    usual = victim(name).model.vit.state_dict()
    for spread in (1, 0.02, 1e-3):
        subject = victim(name, position_std=spread)
        state = subject.model.vit.state_dict()
        table = state.pop(ViT.POSITIONS)
        assert torch.allclose(table, usual[ViT.POSITIONS] * (spread / 0.02))
        assert table.std() == pytest.approx(spread, rel=0.05)
        assert all(torch.equal(tensor, usual[key]) for key, tensor in state.items())
        assert subject.settings["position_std"] == spread


@pytest.mark.parametrize("value", [0, -1, -0.02, float("nan"), float("inf"), "1", "wide", None])
def test_position_std_is_a_number_above_zero(victim, value):
    with pytest.raises(BadSetting, match="vit_mjp: position_std is a number above zero, not"):
        victim("vit_mjp", position_std=value)


def test_init_std_scales_the_unknown_embedding_and_nothing_else(victim):
    usual = victim("vit_mjp").model.vit.state_dict()
    for spread in (1, 1e-3):
        state = victim("vit_mjp", init_std=spread).model.vit.state_dict()
        unknown = state.pop(UNKNOWN)
        assert unknown.shape == (1, 128)
        assert unknown.std() == pytest.approx(spread, rel=0.2)
        assert torch.allclose(unknown, usual[UNKNOWN] * (spread / 0.02))
        assert all(torch.equal(tensor, usual[key]) for key, tensor in state.items())


@pytest.mark.parametrize("value", [-1, float("nan"), "wide"])
def test_init_std_is_a_number_above_zero(value):
    with pytest.raises(BadSetting, match="mjp: 'init_std' cannot be"):
        make(Defense, "mjp", {"init_std": value})
