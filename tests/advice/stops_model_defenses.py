"""What stops at defenses in the model."""

from tests.advice.stop import MEAN, NOTED, Stop

STOPS = [
    Stop(
        "keeps {} blocks and the model has {}. Set",
        f"{MEAN} --defense withhold_first --set defense.blocks=3",
        r"(defense\.blocks=\d+) or",
        choice="--set defense.blocks=1",
    ),
    Stop(
        "shares that sum to one cannot all stay below",
        f"{MEAN} --batch-size 3 --images 3 --defense instahide --set defense.bound=0.2",
        r"(defense\.bound=[\d.]+) or",
        choice="--set defense.bound=0.66",
        drop="--set defense.bound=0.2",
        ends=NOTED,
    ),
    Stop(
        "have no linear layer {}, which adapters are put on",
        "run --attack mean --images 1 --weights init --defense lora "
        "--set model.num_classes=10 --model timm:eva02_tiny_patch14_224",
        r"e\.g\. (timm:\w+)",
        choice="--model timm:deit_small_patch16_224",
        slow=True,
    ),
]
