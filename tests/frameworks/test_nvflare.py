"""The filter for NVIDIA FLARE keeps what an audit reads, whatever a client sends."""

# pyright: reportMissingImports=false

import numpy as np
import pytest

from privbench.auditing.arrays import content

pytest.importorskip("nvflare")
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.filter import FilterChainType, FilterContextKey
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.filters.exclude_vars import ExcludeVars

from privbench.frameworks.nvflare import KeepUpdates

BEFORE = {"head.weight": np.full((2, 3), 0.1, np.float32), "head.bias": np.zeros(2, np.float32)}
AFTER = {key: one - np.float32(0.03) for key, one in BEFORE.items()}


def passed(folder, chain, kind, arrays, number=0, *others):
    context = FLContext()
    context.put(ReservedKey.IDENTITY_NAME, "site-1", private=False, sticky=True)
    shareable = DXO(kind, {key: one.copy() for key, one in arrays.items()}).to_shareable()
    if chain == FilterChainType.TASK_DATA_CHAIN:
        shareable.set_header(AppConstants.CURRENT_ROUND, number)
    else:
        shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, number)
    for one in (*others, KeepUpdates(str(folder))):
        one.set_prop(FilterContextKey.CHAIN_TYPE, chain)
        shareable = one.process(shareable, context)
    return shareable


def kept(folder, name):
    found = content(folder / "round-0" / "site-1" / f"{name}.npz", name)
    assert isinstance(found, dict)
    return {key: one.numpy() for key, one in found.items()}


@pytest.mark.parametrize("kind", [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF])
def test_both_sides_are_kept(tmp_path, kind):
    sent = AFTER if kind == DataKind.WEIGHTS else {k: AFTER[k] - BEFORE[k] for k in AFTER}
    passed(tmp_path, FilterChainType.TASK_DATA_CHAIN, DataKind.WEIGHTS, BEFORE)
    passed(tmp_path, FilterChainType.TASK_RESULT_CHAIN, kind, sent)
    first, second = kept(tmp_path, "before"), kept(tmp_path, "after")
    for key in BEFORE:
        assert (first[key] == BEFORE[key]).all()
        assert second[key].dtype == np.float32
        assert (second[key] == AFTER[key]).all()


def test_what_another_filter_takes_out_is_absent(tmp_path):
    passed(tmp_path, FilterChainType.TASK_DATA_CHAIN, DataKind.WEIGHTS, BEFORE)
    chain, without = FilterChainType.TASK_RESULT_CHAIN, ExcludeVars(["head.bias"])
    passed(tmp_path, chain, DataKind.WEIGHTS, AFTER, 0, without)
    assert set(kept(tmp_path, "after")) == {"head.weight"}


def test_other_rounds_are_not_kept(tmp_path):
    passed(tmp_path, FilterChainType.TASK_DATA_CHAIN, DataKind.WEIGHTS, BEFORE, 1)
    assert not list(tmp_path.iterdir())
