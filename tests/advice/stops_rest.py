"""What stops evaluations, trainings and reports."""

from tests.advice.stop import CHOOSE, EVAL, MEAN, NOTED, PRIOR, TRAIN, Stop

STOPS = [
    # evaluation
    Stop(
        "has no classes, so no answer is right",
        f"{EVAL} --dataset folder --data-root TMP/flat",
        r"--dataset cifar10",
        choice="--data-root TMP/cifar",
        slow=True,
    ),
    Stop(
        "--images is a number from 1 to {} here",
        f"{EVAL} --images 101",
        r"1 to 100",
        choice="--images 100",
        slow=True,
    ),
    Stop(
        "No model was measured yet",
        "compare 'vit_mjp(depth=1)' 'vit_vanilla(depth=1)'",
        r"privbench eval --model [^\s`]+",
        also="--set model.depth=1 --images 3 --eval accuracy",
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
        "of a folder of pictures that was not named",
        "check results",
        r"add (--data-root)\.",
        choice="--data-root TMP/flat",
        before=f"{MEAN} --dataset folder --data-root TMP/flat",
        ends=(0,),
    ),
    Stop(
        "says --dataset and --data-root already",
        f"{EVAL} --imagenet TMP/classes --dataset folder",
        r"(--dataset) and",
        next="is not ImageNet-1k",
    ),
    Stop(
        "numbers, whose covariance would fill",
        "bound --model vit_vanilla_small --images 1 --defense noise --set model.depth=1 "
        "--set model.embed_dim=12 --set model.num_heads=2",
        slow=True,
    ),
    Stop(
        "decides what weights are made for",
        "price --model vit_vanilla --defense mjp --dataset folder --data-root TMP/classes",
        r"(--weights init), or",
        next="A step takes",
    ),
    Stop(
        "knows the classes {} and so on",
        "price --model vit_vanilla --dataset folder --data-root TMP/classes",
        r"--weights init",
        next="A step takes",
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
        "`blocks` is a list of mappings",
        "run --suite TMP/blocks.yaml",
        r"attack: pe_ls",
        choice="--suite TMP/good.yaml",
    ),
    Stop(
        "--columns says what stands side by side",
        "grid --side-by-side --columns attack",
        r"(--columns) says",
        before=MEAN,
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
        advice=r"--set attack\.prior=FILE",
        gaps={"FILE": "TMP/prior.safetensors"},
        ends=NOTED,
        slow=True,
    ),
    Stop(
        "does not hold the prior's network",
        f"{PRIOR}TMP/own.safetensors",
        advice=r"--set attack\.prior=FILE",
        gaps={"FILE": "TMP/prior.safetensors"},
        ends=NOTED,
        slow=True,
    ),
    Stop(
        "The prior that comes along is for pictures of 32 px",
        "run --attack gradinversion --model vit_vanilla --images 1 --dataset photos "
        "--set model.depth=1 --set attack.steps=1 --set attack.seeds=1 --set model.img_size=64",
        advice=r"--set attack\.prior=FILE",
        gaps={"FILE": "TMP/prior.safetensors"},
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
        slow=True,
    ),
    Stop(
        "since it is no plain vision transformer",
        "eval --model timm:resnet18 --weights trained --dataset folder --data-root TMP/classes",
        next="could not be fetched",
        slow=True,
    ),
]
