"""Weights files: torn, forged or of something else, each is loaded or refused in a sentence."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor

from privbench.training.checkpoint import write_tensors
from privbench.training.origin import start_from
from privbench.victims.cards import card
from privbench.victims.import_checkpoint import import_weights
from privbench.victims.load import load
from tests.fuzz.civil import civil, sizes, trees

CPU = torch.device("cpu")
TINY = {"depth": 1, "embed_dim": 8, "num_heads": 1, "img_size": 8, "patch_size": 4}
FIRST = "backbone.cls_token"
Header = dict[str, Any]

lengths = st.sampled_from([0, 1, 7, 10**5, 10**8, 2**31, 2**63, 2**64 - 1])
nasty = (
    trees
    | st.sampled_from(["F64", "I64", "BOOL", "F8_E4M3", "BF16", "F16", "C64", "U8", "NOPE", ""])
    | st.lists(st.integers(-2, 2**40), max_size=4)
    | st.sampled_from([[0, 0], [0, 10**12], [8, 0], [-1, 4], [[0]], [2**64, 2**65]])
)
fields = st.sampled_from(["dtype", "shape", "data_offsets"])
cards = st.dictionaries(st.text(max_size=5), st.text(max_size=30) | trees) | trees


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    vit = load("vit_vanilla", TINY, (), "init", CPU).model.vit
    return {key: tensor.clone() for key, tensor in vit.state_dict().items()}


@st.composite
def forgeries(draw: st.DrawFn) -> tuple[str, Any]:
    """Draw one change of a file, as its name and what it needs."""
    kind = draw(st.sampled_from(["cut", "byte", "length", "field", "entry", "metadata", "card"]))
    if kind == "cut":
        return kind, draw(st.floats(0, 1))
    if kind == "byte":
        return kind, (draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 255)))
    if kind == "length":
        return kind, draw(lengths)
    if kind == "field":
        return kind, (draw(fields), draw(nasty))
    if kind == "entry":
        return kind, (draw(st.text(max_size=9)), draw(nasty))
    return kind, draw(cards)


def forged(content: bytes, kind: str, given_: Any) -> bytes:
    """Apply one change to a safetensors file."""
    if kind == "cut":
        return content[: int(given_ * len(content))]
    if kind == "byte":
        at = int(given_[0] * min(len(content), 2000))
        return content[:at] + bytes([given_[1]]) + content[at + 1 :]
    if kind == "length":
        return struct.pack("<Q", given_) + content[8:]
    size = struct.unpack("<Q", content[:8])[0]
    header: Header = json.loads(content[8 : 8 + size])
    if kind == "field":
        header[FIRST][given_[0]] = given_[1]
    elif kind == "entry":
        header[given_[0]] = given_[1]
    elif kind == "metadata":
        header["__metadata__"] = given_
    else:
        header["__metadata__"] = {"card": json.dumps(given_)}
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


@sizes
def test_any_weights_file_is_loaded_or_refused(
    inputs: settings, tmp_path: Path, state: dict[str, Tensor]
):
    file, out = tmp_path / "forged.safetensors", tmp_path / "out.safetensors"
    write_tensors(tmp_path / "good.safetensors", state, {"card": json.dumps({"model": "x"})})
    good = (tmp_path / "good.safetensors").read_bytes()
    victim = load("vit_vanilla", TINY, (), "init", CPU)

    @inputs
    @seed(5)
    @given(change=forgeries())
    @example(change=("cut", 0.0))
    @example(change=("length", 2**64 - 1))
    @example(change=("length", 0))
    @example(change=("card", {"settings": None, "model": 3}))
    @example(change=("card", {"mean": "x", "settings": {"num_classes": "ten"}}))
    @example(change=("field", ("dtype", "F64")))
    @example(change=("field", ("shape", [2**62, 2**62])))
    def check(change: tuple[str, Any]) -> None:
        content = forged(good, *change)
        file.write_bytes(content)
        civil(lambda: load("vit_vanilla", TINY, (), str(file), CPU))
        civil(lambda: start_from(victim, "vit_vanilla", TINY, str(file)))
        civil(lambda: import_weights(file, "vit_vanilla", out, TINY))
        assert isinstance(card(file), dict | None)
        assert file.read_bytes() == content

    check()


@sizes
def test_any_pickled_checkpoint_is_imported_or_refused(
    inputs: settings, tmp_path: Path, state: dict[str, Tensor]
):
    file, out = tmp_path / "forged.pth", tmp_path / "out.safetensors"
    plain = {key.removeprefix("backbone."): tensor for key, tensor in state.items()}
    odd = st.sampled_from(
        [
            torch.zeros(0),
            torch.zeros(()),
            torch.full((1, 1, 8), float("nan")),
            torch.zeros(1, 1, 8, dtype=torch.int8),
            torch.zeros(1, 1, 8, dtype=torch.complex64),
            torch.zeros(1, 1, 8).to_sparse(),
            torch.zeros(1, 1, 8, device="meta"),
            torch.zeros(1, 1, 8, dtype=torch.float64),
        ]
    )
    keys = st.sampled_from([*plain, "dlocr.0.weight", "pos_embed.weight", "x"]) | st.text(
        max_size=5
    )
    wrappers = st.sampled_from(["model", "state_dict", "model_ema", "net", "", None])

    @inputs
    @seed(6)
    @given(key=keys, value=odd | trees, wrapper=wrappers, part=st.floats(0.5, 1) | st.just(1.0))
    def check(key: str, value: Any, wrapper: str | None, part: float) -> None:
        content: Any = {**plain, key: value}
        torch.save(content if wrapper is None else {wrapper: content}, file)
        whole = file.read_bytes()
        file.write_bytes(whole[: int(part * len(whole))])
        civil(lambda: import_weights(file, "vit_vanilla", out, TINY))

    check()
