"""The literature's attacks: distances, priors, and that each works where nothing defends."""

import hashlib
import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import mobilenet_v2

from privbench.attack import Attack
from privbench.attacks._matching import batchnorm as _batchnorm
from privbench.attacks._matching.batchnorm import BatchNormPrior, batch_norm
from privbench.attacks._matching.distances import direction_of_positions, norms, tag
from privbench.attacks._matching.engine import Matching
from privbench.attacks._matching.priors import (
    out_of_box,
    roughness,
    seam_roughness,
    seams,
    size,
    total_variation,
)
from privbench.attacks._matching.rows import (
    TAG,
    by_direction,
    in_row_units,
    mean_of_rows,
    squares,
    token_facts,
    with_absolute,
)
from privbench.component import find, make, names
from privbench.errors import BadSetting, BadWeights
from privbench.seeds import generator
from privbench.vit import ViT
from tests.conftest import psnr, quiet

REPAIRED = [name for name in names("attacks") if "recipe" in find(Attack, name).setting_names()]
"""Published attacks that can also be run with other units and another optimizer."""


@pytest.mark.slow
@pytest.mark.parametrize("name", REPAIRED)
def test_each_is_a_positive_control(name, victim, shared):
    """Five decibels over the mean color, at the default budget, on the undefended victim."""
    seen, secret = shared(victim("vit_vanilla", depth=6))
    floor = psnr(seen.model.vit.mean.expand(seen.shape), secret.images)
    answer = make(Attack, name, {}).reconstruct(seen, generator("a"), quiet)
    assert psnr(answer.images, secret.images) > floor + 5


@pytest.mark.parametrize("name", REPAIRED)
def test_all_have_one_budget(name, victim, shared):
    attack = make(Matching, name, {})
    seen, _ = shared(victim("vit_vanilla"))
    recipe = attack.descent(seen)
    whole = make(Matching, "gradinv", {}).descent(seen)
    assert abs(sum(recipe.counts()) * recipe.restarts / sum(whole.counts()) - 1) < 0.02


@pytest.mark.parametrize("name", REPAIRED)
def test_the_published_recipe_is_another(name, victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    short = {"steps": 3}
    answers = [
        make(Attack, name, short | {"recipe": recipe}).reconstruct(seen, generator("a"), quiet)
        for recipe in ("repaired", "published")
    ]
    assert not torch.allclose(answers[0].images, answers[1].images, atol=0.01)


@pytest.mark.parametrize("name", REPAIRED)
@pytest.mark.parametrize(("recipe", "aware"), [("repaired", True), ("published", False)])
def test_only_the_repaired_recipe_knows_of_masks(name, recipe, aware, victim, shared):
    seen, _ = shared(victim("vit_mjp"))
    assert make(Matching, name, {"recipe": recipe}).descent(seen).aware is aware


def test_idlg_as_published_takes_the_smallest_row_sum(victim, shared):
    seen, secret = shared(victim("vit_vanilla"))
    rows = seen.update.tensors[ViT.HEAD]
    published = make(Matching, "idlg", {"recipe": "published"}).known(seen)
    assert int(published) == int(rows.sum(1).argmin())
    assert torch.equal(make(Matching, "idlg", {}).known(seen), secret.labels)


def test_dlg_finds_the_label_along_with_the_pixels(victim, shared):
    seen, secret = shared(victim("vit_vanilla"))
    answer = make(Attack, "dlg", {"steps": 40}).reconstruct(seen, generator("a"), quiet)
    assert answer.labels is not None
    assert torch.equal(answer.labels, secret.labels)


def some(seed, *shapes):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=rng) for name, shape in zip("abc", shapes, strict=False)
    }


def test_tags_distance_is_squares_plus_absolutes_that_weigh_less_with_depth():
    one, two = some(0, (4, 3), (5,)), some(1, (4, 3), (5,))
    gaps = [(one[name] - two[name]).double() for name in "ab"]
    wanted = sum(float(gap.square().sum()) for gap in gaps)
    wanted += TAG * float(gaps[0].abs().sum() + 0.5 * gaps[1].abs().sum())
    assert float(tag(one, two)) == pytest.approx(wanted, rel=1e-5)


def test_the_sum_of_norms_is_that():
    one, two = some(0, (4, 3), (5,)), some(1, (4, 3), (5,))
    wanted = sum(float(torch.dist(one[name], two[name])) for name in "ab")
    assert float(norms(one, two)) == pytest.approx(wanted, rel=1e-5)


def test_the_direction_of_the_position_gradient_counts_beside_the_squares():
    shared = {ViT.POSITIONS: torch.ones(1, 3, 4), "b": torch.ones(2)}
    doubled = {name: 2 * tensor for name, tensor in shared.items()}
    turned = {ViT.POSITIONS: -torch.ones(1, 3, 4), "b": torch.ones(2)}
    assert float(direction_of_positions(doubled, shared)) == pytest.approx(12 + 2, rel=1e-5)
    assert float(direction_of_positions(turned, shared)) == pytest.approx(4 * 12 + 2, rel=1e-5)


def gaps(found, facts):
    along, across = in_row_units(found, facts)
    return along - facts["along"], across - facts["across"]


@pytest.mark.parametrize("measure", [squares, with_absolute, by_direction])
def test_a_measure_of_rows_is_zero_at_the_shared_rows_and_blind_to_dead_ones(measure):
    rows = some(0, (6, 8))["a"]
    rows[2] = 0
    facts = token_facts(rows)
    changed = rows.clone()
    changed[2] = 7
    assert float(measure(*gaps(changed, facts), facts)) == pytest.approx(0, abs=1e-5)
    changed[3] += 0.3
    assert float(measure(*gaps(changed, facts), facts)) > 1e-3


def test_a_row_that_only_grows_beside_the_common_direction_keeps_its_angle():
    rows = some(0, (6, 8))["a"]
    facts = token_facts(rows)
    grown = rows + 3 * facts["across"] * facts["across unit"][:, None]
    along, beside = gaps(grown, facts)
    assert float(by_direction(along, beside, facts)) == pytest.approx(0, abs=1e-5)
    assert float(squares(along, beside, facts)) == pytest.approx(9, rel=1e-3)
    assert float(mean_of_rows(torch.full((6,), 2.0), facts)) == pytest.approx(2)


def test_seams_lie_between_patches_only():
    flat = torch.zeros(1, 3, 8, 8)
    flat[:, :, 4:] = 0.5
    edge = (3 * 8 * 0.25) ** 0.5
    assert float(seams(flat, 4)) == pytest.approx(edge, rel=1e-4)
    assert float(seam_roughness(flat, 4)) == pytest.approx(0.25)
    inside = torch.zeros(1, 3, 8, 8)
    inside[:, :, 2:4] = inside[:, :, 4:6] = 0.5
    assert float(seams(inside, 4)) == pytest.approx(0, abs=1e-6)
    assert float(seam_roughness(inside, 4)) == 0


def test_priors_of_a_ramp_are_its_slope():
    ramp = (torch.arange(8.0) / 10).view(1, 1, 1, 8).expand(1, 3, 8, 8)
    assert float(total_variation(ramp)) == pytest.approx(0.1)
    assert float(roughness(ramp)) == pytest.approx(0.01)
    assert float(out_of_box(ramp + 0.3)) == 0
    assert float(out_of_box(ramp + 0.5)) == pytest.approx((0.1**2 + 0.2**2) / 8)
    assert float(size(ramp)) == pytest.approx(float(ramp.norm()))


def test_the_bundled_network_recognizes_the_bundled_pictures(pictures):
    """It says 91.73 % of the whole test set; a network built wrongly says one in ten."""
    images, labels = pictures(100)
    prior = batch_norm("bundled", 32, torch.zeros(()))
    weights = load_file(str(files("privbench.assets") / "resnet20_cifar10.safetensors"))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_batchnorm.MEAN, _batchnorm.STD))
    features = prior.network((images - mean) / std).mean((2, 3))
    found = (features @ weights["linear.weight"].T + weights["linear.bias"]).argmax(1)
    assert float((found == labels).float().mean()) > 0.85


def test_its_card_knows_the_file():
    folder = files("privbench.assets")
    card = json.loads((folder / "resnet20_cifar10.json").read_text())
    content = (folder / "resnet20_cifar10.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_prior_prefers_pictures_to_noise_and_gray(pictures):
    prior = batch_norm("bundled", 32, torch.zeros(()))
    picture = pictures(1)[0]
    noise = torch.rand(picture.shape, generator=generator("noise"))
    assert prior(picture) < prior(torch.full_like(picture, 0.47))
    assert prior(picture) < prior(noise)


def test_the_prior_is_the_distance_of_means_and_variances():
    layer = torch.nn.BatchNorm2d(3).eval()
    layer.running_mean, layer.running_var = torch.tensor([0.0, 1, 2]), torch.tensor([1.0, 2, 3])
    images = torch.rand(4, 3, 5, 5, generator=generator("images"))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_batchnorm.MEAN, _batchnorm.STD))
    seen = (images - mean) / std
    wanted = (seen.mean((0, 2, 3)) - layer.running_mean).norm()
    wanted = wanted + (seen.var((0, 2, 3), correction=0) - layer.running_var).norm()
    two = torch.nn.Sequential(layer, torch.nn.BatchNorm2d(3)).eval().requires_grad_(False)
    plain = float(BatchNormPrior(two)(images))
    assert float(BatchNormPrior(two, first=10.0)(images)) == pytest.approx(
        plain + 9 * float(wanted), rel=1e-4
    )


def test_building_a_prior_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    batch_norm("bundled", 32, torch.zeros(()))
    assert torch.equal(torch.get_rng_state(), state)


def mobile_net(path, flat):
    """A file with MobileNetV2's tensors, in torchvision's names or in the older, flat ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = mobilenet_v2().state_dict()
    if flat:
        first = {new: old for old, new in _batchnorm.FIRST_BLOCK.items()}
        other = {new: old for old, new in _batchnorm.OTHER_BLOCKS.items()}

        def old(name):
            parts = name.split(".")
            if parts[2:3] != ["conv"]:
                return name
            inner, last = ".".join(parts[3:-1]), parts[-1]
            table = first if parts[1] == "1" else other
            return ".".join([*parts[:3], table[inner], last])

        tensors = {old(name): tensor for name, tensor in tensors.items()}
    save_file(tensors, path)


@pytest.mark.parametrize("flat", [False, True])
def test_larger_pictures_take_the_prior_that_the_user_names(flat, tmp_path):
    mobile_net(tmp_path / "prior.safetensors", flat)
    prior = batch_norm(str(tmp_path / "prior.safetensors"), 224, torch.zeros(()))
    assert len([m for m in prior.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]) == 52
    assert torch.isfinite(prior(torch.rand(1, 3, 64, 64, generator=generator("x"))))


@pytest.mark.parametrize("name", ["gradinversion", "gradvit"])
def test_without_a_prior_for_their_size_they_say_what_to_name(name, victim, shared):
    seen, _ = shared(victim("vit_vanilla"))
    larger = replace(seen, shape=(1, 3, 224, 224))
    with pytest.raises(BadSetting, match=r"--set attack\.prior=FILE"):
        make(Attack, name, {}).reconstruct(larger, generator("a"), quiet)


def test_a_file_with_something_else_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadWeights, match=r"'other\.safetensors' does not hold"):
        batch_norm(str(tmp_path / "other.safetensors"), 224, torch.zeros(()))
    with pytest.raises(BadWeights, match="cannot be read"):
        batch_norm(str(tmp_path / "missing.safetensors"), 224, torch.zeros(()))


def test_the_second_floor_knows_nothing(victim, shared):
    images = [
        make(Attack, "random", {})
        .reconstruct(shared(victim("vit_vanilla"), seed=seed)[0], generator("a"), quiet)
        .images
        for seed in range(2)
    ]
    assert torch.equal(*images)
    assert float(images[0].mean()) == pytest.approx(0.5, abs=0.02)
