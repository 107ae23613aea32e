"""A training of numbers that are none ends in a sentence, and its figures are of its weights."""

import json
from math import inf, isfinite, isnan, nan

import pytest
import torch
from safetensors.torch import load_file, save_file

from privbench.errors import BadSetting, BadWeights, NotFinite
from privbench.training import loop
from privbench.training.session import begin, finish
from tests.commands import caller
from tests.training.test_train import CLASSES, TINY, quiet, root, start

__all__ = ["root"]
SHAPE = [word for one in TINY for word in ("--set", one)]


def given(root, out, *more):
    pictures = ["--dataset", "folder", "--data-root", root, "--device", "cpu", "--out", out]
    return ["train", "--model", "vit_vanilla", *pictures, *SHAPE, *more]


@pytest.mark.parametrize(
    "more",
    [
        ["--set", "train.lr=1e6"],
        ["--set", "train.lr=1e6", "--set", "train.bf16=true", "--set", "train.warmup=0"],
        ["--set", "train.lr=1e6", "--set", "train.warmup=1"],
        ["--set", "train.lr=1e6", "--workers", "2"],
        ["--set", "train.lr=1e6", "--defense", "clip"],
        ["--set", "train.lr=1e30", "--epochs", "1"],
        ["--defense", "noise", "--set", "defense.sigma=1e38"],
    ],
    ids=" ".join,
)
def test_a_training_that_diverges_is_a_sentence_twice(root, tmp_path, monkeypatch, capsys, more):
    call = caller(monkeypatch, capsys)
    first = call(*given(root, tmp_path, *more))
    second = call(*given(root, tmp_path, *more))
    for code, out, err in (first, second):
        assert code == 2
        assert err.startswith("Error: The training diverged at step ")
        assert "begin anew with --set train.lr=" in err
        assert ("or a weaker --defense" in err) == ("--defense" in more)
        assert "Accuracy" not in out
    assert first[2] == second[2]
    assert not list(tmp_path.glob("vit_vanilla.*"))
    for path in tmp_path.glob("checkpoint.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_the_advice_of_a_training_that_diverged_works(root, tmp_path, monkeypatch, capsys):
    call = caller(monkeypatch, capsys)
    _, _, err = call(*given(root, tmp_path / "a", "--set", "train.lr=1e6"))
    lower = err.split("--set ")[1].split()[0]
    code, out, _ = call(*given(root, tmp_path / "b", "--set", lower))
    assert code == 0
    assert "Accuracy of these weights: " in out


@pytest.mark.parametrize("bad", [nan, inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "weight", "idle weight", "answer"])
def test_wherever_a_number_is_none_the_checkpoint_before_stays(
    root, tmp_path, monkeypatch, where, bad
):
    training = start(root, tmp_path, model="vit_vanilla")
    vit, struck = training.victim.model.vit, 7  # in the second of four epochs of five steps
    whole, seen = loop._differentiate, []

    def differentiate(*given):
        loss = whole(*given)
        seen.append(loss)
        if len(seen) == struck:
            if where == "loss":
                return loss * bad
            if where == "gradient":
                slope = next(iter(vit.trained().values())).grad
                assert slope is not None
                slope.flatten()[3] = bad
            if where == "weight":
                vit.positions.data[0, 3, 1] = bad
        return loss

    monkeypatch.setattr(loop, "_differentiate", differentiate)
    if where == "idle weight":
        vit.register_buffer("table", torch.zeros(2))
    if where == "answer":
        logits = type(training.victim.model).logits
        monkeypatch.setattr(
            type(training.victim.model),
            "logits",
            lambda *given: logits(*given) * (bad if len(seen) > struck else 1),
        )

    def watch(done, *_):
        if where == "idle weight" and done == struck:
            vit.get_buffer("table")[1] = bad

    with pytest.raises(NotFinite, match=r"diverged at step (7|8|10) of 20, at a learning rate"):
        finish(training, watch)
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2
    assert not (tmp_path / "vit_vanilla.safetensors").exists()


def test_weights_that_float16_cannot_hold_are_not_written(root, tmp_path):
    training = start(root, tmp_path, model="vit_vanilla")

    def swell(done, *_):
        if done == 19:
            training.victim.model.vit.backbone.head.bias.data[:] = 1e5

    with pytest.raises(NotFinite, match=r"head\.bias, as float16 holds it, is NaN or infinite"):
        finish(training, swell)
    assert not (tmp_path / "vit_vanilla.safetensors").exists()


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("killed", [False, True])
def test_card_and_terminal_tell_the_accuracy_of_the_weights_written(
    root, tmp_path, monkeypatch, capsys, epochs, killed
):
    scores = iter([0.1, 0.3, 0.5, 0.7])
    monkeypatch.setattr(loop, "accuracy_of", lambda *_, **__: next(scores))
    call, words = caller(monkeypatch, capsys), given(root, tmp_path, "--epochs", str(epochs))
    if killed:  # between the last epoch and the card
        monkeypatch.setattr("privbench.training.session.revision", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(*words)
        capsys.readouterr()
        monkeypatch.undo()
        call = caller(monkeypatch, capsys)
        monkeypatch.setattr(loop, "accuracy_of", lambda *_, **__: 0.7)
    code, out, _ = call(*words)
    assert code == 0
    card = json.loads((tmp_path / "vit_vanilla.json").read_text())
    final = [0.3, 0.7][epochs == 3] if not killed else 0.7
    assert card["accuracy"] == final
    assert f"Accuracy of these weights: {100 * final:.2f} % (" in out
    if not killed:
        last = [line for line in out.splitlines() if line.startswith("100 %")]
        assert f"test accuracy {100 * [0.1, 0.5][epochs == 3]:.2f} %" in last[0]


def test_progress_tells_no_accuracy_before_it_is_measured(root, tmp_path):
    told = []
    log = loop.run(start(root, tmp_path), lambda done, *more: told.append((done, more[2])))
    assert [done for done, _ in told] == list(range(1, 21))
    assert all(isnan(accuracy) for _, accuracy in told[:4])
    assert [accuracy for _, accuracy in told[4::5]] == [row["accuracy"] for row in log]
    assert all(isfinite(row["loss"]) for row in log)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["train.crop=resized", "train.padding=8"], "padding=8 changes nothing"),
        (["train.mixup=0", "train.cutmix=0", "train.mix=0.5"], "mix=0.5 changes nothing"),
        (["train.mix=0", "train.mixup=0.5"], "mixup=0.5 changes nothing"),
        (["train.exposure=0.7"], "this model's scheme draws nothing"),
        (["train.exposure_after=0.3"], "this model's scheme draws nothing"),
        (["train.weight_decay=0", "train.decay_positions=true"], "weight_decay is 0"),
        (["train.lr=1e-6"], "would climb from lr=1e-06 to min_lr=1e-05. Add --set train.min_lr=1e"),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(root, tmp_path, settings, words):
    with pytest.raises(BadSetting, match=words.replace(".", r"\.")):
        start(root, tmp_path, *settings, model="vit_vanilla")
    assert not list(tmp_path.iterdir())


def card(root, out, weights=None, model="vit_vanilla", epochs=1, classes=CLASSES):
    shape = [*TINY, f"train.epochs={epochs}", f"model.num_classes={classes}", "train.lr=1e-9"]
    training = begin(
        model,
        "folder",
        root,
        [*shape, "train.min_lr=0"],
        seed=1,
        device="cpu",
        out=out,
        weights=weights,
    )
    begun = {name: t.clone() for name, t in training.victim.model.vit.state_dict().items()}
    path = finish(training, quiet)
    return begun, load_file(path), json.loads(path.with_suffix(".json").read_text()), path


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Pictures of two classes."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("two")
    for split, count in (("train", 8), ("test", 4)):
        for label in range(2):
            (folder / split / f"n{label}").mkdir(parents=True)
            for number in range(count):
                place = folder / split / f"n{label}" / f"{number}.png"
                Image.new("RGB", (32, 32), (200 * label, 9, number)).save(place)
    return folder


def test_a_training_starts_from_weights_and_its_card_says_so(root, two, tmp_path):
    _, source, _, path = card(root, tmp_path / "a", epochs=2)
    begun, ended, told, _ = card(root, tmp_path / "b", str(path))
    assert all(torch.equal(begun[name], source[name].float()) for name in source)
    assert all(torch.allclose(ended[name].float(), begun[name], atol=1e-3) for name in begun)
    assert told["weights"] == "vit_vanilla.safetensors"
    assert len(told["weights_sha256"]) == 64
    assert told["new head"] is False
    begun, ended, told, _ = card(two, tmp_path / "c", str(path), classes=2)
    for name, tensor in begun.items():
        assert "head" in name or torch.equal(tensor, source[name].float())
    assert ended["backbone.head.weight"].shape[0] == 2
    assert told["new head"] is True


def test_a_training_from_other_weights_is_another_training(root, tmp_path):
    _, _, _, path = card(root, tmp_path / "a")
    card(root, tmp_path / "b", str(path))
    other = load_file(path)
    other["backbone.head.bias"] += 1
    save_file(other, tmp_path / "other.safetensors")
    for weights in (str(tmp_path / "other.safetensors"), None):
        with pytest.raises(BadWeights, match=r"belongs to a training with another .*weights"):
            card(root, tmp_path / "b", weights)
    card(root, tmp_path / "b", str(path))


def test_weights_that_do_not_fit_are_refused(root, tmp_path, monkeypatch, capsys):
    call = caller(monkeypatch, capsys)
    _, _, _, path = card(root, tmp_path / "a")
    for more, words in (
        (["--weights", "missing.safetensors"], "There is no weights file"),
        (["--weights", path, "--set", "model.depth=2"], "belongs to another model"),
    ):
        code, _, err = call(*given(root, tmp_path / "out", *more))
        assert code == 2
        assert words in err
    assert not (tmp_path / "out").exists()


def test_the_command_starts_from_weights_with_a_new_head(root, two, tmp_path, monkeypatch, capsys):
    call = caller(monkeypatch, capsys)
    _, _, _, path = card(root, tmp_path / "a")
    more = ["--weights", path, "--epochs", "1", "--set", "model.num_classes=2"]
    code, out, _ = call(*given(two, tmp_path / "b", *more))
    assert code == 0
    assert "knows other classes: a new head for 2 is trained" in out
    written = json.loads((tmp_path / "b" / "vit_vanilla.json").read_text())
    assert "--weights vit_vanilla.safetensors" in written["command"]
