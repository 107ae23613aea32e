"""What stops at requests that change nothing, and at weights of the world."""

from tests.advice.stop import EVAL, MEAN, Stop

IMPORT = "import-weights TMP/two.safetensors --model vit_vanilla --set model.depth=1"

STOPS = [
    Stop(
        "--images names picture {} more than once",
        f"{MEAN} --images 3,3,5",
        r"(--images) names",
        choice="--images 3,5",
    ),
    Stop("--seed changes nothing here", f"{EVAL} --eval accuracy --seed 3", r"(--seed) changes"),
    Stop(
        "moves patches and position embeddings, which only victims have",
        "eval --model TMP/own.py:convolutions --set model.img_size=32 --dataset cifar10 "
        "--images 2 --eval accuracy,consistency",
        r"out of (--eval)",
        choice="--eval accuracy",
    ),
    Stop(
        "moves patches and position embeddings, which only victims have",
        "eval --model TMP/own.py:convolutions,vit_vanilla --set model.img_size=32 "
        "--dataset cifar10 --images 2 --eval consistency",
        r"out of (--model)",
        choice="--model vit_vanilla",
    ),
    Stop(
        "--columns names {} classes, and the model has",
        f"{IMPORT} --columns 0",
        r"--set model\.num_classes=\d+",
    ),
    Stop(
        "and the checkpoint's head knows classes 0 to",
        f"{IMPORT} --set model.num_classes=2 --columns 0,7",
        r"(0 to 1)",
        choice="--columns 1,0",
    ),
    Stop(
        "--columns reads numbers and ranges",
        f"{IMPORT} --set model.num_classes=2 --columns x",
        r"(1:1001),",
        choice="--columns 0:2",
    ),
    Stop(
        "is no range of classes. Write it",
        f"{IMPORT} --set model.num_classes=2 --columns 2:0",
        r"1:1001",
        choice="--columns 0:2",
    ),
    Stop(
        "does not fit {}: {} classes in the file, {} in the model",
        IMPORT,
        r"--set model\.num_classes=\d+",
    ),
    Stop(
        "is of no family whose parts attacks know",
        "run --attack mean --images 1 --model TMP/own.py:convolutions",
        r"e\.g\. (timm:\w+)",
        choice="--model timm:deit_small_patch16_224",
        slow=True,
    ),
    Stop(
        "is a hybrid: convolutions stand",
        "run --attack mean --images 1 --model timm:vit_tiny_r_s16_p8_224",
        r"such as (timm:\w+)",
        choice="--model timm:vit_tiny_patch16_224",
        slow=True,
    ),
    Stop(
        "such as `--set model.num_classes=10`",
        "run --attack mean --model timm:vit_small_patch16_dinov3 --images 1",
        slow=True,
    ),
    Stop(
        "No record is of both this attack",
        "grid --attack mean --model vit_mjp",
        r"(--attack) or",
        before="run --attack mean --model vit_vanilla --images 1 --set "
        "model.depth=1 ! run --attack random --model vit_mjp --images 1 --set model.depth=1",
    ),
    Stop(
        "all these records are of pictures that come along",
        "rescore --data-root TMP/flat",
        r"(--data-root) would",
        before=MEAN,
    ),
]
