"""The command line does what its help says, and loads no more than it needs."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import privbench
from privbench.records.case import Record
from privbench.records.store import Store
from tests.commands import TINY, Call, caller

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "run",
    "train",
    "eval",
    "import-weights",
    "study",
    "list",
    "show",
    "leaderboard",
    "grid",
    "report",
)
PROGRAM = """
import sys
sys.argv = ["privbench", *sys.argv[1:]]
from privbench.cli.main import main
try:
    main()
finally:
    print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def records(out: Path) -> list[Record]:
    return list(Store(out).records())


def attacked(out: Path) -> set[tuple[str, str, str]]:
    return {(r.case.attack.label, r.case.model.label, r.case.defended) for r in records(out)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A real run in a process of its own."""
    out = tmp_path_factory.mktemp("run") / "results"
    arguments = ["run", "--attack", "mean,pe_ls", "--model", "vit_vanilla,vit_mjp"]
    arguments += ["--images", "2", "--set", "model.depth=1"]
    return out, process("-m", "privbench", *arguments, "--out", out)


HEAVY = ("torch", "torchvision", "timm", "lpips", "matplotlib")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], (*HEAVY, "pydantic", "pandas", "scipy", "numpy")),
        (["run", "--help"], (*HEAVY, "pandas", "scipy", "numpy")),  # typer may load pydantic
        (["list"], (*HEAVY, "pandas", "scipy")),
        (["list", "attacks"], (*HEAVY, "pandas", "scipy")),
        (["leaderboard"], HEAVY),
        (["report"], ("torch", "torchvision", "timm", "lpips")),
    ],
    ids=lambda words: "-".join(words) if len(words) < 5 else "",
)
def test_nothing_heavy_is_loaded(arguments, unwanted, ran):
    folder = ["--out", ran[0]] if arguments in (["leaderboard"], ["report"]) else []
    result = process("-c", PROGRAM, *arguments, *folder)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.rpartition("LOADED")[2].split())
    assert "typer" in loaded
    assert not loaded & set(unwanted)


@pytest.mark.parametrize("program", [["-m", "privbench"], [f"{sys.prefix}/bin/privbench"]])
def test_help_names_every_command(program):
    if program[0] != "-m" and not Path(program[0]).is_file():
        pytest.skip("not installed as a command")
    command = [sys.executable, *program, "--help"] if program[0] == "-m" else [*program, "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0
    assert all(f" {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, call):
    code, out, _ = call(name, "--help")
    assert code == 0
    assert "Usage" in out


def test_list_shows_every_shelf_and_a_line_of_each(call):
    code, out, err = call("list")
    assert (code, err) == (0, "")
    for name in ("pe_ls", "withhold", "vit_mjp_small", "cifar10", "psnr_matched", "demo"):
        assert f" {name} " in out


def test_list_of_one_shelf_shows_that_alone(call):
    _, out, _ = call("list", "attacks")
    assert "Needs: positions, stem." in " ".join(out.split())
    assert "vit_mjp" not in out


def test_show_gives_source_settings_defaults_and_notes(call):
    _, out, _ = call("show", "gradinv")
    assert "gradinv (attack)" in out
    assert "arXiv:2003.14053" in out
    _, out, _ = call("show", "noise")
    assert "0.01" in out
    assert "Whether sigma is in units of each tensor's root mean square." in out
    _, out, _ = call("show", "vit_mjp")
    assert "scheme" in out
    assert "ratio 0.3" in out


def test_a_run_prints_a_table_and_where_everything_is(ran):
    out, result = ran
    assert result.returncode == 0, result.stderr
    for words in ("PSNR, dB", "vit_mjp(depth=1)", "vit_vanilla(depth=1)", "pe_ls", "mean"):
        assert words in result.stdout
    paths = [line.split(": ", 1)[1] for line in result.stdout.splitlines() if str(out) in line]
    assert len(paths) == 4, "a table, a grid per victim, one of both"
    assert all(Path(path).stat().st_size > 500 for path in paths)
    assert len(records(out)) == 8
    assert all(Store(out).path(r.case, ".png").is_file() for r in records(out))
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr


def test_the_table_of_the_run_is_the_file(ran):
    table = pd.read_csv(ran[0] / "leaderboard.csv").set_index(["model", "attack"])
    assert len(table) == 4
    assert table.loc[("vit_vanilla(depth=1)", "pe_ls"), "psnr"] > 60
    assert table.loc[("vit_mjp(depth=1)", "pe_ls"), "psnr_control"] > 60
    assert table.loc[("vit_mjp(depth=1)", "pe_ls"), "psnr"] < 20, "masked patches are a guess"


def test_leaderboard_writes_the_same_file_again(ran, call):
    before = (ran[0] / "leaderboard.csv").read_bytes()
    (ran[0] / "leaderboard.csv").unlink()
    code, out, _ = call("leaderboard", "--out", ran[0])
    assert code == 0
    assert "pe_ls" in out
    assert (ran[0] / "leaderboard.csv").read_bytes() == before


def test_grid_draws_what_is_chosen(ran, call):
    code, out, _ = call("grid", "--out", ran[0])
    assert (code, out.count("Grid: ")) == (0, 2)
    _, out, _ = call("grid", "--out", ran[0], "--model", "vit_mjp", "--attack", "pe_ls,mean")
    assert out.count("Grid: ") == 1
    assert "vit_mjp" in out
    _, out, _ = call("grid", "--out", ran[0], "--side-by-side")
    assert [line for line in out.splitlines() if line] == [
        f"Grid: {ran[0] / 'grids' / 'side-by-side.png'}"
    ]


def test_grid_names_the_nearest_attack_that_has_records(ran, call):
    code, _, err = call("grid", "--out", ran[0], "--attack", "pe_sl")
    assert code == 2
    assert "Did you mean 'pe_ls'?" in err


def test_a_program_gets_the_rows_of_its_run(ran):
    table = privbench.run(
        attack="pe_ls", model=["vit_vanilla"], images=2, set=["model.depth=1"], out=ran[0]
    )
    assert isinstance(table, pd.DataFrame)
    [row] = table.to_dict("records")
    assert (row["attack"], row["model"], row["n"]) == ("pe_ls", "vit_vanilla(depth=1)", 2)
    assert row["psnr"] > 60


def test_repeated_and_comma_separated_options_are_one_product(call, tmp_path):
    names = ["--attack", "mean, pe_ls", "--model", "vit_vanilla", "--model", "vit_shuffle"]
    code, _, _ = call(
        "run",
        *names,
        "--defense",
        "none,noise",
        "--defense",
        "clip+round",
        *TINY,
        "--out",
        tmp_path,
    )
    assert code == 0
    assert attacked(tmp_path) == {
        (attack, model, defense)
        for attack in ("mean", "pe_ls")
        for model in ("vit_vanilla(depth=1)", "vit_shuffle(depth=1)")
        for defense in ("none", "noise", "clip+round")
    }


def test_numbers_name_pictures_and_batches_share_an_update(call, tmp_path):
    mean = ("run", "--attack", "mean", "--model", "vit_vanilla", "--set", "model.depth=1")
    call(*mean, "--images", "7,3,5,4", "--batch-size", "2", "--out", tmp_path)
    assert {record.case.images for record in records(tmp_path)} == {(7, 3), (5, 4)}
    assert {record.case.known for record in records(tmp_path)} == {"knows nothing, batch 2"}


def test_settings_reach_every_section(call, tmp_path):
    assignments = [
        "attack.threshold=1e-9",
        "defense.noise.sigma=0.5",
        "defense.clip.norm=2",
        "model.depth=1",
        "model.ratio=0.5",
        "threat.knows=labels",
        "dataset.split=test",
    ]
    names = ["--attack", "mean,pe_ls", "--model", "vit_mjp", "--defense", "noise+clip"]
    given = [word for one in assignments for word in ("--set", one)]
    code, _, err = call("run", *names, "--images", "1", *given, "--out", tmp_path)
    assert code == 0, err
    assert attacked(tmp_path) == {
        (attack, "vit_mjp(depth=1, ratio=0.5)", "noise(sigma=0.5)+clip(norm=2.0)")
        for attack in ("mean", "pe_ls(threshold=1e-09)")
    }
    for record in records(tmp_path):
        assert record.case.threat["knows"] == ["labels"]
        assert record.case.dataset.settings["split"] == "test"


def test_a_setting_may_be_meant_for_one_of_several(call, tmp_path):
    names = ["--attack", "mean", "--model", "vit_mjp,vit_shuffle"]
    call("run", *names, *TINY, "--set", "model.vit_mjp.ratio=0.5", "--out", tmp_path)
    models = {model for _, model, _ in attacked(tmp_path)}
    assert models == {"vit_mjp(depth=1, ratio=0.5)", "vit_shuffle(depth=1)"}


SUITE = """
attack: [mean, {name: pe_ls, settings: {threshold: 1.0e-9}}]
model: vit_vanilla
defense: noise
images: 2
set: [model.depth=1, defense.sigma=0.5]
"""


def test_a_suite_file_is_run_as_it_is(call, tmp_path):
    (tmp_path / "mine.yaml").write_text(SUITE)
    assert call("run", "--suite", tmp_path / "mine.yaml", "--out", tmp_path / "out")[0] == 0
    assert attacked(tmp_path / "out") == {
        (attack, "vit_vanilla(depth=1)", "noise(sigma=0.5)")
        for attack in ("mean", "pe_ls(threshold=1e-09)")
    }
    assert len(records(tmp_path / "out")) == 4


def test_options_win_over_the_suite_file_and_settings_add_up(call, tmp_path):
    (tmp_path / "mine.yml").write_text(SUITE)
    options = ["--attack", "mean", "--images", "5", "--set", "defense.sigma=0.25", "--seed", "3"]
    call("run", "--suite", tmp_path / "mine.yml", *options, "--out", tmp_path / "out")
    [record] = [r for r in records(tmp_path / "out") if r.case.images == (4,)]
    assert len(records(tmp_path / "out")) == 5
    assert record.case.seed == 3
    assert attacked(tmp_path / "out") == {("mean", "vit_vanilla(depth=1)", "noise(sigma=0.25)")}


def test_brackets_in_names_are_printed_as_they_are(call, tmp_path):
    out = tmp_path / "a[b] [/c]"
    pattern = "backbone.pos_[a-e]mbed"
    mean = (
        "run",
        "--attack",
        "mean",
        "--model",
        "vit_vanilla",
        *TINY,
        "--defense",
        "withhold,none",
    )
    code, printed, err = call(*mean, "--set", f"defense.tensors={pattern}", "--out", out)
    assert code == 0, err
    assert str(out / "leaderboard.csv") in printed
    assert pattern in printed


def test_ctrl_c_says_how_to_go_on(call, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("privbench.running.executors.threads.run_together", interrupt)
    mean = ("run", "--attack", "mean", "--model", "vit_vanilla", *TINY)
    code, _, err = call(*mean, "--out", tmp_path)
    assert code == 130
    assert "The same command finishes what is missing." in err


def test_a_tier_is_a_setting_of_the_attack(call, tmp_path):
    given = ("run", "--attack", "auto", "--model", "vit_vanilla", "--set", "model.depth=1")
    code, _, _ = call(*given, "--images", "1", "--tier", "smoke", "--out", tmp_path)
    assert code == 0
    assert "auto(tier=smoke)" in (tmp_path / "leaderboard.csv").read_text()
    code, _, err = call(*given, "--tier", "huge", "--out", tmp_path)
    assert code == 2
    assert "huge" in err
