"""Learned perceptual image patch similarity (Zhang et al., CVPR 2018)."""

import warnings
from functools import cache
from importlib.resources import as_file, files
from typing import ClassVar

import lpips
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from privbench.metric import Metric, Target
from privbench.threat import Images

TRUNK = "9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9"
"""sha256 of the bundled file."""
SMALLEST = 31
"""Pixels; AlexNet's second pooling leaves nothing of a smaller picture."""


class LPIPS(Metric):
    """Learned perceptual distance in the features of AlexNet.

    Range 0 (equal) to about 1, no unit; version 0.1 of Zhang et al. (2018), trunk bundled.
    """

    paper: ClassVar[str] = "arXiv:1801.03924"
    higher_is_better: ClassVar[bool] = False
    weights_sha256: ClassVar[str] = TRUNK

    def applies(self, target: Target) -> bool:
        """Whether the network has features of pictures this small."""
        return min(target.images.shape[-2:]) >= SMALLEST

    def score(self, found: Images, target: Target) -> Float[Tensor, " b"]:
        """Score each image of a batch."""
        x, y = found.clamp(0, 1), target.images.clamp(0, 1)
        return network(x.device)(x, y, normalize=True).flatten()


@cache
def network(device: torch.device) -> lpips.LPIPS:
    """Build the network once per device: heads from the package, trunk from our assets."""
    # the random trunk, replaced below, must not advance the user's generator
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "The parameter 'pretrained' is deprecated")
        warnings.filterwarnings("ignore", "Arguments other than a weight enum")
        built = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    with as_file(files("privbench.assets") / "alexnet_features.safetensors") as path:
        weights = load_file(path)
    built.net.load_state_dict(
        # lpips calls features.3.weight slice2.3.weight
        {key: weights[f"features.{key.split('.', 1)[1]}"] for key in built.net.state_dict()}
    )
    return built.requires_grad_(False).to(device)
