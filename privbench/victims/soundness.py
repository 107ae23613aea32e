"""Whether a network is what attacks take a vision transformer for; needs shapes only."""

from typing import Any

from privbench.errors import BadSetting, UnsupportedModel
from privbench.vit import ViT

CHANNELS = 3


def check(vit: ViT, name: str, own: bool = False) -> None:
    """Raise BadSetting or UnsupportedModel unless sizes of patches, table and head fit together.

    The network may be on the meta device. A name is one of timm's, or the user's own function,
    which takes no settings but is changed in its file.
    """
    _check_stem(vit, name)
    _check_grid(vit, name, own)
    _check_rows(vit, name)
    _check_head(vit, name, own)


def require_square(network: Any, name: str, own: bool = False) -> None:
    """Raise BadSetting where a network of patches takes pictures of one size, but no squares."""
    embed = getattr(network, "patch_embed", None)
    sizes = getattr(embed, "img_size", None)
    if not isinstance(sizes, tuple) or sizes[0] == sizes[1]:
        return
    step = embed.patch_size[1]  # type: ignore[union-attr]
    side = sizes[1] // step * step
    advice = f"img_size={side} in the function" if own else f"`--set model.img_size={side}`"
    raise BadSetting(
        f"{name} takes pictures of {sizes[0]} x {sizes[1]} px, but pictures here are squares. Set "
        f"another size, such as {advice}."
    )


def _check_stem(vit: ViT, name: str) -> None:
    """Patches are cut out of the picture, and one layer projects each of them."""
    embed = vit.backbone.patch_embed
    first = getattr(embed, "backbone", None)
    if first is not None:
        raise UnsupportedModel(
            f"{name} is a hybrid: convolutions stand before its patches, so tokens are no linear "
            "map of a patch's pixels. Choose a ViT without them, such as timm:vit_tiny_patch16_224."
        )
    weight = getattr(getattr(embed, "proj", None), "weight", None)
    sides = getattr(getattr(embed, "proj", None), "kernel_size", (0, 0))
    square = sides[0] == sides[1]
    if weight is None or not square or weight[0].numel() != CHANNELS * sides[0] ** 2:
        sizes = "none" if weight is None else "x".join(map(str, weight.shape[1:]))
        raise UnsupportedModel(
            f"{name} projects no square patches of {CHANNELS} colors by one layer; its weight is "
            f"{sizes}. Choose a ViT of color pictures, such as timm:vit_tiny_patch16_224."
        )


def _check_grid(vit: ViT, name: str, own: bool) -> None:
    patch = vit.backbone.patch_embed.proj.kernel_size[0]
    if vit.grid and vit.patch * vit.grid == vit.side and vit.patch == patch:
        return
    near = patch * max(round(vit.side / patch), 1)
    advice = f"img_size={near} in the function" if own else f"`--set model.img_size={near}`"
    raise BadSetting(
        f"{name}: patches of {patch} px do not divide pictures of {vit.side} px. Take a multiple, "
        f"such as {advice}."
    )


def _check_rows(vit: ViT, name: str) -> None:
    """Want a row for each patch, and one for each token before them or none at all."""
    rows, patches, before = vit.positions.shape[1], vit.grid**2, vit.tokens_before
    if rows not in (patches, patches + before):
        raise UnsupportedModel(
            f"{name} has {patches} patches and {before} tokens before them, but a position table "
            f"of {rows} rows. Choose a ViT with one row a token, such as timm:vit_tiny_patch16_224."
        )


def require_classes(classes: int, name: str, own: bool = False) -> int:
    """Return a number of classes; raises BadSetting where there are none."""
    if classes < 1:
        where = "in the function" if own else "such as `--set model.num_classes=10`"
        raise BadSetting(f"{name} has no head: it is a backbone without classes. Add one, {where}.")
    return classes


def _check_head(vit: ViT, name: str, own: bool) -> None:
    require_classes(vit.classes, name, own)
    if not vit.heads:
        raise UnsupportedModel(
            f"{name} ends in no linear layer, and attacks read labels off one. Choose another "
            "victim (`privbench list models`)."
        )
    if any(head.out_features != vit.classes for head in vit.heads):
        raise UnsupportedModel(
            f"{name} says that it has {vit.classes} classes, and its head has "
            f"{vit.heads[0].out_features}. Let num_classes be the head's."
        )
