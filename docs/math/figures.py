"""Draw the figures of the pages beside this file: python docs/math/figures.py [NAME ...]."""

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from privbench.attack import Attack
from privbench.attacks._linear.ambiguity import ambiguity
from privbench.attacks._linear.bins import layout
from privbench.attacks._linear.completion import complete
from privbench.attacks._linear.watermark import read
from privbench.attacks._peel.peeling import Peeling, standard
from privbench.attacks._span.search import ROOT, Search
from privbench.attacks._update.reading import from_pictures
from privbench.attacks.imprint import ALONE, _bins, _by_image, _by_place, _picture
from privbench.attacks.pe_watermark import RANK
from privbench.component import make
from privbench.dataset import Dataset
from privbench.defense import Defense
from privbench.observation import Observation
from privbench.patches import cut, join
from privbench.running.client import share
from privbench.seeds import generator
from privbench.threat import Secret, ThreatModel
from privbench.victims.load import Victim, load
from privbench.vit import ViT

FOLDER = Path(__file__).parent / "figures"
CPU = torch.device("cpu")
BLUE, ORANGE, GRAY = "#1f6fb4", "#d9660b", "#777777"


def victim(
    name: str, defense: str = "none", weights: str = "trained", **settings: object
) -> Victim:
    """Load a victim of the package."""
    return load(name, settings, (make(Defense, defense, {}),), weights, CPU)


def observed(subject: Victim, first: int = 1, batch: int = 1) -> tuple[Observation, Secret]:
    """Share one batch of the bundled CIFAR-10 pictures."""
    images, labels = make(Dataset, "cifar10", {}).load(range(first, first + batch), 32, 10)
    images = images.to(subject.model.vit.mean.dtype)
    threat = ThreatModel(batch_size=batch)
    return share(subject, images, labels, threat, (0,))


def normalized(vit: ViT, images: Tensor) -> Float[Tensor, "n p"]:
    """Patches of one picture as the network takes them, float64."""
    return cut((images.double() - vit.mean.double()) / vit.std.double(), vit.patch)[0]


def pixels(vit: ViT, patches: Float[Tensor, "n p"]) -> Float[Tensor, "3 h w"]:
    """Pixels of normalized patches, clamped to [0, 1]."""
    picture = join(patches[None], vit.patch) * vit.std.double() + vit.mean.double()
    return picture[0].clamp(0, 1)


def show(at: Axes, picture: Float[Tensor, "3 h w"], title: str) -> None:
    """Put a picture without axes."""
    at.imshow(picture.permute(1, 2, 0).detach().numpy(), interpolation="nearest")
    at.set_title(title, fontsize=9)
    at.set_xticks([])
    at.set_yticks([])


def stage(pictures: int, rows: int = 1) -> tuple[Figure, Axes, list[Axes]]:
    """Return a figure with one plot on the left and pictures on the right."""
    height = 2.5 if rows == 1 else 1.3 * rows
    figure = plt.figure(figsize=(9, height), layout="constrained")
    grid = figure.add_gridspec(rows, pictures + 2, width_ratios=[2.4, 0.05, *[1] * pictures])
    plot = figure.add_subplot(grid[:, 0])
    plot.spines[["top", "right"]].set_visible(False)
    places = [figure.add_subplot(grid[r, c + 2]) for r in range(rows) for c in range(pictures)]
    return figure, plot, places


def psnr(found: Tensor, truth: Tensor) -> str:
    """Peak signal-to-noise ratio in words."""
    return f"{min(100.0, float(-10 * (found - truth).square().mean().log10())):.0f} dB"


def pe_ls() -> Figure:
    """Error of each patch against the size of its token gradient, in float32 and bfloat16."""
    figure, plot, places = stage(3)
    fed = None
    for defense, color, name, at in (
        ("none", BLUE, "float32", places[1]),
        ("round", ORANGE, "bfloat16", places[2]),
    ):
        seen, secret = observed(victim("vit_vanilla", defense))
        vit = seen.model.vit
        token = seen.update.tensors[ViT.POSITIONS][0, vit.prefix :].double()
        embedding = seen.update.tensors[ViT.PROJECTION].flatten(1).double()
        found = torch.linalg.pinv(token.T) @ embedding
        error = (found - normalized(vit, secret.fed)).square().mean(1).sqrt()
        plot.loglog(token.norm(dim=1), error, ".", color=color, label=name)
        fed = secret.fed[0].double()
        picture = pixels(vit, found)
        show(at, picture, f"{name}\n{psnr(picture, fed)}")
    assert fed is not None
    show(places[0], fed, "network\ninput")
    plot.set_xlabel("norm of the patch's row of $D$", fontsize=9)
    plot.set_ylabel("RMS error of the patch", fontsize=9)
    plot.legend(frameon=False, fontsize=9)
    return figure


def open_patches() -> Figure:
    """Singular values that tell the masked patches' span, and what linear algebra pins down."""
    figure, plot, places = stage(3)
    seen, secret = observed(victim("vit_mjp", ratio=0.2))
    vit, open_ = seen.model.vit, ambiguity(seen)
    m = int(open_.masked.sum())
    shared = from_pictures(seen)
    rows = shared[ViT.POSITIONS][0, vit.prefix :].double()[~open_.masked]
    weight = shared[ViT.PROJECTION].flatten(1).double()
    v = torch.linalg.svd(rows, full_matrices=False).Vh
    size = torch.linalg.svdvals(weight - v.T @ (v @ weight))
    index = torch.arange(1, len(size) + 1)
    plot.semilogy(index[:m], (size / size[0])[:m], "o", ms=3.5, color=BLUE, label=f"{m} masked")
    plot.semilogy(
        index[m:], (size / size[0])[m:], "o", ms=3.5, color=GRAY, label="float32 rounding"
    )
    plot.set_xlabel("index", fontsize=9)
    plot.set_ylabel("singular value of $QG$, relative", fontsize=9)
    plot.legend(frameon=False, fontsize=9)
    show(places[0], secret.fed[0], "network\ninput")
    zero = torch.zeros(len(open_.origin), len(open_.basis), dtype=torch.float64)
    show(places[1], pixels(vit, open_.origin), "point of\nleast norm")
    smooth = complete(open_, vit.patch, zero, torch.zeros_like(open_.masked), open_.masked)
    show(places[2], pixels(vit, open_.patches(smooth)), "completed by\nsmoothness")
    return figure


def span() -> Figure:
    """Where systems end: right tokens near one, others orders of magnitude above."""
    figure, plot, places = stage(3)
    seen, secret = observed(victim("vit_mjp", ratio=0.2))
    vit, search = seen.model.vit, Search(seen, generator("figure"), 128, 30)
    zero = torch.zeros_like(search.coefficients)
    smooth = complete(search.open, vit.patch, zero, search.found, search.open.masked)
    search.round(0)
    context, masked = search.refresh_context(), search.open.masked
    at = masked.nonzero().flatten()
    starts, seats = search.draw_alike(1000), at[torch.arange(1000) % len(at)]
    ends = search.attempt(seats, starts, context[seats])
    truth = search.open.coordinates(normalized(vit, secret.fed))
    right = (
        torch.cdist(ends.coefficients, truth[masked]).amin(1)
        < 0.05 * truth[masked].norm(dim=1).mean()
    )
    bins = torch.linspace(-2, 12, 57).tolist()
    for which, color, name in ((right, BLUE, "at a token"), (~right, ORANGE, "elsewhere")):
        plot.hist(ends.cost[which].log10(), bins=bins, color=color, label=f"ends {name}")
    plot.axvline(torch.tensor(ROOT).log10().item(), color=GRAY, ls="--", lw=1)
    plot.set_xlabel(r"$\log_{10}$ of the cost where a random start ends", fontsize=9)
    plot.set_yscale("log")
    plot.set_ylabel("starts", fontsize=9)
    plot.legend(frameon=False, fontsize=9, loc="upper right")
    for number in range(1, 10):
        search.round(number)
    fed = secret.fed[0].double()
    show(places[0], fed, "network\ninput")
    show(places[1], pixels(vit, search.open.patches(smooth)), "smooth start\n(masked: open)")
    order = torch.cdist(truth[masked], search.coefficients[masked]).argmin(
        1
    )  # the figure knows the order
    found = search.coefficients.clone()
    found[masked] = search.coefficients[masked][order]
    picture = pixels(vit, search.open.patches(found))
    show(places[2], picture, f"roots\n{psnr(picture, fed)}")
    return figure


def batches() -> Figure:
    """Tokens, means of two of them, and strangers under the equations; a batch that comes back."""
    figure, plot, places = stage(4, 2)
    seen, secret = observed(victim("vit_patch8"), 0, 4)
    vit = deepcopy(seen.model.vit).double().requires_grad_(False)
    block, shared = vit.block(0), from_pictures(seen)
    stream = vit.sequence(vit.embed(secret.fed.double()), vit.positions)
    stream = stream + block.proj(block.heads(block.norm1(stream)))
    tokens = standard(stream.flatten(0, 1), block.norm2.eps)
    peeling = Peeling(vit, shared, len(tokens))
    one, two = torch.triu_indices(len(tokens), len(tokens), 1)
    apart = (tokens[one] - tokens[two]).square().mean(1).sqrt()
    means = peeling.surprise(standard(tokens[one] + tokens[two]))
    plot.loglog(apart, means, ".", ms=3, color=ORANGE, label="means of two tokens")
    wild = standard(torch.randn(200, vit.width, generator=generator("strangers")).double())
    across = torch.cdist(wild, tokens).amin(1) / vit.width**0.5
    plot.loglog(across, peeling.surprise(wild), ".", ms=3, color=GRAY, label="strangers")
    right = peeling.surprise(tokens)
    plot.loglog(
        torch.full_like(right, float(apart.min()) / 2), right, ".", color=BLUE, label="tokens"
    )
    plot.set_xlabel("distance of the two, or to the nearest token", fontsize=9)
    plot.set_ylabel(r"$\chi^2$ over its degrees of freedom", fontsize=9)
    plot.legend(frameon=False, fontsize=9, loc="lower right")
    found = make(Attack, "peel", {}).reconstruct(seen, generator("figure"), lambda *_: None).images
    gap = torch.stack([(found - picture).square().mean((1, 2, 3)) for picture in secret.fed])
    for index, picture in enumerate(secret.fed):
        nearest = found[int(gap[index].argmin())]
        show(places[index], picture, "")
        show(places[4 + index], nearest, psnr(nearest.double(), picture.double()))
    places[0].set_ylabel("the batch", fontsize=9)
    places[4].set_ylabel("found", fontsize=9)
    return figure


def watermark() -> Figure:
    """Singular values of the system under tables of different rank."""
    figure, plot, places = stage(3)
    cases = {
        "vit_vanilla": "learned table",
        "vit_mjp": "8 of 16 masked",
        "vit_sincos": "sine-cosine",
    }
    colors = (BLUE, ORANGE, GRAY)
    for (name, title), color, at in zip(cases.items(), colors, places, strict=True):
        settings = {"ratio": 0.5, "sampler": "uniform"} if name == "vit_mjp" else {}
        subject = victim(name, weights="init", depth=2, patch_size=8, embed_dim=192, **settings)
        subject.model.vit.double()
        seen, secret = observed(subject)
        marks = read(seen.update.tensors, seen.model, 1)
        size = torch.linalg.svdvals(marks.system) / marks.size
        index = range(1, len(size) + 1)
        plot.semilogy(index, size.clamp(min=1e-17), "o-", ms=3.5, lw=0.7, color=color, label=title)
        answer = make(Attack, "pe_watermark", {}).reconstruct(seen, generator("a"), lambda *_: None)
        picture, fed = answer.images[0].double(), secret.fed[0].double()
        show(at, picture, f"{title}\n{psnr(picture, fed)}")
    plot.axhline(RANK[torch.float64], color="k", ls="--", lw=0.7)
    plot.set_xlabel("index", fontsize=9)
    plot.set_ylabel("singular value of $A$ over that of $ER$", fontsize=9)
    plot.legend(frameon=False, fontsize=8)
    return figure


def imprint() -> Figure:
    """How many tokens share a bin, and the patches that stood alone in theirs."""
    figure, plot, places = stage(4, 3)
    subject = victim("vit_vanilla", weights="init")
    attack = make(Attack, "imprint", {})
    sent = attack.tamper(subject.model, generator("tamper"))
    seen, secret = observed(replace(subject, model=sent), 0, 4)
    vit, plan = seen.model.vit, layout(seen.model.vit)
    found = sorted(_bins(seen, plan), key=lambda one: one.doubt)
    doubts = torch.tensor([one.doubt for one in found]).clamp(min=1e-12)
    plot.hist(doubts.log10(), bins=torch.linspace(-9, 0, 46).tolist(), color=BLUE)
    plot.axvline(torch.tensor(ALONE).log10().item(), color=GRAY, ls="--", lw=1)
    plot.set_xlabel(r"$\log_{10}$ of a bin's distance from a single token", fontsize=9)
    plot.set_ylabel("bins", fontsize=9)
    groups = _by_image([one for one in found if one.doubt < ALONE], 4)
    answer = attack.reconstruct(seen, generator("a"), lambda *_: None).images
    gray = torch.full((plan.places, plan.values), 0.5, dtype=torch.float64)
    for index, group in enumerate(groups):
        alone = _picture(_by_place(group), [], plan, seen)[0]
        patches = gray.clone()
        for place, values in _by_place(group).items():
            patches[place] = values
        alone = join(patches[None], vit.patch)[0].clamp(0, 1)
        nearest = int((answer[index] - secret.images).square().mean((1, 2, 3)).argmin())
        fed = secret.images[nearest]
        show(places[index], fed, "")
        show(places[4 + index], alone, "")
        show(places[8 + index], answer[index], "")
    for row, name in enumerate(("truth", "alone", "answer")):
        places[4 * row].set_ylabel(name, fontsize=9)
    return figure


PAGES = {
    "pe_ls": pe_ls,
    "ambiguity": open_patches,
    "span": span,
    "batches": batches,
    "watermark": watermark,
    "imprint": imprint,
}


def main(names: list[str]) -> None:
    """Draw the figures of these pages, or of all."""
    mpl.use("Agg")
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    for name in names or PAGES:
        figure = PAGES[name]()
        figure.savefig(
            FOLDER / f"{name}.png", dpi=120, bbox_inches="tight", metadata={"Software": None}
        )
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
