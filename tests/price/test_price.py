"""A price is what it says: paired, resumable, of the pictures and bytes that were really there."""

import json
from math import ceil

import pandas as pd
import pytest
import torch
from PIL import Image

from privbench.component import Part, names
from privbench.price import federation, plan, protocol
from privbench.price.federation import epoch
from privbench.price.protocol import Form
from privbench.price.run import price
from privbench.price.start import start
from privbench.price.table import join_table, price_table
from privbench.price.wire import bytes_of
from privbench.records.price import PriceCase, PriceRecord, PriceStore
from privbench.reports.joined import figures, joined
from privbench.running.jobs import Recipe
from privbench.running.suite import single
from privbench.running.victims import Victims
from tests.commands import caller
from tests.conftest import CPU, quiet

TINY = {"img_size": 8, "depth": 1, "embed_dim": 8, "num_heads": 2}
STEPS, TESTED = 4, 20


@pytest.fixture
def call(monkeypatch, capsys):
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twenty training and thirty test pictures, one flat color for each of ten classes."""
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 2), ("test", 3)):
        for label in range(10):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                color = (25 * label, 255 - 25 * label, (60 * label + 9 * number) % 256)
                Image.new("RGB", (8, 8), color).save(place / f"{number}.png")
    return folder


@pytest.fixture
def small(monkeypatch):
    """A protocol of two clients with three pictures each, and a short form of four steps."""
    numbers = protocol.Protocol(clients=2, pictures=3, length=3.0)
    monkeypatch.setattr(protocol, "SHORT", Form("short", STEPS, TESTED))
    monkeypatch.setattr(federation, "SAVED_EVERY", 1)
    for module in (protocol, federation, plan):
        monkeypatch.setattr(module, "PROTOCOL", numbers)
    return numbers


def words(root, out, *more):
    given = [w for key, value in TINY.items() for w in ("--set", f"model.{key}={value}")]
    fixed = ["price", "--short", "--model", "vit_vanilla", "--weights", "init"]
    return [*fixed, "--dataset", "folder", "--data-root", root, *given, "--out", out, *more]


def found(out):
    return {one.case.defended: one for one in PriceStore(out).records()}


def test_the_terminal_prices_in_pairs_and_what_it_writes_joins_the_leaderboard(
    call, root, tmp_path, small
):
    code, printed, _ = call(*words(root, tmp_path, "--defense", "sign,head_only"))
    assert code == 0
    assert "points of top-1 that a defense costs" in printed
    records = found(tmp_path)
    assert set(records) == {"none", "sign", "head_only"}
    assert len({one.case.pair for one in records.values()}) == 1
    assert all(one.case.n == TESTED == len(one.right) for one in records.values())
    assert records["none"].right != records["sign"].right
    table = pd.read_csv(tmp_path / "price.csv").set_index("defense")
    expected = (sum(records["none"].hits) - sum(records["sign"].hits)) / TESTED
    assert table.loc["sign", "price"] == pytest.approx(expected)
    assert pd.isna(table.loc["none", "price"])
    head = 10 * 8 + 10
    assert records["head_only"].entries == head
    assert records["head_only"].sent == 4 * head
    row = {"model": records["sign"].case.model.label, "weights": "init", "defense": "sign"}
    row |= {"weights_sha256": records["sign"].case.weights_sha256[:12], "seed": 5}
    joins = figures(joined(tmp_path), row)
    assert joins["price_points"] == pytest.approx(100 * expected)
    assert not figures(joined(tmp_path), row | {"defense": "none"})
    before = {name: one.seconds for name, one in records.items()}
    assert call(*words(root, tmp_path, "--defense", "sign"))[0] == 0
    assert {name: one.seconds for name, one in found(tmp_path).items()} == before


def test_a_stopped_training_ends_as_an_undisturbed_one(call, root, tmp_path, small, monkeypatch):
    given = ("--defense", "noise", "--set", "defense.sigma=1.0")
    assert call(*words(root, tmp_path / "a", *given))[0] == 0
    take, stops = federation.take, iter([False, False, True, False, False, False, True])

    def stop(*arguments):
        if next(stops, False):
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(federation, "take", stop)
    assert call(*words(root, tmp_path / "b", *given))[0] != 0
    assert not found(tmp_path / "b")
    assert list(tmp_path.glob("b/prices/*/*.safetensors"))
    assert call(*words(root, tmp_path / "b", *given))[0] != 0
    assert set(found(tmp_path / "b")) == {"none"}
    assert call(*words(root, tmp_path / "b", *given))[0] == 0
    one, two = found(tmp_path / "a"), found(tmp_path / "b")
    assert {n: (r.right, r.sent) for n, r in one.items()} == {
        n: (r.right, r.sent) for n, r in two.items()
    }
    assert not list(tmp_path.glob("b/prices/*/*.safetensors"))


def test_every_defense_of_the_shelf_has_a_price(root, tmp_path, small):
    """By the client's own step: those that mix pictures, clip examples or add to the network."""
    settings = [f"model.{key}={value}" for key, value in TINY.items()]
    given = {"model": "vit_vanilla", "weights": "init", "dataset": "folder", "data_root": root}
    every = names("defenses")
    request = single(plan.Request, given | {"defense": every, "set": settings}, None)
    records = price(request, Form("short", 1, 10), "cpu", tmp_path, quiet)
    assert {one.case.defended for one in records} == set(every)
    assert all(one.entries > 0 and one.sent > 0 for one in records)
    assert len({one.case.pair for one in records}) == 1


def test_every_epoch_is_a_permutation_that_no_defense_decides(small):
    first = [epoch(20, step, 0) for step in range(3)]
    assert len({n for step in first for n in step}) == 18
    assert first == [epoch(20, step, 0) for step in range(3)]
    assert epoch(20, 3, 0) != first[0]
    assert epoch(20, 0, 1) != first[0]


def test_a_step_is_the_mean_of_the_clients_updates_at_the_length_of_the_protocol(
    victim, pictures, small
):
    """By plain gradients of each client's pictures, in the second of four steps."""
    from privbench.client_step import ClientStep

    model = victim("vit_vanilla", depth=1, embed_dim=8, num_heads=2).model
    images, labels = pictures(6)
    slopes = [
        ClientStep(model.vit, model.defense).gradient(images[rows], labels[rows])
        for rows in (slice(0, 3), slice(3, 6))
    ]
    whole = {name: (slopes[0][name] + slopes[1][name]) / 2 for name in slopes[0]}
    norm = sum(float(t.square().sum()) for t in whole.values()) ** 0.5
    before = {name: p.detach().clone() for name, p in model.vit.trained().items()}
    federation.take(model, images, labels, federation.Progress(step=1), 4, 0, 0.0)
    for name, parameter in model.vit.trained().items():
        moved = before[name] - parameter.detach()
        assert torch.allclose(moved, small.length * 0.75 * whole[name] / norm, atol=1e-6)


def test_trained_weights_start_between_what_they_were_and_what_they_became():
    victims = Victims(CPU)
    recipe = Recipe("vit_vanilla", {}, (), None)
    weights, share = start(recipe, victims.get(recipe), victims, 0.25)
    ends = [
        victims.get(Recipe("vit_vanilla", {}, (), name)).model.vit.state_dict()
        for name in ("init", "trained")
    ]
    assert share == 0.25
    for name, tensor in weights.items():
        expected = 0.75 * ends[0][name] + 0.25 * ends[1][name]
        assert torch.allclose(tensor, expected, atol=1e-6)
    drawn = Recipe("vit_vanilla", {}, (), "init")
    assert start(drawn, victims.get(drawn), victims, 0.25)[1] == 1.0


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.randn(100, generator=torch.Generator().manual_seed(0)).repeat(5), 100 * 4 + 438),
        (torch.linspace(0.1, 1, 300), 1200),  # 300 values: as they are
        (torch.linspace(0.1, 1, 300).bfloat16().float(), 600),  # nothing is lost by 16 bits
        (torch.tensor([1.0, -1.0]).repeat(40), 8 + 10),  # two values, a bit each
        (torch.tensor([1.0, 0.0, -1.0]).repeat(40), 15 + 10 + 8),  # a map, signs, their table
        (torch.zeros(50), 0),
    ],
)
def test_bytes_are_those_of_the_shortest_plain_form(tensor, expected):
    assert bytes_of({"a": tensor}) == expected


def test_pruned_entries_are_sent_with_their_places_or_behind_a_map():
    entries = torch.randn(4096, generator=torch.Generator().manual_seed(1))
    few, half = torch.zeros(4096), entries.clone()
    few[::128] = entries[::128]
    half[::2] = 0
    assert bytes_of({"a": few}) == ceil(32 * (12 + 32) / 8)
    assert bytes_of({"a": half}) == (4096 + 2048 * 32) / 8
    assert bytes_of({"a": few, "b": half}) == bytes_of({"a": few}) + bytes_of({"b": half})


def record(defense, right, form="full", seed=0):
    case = PriceCase(
        price=Part("federated_sgd", form, 1, {"form": form}),
        model=Part("vit", "vit", 1, {}),
        control=None,
        weights="trained",
        weights_sha256="1e5" + "0" * 61,
        start_sha256="b",
        defense=(Part(defense, defense, 1, {}),),
        dataset=Part("cifar10", "cifar10", 1, {}),
        train_sha256="c",
        images_sha256="d",
        n=len(right),
        seed=seed,
    )
    return PriceRecord(case, right, before=0, sent=4.0, entries=1, seconds=1.0)


def test_a_key_stays_what_it_was():
    """Records on disk are found by it: as of the first release that priced."""
    assert record("noise", "1100").case.key == (
        "b7abb92e55c5ac15db7edaec146f91d902bce6d981109cd4e98ab1955cbc8321"
    )


def test_the_interval_is_of_the_paired_difference(tmp_path):
    """Equal accuracies of opposite answers, and the same answers, have the same price of zero."""
    same, other = record("round", "1100" * 100), record("noise", "0011" * 100)
    table = price_table([record("none", "1100" * 100), same, other]).set_index("defense")
    assert table.loc["round", ["price", "price_lo", "price_hi"]].tolist() == [0, 0, 0]
    assert table.loc["noise", "price"] == 0
    assert table.loc["noise", "price_hi"] == pytest.approx(1.96 / 20, rel=0.1)
    assert table.loc["noise", "top1"] == table.loc["none", "top1"] == 0.5


def test_the_full_form_joins_before_the_short_one(tmp_path):
    records = [
        record(defense, right, form)
        for form, lost in (("full", "1000"), ("short", "0000"))
        for defense, right in (("none", "1111"), ("noise", lost))
    ]
    rows = join_table(price_table(records)).to_dict("records")
    assert [(row["price_points"], row["price_form"]) for row in rows] == [(75, "full")]
    [row] = join_table(price_table(records[2:])).to_dict("records")
    assert (row["price_points"], row["price_form"]) == (100, "short")
    assert rows[0]["weights_sha256"] == "1e5000000000"


def test_a_record_of_other_answers_than_pictures_is_none():
    one = record("none", "1100")
    assert PriceRecord.from_json(one.to_json()) == one
    content = json.loads(one.to_json())
    assert content["right"] == "1100"
    with pytest.raises(ValueError, match="more or fewer"):
        record("none", "11x0").check()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--defense", "noize"), "Did you mean 'noise'?"),
        (("--set", "threat.local_steps=2"), "Leave threat.local_steps out."),
        (("--defense", "withhold", "--set", "defense.tensors='*'"), "share nothing"),
        (("--defense", "noise", "--set", "defense.sigma=-1"), "sigma"),
        (("--defense", "prune", "--set", "defense.feedback=true"), "Price it without feedback"),
        (("--data-root", "nowhere"), "is not a folder"),
    ],
)
def test_bad_input_is_a_sentence(call, root, tmp_path, small, more, sentence):
    code, _, told = call(*words(root, tmp_path, *more))
    assert code == 2
    assert sentence in told
    assert not list(tmp_path.rglob("*.json"))


def test_a_step_takes_more_pictures_than_there_are(call, root, tmp_path):
    code, _, told = call(*words(root, tmp_path))
    assert code == 2
    assert "A step takes 128 pictures, and folder has 20 to train on." in told


def test_a_dry_run_writes_nothing(call, root, tmp_path, small):
    code, printed, _ = call(*words(root, tmp_path / "new", "--defense", "noise", "--dry-run"))
    assert code == 0
    assert "2 trainings: 0 on record, 2 to run" in printed
    assert not (tmp_path / "new").exists()
