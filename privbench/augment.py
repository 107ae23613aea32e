"""Training pictures: crop, flip, RandAugment, erasing, mixing; all by timm and torchvision."""

import random

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip

from privbench.recipe import Recipe
from privbench.threat import Images

Pixels = UInt8[Tensor, "b 3 h w"]


def seed_everything(seed: int) -> None:
    """Seed the global generators, which timm's and torchvision's augmentation draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Augmentation:
    """Turns stored pictures into a training batch with soft labels."""

    def __init__(self, recipe: Recipe, side: int, classes: int, mean: Tensor, std: Tensor) -> None:
        steps: list[object] = [RandomCrop(side, recipe.padding), RandomHorizontalFlip()]
        if recipe.augment:
            color = tuple(round(255 * float(value)) for value in mean.flatten())
            # timm posterizes the largest magnitude to no bits, which newer Pillows refuse.
            limits = {"img_mean": color, "magnitude_max": 9.99}
            steps.append(rand_augment_transform(recipe.augment, limits))
        self.each = Compose(steps)
        self.erase = RandomErasing(recipe.erasing, mode="pixel", device="cpu")
        self.mean, self.std = mean.cpu(), std.cpu()
        self.mix = Mixup(
            recipe.mixup,
            recipe.cutmix,
            prob=recipe.mix if recipe.mixup or recipe.cutmix else 0.0,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )

    def __call__(
        self, pixels: Pixels, labels: Int[Tensor, " b"]
    ) -> tuple[Images, Float[Tensor, "b classes"]]:
        """Augment each picture, then mix the batch; erased pixels may leave [0, 1]."""
        pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pixels]
        arrays = np.stack([np.asarray(self.each(one)) for one in pictures])
        images = torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255
        erased = self.erase((images - self.mean) / self.std) * self.std + self.mean
        images, soft = self.mix(erased, labels)
        return images, soft.float()
