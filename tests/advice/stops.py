"""How each text with advice comes up, and how a user would follow it.

A stop's command is what is typed; TMP stands for a folder with pictures and files.
"""

from dataclasses import dataclass, field

MEAN = "run --attack mean --model vit_vanilla --images 1 --set model.depth=1"
EVAL = "eval --model vit_vanilla --images 2 --set model.depth=1"
NOTED = (0, 1)
TRAIN = (
    "train --model vit_vanilla --dataset folder --data-root TMP/classes --epochs 1 "
    "--set model.depth=1 --set model.num_classes=2 --set train.batch_size=2"
)
MATCHING = "run --attack gradinv --set attack.steps=1 --model vit_vanilla --set model.depth=1 "
MATCHING += "--images 1"


PRIOR = (
    "run --attack gradinversion --model vit_vanilla --images 1 --set model.depth=1 "
    "--set attack.steps=1 --set attack.seeds=1 --set attack.prior="
)


@dataclass(frozen=True)
class Stop:
    """A message and the advice in it."""

    answer: str
    """A part of the text in the source, by which the site is known."""
    command: str
    advice: str = r"--[a-z][\w-]* [^\s`,]+"
    """Regular expression: the last of its matches in the message is what is typed, or what is
    left out where it names no value."""
    gaps: dict[str, str] = field(default_factory=dict)
    """What stands for PATH, FILE or N in the advice."""
    choice: str = ""
    """What is chosen from the list that the advice prints, or from what it describes."""
    also: str = ""
    """What the message asks for besides, or what makes an advised command short."""
    drop: str = ""
    """What the choice stands in the place of."""
    next: str = ""
    """Another message that the advice leads to, where it cannot lead to the end here."""
    ends: tuple[int, ...] = (2,)
    """Exit codes of the message: 0 of a note, NOTED where a case failed."""
    before: str = ""
    """What is typed first."""
    slow: bool = False


CHOOSE = r"privbench list \w+"
"""Advice to choose another one of what a list prints."""

STOPS = [
    # attacks and what they need
    Stop(
        "The labels are neither granted nor readable",
        f"{MATCHING} --defense withhold --set defense.tensors=backbone.head.*",
        ends=NOTED,
    ),
    Stop(
        "One round only",
        "run --attack rounds --model vit_mjp --images 1 --set model.depth=1",
        ends=(0,),
    ),
    Stop(
        "' needs {}, which {} has not",
        "run --attack pe_ls --model TMP/own.py:placeless --images 1",
        advice=CHOOSE,
        choice="--attack mean",
    ),
    Stop(
        "reads the gradient of {}, which this victim",
        "run --attack pe_ls --model vit_nope --images 1 --set model.depth=1",
        advice=CHOOSE,
        choice="--attack mean",
    ),
    Stop(
        "sends the client weights of its own",
        "run --attack fishing --model vit_vanilla --images 2 --batch-size 2 --set model.depth=1",
        advice=r"--set threat\.server=\w+",
    ),
    Stop(
        "works only where the model's {} is {}",
        "run --attack april --model vit_vanilla --images 1 --set model.depth=1",
        advice=r"--set model\.\S+=\w+",
    ),
    Stop(
        "sends the client no weights of its own",
        f"{MEAN} --set threat.server=malicious",
        advice=r"(threat.server) out",
        slow=True,
    ),
    Stop("drops activations, and this model drops none", f"{MEAN} --set threat.training=true"),
    Stop("Dropout acts only where", f"{MEAN} --set model.dropout=0.1"),
    Stop(
        "one local step shares the gradient itself",
        f"{MEAN} --set threat.local_rate=0.1",
    ),
    Stop(
        "Set the batch size with --batch-size",
        f"{MEAN} --images 2 --set threat.batch_size=2",
        advice=r"with (--batch-size),",
        choice="--batch-size 2 --set threat.batch_size=2",
    ),
    Stop(
        "local steps diverged. Take a threat.local_rate below",
        f"{MEAN} --set threat.local_steps=5 --set threat.local_rate=1e30",
        r"(threat.local_rate) below",
        choice="--set threat.local_rate=0.01",
        ends=NOTED,
    ),
    # suites
    Stop("Zero images: name at least one", f"{MEAN} --images ,"),
    Stop("do not divide into batches", f"{MEAN} --images 5 --batch-size 2"),
    Stop(
        "--images is a number from 1 on",
        f"{MEAN} --images x",
        advice=r"such as (3,5,7)",
        choice="--images 3,5,7",
    ),
    Stop("--shard is a part of the whole", f"{MEAN} --shard 4", r"(2/3)", choice="--shard 1/1"),
    Stop(
        "Suite file '{}' is not YAML",
        "run --suite TMP/torn.yaml --model vit_vanilla --images 1 --set model.depth=1",
        advice=r"attack: (\[mean, pe_ls\])",
        choice="--suite TMP/good.yaml",
    ),
    Stop(
        "holds no mapping; begin with `attack:`",
        "run --suite TMP/list.yaml",
        advice="attack:` and `model:",
        choice="--suite TMP/good.yaml",
    ),
    Stop(
        "--set reads SECTION.KEY=VALUE",
        f"{MATCHING} --set steps",
        advice=r"attack\.steps=500",
        choice="--set attack.steps=2",
        drop="steps",
        slow=True,
    ),
    # data
    Stop("folder needs --data-root PATH", f"{MEAN} --dataset folder", gaps={"PATH": "TMP/classes"}),
    Stop(
        "' is not a folder. Name one with --data-root PATH",
        f"{MEAN} --dataset folder --data-root TMP/nowhere",
        gaps={"PATH.": "TMP/classes"},
    ),
    Stop(
        "holds no pictures ({}). Name another",
        f"{MEAN} --dataset folder --data-root TMP/texts",
        gaps={"PATH.": "TMP/classes"},
    ),
    Stop(
        "photos comes with scikit-image",
        f"{MEAN} --dataset photos --data-root TMP/classes",
        advice=r"Leave (--data-root) out",
    ),
    Stop(
        "photos comes with scikit-image",
        f"{MEAN} --dataset photos --data-root TMP/classes",
        advice=r"--dataset folder",
    ),
    Stop(
        "needs a folder, since the bundled sample",
        f"{MEAN} --dataset cifar10 --set dataset.split=train",
        gaps={"PATH.": "TMP/cifar"},
    ),
    Stop(
        "Name one that holds CIFAR-10 with --data-root",
        f"{MEAN} --dataset cifar10 --data-root TMP/nowhere",
        advice=r"(--data-root)\.",
        choice="--data-root TMP/cifar",
    ),
    Stop(
        "' is not CIFAR-10: it needs",
        f"{MEAN} --dataset cifar10 --data-root TMP/texts",
        advice=r"(--data-root) or",
        choice="--data-root TMP/cifar",
    ),
    Stop(
        "' is not {}: it needs {}, or the class folders",
        f"{MEAN} --dataset svhn --data-root TMP/texts",
        advice=r"--data-root PATH",
        gaps={"PATH": "TMP/flat"},
    ),
    Stop(
        "--data-root PATH, or in `privbench eval` --{} PATH",
        f"{MEAN} --dataset svhn",
        advice=r"--data-root PATH",
        gaps={"PATH": "TMP/flat"},
    ),
    Stop(
        "--data-root PATH, or in `privbench eval` --{} PATH",
        f"{EVAL} --svhn TMP/nowhere",
        advice=r"--svhn PATH",
        gaps={"PATH": "TMP/flat"},
        slow=True,
    ),
    Stop(
        "pictures are {} x {}. Choose --dataset folder",
        f"{MEAN} --dataset svhn --data-root TMP/large",
        advice=r"--dataset folder",
    ),
    Stop("--dataset photos or folder", f"{MEAN} --set model.img_size=64", r"--dataset photos"),
    # weights
    Stop("There is no weights file", f"{MEAN} --weights ini", r"--weights init"),
    Stop(
        "cannot be read as safetensors: {}. Name a file",
        f"{MEAN} --weights TMP/torn.st",
        r"--weights init",
    ),
    Stop(
        "No trained weights come with",
        "run --attack mean --model vit_wide --images 1 --weights trained --set model.depth=1",
        r"--weights init",
    ),
    Stop(
        "There are no pretrained weights for",
        f"{MEAN} --weights pretrained",
        r"--weights FILE",
        gaps={"FILE": "TMP/own.safetensors"},
    ),
    # own models
    Stop(
        "brings weights of its own. Leave",
        "run --attack mean --model TMP/own.py:vit --images 1 --weights init",
        r"Leave (--weights) out",
    ),
    Stop(
        "Name one as --model FILE.py:FACTORY",
        "run --attack mean --model TMP/nowhere.py:vit --images 1",
        r"--model FILE.py:FACTORY",
        gaps={"FILE.py:FACTORY.": "TMP/own.py:vit", "FILE.py:FACTORY": "TMP/own.py:vit"},
    ),
    Stop(
        "Give the network an attribute img_size, or add",
        "eval --model TMP/own.py:convolutions --images 2 --dataset cifar10",
        r"--set model.img_size=32",
        slow=True,
    ),
    Stop(
        "is no vision transformer of a known family",
        "run --attack mean --images 1 --model TMP/own.py:convolutions",
        r"e\.g\. (timm:\w+)",
        choice="--model timm:deit_small_patch16_224",
        slow=True,
    ),
    Stop(
        "it is a backbone without classes",
        "run --attack mean --model timm:vit_small_patch16_dinov3 --images 1",
        slow=True,
    ),
    # evaluation
    Stop(
        "None of these evaluations can be made",
        "eval --model TMP/own.py:convolutions --set model.img_size=32 --images 2 "
        "--dataset cifar10 --eval consistency",
        r"--eval accuracy",
    ),
    Stop(
        "has no classes, so no answer is right",
        f"{EVAL} --dataset folder --data-root TMP/flat",
        r"--dataset cifar10",
        choice="--data-root TMP/cifar",
    ),
    Stop(
        "--images is a number from 1 to {} here",
        f"{EVAL} --images 101",
        r"1 to 100",
        choice="--images 100",
        slow=True,
    ),
    Stop(
        "were never measured on the same pictures",
        "compare 'vit_mjp(depth=1)' 'vit_vanilla(depth=1)'",
        r"privbench eval --model [^\s`]+",
        before="eval --model vit_mjp --set model.depth=1 --images 3 --eval accuracy ! "
        "eval --model vit_vanilla --images 4 --set model.depth=1 --eval accuracy",
        also="--set model.depth=1 --eval accuracy",
        slow=True,
    ),
    Stop(
        "says --dataset and --data-root already",
        f"{EVAL} --imagenet TMP/classes --dataset folder",
        r"(--dataset) and",
        next="is not ImageNet-1k",
    ),
    # records and devices
    Stop("No records under", "leaderboard --out TMP/empty", r"privbench run [^`]+"),
    Stop("This computer has no CUDA device", f"{MEAN} --device cuda", r"--device cpu"),
    Stop("This computer has no CUDA device", f"{MEAN} --device cuda", r"leave (--device) out"),
    Stop("Cannot write", f"{MEAN} --out TMP/torn.yaml", r"(--out)", choice="--out TMP/new"),
    Stop(
        "No undefended control among these",
        "run --attack mean --model vit_mjp --images 1 --set model.depth=1",
        r"(--model)",
        choice="--model vit_mjp,vit_vanilla",
        ends=(0,),
        slow=True,
    ),
    # training
    Stop("has {} classes, but {} has", TRAIN.replace(" --set model.num_classes=2", "")),
    Stop(
        "A batch of {} has to be a multiple",
        TRAIN.replace("batch_size=2", "batch_size=3"),
        gaps={"train.batch_size=N.": "train.batch_size=2"},
    ),
    Stop("the schedule would climb", f"{TRAIN} --set train.min_lr=1", r"--set train.min_lr=\S+\d"),
    # checkpoints
    Stop(
        "--out names a .safetensors file",
        "import-weights TMP/own.safetensors --model vit_vanilla --set model.depth=1 --out TMP/x.pt",
        r"(--out)",
        choice="--out TMP/x.safetensors",
    ),
    Stop(
        "--out is the file itself",
        "import-weights TMP/own.safetensors --model vit_vanilla "
        "--set model.depth=1 --out TMP/own.safetensors",
        r"(--out)",
        choice="--out TMP/x.safetensors",
    ),
    Stop(
        "`set` is a list of SECTION",
        "run --suite TMP/set.yaml",
        r"attack.steps=500",
        choice="--suite TMP/good.yaml",
    ),
    Stop(
        "section of --set",
        f"{MEAN} --set modle.depth=1",
        r"mean '(model)'",
        choice="--set model.depth=2",
        drop="modle.depth",
    ),
    Stop(
        "is not a YAML value; put it in quotes",
        "run --attack gradinversion --model vit_vanilla --images 1 --set attack.prior={a",
        "put it in (quotes)",
        choice="--set 'attack.prior=\"{a\"'",
        next="cannot be read",
    ),
    Stop(
        "cannot be read as safetensors: {}. Name another file by",
        f"{PRIOR}TMP/torn.st",
        gaps={"FILE.": "TMP/prior.safetensors"},
        ends=NOTED,
        slow=True,
    ),
    Stop(
        "does not hold the prior's network",
        f"{PRIOR}TMP/own.safetensors",
        gaps={"FILE.": "TMP/prior.safetensors"},
        ends=NOTED,
        slow=True,
    ),
    Stop(
        "The prior that comes along is for pictures of 32 px",
        "run --attack gradinversion --model vit_vanilla --images 1 --dataset photos "
        "--set model.depth=1 --set attack.steps=1 --set attack.seeds=1 --set model.img_size=64",
        gaps={"FILE.": "TMP/prior.safetensors"},
        ends=NOTED,
        slow=True,
    ),
    Stop(
        "incomplete or differs from the original",
        f"{MEAN} --dataset cifar10 --data-root TMP/torn",
        next="could not be downloaded",
    ),
    Stop(
        "is not a checkpoint of this program",
        f"{TRAIN} --out TMP/junk",
        r"(--out)",
        choice="--out TMP/new",
    ),
    Stop(
        "belongs to a training with another",
        f"{TRAIN} --seed 1 --out TMP/x",
        r"(--out)",
        choice="--out TMP/new",
        before=f"{TRAIN} --out TMP/x",
    ),
    Stop(
        "The training diverged at step",
        f"{TRAIN} --set train.lr=1e30 --set train.warmup=0",
        r"--set train.lr=[^\s,]+\d",
        also="--out TMP/new",
    ),
    Stop(
        "Attack them: {}",
        TRAIN,
        r"privbench run .*\.safetensors",
        ends=(0,),
        also="--images 1 --set attack.steps=1",
    ),
    Stop(
        "was measured with these weights",
        "compare vit_mjp vit_vanilla",
        r"--weights NAME",
        gaps={"NAME": "init"},
        slow=True,
        before=" ! ".join(
            f"eval --model {one} --images 3 --eval accuracy"
            for one in ("vit_mjp --weights init", "vit_mjp", "vit_vanilla --weights init")
        ),
    ),
    Stop(
        "first_block=april changes a stock block",
        "run --attack mean --model TMP/own.py:other --images 1 --set model.first_block=april",
        CHOOSE,
        choice="--model vit_vanilla",
    ),
    Stop(
        "since it is no plain vision transformer",
        "eval --model timm:resnet18 --weights trained --dataset folder --data-root TMP/classes",
        next="could not be fetched",
        slow=True,
    ),
]

OPEN: dict[str, str] = {
    "The defense puts something else": "no defense that comes along does; tests/training",
    "no command would take those that a": "what to read stands in it; the page is there",
    "april needs a first block": "from Python only: a run refuses it before, by what it demands",
    "imprint needs the blocks of a stock ViT": "no victim that comes along has other blocks",
    "this threat model grants {}. Add": "no attack that comes along needs to know anything",
    "see `privbench show {}`": "a cell of a list; what it names is listed there",
    "Short for --dataset imagenet": "help of an option",
    "privbench train --model": "the command of a card; tests/training runs it",
    "privbench run --attack gradinv --model": "a part of `Attack them`",
    "overrides draw, so it must say": "for who writes a defense",
    "overrides combine, so it must be": "for who writes a defense",
    "Not enough memory for a single case": "memory has to run out: tests/running",
    "in more than one version, and a table": "a metric has to change: tests/running",
    "of a time when no answers were stored": "a record has to be old: tests/running",
    "gives NaN or infinity for this answer": "for who writes a metric",
    "are not those that the record is about": "data have to change: tests/running",
    "A process that augments pictures was killed": "a process has to be killed",
    "has no {} pictures. Name another": "no data set that comes along is empty without saying so",
    ", or a weaker --defense,": "a part of `The training diverged`",
    "The column of {} is NaN or infinite": "weights have to be broken: tests/utility",
    "answers picture {} of {} with NaN": "weights have to be broken: tests/utility",
    "ends in no linear layer": "no small model of timm's does",
    "is a distilled model (dist_token": "a file of 90 MB",
    "is like itself. Change": "a preset that comes along has to be broken: tests/fuzz",
    "is not YAML. Write lines such as `summary": "the same",
    "holds no mapping; begin with `summary": "the same",
    "Leave its architecture as it is": "the hub has to answer",
    "timm publishes no weights for": "no small model of timm's is without",
    "could not be fetched from": "the hub has to answer",
    "adds no position table at its input": "an attack refuses it before, by what it needs",
    "{} has not {}. Choose another victim": "an attack refuses it before, by what it needs",
}
"""Texts that no test follows, by a part of each, and why."""
