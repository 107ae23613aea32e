"""The localization loss of Masked Jigsaw Puzzle: what it is, and whom it concerns."""

import itertools
import math

import numpy as np
import pytest
import torch

from privbench.component import make
from privbench.defense import Defense
from privbench.errors import BadSetting
from privbench.threat import Draw
from privbench.vit import ViT

UNKNOWN = "unknown_embed"
END = 0.005
"""Weight of the loss at the end of a training, and in a client's update."""
LEARNED = ["linear", "nonlinear"]
HEADS = [*LEARNED, "pca"]


def dice(images, cells=64):
    """Masks of their own for so many images; nothing moves."""
    mask = torch.rand(images, cells, generator=torch.Generator().manual_seed(5)) < 0.4
    return Draw(mask, torch.arange(cells).repeat(images, 1))


ONE = dice(1)
heads = pytest.mark.parametrize("head", HEADS)
learned = pytest.mark.parametrize("head", LEARNED)
draws = pytest.mark.parametrize("draw", [None, ONE, dice(3)], ids=["none", "one", "each"])


def arrays(vit):
    """Patch rows of the table, and weights and biases of the head, as float64 arrays."""
    state = {name: p.detach().double().numpy() for name, p in vit.named_parameters()}
    layers = [p for name, p in state.items() if name.startswith("localizer")]
    return state[ViT.POSITIONS][0, vit.prefix :], layers


def predict(row, layers):
    """Place of one row, by one or two affine maps."""
    weight, bias, *rest = layers
    row = weight @ row + bias
    return predict(np.maximum(row, 0), rest) if rest else row


def expected(table, draw, guess, unit=1.0):
    """Mean absolute error, image by image and cell by cell; guess maps a cell to its place."""
    side = math.isqrt(len(table))
    errors = []
    for mask in [[False] * len(table)] if draw is None else draw.mask.tolist():
        for cell in itertools.product(range(side), repeat=2):
            number = cell[0] * side + cell[1]
            if not mask[number]:
                errors += [abs(g - unit * c) for g, c in zip(guess(number), cell, strict=True)]
    return sum(errors) / len(errors)


@learned
@draws
@pytest.mark.parametrize(("targets", "unit"), [("grid", 1), ("share", 1 / 8)])
def test_it_is_the_mean_absolute_error_of_unmasked_places(victim, head, draw, targets, unit):
    model = victim("vit_mjp", localization=head, targets=targets, position_std=1.0).model
    table, layers = arrays(model.vit)
    assert len(layers) == {"linear": 2, "nonlinear": 4}[head]
    truth = END * expected(table, draw, lambda cell: predict(table[cell], layers), unit)
    assert model.defense.penalty(model.vit, draw).item() == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("side", [3, 8])
@pytest.mark.parametrize("targets", ["grid", "share"])
def test_places_are_row_and_column(victim, side, targets):
    model = victim("vit_mjp", localization="linear", targets=targets, img_size=4 * side).model
    vit, unit = model.vit, 1 if targets == "grid" else 1 / side
    layer = vit.get_submodule("localizer")[0]
    layer.weight.data.copy_(torch.eye(2, layer.in_features))
    layer.bias.data.zero_()
    rows = vit.positions.data[0, vit.prefix :]
    for number in range(side**2):
        rows[number, 0], rows[number, 1] = number // side * unit, number % side * unit
    assert float(rows[:, :2].max()) == pytest.approx((side - 1) * unit)
    assert model.defense.penalty(vit, None) < 1e-8
    rows[:, :2] = rows[:, :2].flip(1)
    assert model.defense.penalty(vit, None) > 1e-4, "columns are not rows"


@pytest.mark.parametrize("d", [64, 128])
def test_heads_have_the_released_number_of_parameters(victim, d):
    counts = {"none": 0, "pca": 0, "linear": 2 * d + 2, "nonlinear": d**2 + d + 2 * d + 2}
    bare = victim("vit_vanilla", embed_dim=d).model.vit.trained()
    for head, count in counts.items():
        trained = victim("vit_mjp", embed_dim=d, localization=head).model.vit.trained()
        added = {name: p.numel() for name, p in trained.items() if name not in bare}
        assert added.pop(UNKNOWN) == d
        assert sum(added.values()) == count
        assert bool(added) is (count > 0)


def test_without_a_head_there_is_no_penalty(victim):
    for subject in (victim("vit_mjp_unlocalized"), victim("vit_mjp", localization="none")):
        for draw in (None, ONE):
            assert subject.model.defense.penalty(subject.model.vit, draw) is None
            assert subject.model.penalty_gradient(draw) == {}


@heads
@draws
def test_only_unmasked_rows_and_the_head_get_its_gradient(victim, head, draw):
    model = victim("vit_mjp", localization=head).model
    found = model.penalty_gradient(draw)
    assert found.keys() == model.vit.trained().keys()
    touched = {name for name, tensor in found.items() if tensor.any()}
    assert touched == {ViT.POSITIONS} | {n for n in found if n.startswith("localizer")}
    assert UNKNOWN in found
    rows = found[ViT.POSITIONS][0]
    assert not rows[0].any(), "the class token's row is no place"
    everywhere = torch.zeros(64, dtype=torch.bool) if draw is None else draw.mask.all(0)
    assert torch.equal((rows[1:] == 0).all(dim=1), everywhere)


def shaped(spread, rng, rows=64, width=128):
    """Rows whose principal directions have the spreads given, around a common row."""
    left = np.linalg.qr(np.c_[np.ones(rows), rng.normal(size=(rows, len(spread)))])[0][:, 1:]
    right = np.linalg.qr(rng.normal(size=(width, len(spread))))[0]
    return left * spread @ right.T + rng.normal(size=width)


def projected(rows):
    """Rows on their two main directions, not centered; signs as they come."""
    _, _, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return rows @ directions[:2].T


@pytest.fixture
def main(victim):
    """A model in float64 without a learned head, with patch rows of choice."""

    def build(rows):
        vit = (model := victim("vit_mjp", localization="pca").model).vit
        vit.double().positions.data[0, vit.prefix :] = torch.from_numpy(rows)
        return model

    return build


def signed(rows):
    """Return the loss under ONE for each choice of signs of the two directions."""
    seen = np.flatnonzero(~ONE.mask[0].numpy())
    places = dict(zip(seen, projected(rows[seen]), strict=True))
    return {
        signs: END * expected(rows, ONE, lambda cell, signs=signs: places[cell] * signs)
        for signs in itertools.product((1, -1), repeat=2)
    }


def test_main_directions_are_the_principal_ones_but_for_a_sign(main):
    for seed, spread in enumerate([[10, 3, 1], np.linspace(2, 1, 40), [1e-5, 1e-6]]):
        rows = shaped(np.array(spread), np.random.default_rng(seed))
        model = main(rows)
        found = [model.defense.penalty(model.vit, ONE).item() for _ in range(2)]
        truths = list(signed(rows).values())
        assert found[0] == found[1]
        assert min(abs(found[0] / truth - 1) for truth in truths) < 1e-9
        assert np.ptp(truths) > 1e-6 * max(truths)


def test_main_directions_carry_the_gradient(main):
    rng, seen = np.random.default_rng(0), np.flatnonzero(~ONE.mask[0].numpy())
    rows, change = shaped(np.array([10, 3, 0.01]), rng), rng.normal(size=(64, 128))
    model, step = main(rows), 1e-6
    value = model.defense.penalty(model.vit, ONE).item()
    signs = min(signed(rows).items(), key=lambda item: abs(item[1] - value))[0]
    before = projected(rows[seen])

    def moved(sign):
        """Loss of rows moved along the change; their directions keep their signs."""
        places = projected((rows + sign * step * change)[seen])
        places *= np.sign((places * before).sum(0)) * signs
        return END * expected(rows, ONE, dict(zip(seen, places, strict=True)).__getitem__)

    slope = (moved(1) - moved(-1)) / (2 * step)
    found, again = (model.penalty_gradient(ONE)[ViT.POSITIONS][0, 1:].numpy() for _ in "ab")
    assert (found * change).sum() == pytest.approx(slope, rel=1e-5)
    assert (found == again).all()


def test_main_directions_need_two(main, victim, shared):
    for unmasked, present in ((0, False), (1, False), (2, False), (3, True)):
        settings = {"ratio": 1 - unmasked / 64, "sampler": "uniform"}
        subject = victim("vit_mjp", localization="pca", **settings)
        seen, secret = shared(subject)
        assert int((~secret.draw.mask).sum()) == unmasked
        assert bool(subject.model.penalty_gradient(secret.draw)) is present
        sizes = [float(tensor.norm()) for tensor in seen.update.tensors.values()]
        assert max(sizes) < 1e3
    assert main(np.ones((64, 128))).penalty_gradient(None) == {}


@heads
def test_its_gradient_is_finite_from_faint_tables_to_strong_ones(victim, head):
    for spread in (1e-30, 1e-6, 1.0, 100.0):
        model = victim("vit_mjp", localization=head, position_std=spread).model
        found = model.penalty_gradient(ONE)
        assert found
        assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.fixture(scope="module")
def weight(victim):
    """Weight at a share of the training, read off the penalty."""
    model = victim("vit_mjp", position_std=1.0).model
    unit = model.defense.penalty(model.vit, None).item() / END

    def read(progress):
        return model.defense.penalty(model.vit, None, progress).item() / unit

    return read


def test_its_weight_starts_at_nothing_peaks_after_the_warm_up_and_ends_at_half(weight):
    assert weight(0.0) == 0
    assert weight(20 / 300) == pytest.approx(0.01, rel=1e-6)
    assert weight(1.0) == pytest.approx(0.005, rel=1e-6)
    assert weight(10 / 300) == pytest.approx(0.005, rel=1e-6), "half way up"
    assert weight(160 / 300) == pytest.approx(0.0075, rel=1e-6), "half way down"


def test_its_weight_follows_the_released_schedule(weight):
    steps = np.arange(280)
    cosine = END + 0.5 * (0.01 - END) * (1 + np.cos(np.pi * steps / 280))
    found = np.array([weight(epoch / 300) for epoch in range(301)])
    assert found[20:300] == pytest.approx(cosine, rel=1e-5)
    assert found[:20] == pytest.approx(0.01 * np.arange(20) / 20, rel=1e-5)
    assert (np.diff(found[:21]) > 0).all()
    assert (np.diff(found[20:]) <= 1e-7).all()
    assert found[-1] < found[160] < found[20]


def test_the_weights_ends_are_settings(victim):
    settings = {"localization_weight": 0.03, "localization_end": 0.6}
    model = victim("vit_mjp", **settings).model
    usual = victim("vit_mjp").model
    for progress, factor in ((20 / 300, 3), (1.0, 120)):
        one, two = (m.defense.penalty(m.vit, None, progress).item() for m in (model, usual))
        assert one == pytest.approx(factor * two, rel=1e-5)


@pytest.mark.parametrize("sampler", ["uniform", "blockwise_exact"])
@heads
def test_with_all_places_masked_there_is_no_penalty(victim, shared, sampler, head):
    subject = victim("vit_mjp", ratio=1.0, sampler=sampler, localization=head)
    seen, secret = shared(subject, 2)
    assert secret.draw.mask.all()
    assert subject.model.defense.penalty(subject.model.vit, secret.draw) is None
    assert subject.model.penalty_gradient(secret.draw) == {}
    assert all(tensor.isfinite().all() for tensor in seen.update.tensors.values())
    assert not seen.update.tensors[ViT.POSITIONS][0, 1:].any()


@learned
def test_the_head_changes_no_answer(victim, pictures, head):
    images, _ = pictures(2)
    model, bare = (victim("vit_mjp", localization=kind).model for kind in (head, "none"))
    with torch.no_grad():
        for parameter in model.vit.get_submodule("localizer").parameters():
            parameter.fill_(7.0)
        for draw in (None, dice(2)):
            one, two = (m.logits(images, draw) for m in (model, bare))
            assert torch.equal(one, two)


@learned
def test_the_head_comes_from_the_models_seed(victim, head):
    one, two, other = (
        victim("vit_mjp", localization=head, init_seed=seed).model.vit.state_dict()
        for seed in (3, 3, 4)
    )
    names = [name for name in one if name.startswith("localizer")]
    assert all(torch.equal(one[name], two[name]) for name in names)
    assert not any(torch.equal(one[name], other[name]) for name in names)
    assert all(0 < one[name].abs().max() <= 128**-0.5 for name in names), "as torch starts it"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("localization", "quadratic"),
        ("targets", "pixels"),
        ("localization_weight", -0.01),
        ("localization_end", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value):
    with pytest.raises(BadSetting, match=f"mjp: '{setting}' cannot be"):
        make(Defense, "mjp", {setting: value})
