"""What a message tells a user to type exists, works, and the message does not come again."""

import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.models import mobilenet_v2

from privbench.training.checkpoint import write_tensors
from privbench.victims.load import load
from tests.advice.follow import follow
from tests.advice.sites import sites
from tests.advice.stop import Stop
from tests.advice.stops import OPEN, STOPS

CPU = torch.device("cpu")
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
OWN = """
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer

SMALL = dict(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=3, num_classes=2)


def vit():
    return VisionTransformer(**SMALL)


def placeless():
    return VisionTransformer(**SMALL, pos_embed="none")


def other():
    return VisionTransformer(**SMALL, block_fn=ResPostBlock)


def convolutions():
    layers = torch.nn.Conv2d(3, 10, 32), torch.nn.Flatten(), torch.nn.Linear(10, 10)
    return torch.nn.Sequential(*layers)
"""


def picture(path: Path, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, suites, weights and a model, as a user has them."""
    folder = tmp_path_factory.mktemp("advice")
    for split in ("train", "test"):
        for kind in ("a", "b"):
            for number in range(2):
                picture(folder / "classes" / split / kind / f"{number}.png")
    for name in NAMES:
        picture(folder / "ten" / name / "0.png")
        picture(folder / "cifar" / name / "0.png")
        picture(folder / "cifar" / name / "1.png")
    for wnid in ("n01440764", "n02102040"):
        picture(folder / "part" / wnid / "0.png")
    for number in range(4):
        picture(folder / "flat" / f"{number}.png")
    picture(folder / "large" / "0.png", 40)
    for name in ("texts", "empty"):
        (folder / name).mkdir()
    (folder / "texts" / "a.txt").write_text("no picture")
    (folder / "torn.yaml").write_text("attack: [")
    (folder / "list.yaml").write_text("- attack\n")
    (folder / "blocks.yaml").write_text("attack: mean\nmodel: vit_vanilla\nblocks: x\n")
    (folder / "good.yaml").write_text(
        "attack: [mean]\nmodel: vit_vanilla\nimages: 1\nset: [model.depth=1]\n"
    )
    (folder / "set.yaml").write_text(
        "attack: mean\nmodel: vit_vanilla\nimages: 1\nset: {model.depth: 1}\n"
    )
    for place in ("torn/cifar-10-batches-py", "junk"):
        (folder / place).mkdir(parents=True)
    (folder / "junk" / "checkpoint.safetensors").write_bytes(b"junk")
    (folder / "torn.st").write_bytes(b"nothing")
    (folder / "own.py").write_text(OWN)
    state = load("vit_vanilla", {"depth": 1}, (), "init", CPU).model.vit.state_dict()
    write_tensors(folder / "own.safetensors", dict(state), {})
    two = {"depth": 1, "num_classes": 2}
    state = load("vit_vanilla", two, (), "init", CPU).model.vit.state_dict()
    write_tensors(folder / "two.safetensors", dict(state), {})
    write_tensors(folder / "prior.safetensors", mobilenet_v2().state_dict(), {})
    return folder


def known(stop: Stop) -> str:
    return f"{stop.answer[:30].strip()}-{stop.choice or stop.advice}"[:60]


@pytest.mark.parametrize(
    "stop",
    [pytest.param(s, marks=pytest.mark.slow) if s.slow else s for s in STOPS],
    ids=[known(s) for s in STOPS],
)
def test_following_the_advice_gets_a_user_on(
    stop: Stop, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unplugged(*_: object, **__: object) -> NoReturn:
        raise OSError("no network")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("privbench.victims.weights.get_session", unplugged)
    monkeypatch.setattr(CIFAR10, "url", "file:///nowhere")
    folder = tmp_path / "shelf"
    shutil.copytree(shelf, folder)
    monkeypatch.chdir(folder)
    follow(stop, folder)


def test_each_text_with_advice_is_followed_or_is_named_as_open():
    parts = [stop.answer for stop in STOPS] + list(OPEN)
    missing = [
        f"{site.file}: {site.text}"
        for site in sites()
        if not any(part in site.text for part in parts)
    ]
    assert not missing, "add a Stop to tests/advice/stops_*.py for: " + "\n".join(missing)


def test_each_entry_is_about_a_text_that_is_there():
    texts = [site.text for site in sites()]
    gone = [
        part
        for part in [*OPEN, *(stop.answer for stop in STOPS)]
        if not any(part in text for text in texts)
    ]
    assert not gone
