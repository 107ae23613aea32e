"""Every column of every table with its kind; the interval of a figure follows from that alone."""

from collections.abc import Mapping, Sequence

from privbench.kind import Kind, declared
from privbench.reports.stats import mean_interval, share_interval

ENDS = ("_lo", "_hi")
COUNTED = "_n"

TEXTS = dict.fromkeys(
    (
        *("model", "weights", "weights_sha256", "defense", "attack", "dataset", "threat"),
        *("suite", "notes"),
    ),
    Kind.TEXT,
)
CALIBRATION = dict.fromkeys(("*_rms", "*_rms_released", "*_aurra"), Kind.FIGURE)
DETECTION = dict.fromkeys(("*_aupr", "*_auroc", "*_fpr95"), Kind.FIGURE)
REPEATED = {
    **dict.fromkeys(("top1*", "top5*", "agreement*"), Kind.SHARE),
    **dict.fromkeys(("feature_distance*", "kl*"), Kind.MEAN),
}
"""Columns of the table of accuracy that the one of robustness has, too."""

TABLES: Mapping[str, Mapping[str, Kind]] = {
    "accuracy": {
        **TEXTS,
        "seed": Kind.VALUE,
        "n": Kind.COUNT,
        **REPEATED,
        "shuffled_*": Kind.SHARE,
        "treated_*": Kind.MEAN,
    },
    "robustness": {
        **TEXTS,
        **REPEATED,
        "*_top1": Kind.SHARE,
        "*_clean_error": Kind.PERCENT,
        "*_mean_error": Kind.MEAN,
        "*_rel_mCE_*": Kind.DIFFERENCE,
        "*_mCE_*": Kind.MEAN,
        "*_added_error": Kind.DIFFERENCE,
        **CALIBRATION,
        **DETECTION,
        "*_inside_n": Kind.COUNT,
    },
    "corruptions": {
        **TEXTS,
        **dict.fromkeys(("evaluation", "corruption", "severity"), Kind.TEXT),
        "seed": Kind.VALUE,
        **dict.fromkeys(("n", "cells"), Kind.COUNT),
        "error": Kind.PERCENT,
        "mean_error": Kind.MEAN,
    },
    "comparison": {
        "measure": Kind.TEXT,
        "n": Kind.COUNT,
        "difference": Kind.DIFFERENCE,
        **dict.fromkeys(("first", "second", "p", "p_holm"), Kind.VALUE),
        **dict.fromkeys(("lo", "hi"), Kind.DIFFERENCE),
    },
    "leaderboard": {
        **TEXTS,
        "chosen": Kind.TEXT,
        **dict.fromkeys(("n", "failed", "refused", "*_exact"), Kind.COUNT),
        **dict.fromkeys(("*_oracle", "*_floor", "*_control", "masked"), Kind.VALUE),
        **dict.fromkeys(("label_accuracy", "objective", "seconds", "seed"), Kind.VALUE),
        **dict.fromkeys(("gradient_calls", "version"), Kind.VALUE),
        "*": Kind.MEAN,
    },
}
"""Kinds by table, the first pattern that fits. Only metrics may have any name in the leaderboard;
an evaluation declares its own columns, which the table of accuracy shows."""


def kind_of(table: str, column: str) -> Kind | None:
    """Return the kind of a column; the ends of an interval have that of their figure."""
    kinds = TABLES[table]
    for end in ENDS:
        if column.endswith(end):
            return declared(kinds, column.removesuffix(end))
    if column.endswith(COUNTED) and declared(kinds, column.removesuffix(COUNTED)) is not None:
        return Kind.COUNT
    return declared(kinds, column)


def interval(kind: Kind, values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and 95 % interval of numbers per picture, as their kind asks for.

    NaN without numbers. Raises ValueError where a share is of anything but zeros and ones (of
    percent: 0 and 100), and for kinds that are no means over pictures.
    """
    scale = {Kind.SHARE: 1, Kind.PERCENT: 100}.get(kind)
    if scale is not None:
        if not {*values} <= {0, scale}:
            raise ValueError(f"a column of kind {kind} has numbers other than 0 and {scale}")
        found = share_interval(sum(value == scale for value in values), len(values))
        mean, low, high = (scale * one for one in found)
        return mean, low, high
    if kind not in (Kind.MEAN, Kind.DIFFERENCE):
        raise ValueError(f"a column of kind {kind} is no mean over pictures")
    return mean_interval(values)
