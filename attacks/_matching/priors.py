"""What pictures look like: priors on a batch of pictures, each mean over pixels or edges."""

import torch
from jaxtyping import Float
from torch import Tensor

from privbench.threat import Images


def total_variation(images: Images) -> Float[Tensor, ""]:
    """Mean absolute difference of neighboring pixels, down plus across."""
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()


def roughness(images: Images) -> Float[Tensor, ""]:
    """Mean squared difference of neighboring pixels, down plus across."""
    return images.diff(dim=2).square().mean() + images.diff(dim=3).square().mean()


def out_of_box(images: Images) -> Float[Tensor, ""]:
    """Mean squared excess over [0, 1]."""
    return (images - images.clamp(0, 1)).square().mean()


def mean_square(images: Images) -> Float[Tensor, ""]:
    """Mean of the squared pixels."""
    return images.square().mean()


def size(images: Images) -> Float[Tensor, ""]:
    """Norm of the pixels (R_l2 of GradInversion, arXiv:2104.07586)."""
    return (images.square().sum() + torch.finfo(images.dtype).tiny).sqrt()


def seams(images: Images, patch: int) -> Float[Tensor, ""]:
    """Sum over all inner seams of the norm of the step across (R_patch of GradViT, eq. 10)."""
    edges = range(patch, images.shape[2], patch)
    down = [images[:, :, edge] - images[:, :, edge - 1] for edge in edges]
    across = [images[..., edge] - images[..., edge - 1] for edge in edges]
    tiny = torch.finfo(images.dtype).tiny
    return torch.stack([(step.square().sum() + tiny).sqrt() for step in (*down, *across)]).sum()


def seam_roughness(images: Images, patch: int) -> Float[Tensor, ""]:
    """Mean squared step across the inner seams, down plus across: `seams` made smooth."""
    edges = torch.arange(patch, images.shape[2], patch, device=images.device)
    down = images[:, :, edges] - images[:, :, edges - 1]
    across = images[..., edges] - images[..., edges - 1]
    return down.square().mean() + across.square().mean()
