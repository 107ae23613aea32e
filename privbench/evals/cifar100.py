"""CIFAR-100 as the outside set of a model for CIFAR-10."""

from typing import ClassVar

from privbench.evals._outside import Outside


class CIFAR100(Outside):
    """Detection of CIFAR-100's classes, all unknown, by softmax."""

    brings: ClassVar[str] = "cifar100"
