"""An update that plain timm and torch made is judged without the truth."""

import pytest
import torch
from PIL import Image

import privbench
from privbench.auditing.audit import audit
from privbench.auditing.report import page
from privbench.errors import BadUpdate
from tests.audit import plain

NAME = f"timm:{plain.MODEL}"


@pytest.fixture(scope="module")
def client():
    net = plain.network()
    return net, dict(net.state_dict()), plain.step(net)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npz"])
def test_a_step_of_torch_is_proved_exact_from_any_file(client, tmp_path, suffix):
    _, before, after = client
    files = [plain.save(one, tmp_path / f"{n}{suffix}") for n, one in enumerate((before, after))]
    found = audit(NAME, *files, settings=plain.SIZE)
    assert found.sentence == "Exact: 1 of 1 picture, proved without the original."
    assert torch.equal((found.images * 255).round(), (plain.picture() * 255).round())
    assert found.labels == (3,)
    assert found.above(1000.0)


def test_a_program_audits_its_own_module_with_arrays_as_flower_sends_them(client):
    net, _, after = client
    arrays = [one.numpy() for one in after.values()]
    found = privbench.audit(net, after=arrays, lr=plain.RATE)
    assert found.kind == "exact"
    assert not found.notes


def test_the_module_is_left_as_it_was(client):
    net, before, after = client
    kept = {key: one.clone() for key, one in before.items()}
    audit(net, after, after | {"pos_embed": after["pos_embed"] * 1.001}, tier="smoke")
    assert all(torch.equal(one, kept[key]) for key, one in net.state_dict().items())


def test_a_gradient_is_audited_as_well(client):
    net = client[0]
    assert audit(net, gradient=plain.slopes(net)).kind == "exact"


def test_the_head_tells_an_unknown_rate(client):
    net, _, after = client
    assert "the head says 0.05" in " ".join(audit(net, after=after).notes)


def test_a_wrong_rate_is_told(client):
    net, _, after = client
    assert "2 times what one step" in " ".join(audit(net, after=after, lr=plain.RATE / 2).notes)


@pytest.mark.slow
def test_a_head_alone_has_a_verdict_of_its_own(client):
    net = client[0]
    found = audit(net, after=plain.step(net, "head"), tier="smoke")
    assert found.kind == "head"
    assert "only the head was trained" in found.sentence
    assert not found.above(0.0)


def test_a_frozen_position_table_is_named_and_no_closed_form_that_needs_it_runs(client):
    net = client[0]
    after = plain.step(net)
    after["pos_embed"] = net.state_dict()["pos_embed"]
    found = audit(net, after=after, tier="smoke")
    assert any("taken as withheld: pos_embed." in note for note in found.notes)
    [row] = [row for row in found.attacks if row.name == "pe_ls"]
    assert row.distance is None
    assert "reads the gradient of backbone.pos_embed" in row.had


def test_absent_tensors_are_as_frozen_ones(client):
    net, before, after = client
    rest = {key: one for key, one in after.items() if key != "pos_embed"}
    found = audit(net, before, rest, tier="smoke")
    assert any("taken as withheld: pos_embed." in note for note in found.notes)


def test_adapters_and_short_numbers_are_named(client):
    net, before, after = client
    extra = {f"blocks.0.attn.qkv.lora_A.{n}": torch.ones(2, 192) for n in ("a", "b")}
    short = {key: one.bfloat16() for key, one in after.items()}
    said = " ".join(audit(net, before | extra, short | extra, tier="smoke").notes)
    assert "2 tensors of an adapter" in said
    assert "bfloat16" in said


def test_noise_is_not_proved_exact(client):
    net, _, after = client
    rng = torch.Generator().manual_seed(0)
    noisy = {k: t + 1e-4 * torch.randn(t.shape, generator=rng) for k, t in after.items()}
    found = audit(net, after=noisy, lr=plain.RATE, tier="smoke")
    assert found.kind != "exact"


def test_with_the_truth_it_is_scored(client, tmp_path):
    net, _, after = client
    pixels = (plain.picture()[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = audit(net, after=after, truth=tmp_path)
    assert found.score is not None
    assert found.score.psnr == 100
    assert "Measured: 100.0 dB" in found.sentence


def test_the_page_escapes_what_a_title_holds(client):
    net, _, after = client
    text = page(audit(net, after=after), "<script>alert(1)</script>", {"<b>": b""})
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text


def noisy(client, sigma):
    rng = torch.Generator().manual_seed(0)
    return {k: t + sigma * torch.randn(t.shape, generator=rng) for k, t in client[2].items()}


@pytest.mark.slow
def test_known_noise_is_no_other_training(client):
    net = client[0]
    with pytest.raises(BadUpdate, match="--noise"):
        audit(net, after=noisy(client, 1.0), lr=plain.RATE)
    found = audit(net, after=noisy(client, 1.0), lr=plain.RATE, noise=1.0, tier="smoke")
    assert found.kind == "open"
    assert any("Noise of 1 was added" in note for note in found.notes)


def test_several_steps_on_one_picture_are_proved_exact(client):
    net = client[0]
    found = audit(net, after=plain.step(net, count=3), lr=plain.RATE, steps=3, tier="smoke")
    assert found.kind == "exact"
    assert torch.equal((found.images * 255).round(), (plain.picture() * 255).round())


@pytest.mark.slow
def test_the_wrong_number_of_steps_proves_nothing(client):
    net = client[0]
    found = audit(net, after=plain.step(net, count=3), lr=plain.RATE, steps=2, tier="smoke")
    assert found.kind != "exact"


@pytest.mark.slow
def test_a_step_of_adamw_is_simulated(client):
    net = client[0]
    after = plain.step(net, rate=1e-3, kind=torch.optim.AdamW)
    found = audit(net, after=after, lr=1e-3, optimizer="adamw", tier="smoke")
    assert any("first step of AdamW" in note for note in found.notes)
    assert found.flat < 1.9
    assert found.distance <= found.flat
