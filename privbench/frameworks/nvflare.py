"""A filter for NVIDIA FLARE that keeps what a client got and what it sent, on the client's disk."""

# pyright: reportMissingImports=false
# (NVIDIA FLARE comes with the extra alone)

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.filter import FilterChainType, FilterContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants

from privbench.frameworks.kept import AFTER, BEFORE, keep


class KeepUpdates(DXOFilter):
    """Keeps weights of chosen rounds; stands first for tasks' data and last for their results.

    There it sees what leaves the client, after all other filters. Files are
    `kept/round-0/site-1/before.npz` and `after.npz`, for `privbench audit`; nothing is sent
    anywhere. A difference is added to the weights that came, which float32 does without a loss.
    """

    def __init__(self, folder: str, rounds: Collection[int] = (0,)) -> None:
        kinds = [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF]
        super().__init__(supported_data_kinds=kinds, data_kinds_to_filter=kinds)
        self.folder, self.rounds = Path(folder), frozenset(rounds)

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> None:
        """Keep one side of a round; the message stays as it is."""
        if (number := _round(shareable, fl_ctx)) not in self.rounds:
            return
        place = self.folder / f"round-{number}" / fl_ctx.get_identity_name("client")
        arrays = {key: np.asarray(one) for key, one in dxo.data.items()}
        if self.get_prop(FilterContextKey.CHAIN_TYPE) != FilterChainType.TASK_RESULT_CHAIN:
            keep(place / BEFORE, arrays)
        elif dxo.data_kind == DataKind.WEIGHTS:
            keep(place / AFTER, arrays)
        else:
            keep(place / AFTER, _added(place / BEFORE, arrays))


def _round(shareable: Shareable, fl_ctx: FLContext) -> int | None:
    """Return the round: a task has it in its header, a result among what it carries back."""
    told = AppConstants.CURRENT_ROUND
    back = shareable.get_cookie(AppConstants.CONTRIBUTION_ROUND, fl_ctx.get_prop(told))
    return shareable.get_header(told, back)


def _added(before: Path, difference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.load(before, allow_pickle=False) as weights:
        return {key: (weights[key] + one).astype(one.dtype) for key, one in difference.items()}
