"""SVHN as the outside set of a model for CIFAR-10."""

from typing import ClassVar

from privbench.evals._outside import Outside


class SVHN(Outside):
    """Detection of house numbers, all unknown, by softmax."""

    brings: ClassVar[str] = "svhn"
