"""A client that knows nothing of privbench: timm, torch's SGD, and files as frameworks write."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

SIZE: dict[str, Any] = {"img_size": 32, "num_classes": 10}
MODEL = "vit_tiny_patch16_224"
RATE = 0.05


def network() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model(MODEL, pretrained=False, **SIZE)


def picture() -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32))
    return torch.from_numpy(pixels).float() / 255


def step(
    net: nn.Module,
    chosen: str = "",
    rate: float = RATE,
    count: int = 1,
    kind: Any = torch.optim.SGD,
) -> dict[str, Tensor]:
    """Train the parameters whose name holds a word for some steps; return the weights after."""
    net = copy.deepcopy(net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(chosen in name)
    optimizer = kind([p for p in net.parameters() if p.requires_grad], lr=rate)
    for _ in range(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net((picture() - 0.5) / 0.5), torch.tensor([3]))
        loss.backward()
        optimizer.step()
    return dict(net.state_dict())


def slopes(net: nn.Module) -> dict[str, Tensor]:
    """Return the gradient itself, by name."""
    net = copy.deepcopy(net)
    nn.functional.cross_entropy(net((picture() - 0.5) / 0.5), torch.tensor([3])).backward()
    return {name: one.grad for name, one in net.named_parameters() if one.grad is not None}


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, *[one.numpy() for one in state.values()])
    else:
        torch.save(state, path)
    return path
