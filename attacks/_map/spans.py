"""A posterior over pixels alone: what a network sends back is integrated out, layer by layer.

The gradient of a linear layer is W = sum_i d_i a_i^T over its tokens, with a_i what enters and d_i
the loss's slope in what leaves. To compute d_i takes the whole network and back, and from afar it
comes out all wrong; a_i takes the layers before. So each d_i counts as Gaussian: a row of W then
has the covariance S = E + sum_i t_i^2 a_i a_i^T, and its likelihood asks only whether the inputs
span what was shared. That of the first layers is nearly convex, where the whole posterior is not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from privbench.attacks._map.cut import Cut, bounds
from privbench.attacks._map.kept import Kept
from privbench.attacks._map.low_rank import rows as kept_rows
from privbench.attacks._map.low_rank import told_rows
from privbench.attacks._map.posterior import LEAST, Posterior, Square
from privbench.patches import cut
from privbench.roles import Role
from privbench.threat import Draw, Images
from privbench.vit import ViT

ROUNDS = 10
"""Of expectation-maximization, which doubles or halves a size in one or two."""

SMALLEST = 1e-13
"""Share of a matrix's trace that float64 may leave of an eigenvalue of zero; set by reason."""
RESOLVED = 1e-8
"""Share of an information that rounding may leave below zero; set by reason, above float64's."""
STEM = f"{ViT.BACKBONE}patch_embed."

Rows = Float[Tensor, "o f"]


@dataclass
class Layer:
    """A linear layer's gradient, or some rows of it, in units of its entries' errors."""

    source: str
    """Module whose inputs it sums over."""
    rows: Rows
    """With the bias's gradient as the last column, where that was shared."""
    weight: float
    """One over the standard deviation of a weight's error."""
    bias: float | None
    sizes: Float[Tensor, " t"] | None = None
    """Standard deviation of each token's slopes; None until they are fitted."""
    told: Float[Tensor, "t o"] | None = None
    """Slopes as far as they were shared themselves, in the update's units."""
    fixed: Bool[Tensor, " t"] | None = None
    """Of which tokens they were: the size there is that of their error."""

    @property
    def entries(self) -> int:
        """How many there are."""
        return self.rows.numel()

    def inputs(self, found: Mapping[str, Tensor]) -> Float[Tensor, "t f"]:
        """Return inputs in units in which errors are one, so that slopes keep the update's."""
        inputs = found[self.source].flatten(0, 1).double()
        scaled = inputs * self.weight
        if self.bias is None:
            return scaled
        return torch.cat([scaled, torch.full_like(scaled[:, :1], self.bias)], dim=1)

    def left(self, inputs: Float[Tensor, "t f"]) -> Rows:
        """Return rows without what told slopes explain."""
        return self.rows if self.told is None else self.rows - self.told.T @ inputs

    def cost(self, inputs: Float[Tensor, "t f"]) -> Float[Tensor, ""]:
        """Minus the logarithm of the rows' likelihood, but for a constant."""
        assert self.sizes is not None
        scaled, left = self.sizes[:, None] * inputs, self.left(inputs)
        root = torch.linalg.cholesky(_inner(scaled))
        inside = torch.linalg.solve_triangular(root, scaled @ left.T, upper=False)
        volume = root.diagonal().log().sum()
        return (left.square().sum() - inside.square().sum()) / 2 + len(left) * volume

    def fit(self, inputs: Float[Tensor, "t f"]) -> None:
        """Fit the slopes' sizes to the rows by expectation-maximization."""
        left = self.left(inputs)
        free = torch.ones_like(inputs[:, 0], dtype=torch.bool)
        if self.fixed is not None:
            free = ~self.fixed
        if not free.any():
            return
        known = self.sizes
        if known is None or not known[free].all():
            noise = left.numel()
            power = max(float(left.square().sum()) - noise, 0.01 * noise)
            # a picture of the mean color is zero once normalized: then as of variance one
            least = self.weight**2 * inputs[free].numel()
            size = max(float(inputs[free].square().sum()), least)
            first = (power / size / len(left)) ** 0.5
            known = torch.where(free, first, 0.0 if known is None else known)
        for _ in range(ROUNDS):
            scaled = known[:, None] * inputs
            inner = torch.cholesky_inverse(torch.linalg.cholesky(_inner(scaled)))
            means = inner @ (scaled @ left.T)
            known = torch.where(
                free, known * (means.square().mean(1) + inner.diagonal()).sqrt(), known
            )
        self.sizes = known

    def information(self, inputs: Float[Tensor, "t f"]) -> Float[Tensor, "t f t f"]:
        """Return what the rows say of all inputs, while slopes are where the rows put them.

        Of slopes that were told, the exact second derivative where they have no errors; of
        others Fisher's information on each token with all others as they are.
        """
        assert self.sizes is not None
        scaled = self.sizes[:, None] * inputs
        root = torch.linalg.cholesky(_inner(scaled))
        sure = (1 - torch.cholesky_inverse(root).diagonal()).clamp(min=0)
        inside = torch.linalg.solve_triangular(root, scaled, upper=False)
        rest = torch.eye(scaled.shape[1]).to(scaled) - inside.T @ inside
        pairs = torch.diag(len(self.rows) * self.sizes.square() * sure)
        if self.told is not None:
            pairs = pairs + self.told @ self.told.T
        return torch.einsum("tu,fg->tfug", pairs, rest)


class Spans:
    """Minus the logarithm of that posterior; one forward pass and one back."""

    def __init__(self, posterior: Posterior, least: float = 0.0) -> None:
        """Read the update, as if each tensor had errors of at least a share of its rms."""
        self.posterior, self.vit, self.least = posterior, posterior.step.vit, least
        self.layers = [*self._stem(), *self._linear()]
        self.used = self.layers

    def use(self, blocks: int | None) -> None:
        """Count the stem and the layers of so many blocks; None for all, and the head."""
        first = [f"{ViT.BACKBONE}blocks.{i}." for i in range(blocks or 0)]
        early = (STEM, *first)
        self.used = [one for one in self.layers if blocks is None or one.source.startswith(early)]

    def fit(self, images: Images) -> None:
        """Fit the sizes of what the network sends back, at a picture."""
        with torch.no_grad():
            found = self._inputs(images)
            for layer in self.used:
                layer.fit(layer.inputs(found))

    def value(self, unknowns: Float[Tensor, " k"]) -> tuple[float, Float[Tensor, " k"], float]:
        """Return the cost, its gradient, float64, and the data's share of it per entry."""
        at = unknowns.float().requires_grad_()
        with torch.enable_grad():
            found = self._inputs(at.view(self.posterior.shape))
            data = torch.stack([one.cost(one.inputs(found)) for one in self.used]).sum()
            pull = torch.autograd.grad(data, at)[0].double()
        white = self.posterior.whitened(unknowns)
        pull += self.posterior.unwhitened(white).flatten()
        told, entries = float(data.detach()), sum(one.entries for one in self.used)
        return told + float(white.square().sum()) / 2, pull, 2 * told / entries

    def coordinates(self, images: Images) -> Square:
        """Return coordinates in which prior and patch projection leave a posterior that is round.

        Its equations are linear but for errors of slopes: one of Newton's steps, or a few. Rows
        with gaps are left out.
        """
        vit, shape = self.vit, self.posterior.shape
        whole = torch.block_diag(*[torch.cholesky_inverse(self.posterior.half)] * shape[0])
        at = self.posterior.places().flatten().to(whole.device)
        spread = vit.std.flatten().double().repeat_interleave(vit.patch**2)
        with torch.no_grad():
            found = self._inputs(images)
        for layer in self.used:
            if isinstance(layer, Layer) and layer.source.startswith(STEM):
                told = layer.information(layer.inputs(found))[:, : len(spread), :, : len(spread)]
                told = told * (layer.weight**2 / spread[:, None, None] / spread)
                whole[at[:, None], at] += told.flatten(2).flatten(0, 1)
        root = torch.linalg.cholesky(whole + RESOLVED * torch.diag(whole.diagonal()))
        return torch.linalg.solve_triangular(root.T, torch.eye(len(root)).to(root), upper=True)

    def _inputs(self, images: Images) -> dict[str, Float[Tensor, "b t f"]]:
        """Return what enters each layer, by the module's name."""
        found, hooks = {}, []

        def keep(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
            patches = isinstance(module, nn.Conv2d)
            entered = cut(given[0], self.vit.patch) if patches else given[0]
            found[name] = entered if entered.dim() == 3 else entered[:, None]

        for name in {layer.source for layer in self.used}:
            module = self.vit.get_submodule(name)
            hooks.append(module.register_forward_pre_hook(partial(keep, name)))
        try:
            self.posterior.logits(self.posterior.weights, images)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _stem(self) -> Iterator[Layer | Kept]:
        """Yield the patch projection, whose slopes are the position table's gradient."""
        posterior, vit = self.posterior, self.vit
        if not vit.supports(Role.STEM):
            return
        source = vit.stem.weight_name.removesuffix(".weight")
        if vit.stem.weight_name in posterior.low:
            yield from self._low_stem(source)
            return
        for layer in self._of(source, len(posterior.data.get(vit.stem.weight_name, ()))):
            table = posterior.data.get(ViT.POSITIONS)
            if isinstance(layer, Kept):
                if table is not None and posterior.shape[0] == 1:
                    layer.told = table[0, vit.prefix :].double()
                    layer.sure = self._known(ViT.POSITIONS)[0, vit.prefix :]
                    within = bounds(table, posterior.known[ViT.POSITIONS] > 0)
                    if within is not None:
                        layer.untold = Cut(layer.sure == 0, within)
                        layer.sure = layer.untold.first(layer.sure)
                yield layer
                continue
            if table is None or posterior.shape[0] > 1 or layer.bias is None:
                yield layer
                continue
            wrong = 1 / posterior.known[ViT.POSITIONS][0, vit.prefix :].double()
            fixed = torch.ones_like(wrong[:, 0], dtype=torch.bool)
            if isinstance(posterior.draw, Draw):
                fixed = ~posterior.draw.mask[0]
            layer.fixed = fixed & wrong.isfinite().all(1)
            if not layer.fixed.any():
                layer.fixed = None
                yield layer
                continue
            layer.told = table[0, vit.prefix :].double() * layer.fixed[:, None]
            usual = layer.told[layer.fixed].square().mean().sqrt()
            wrong = wrong.mean(1).sqrt().clamp(min=self.least * float(usual))
            layer.sizes = torch.where(layer.fixed, wrong, usual)
            yield layer

    def _linear(self) -> Iterator[Layer | Kept]:
        for name, module in self.vit.named_modules():
            if isinstance(module, nn.Linear) and name.startswith(ViT.BACKBONE):
                yield from self._of(name, self.vit.width)

    def _of(self, source: str, rows: int) -> Iterator[Layer | Kept]:
        """Yield so many rows of a layer at a time: queries and keys send back less than values."""
        posterior = self.posterior
        names = f"{source}.weight", f"{source}.bias"
        if names[0] not in posterior.data:
            return
        if names[0] in posterior.low:
            own = None if posterior.by_tensor else posterior.data.get(names[1])
            found = kept_rows(posterior.low[names[0]], posterior.data[names[0]], own)
            yield self._cut(source, found, own is not None)
            return
        if not (posterior.known[names[0]] > 0).all():
            yield from self._kept(source, rows)
            return
        weight, gradient = self._precision(names[0]), posterior.data[names[0]].flatten(1).double()
        columns, bias = gradient * weight, None
        if not posterior.by_tensor and names[1] in posterior.data:
            bias = self._precision(names[1])
            own = posterior.data[names[1]][:, None].double() * bias
            columns = torch.cat([columns, own], dim=1)
        for part in columns.split(rows):
            yield Layer(source, part, weight, bias)

    def _cut(self, source: str, rows: Rows, bias: bool) -> Layer:
        """Return rows along the directions that a low rank leaves, all of one size."""
        weight = 1 / max(self.least, LEAST)
        return Layer(source, rows * weight, weight, weight if bias else None)

    def _low_stem(self, source: str) -> Iterator[Layer | Kept]:
        """Yield the patch projection's rows, each with slopes and with errors of its own."""
        posterior, names = self.posterior, (f"{source}.weight", f"{source}.bias")
        low, weight, bias = posterior.low[names[0]], *map(posterior.data.get, names)
        table = posterior.data.get(ViT.POSITIONS)
        if table is None or bias is None or posterior.by_tensor or posterior.shape[0] > 1:
            yield from self._of(source, 0)
            return
        assert weight is not None
        of_table = posterior.low.get(ViT.POSITIONS)
        found, told, wrong = told_rows(low, weight, bias, of_table, table[0], self.vit.prefix)
        for row, slopes, sizes in zip(found, told.T, wrong.T, strict=True):
            layer = self._cut(source, row[None], True)
            layer.told, layer.fixed = slopes[:, None], torch.ones_like(slopes, dtype=torch.bool)
            usual = float(slopes.square().mean().sqrt())
            layer.sizes = sizes.clamp(min=self.least * usual)
            yield layer

    def _kept(self, source: str, rows: int) -> Iterator[Kept]:
        """Yield rows of a layer of whose gradient the defense made entries."""
        posterior, weight, own = self.posterior, f"{source}.weight", f"{source}.bias"
        parts = [(posterior.data[weight].flatten(1), self._known(weight).flatten(1))]
        bias = not posterior.by_tensor and own in posterior.data
        if bias:
            parts.append((posterior.data[own][:, None], self._known(own)[:, None]))
        data, known = (torch.cat(one, dim=1).double() for one in zip(*parts, strict=True))
        within = bounds(posterior.data[weight], posterior.known[weight] > 0)
        for part, certain in zip(data.split(rows), known.split(rows), strict=True):
            layer = Kept(source, part, certain, bias)
            if within is not None:
                missing = certain == 0
                missing[:, -1] &= not bias  # which has bounds of its own
                layer.cut = Cut(missing, within)
                layer.known = layer.cut.first(certain)
            yield layer

    def _known(self, name: str) -> Tensor:
        """One over the variance of each entry's error, float64."""
        data, known = self.posterior.data[name].double(), self.posterior.known[name].double()
        kept = known > 0
        size = data[kept].square().mean() if kept.any() else data.new_zeros(())
        return torch.where(kept, 1 / (1 / known).clamp(min=self.least**2 * size), 0)

    def _precision(self, name: str) -> float:
        """One over the standard deviation of errors, the same for all of a tensor."""
        posterior = self.posterior
        size = float(posterior.data[name].double().square().mean())
        error = float((1 / posterior.known[name].double()).mean())
        return max(error, self.least**2 * size) ** -0.5


def _inner(scaled: Float[Tensor, "t f"]) -> Float[Tensor, "t t"]:
    """I + B B^T, positive however many tokens are alike."""
    inner = scaled @ scaled.T
    least = 1 + SMALLEST * inner.diagonal().sum()
    return inner + least * torch.eye(len(inner)).to(inner)
