"""Labels read off the gradient of the last layer.

With logits z = W h + a, mean cross-entropy over b images, probabilities q and labels y, the head's
gradients are sums over the images of (q - y) / b for the bias and of (q - y) h^T / b for the
weights: only a class that occurs can have a negative entry in the first.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def greedy(bias: Float[Tensor, " c"], batch: int) -> Int[Tensor, " b"]:
    """Multiset of labels by signs and sizes of the bias gradient; exact for one image.

    Each negative class once, then whatever is still the most negative, at the average impact of
    one image (Wainakh et al., arXiv:2105.09369).
    """
    rest = bias.clone()
    found = (rest < 0).nonzero().flatten()
    found = found[rest[found].argsort()][:batch]
    impact = rest.clamp(max=0).sum() / batch
    rest[found] -= impact
    chosen = found.tolist()
    while len(chosen) < batch:
        chosen.append(int(rest.argmin()))
        rest[chosen[-1]] -= impact
    return torch.tensor(chosen, device=bias.device)


def opposed(rows: Float[Tensor, "c d"]) -> Int[Tensor, " 1"]:
    """Label of one image without a bias: the row that points away from all others.

    Rows are multiples of one feature vector, negative for the label alone; three classes or more.
    """
    rows = rows.double()  # squares of a small gradient are zero in float32
    return ((rows @ rows.T) < 0).sum(1).argmax()[None]


def fitting(
    rows: Float[Tensor, "c d"],
    bias: Float[Tensor, " c"],
    head: Float[Tensor, "c d"],
    offset: Float[Tensor, " c"],
    trained: Float[Tensor, "c c"],
) -> Int[Tensor, " 1"]:
    """Label of one image where a client changes labels as everybody knows, row by row of trained.

    A smoothed label may have no negative entry at all: a confident network overshoots it. The
    features are what `soft` reads off, so the bias gradient of each label is known but for scale.
    """
    rows, bias = rows.double(), bias.double()
    feature = rows.T @ bias / bias.square().sum()
    odds = (head.double() @ feature + offset.double()).softmax(0)
    wanted = odds - trained.double()  # a row for each label
    return (wanted @ bias / wanted.norm(dim=1)).argmax()[None]


def smallest_sum(rows: Float[Tensor, "c d"]) -> Int[Tensor, " 1"]:
    """Label of one image by the smallest sum of a row (iDLG, arXiv:2001.02610).

    Right where the features' sum is positive, as behind a ReLU. Behind a LayerNorm it may be
    negative, and then the answer is wrong.
    """
    return rows.sum(1).argmin()[None]


def smallest_entries(rows: Float[Tensor, "c d"], batch: int) -> Int[Tensor, " b"]:
    """Labels by the smallest entry of each row (GradInversion, arXiv:2104.07586, eq. 6).

    For labels without repetition and features that are nowhere negative; on signed features a
    class that is merely probable may come first.
    """
    return rows.amin(1).argsort()[:batch]


def soft(
    rows: Float[Tensor, "c d"],
    bias: Float[Tensor, " c"],
    head: Float[Tensor, "c d"],
    offset: Float[Tensor, " c"],
) -> Float[Tensor, " c"]:
    """Soft label of one image, as mixup or label smoothing made it; exact.

    The features h = rows^T bias / |bias|^2 are what the head saw, whatever was dropped before.
    The gradients' scale has to be the loss's own: an update that was clipped gives a wrong label.
    """
    rows, bias = rows.double(), bias.double()
    feature = rows.T @ bias / bias.square().sum()
    return (head.double() @ feature + offset.double()).softmax(0) - bias


def counts(
    rows: Float[Tensor, "c d"],
    bias: Float[Tensor, " c"],
    head: Float[Tensor, "c d"],
    offset: Float[Tensor, " c"],
    batch: int,
) -> Int[Tensor, " c"]:
    """How often each class occurs, by a linear system (iLRG, Ma et al., ICLR 2023).

    rows / bias estimates the features of each class, and with them its probabilities. Exact for
    one image; for more as good as images of one class are alike.
    """
    rows, bias = rows.double(), bias.double()
    tiny = torch.finfo(bias.dtype).tiny
    features = rows / torch.where(bias.abs() < tiny, tiny, bias)[:, None]
    odds = (features.nan_to_num() @ head.double().T + offset.double()).softmax(1)  # class class
    one = torch.ones_like(bias)
    system = torch.cat([odds.T - torch.diag(one), one[None]])
    wanted = torch.cat([batch * bias, one.new_tensor([batch])])
    share = (torch.linalg.pinv(system) @ wanted).clamp(0, batch)
    return _whole(share, batch)


def _whole(share: Float[Tensor, " c"], total: int) -> Int[Tensor, " c"]:
    """Round to whole numbers of a given sum, changing what is least decided."""
    found = share.round()
    while (missing := total - int(found.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_to_it = torch.where(found + step >= 0, step * (share - found), -torch.inf)
        found[open_to_it.argmax()] += step
    return found.long()
