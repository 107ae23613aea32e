"""Training: stops and goes on without a trace, learns, and says what is wrong."""

import csv
import json
import math

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from privbench.cli.main import main
from privbench.errors import BadSetting, BadWeights, PrivbenchError, UnknownName
from privbench.running.environment import revision
from privbench.training import loop
from privbench.training.augment import Augmentation
from privbench.training.recipe import Recipe
from privbench.training.session import begin, finish
from privbench.victims.load import load

CLASSES = 10
TINY = [
    "model.depth=1",
    "model.embed_dim=16",
    "model.num_heads=2",
    "train.batch_size=8",
    "train.epochs=4",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty training and twenty test pictures, one flat color for each class."""
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 4), ("test", 2)):
        for label in range(CLASSES):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                color = (25 * label, 255 - 25 * label, (60 * label + number) % 256)
                Image.new("RGB", (32, 32), color).save(place / f"{number}.png")
    return folder


def start(root, out, *more, model="vit_mjp", seed=0, workers=None):
    settings = [*TINY, *more]
    return begin(model, "folder", root, settings, seed=seed, device="cpu", out=out, workers=workers)


def quiet(*_):
    """Ignore progress."""


def weights(path):
    return load_file(path)


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def log(folder):
    """Rows of the log without their seconds."""
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return [[v for k, v in row.items() if k != "seconds"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("model", ["vit_vanilla", "vit_mjp", "vit_nope"])
@pytest.mark.parametrize("stop", [3, 11])
def test_a_stopped_training_ends_in_the_same_weights(root, tmp_path, model, stop):
    undisturbed = weights(finish(start(root, tmp_path / "a", model=model), quiet))

    def interrupt(done, *_):
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(start(root, tmp_path / "b", model=model), interrupt)
    resumed = weights(finish(start(root, tmp_path / "b", model=model), quiet))
    assert same(undisturbed, resumed)
    one, two = (log(tmp_path / name) for name in ("a", "b"))
    assert one == two
    assert len(one) == 4


def test_another_seed_ends_in_other_weights(root, tmp_path):
    one = weights(finish(start(root, tmp_path / "a"), quiet))
    two = weights(finish(start(root, tmp_path / "b", seed=1), quiet))
    assert not same(one, two)


def test_it_learns_what_can_be_learned(root, tmp_path):
    easy = ["train.augment=''", "train.mixup=0", "train.cutmix=0", "train.erasing=0"]
    more = [*easy, "train.epochs=60", "train.lr=0.003", "train.padding=0"]
    training = start(root, tmp_path, *more, model="vit_vanilla")
    rows = loop.run(training, quiet)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["accuracy"] > 0.6


def test_the_card_travels_with_the_weights_and_run_takes_them(root, tmp_path):
    path = finish(start(root, tmp_path), quiet)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == "vit_mjp"
    assert card["classes"][:2] == ["class0", "class1"]
    assert card["recipe"]["epochs"] == 4
    assert card["seed"] == 0
    assert card["revision"] == revision()
    assert 0 <= card["accuracy"] <= 1
    small = {"depth": 1, "embed_dim": 16, "num_heads": 2}
    victim = load("vit_mjp", small, (), str(path), torch.device("cpu"))
    assert same(victim.model.vit.half().state_dict(), weights(path))


def test_a_checkpoint_of_another_training_is_refused_and_kept(root, tmp_path):
    finish(start(root, tmp_path), quiet)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(BadWeights, match="another recipe"):
        finish(start(root, tmp_path, "train.lr=0.01"), quiet)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_foreign_file_in_the_checkpoints_place_is_refused(root, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not one")
    with pytest.raises(BadWeights, match="not a checkpoint"):
        finish(start(root, tmp_path), quiet)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ("train.epoch=3", UnknownName, "Did you mean 'epochs'"),
        ("train.lr=fast", BadSetting, "'lr' cannot be 'fast'"),
        ("train.epochs=0", BadSetting, "'epochs' cannot be 0"),
        ("train.batch_size=7", BadSetting, "has to be a multiple of 2"),
        ("train.batch_size=400", BadSetting, "no larger than the 40"),
        ("attack.steps=3", UnknownName, "No section of --set"),
    ],
)
def test_wrong_settings_are_one_sentence(root, tmp_path, wrong, error, words):
    with pytest.raises(error, match=words):
        start(root, tmp_path, wrong)


def test_a_root_without_splits_is_refused(tmp_path):
    with pytest.raises(PrivbenchError, match="holds no folder"):
        start(tmp_path, tmp_path / "out")


def test_the_schedule_warms_up_and_comes_down(root, tmp_path):
    training = start(root, tmp_path, "train.epochs=10", "train.warmup=0.2")
    rates = [row["lr"] for row in loop.run(training, quiet)]
    assert rates[0] < rates[1] <= training.recipe.lr
    assert rates[1] == max(rates)
    assert rates[-1] < 0.1 * training.recipe.lr


def test_augmentation_keeps_shapes_and_labels_sum_to_one():
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.25)
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pixels]
    plain = Recipe(mixup=0, cutmix=0, augment="", erasing=0, padding=0, crop="padded")
    for recipe in (Recipe(), plain):
        augmentation = Augmentation(recipe, 32, 10, mean, std)
        single = torch.stack([augmentation.each(one, seed) for seed, one in enumerate(pictures)])
        images, soft = augmentation.mix(single, torch.arange(8), 0)
        assert images.shape == (8, 3, 32, 32)
        assert images.dtype == torch.float32
        assert torch.allclose(soft.sum(1), torch.ones(8))
    assert soft[3].argmax() == 3
    assert math.isclose(float(soft[3].max()), 0.91, abs_tol=1e-6)


def test_the_command_trains_and_says_where_the_weights_are(root, tmp_path, monkeypatch, capsys):
    settings = [word for one in TINY for word in ("--set", one)]
    arguments = ["train", "--model", "vit_shuffle", "--dataset", "folder", "--data-root", str(root)]
    monkeypatch.setattr(
        "sys.argv", ["privbench", *arguments, "--epochs", "1", *settings, "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert "vit_shuffle.safetensors" in printed
    assert (tmp_path / "vit_shuffle.safetensors").is_file()
    assert "100 %: step 5 of 5" in printed
