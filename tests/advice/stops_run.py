"""What stops an attack: what it needs, and suites."""

from tests.advice.stop import CHOOSE, MATCHING, MEAN, NOTED, Stop

STOPS = [
    # attacks and what they need
    Stop(
        "The labels are neither granted nor readable",
        f"{MATCHING} --defense withhold --set defense.tensors=backbone.head.*",
        advice=r"--set threat\.\w+=\w+",
        ends=NOTED,
    ),
    Stop(
        "One round only",
        "run --attack rounds --model vit_mjp --images 1 --set model.depth=1",
        ends=(0,),
        slow=True,
    ),
    Stop(
        "' needs {}, which {} has not",
        "run --attack pe_ls --model TMP/own.py:placeless --images 1",
        advice=CHOOSE,
        choice="--attack mean",
        slow=True,
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
        slow=True,
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
        slow=True,
    ),
    # suites
    Stop("Zero images: name at least one", f"{MEAN} --images ,"),
    Stop("do not divide into batches", f"{MEAN} --images 5 --batch-size 2"),
    Stop(
        "--images is a number from 1 on",
        f"{MEAN} --images x",
        advice=r"such as (3,5,7)",
        choice="--images 3,5,7",
        slow=True,
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
]
