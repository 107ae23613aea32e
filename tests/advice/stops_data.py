"""What stops at pictures, weights and models."""

from tests.advice.stop import EVAL, MEAN, TRAIN, Stop

STOPS = [
    # data
    Stop(
        "folder needs --data-root PATH",
        f"{MEAN} --dataset folder",
        gaps={"PATH": "TMP/classes/train"},
    ),
    Stop(
        "' is not a folder. Name one with --data-root PATH",
        f"{MEAN} --dataset folder --data-root TMP/nowhere",
        gaps={"PATH.": "TMP/classes/train"},
    ),
    Stop(
        "holds no pictures ({}){}. Name another",
        f"{MEAN} --dataset folder --data-root TMP/texts",
        gaps={"PATH.": "TMP/classes/train"},
    ),
    Stop(
        "holds {}, each with class folders. Name one of them",
        f"{MEAN} --dataset folder --data-root TMP/classes",
        advice=r"--data-root [^\s`,]+",
    ),
    Stop(
        "photos comes with scikit-image",
        f"{MEAN} --dataset photos --data-root TMP/classes",
        advice=r"Leave (--data-root) out",
    ),
    Stop(
        "photos comes with scikit-image",
        f"{MEAN} --dataset photos --data-root TMP/classes/train",
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
    Stop(
        "is not one of them. Take all with",
        "run --attack mean --model vit_vanilla --set model.depth=1 "
        "--dataset folder --data-root TMP/large",
        advice=r"--images \d+",
    ),
    Stop(
        "tests with those of test or val. Name the folder above them",
        f"{TRAIN.replace('TMP/classes', 'TMP/classes/train')}",
        advice=r"--data-root PATH",
        gaps={"PATH": "TMP/classes"},
    ),
    Stop(
        "' is not a folder. Name one with --data-root PATH",
        f"{TRAIN.replace('TMP/classes', 'TMP/nowhere')}",
        gaps={"PATH.": "TMP/classes"},
    ),
    Stop(
        "--dataset folder --data-root '{}'",
        "run --attack mean --model vit_vanilla --set model.depth=1 --images 1 --dataset imagenet "
        "--data-root TMP/part",
        advice=r"--dataset folder --data-root [^\s`]+",
    ),
    # weights
    Stop("There is no weights file", f"{MEAN} --weights ini", r"--weights init"),
    Stop(
        "cannot be read as safetensors: {}. Name a file",
        f"{MEAN} --weights TMP/torn.st",
        r"--weights init",
        slow=True,
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
]
