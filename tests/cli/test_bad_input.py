"""A user's mistake is one or two sentences, exit code 2, and costs nothing that was there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import typer
from safetensors.torch import save_file

from privbench.api import run
from privbench.cli.main import app
from privbench.cli.options import place
from tests.commands import Call, caller, contents

FILES = {
    "torn.safetensors": b"nothing of the kind",
    "torn.yaml": b"attack: [",
    "list.yaml": b"- attack\n",
    "empty.yaml": b"",
    "latin.yaml": b"attack: \xff\xfe\n",
    "field.yaml": b"attack: mean\nmodel: vit_vanilla\nimagse: 3\n",
    "entry.yaml": b"attack: [{name: mean, setings: {}}]\nmodel: vit_vanilla\n",
    "blocks.yaml": b"attack: mean\nmodel: vit_vanilla\nblocks: {attack: pe_ls}\n",
    "block.yaml": b"attack: mean\nmodel: vit_vanilla\nblocks: [{imagse: 3}]\n",
    "inner.yaml": b"attack: mean\nmodel: vit_vanilla\nblocks: [{version: 3}]\n",
    "bare.yaml": b"blocks: [{attack: mean}]\n",
    "version.yaml": b"version: two\nattack: mean\nmodel: vit_vanilla\n",
    "seeds.yaml": b"attack: mean\nmodel: vit_vanilla\nseed: [0, 1, 0]\n",
    "noseed.yaml": b"attack: mean\nmodel: vit_vanilla\nseed: []\n",
    "oneseed.yaml": b"attack: mean\nmodel: vit_vanilla\nseed: [0, x]\n",
    "odd.yaml": b"attack: mean\nmodel: vit_vanilla\nimages: 4\nbatch_size: [1, 3]\n",
    "threat.yaml": b"attack: mean\nmodel: vit_vanilla\nthreat: [{wire: weight}]\n",
    "threats.yaml": b"attack: mean\nmodel: vit_vanilla\nthreat: wire\n",
    "many.yaml": b"attack: mean\nmodel: vit_vanilla\nseed: [" + b"1," * 2000 + b"]\n",
    "cost.yaml": b"attack: mean\nmodel: vit_vanilla\nseconds: 0\n",
    "number.yaml": b"attack: mean\nmodel: vit_vanilla\n3: 4\n",
    "blank.yaml": b"attack:\nmodel: vit_vanilla\n",
    "set.yaml": b"attack: mean\nmodel: vit_vanilla\nset: {model.depth: 1}\n",
    "none.yaml": b"attack: mean\nmodel: vit_vanilla\nimages: []\n",
    "depth.yaml": b"attack: mean\nmodel: [{name: vit_vanilla, settings: {depht: 1}}]\n",
    "file": b"no folder",
    "torn_pictures/a.png": b"\x89PNG\r\n\x1a\n torn",
    "texts/a.txt": b"no picture",
}
MEAN = ["run", "--attack", "mean", "--model", "vit_vanilla", "--images", "1"]
WHOLE = "is a whole number from 1 on, not"
KNOWN = (
    "Known: depth, dropout, embed_dim, first_block, global_pool, img_size, init_seed, "
    "mean, num_classes, num_heads, patch_size, position_std, std."
)

# What is typed after MEAN (a later option wins where one value is taken) and what is answered.
MISTAKES = {
    "--attack gradinf": "No attack is called 'gradinf'. Did you mean 'gradinv'? Known: april,",
    "--model vit_mpj": "No model is called 'vit_mpj'. Did you mean 'vit_mjp'? Known: vit_mjp,",
    "--defense nois": "No defense is called 'nois'. Did you mean 'noise'? Known: adapter,",
    "--defense clip+nois": "No defense is called 'nois'. Did you mean 'noise'?",
    "--defense clip+": "No defense is called ''. Known: adapter,",
    "--dataset cifar": "No dataset is called 'cifar'. Did you mean 'cifar10'? Known: cifar10,",
    "--suite demmo": "No suite is called 'demmo'. Did you mean 'demo'?",
    "--model timm:deit_smal_patch16_224": "Did you mean 'deit_small_patch16_224'?",
    "--model timm:": "No timm model is called ''. It is one of",
    "--model timm:resnet18": "Choose a ViT of timm, e.g. timm:deit_small",
    "--attack ,": "Nothing says which",
    # --set: names
    "--set attak.steps=3": "No section of --set is called 'attak'. Did you mean 'attack'?",
    "--set attack.step=3": "No setting of attack is called 'step'. There are none: leave it out.",
    "--attack gradinv --set attack.stepps=3": "'stepps'. Did you mean 'steps'? Known: ",
    "--attack gradinv --set attack.gradinv.stepps=3": "No setting of gradinv is called 'stepps'.",
    "--defense noise --set defense.sigm=1": "'sigm'. Did you mean 'sigma'? Known: distribution,",
    "--set model.dept=1": f"No setting of model is called 'dept'. Did you mean 'depth'? {KNOWN}",
    "--set threat.know=labels": "'know'. Did you mean 'knows'? Known: batch_size, clients, epochs,",
    "--set dataset.splitt=test": "No setting of cifar10 is called 'splitt'. Did you mean 'split'?",
    # --set: values
    "--attack gradinv --set attack.steps=fast": "gradinv: 'steps' cannot be 'fast'",
    "--attack gradinv --set attack.steps=-1": "gradinv: 'steps' cannot be -1: input should be gr",
    "--attack gradinv --set attack.steps=1.5": "gradinv: 'steps' cannot be 1.5",
    "--attack gradinv --set attack.steps=": "gradinv: 'steps' cannot be None",
    "--attack gradinv --set attack.steps={": "--set attack.steps: '{' is not a YAML value",
    "--defense noise --set defense.sigma=big": "noise: 'sigma' cannot be 'big': input should be a",
    "--defense noise --set defense.sigma=.inf": "'sigma' cannot be inf: input should be a finite",
    "--model vit_mjp --set model.ratio=2": "mjp: 'ratio' cannot be 2: input should be less than",
    "--model vit_mjp --set model.sampler=block": "input should be 'blockwise', 'blockwise_exact'",
    "--set model.depth=x": f"vit_vanilla: depth {WHOLE} 'x'.",
    "--set model.depth=0": f"vit_vanilla: depth {WHOLE} 0.",
    "--set model.depth=true": f"vit_vanilla: depth {WHOLE} True.",
    "--set model.num_classes=0": f"vit_vanilla: num_classes {WHOLE} 0.",
    "--set model.num_heads=3": "dim should be divisible by num_heads",
    "--set model.patch_size=5": "patches of 5 px do not divide pictures of 32 px; set img_size to",
    "--set model.init_seed=x": "init_seed is a whole number from 0 on, not 'x'.",
    "--set model.init_seed=99999999999999999999": "init_seed is a whole number from 0 on",
    "--set threat.knows=mask": "'knows.0' cannot be 'mask': input should be 'labels'.",
    "--set threat.batch_size=2": "Set the batch size with --batch-size, not with --set",
    "--set steps": "--set reads SECTION.KEY=VALUE, such as attack.steps=500; not 'steps'.",
    "--set attack.steps": "--set reads SECTION.KEY=VALUE, such as attack.steps=500; not",
    "--set attack=3": "--set reads SECTION.KEY=VALUE, such as attack.steps=500; not 'attack=3'.",
    # pictures
    "--dataset folder --data-root TMP/torn_pictures": "a.png' cannot be read: it is truncated or",
    "--dataset folder --data-root TMP/texts": "holds no pictures",
    "--dataset folder --data-root TMP/nowhere": "is not a folder. Name one with --data-root PATH.",
    "--dataset folder": "folder needs --data-root PATH",
    "--data-root TMP/nowhere": "is not a folder. Name one that holds CIFAR-10 with --data-root.",
    "--model vit_vanilla_small --dataset cifar10": "takes 224 px; choose --dataset photos or",
    "--images 0": "--images is a number from 1 on, or picture numbers such as 3,5,7; not '0'.",
    "--images -3": "--images is a number from 1 on, or picture numbers such as 3,5,7; not '-3'.",
    "--images x": "--images is a number from 1 on, or picture numbers such as 3,5,7; not 'x'.",
    "--images 3,x": "--images is a number from 1 on, or picture numbers such as 3,5,7; not",
    "--images 2.5": "--images is a number from 1 on",
    "--images 99999999999999999999": "--images is a number from 1 on",
    "--images ,": "Zero images: name at least one picture, such as --images 4.",
    "--images 5 --batch-size 2": "5 images do not divide into batches of 2; use --images 4.",
    "--batch-size 0": "'batch_size' cannot be 0: input should be greater than or equal to 1.",
    "--images 100,3": "cifar10 has 100 pictures, numbered 0 to 99; 100 is not one of them.",
    "--images 1000000000": "cifar10 has 100 pictures, numbered 0 to 99",
    # weights
    "--weights TMP/none.safetensors": "There is no weights file 'TMP/none.safetensors'. Name a",
    "--weights ini": "There is no weights file 'ini'. Name a safetensors file, or use",
    "--weights TMP/torn.safetensors": "cannot be read as safetensors",
    "--weights TMP/other.safetensors": "belongs to another model than vit_vanilla: ",
    "--model vit_wide --weights trained": "No trained weights come with vit_wide yet. Use `--weig",
    # devices and folders
    "--device cuda": "This computer has no CUDA device. Use --device cpu, or leave --device out.",
    "--device tpu": "No device is called 'tpu'. Did you mean 'cpu'? Known: auto, cpu, cuda.",
    "--out TMP/file": "Cannot write TMP/file/cases",
    "--out TMP/file/below": "Not a directory. All earlier results are kept; make room or name ano",
    # what does not go together
    "--model vit_mjp --defense shuffle": "mjp and shuffle both change the forward pass",
    "--defense shuffle+sincos": "shuffle and sincos both change the forward pass",
    "--defense withhold --set defense.tensors=backbone.hed.*": "No trained parameter is called",
    # suite files
    "--suite TMP/nowhere.yaml": "'TMP/nowhere.yaml' cannot be read (No such file or directory). B",
    "--suite TMP/torn.yaml": "Suite file 'TMP/torn.yaml' is not YAML. Write lines such as `attack",
    "--suite TMP/latin.yaml": "Suite file 'TMP/latin.yaml' is not YAML.",
    "--suite TMP/list.yaml": "holds no mapping; begin with `attack:` and `model:`.",
    "--suite TMP/empty.yaml": "holds no mapping; begin with `attack:` and `model:`.",
    "--suite TMP/field.yaml": "No suite field is called 'imagse'. Did you mean 'images'? Known: ",
    "--suite TMP/number.yaml": "No suite field is called '3'.",
    "--suite TMP/blocks.yaml": "`blocks` is a list of mappings, such as [{attack: pe_ls, images:",
    "--suite TMP/block.yaml": "No field of a block is called 'imagse'. Did you mean 'images'?",
    "--suite TMP/inner.yaml": "No field of a block is called 'version'.",
    "--suite TMP/version.yaml": "suite: 'version' is a whole number from 1 on, not 'two'; raise",
    "--suite TMP/threat.yaml": "threat: 'wire' cannot be 'weight': input should be 'gradient', ",
    "--suite TMP/cost.yaml": "suite: 'seconds' cannot be 0: input should be greater than 0.",
    "--suite TMP/set.yaml": "`set` is a list of SECTION.KEY=VALUE, such as [attack.steps=500].",
}

# Whole command lines.
COMMANDS = {
    "run": "Nothing says which attack to run. Add --attack NAME",
    "run --attack mean": "Nothing says which model to run. Add --model NAME",
    "run --suite TMP/blank.yaml": "Nothing says which attack to run. Add --attack NAME",
    "run --suite TMP/entry.yaml": "No field of attack is called 'setings'. Did you mean 'settings'",
    "run --suite TMP/bare.yaml": "Nothing says which model to run. Add --model NAME or a suite",
    "run --suite TMP/seeds.yaml": "suite: 'seed' lists a value twice. Name each once.",
    "run --suite TMP/noseed.yaml": "suite: 'seed' lists nothing. Name a value, or leave the field",
    "run --suite TMP/oneseed.yaml": "suite: 'seed' cannot be 'x': input should be a valid integer",
    "run --suite TMP/odd.yaml": "4 images do not divide into batches of 3; use --images 3.",
    "run --suite TMP/threats.yaml": "suite: 'threat' cannot be 'wire': input should be a valid",
    "run --suite TMP/many.yaml": "A suite of more than 1000 products of seeds, threat models and",
    "bound --suite standard": "Suite 'standard' has 42 products of blocks, seeds, threat models",
    "run --suite TMP/none.yaml": "Zero images: name at least one picture, such as --images 4.",
    "run --suite TMP/depth.yaml": "No setting of vit_vanilla is called 'depht'. Did you mean 'dep",
    "run --attack pe_ls --model vit_nope": "reads the gradient of backbone.pos_embed, which this",
    "list atacks": "No shelf is called 'atacks'. Did you mean 'attacks'? Known: attacks, datasets",
    "show gradinvv": "No component or preset is called 'gradinvv'. Did you mean 'gradinv'?",
    "grid --out TMP/texts": "No records under TMP/texts/cases. Run an attack first, such as `privb",
    "leaderboard --out TMP/texts": "No records under TMP/texts/cases. Run an attack first, such as",
    "leaderboard --out TMP/nowhere": "or name another --out.",
    "report --out TMP/nowhere": "or name another --out.",
    "grid --attack pe_sl": "No attack with records is called 'pe_sl'. Known: mean.",
    "grid --model vit_vanila": "Did you mean 'vit_vanilla'? Known: vit_vanilla, vit_vanilla(d",
}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are of no use, and beside them results that must not suffer."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    save_file({"backbone.cls_token": torch.zeros(3)}, folder / "other.safetensors")
    run("mean", "vit_vanilla", images=1, set=["model.depth=1"], out=folder / "results")
    return folder


def check(call: Call, folder: Path, arguments: list[str], answer: str) -> None:
    arguments = [word.replace("TMP", str(folder)) for word in arguments]
    if arguments[0] not in ("list", "show") and "--out" not in arguments:
        arguments += ["--out", str(folder / "results")]
    before = contents(folder)
    code, out, err = call(*arguments)
    assert code == 2, err
    assert err.startswith("Error: ")
    assert answer.replace("TMP", str(folder)) in err
    assert err.endswith((".\n", "?\n"))
    assert err.count("\n") == 1, "one line, that may hold two sentences"
    assert err.replace("e.g. ", "").count(". ") <= 2
    assert "Traceback" not in out + err
    assert contents(folder) == before, "nothing is lost and nothing is left behind"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(mistake, call, folder):
    words = mistake.split(" ")
    model = "model.depth=1"
    depth = [] if "small" in mistake or "timm:" in mistake else ["--set", model]
    replaced = {words[i] for i in range(0, len(words), 2)} & {"--attack", "--model"}
    start = [*MEAN, *depth]
    for option in replaced:
        at = start.index(option)
        del start[at : at + 2]
    check(call, folder, [*start, *words], MISTAKES[mistake])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_whole_command_that_cannot_be_is_answered_in_a_sentence(command, call, folder):
    check(call, folder, command.split(" "), COMMANDS[command])


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["run", "--nope"], "No such option"),
        (["run", "--seed", "x"], "--seed"),
        (["run", "--batch-size", "x"], "--batch-size"),
        (["runn"], "Did you mean 'run'"),
        (["show"], "Missing argument"),
        (["leaderboard", "--out", ""], "'--out': it is empty"),
        (["run", "--data-root", " "], "'--data-root': it is empty"),
        (["eval", "--model", "vit_vanilla", "--imagenet-c", ""], "'--imagenet-c': it is empty"),
        (["check", ""], "it is empty"),
    ],
    ids=" ".join,
)
def test_what_the_parser_refuses_ends_with_two_as_well(arguments, answer, call):
    code, _, err = call(*arguments)
    assert code == 2
    assert answer in err
    assert "Traceback" not in err


def test_a_refused_attack_says_what_to_grant_or_where_to_look(call, folder):
    _, _, err = call("run", "--attack", "pe_ls", "--model", "vit_nope", "--out", folder / "results")
    assert "Choose another attack (`privbench list attacks`) or another victim." in err


def test_a_mistake_makes_no_folder(call, tmp_path):
    assert call(*MEAN, "--device", "tpu", "--out", tmp_path / "new")[0] == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["leaderboard", "grid", "report"])
def test_a_corrupt_record_does_not_count_and_is_named(command, call, tmp_path):
    run = [*MEAN[:-1], "2", "--set", "model.depth=1", "--out", tmp_path]
    call(*run)
    bad, good = sorted(tmp_path.glob("cases/*/*.json"))
    bad.write_bytes(bad.read_bytes()[:100])
    before = good.read_bytes()
    code, out, err = call(command, "--out", tmp_path)
    assert code == 0
    assert "1 file is no record and does not count" in err
    assert f"  {bad}: breaks off, a file half-written" in err
    assert "vit_vanilla" in out
    assert good.read_bytes() == before
    assert "1 of 2 cases are on record already." in call(*run)[1]
    assert call(command, "--out", tmp_path)[2] == "", "the run has written it anew"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["run", "--attack", "gradinf", "--model", "vit_mjp"], "Did you mean 'gradinv'?"),
        ([*MEAN, "--images", "101", "--set", "model.depth=1"], "100 is not one of them."),
    ],
    ids=["name", "picture"],
)
def test_a_real_process_ends_with_two_and_prints_no_traceback(arguments, answer, tmp_path):
    command = [sys.executable, "-m", "privbench", *arguments, "--out", str(tmp_path / "out")]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert answer in result.stderr
    assert result.stderr.count("\n") == 1


def commands(app: typer.Typer) -> list[Callable[..., object]]:
    """Every command of a program, those of its groups, too."""
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance]
    found = [command.callback for command in app.registered_commands if command.callback]
    return [*found, *(command for group in groups for command in commands(group))]


def test_no_command_takes_an_empty_path():
    taken = 0
    for command in commands(app):
        for name, hint in get_type_hints(command, include_extras=True).items():
            if "Path" in str(get_args(hint)[:1]) and hasattr(hint, "__metadata__"):
                [option] = hint.__metadata__
                assert option.parser is place, f"{name} of {command.__name__}"
                taken += 1
    assert taken > 20, taken
