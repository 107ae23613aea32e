"""Image prior: the BatchNorm statistics of a network that has seen other pictures.

In the words of DeepInversion (arXiv:1912.08795), a picture is natural when each layer's features
have the mean and variance that the network met in training.
"""

from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad, relu
from torchvision.models import mobilenet_v2

from privbench.errors import BadSetting, BadWeights
from privbench.threat import Images

BUNDLED = "bundled"
"""Name of the ResNet-20 that comes along, for pictures of 32 px."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet; the bundled network takes them too, although its pictures are CIFAR-10's."""


FIRST_BLOCK = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
OTHER_BLOCKS = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
"""Layers of MobileNetV2's blocks as other repositories number them, and as torchvision does."""


class _Block(nn.Module):
    """Two convolutions and a shortcut that pads new channels with zeros (option A)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride = 1 if before == after else 2
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        more = (y.shape[1] - x.shape[1]) // 2
        short = x[..., :: self.stride, :: self.stride]
        return relu(y + pad(short, (0, 0, 0, 0, more, more)))


class ResNet20(nn.Module):
    """ResNet-20 for 32 px (He et al., arXiv:1512.03385, section 4.2), up to its last features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(_Block(16, 16), _Block(16, 16), _Block(16, 16))
        self.layer2 = nn.Sequential(_Block(16, 32), _Block(32, 32), _Block(32, 32))
        self.layer3 = nn.Sequential(_Block(32, 64), _Block(64, 64), _Block(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))


class BatchNormPrior:
    """Distance of a batch's feature statistics from those that a network remembers.

    R_img of GradViT (arXiv:2203.11894, eq. 7) and R_BN of GradInversion (arXiv:2104.07586, eq. 10):
    the sum over layers of the norms of both differences, the first layer weighed by itself.
    """

    def __init__(self, network: nn.Module, first: float = 1.0) -> None:
        self.network, self.first = network, first
        self.found: list[Tensor] = []
        layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for layer in layers:
            layer.register_forward_hook(self._hear)

    def _hear(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        features, mean, variance = inputs[0], layer.running_mean, layer.running_var
        assert mean is not None
        assert variance is not None
        tiny = torch.finfo(features.dtype).tiny
        variances, means = torch.var_mean(features, dim=(0, 2, 3), correction=0)
        gaps = ((means - mean).square().sum(), (variances - variance).square().sum())
        self.found.append(torch.stack([(gap + tiny).sqrt() for gap in gaps]).sum())

    def __call__(self, images: Images) -> Float[Tensor, ""]:
        """Sum over all layers, for one batch; several threads need priors of their own."""
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
        self.found = []
        self.network((images - mean) / std)
        return self.first * self.found[0] + torch.stack(self.found[1:]).sum()


def batch_norm(name: str, side: int, like: Tensor, first: float = 1.0) -> BatchNormPrior:
    """Return the bundled prior, or that of torchvision's MobileNetV2 in a safetensors file.

    Raises BadSetting for sizes without a prior, BadWeights for files that hold something else.
    """
    if name == BUNDLED and side != 32:
        raise BadSetting(
            f"The prior that comes along is for pictures of 32 px, and these have {side} px. "
            "Name a safetensors file with torchvision's MobileNetV2 for ImageNet: "
            "--set attack.prior=FILE."
        )
    # Drawn on no device: weights that are replaced must not advance anybody's generator.
    with torch.device("meta"):
        network = ResNet20() if name == BUNDLED else nn.Module()
        if name != BUNDLED:
            network.features = mobilenet_v2().features
    if name == BUNDLED:
        with as_file(files("privbench.assets") / "resnet20_cifar10.safetensors") as path:
            network = _filled(network, path)
    else:
        network = _filled(network, Path(name)).get_submodule("features")
    return BatchNormPrior(network.to(like).eval().requires_grad_(False), first)


def _filled(network: nn.Module, path: Path) -> nn.Module:
    """Give a network without weights those of a file, which may hold a classifier, too."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadWeights(
            f"'{path.name}' cannot be read as safetensors: {error}. Name another file by "
            "--set attack.prior=FILE."
        ) from None
    if "features.2.conv.7.weight" in found:
        found = {_nested(name): tensor for name, tensor in found.items()}
    known = set(network.state_dict())
    try:
        faults = network.load_state_dict(
            {n: t for n, t in found.items() if n in known}, strict=False, assign=True
        )
    except RuntimeError:
        faults = None
    counters = "num_batches_tracked"
    if faults is None or any(not name.endswith(counters) for name in faults.missing_keys):
        raise BadWeights(
            f"'{path.name}' does not hold the prior's network: torchvision's MobileNetV2 for "
            "ImageNet. Name another file by --set attack.prior=FILE."
        )
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.num_batches_tracked = torch.tensor(0)
    return network


def _nested(name: str) -> str:
    parts = name.split(".")
    if len(parts) < 5 or parts[2] != "conv":
        return name
    parts[3] = (FIRST_BLOCK if parts[1] == "1" else OTHER_BLOCKS).get(parts[3], parts[3])
    return ".".join(parts)
