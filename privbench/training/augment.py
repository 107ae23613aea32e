"""Training pictures: crop, flip, RandAugment, erasing, mixing; all by timm and torchvision."""

import random

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import (
    Compose,
    InterpolationMode,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
)

from privbench.threat import Images
from privbench.training.recipe import Recipe


def seed_everything(seed: int) -> None:
    """Seed the global generators, which timm's and torchvision's augmentation draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would queue work for CUDA


class Augmentation:
    """Turns stored pictures into a training batch with soft labels; every seed is an argument."""

    def __init__(self, recipe: Recipe, side: int, classes: int, mean: Tensor, std: Tensor) -> None:
        crop = (
            RandomCrop(side, recipe.padding)
            if recipe.crop == "padded"
            else RandomResizedCrop(side, interpolation=InterpolationMode.BICUBIC)
        )
        steps: list[object] = [crop, RandomHorizontalFlip()]
        if recipe.augment:
            color = tuple(round(255 * float(value)) for value in mean.flatten())
            # timm posterizes the largest magnitude to no bits, which newer Pillows refuse.
            limits = {"img_mean": color, "magnitude_max": 9.99}
            steps.append(rand_augment_transform(recipe.augment, limits))
        self.picture = Compose(steps)
        self.erase = RandomErasing(recipe.erasing, mode="pixel", device="cpu")
        self.mean, self.std = mean.cpu()[0], std.cpu()[0]
        self.mixup = Mixup(
            recipe.mixup,
            recipe.cutmix,
            prob=recipe.mix if recipe.mixup or recipe.cutmix else 0.0,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )

    def each(self, image: Image.Image, seed: int) -> Float[Tensor, "3 h w"]:
        """Augment one picture; erased pixels may leave [0, 1]."""
        seed_everything(seed)
        array = np.array(self.picture(image))
        pixels = torch.from_numpy(array).permute(2, 0, 1).float() / 255
        return self.erase((pixels - self.mean) / self.std) * self.std + self.mean

    def mix(
        self, images: Images, labels: Int[Tensor, " b"], seed: int
    ) -> tuple[Images, Float[Tensor, "b classes"]]:
        """Mix each picture with the one at the mirrored place of the batch."""
        seed_everything(seed)
        images, soft = self.mixup(images, labels)
        return images, soft.float()
