"""Pictures of any kind as RGB in [0, 1], or the reason why one cannot be used."""

import warnings
from collections.abc import Sequence
from importlib.resources.abc import Traversable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from privbench.errors import BadData, Unreadable

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".gif")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "GIF")
"""No format that starts another program."""
SMALLEST = 8
"""Pixels of the shorter side: half of a usual patch; set by reason."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's names of what 8-bit RGB can hold."""


def open_rgb(source: Traversable, name: str) -> Image.Image:
    """Decode a whole picture (the first frame) and convert it to RGB; what shines through is white.

    Like torchvision's ImageFolder it shows the pixels as stored: EXIF may turn nothing.
    """
    image = decode(source, name)
    if min(image.size) < SMALLEST:
        raise BadData(
            f"'{name}' is {image.width} x {image.height} px; sides under {SMALLEST} px are of no "
            "use. Replace it by a larger picture."
        )
    if image.mode not in MODES:
        raise BadData(
            f"'{name}' has pixels of mode {image.mode}, which 8-bit RGB cannot hold without loss. "
            "Convert it to 8-bit RGB first."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode(source: Traversable, name: str) -> Image.Image:
    """Read a picture to its last byte: Pillow alone would notice a truncated file later."""
    try:
        with warnings.catch_warnings(), source.open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
            image.load()
            return image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Unreadable(
            f"'{name}' has more than {Image.MAX_IMAGE_PIXELS:,} pixels, too many to open safely. "
            "Make it smaller first."
        ) from None
    except Exception as error:  # decoders raise anything, from OSError to struct.error
        reason = getattr(error, "strerror", None) or "it is truncated or not a picture"
        raise Unreadable(
            f"'{name}' cannot be read: {reason}. Replace it or take it away."
        ) from None


def square(image: Image.Image, side: int) -> Image.Image:
    """Resize the short side to `side` (bicubic, antialiased) and cut out the center."""
    return ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)


def as_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """Float32 in [0, 1] from 8-bit RGB."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def check_indices(dataset: str, indices: Sequence[int], size: int) -> None:
    """Refuse a number that no picture has."""
    for index in indices:
        if not 0 <= index < size:
            raise BadData(
                f"{dataset} has {size} picture{'s' if size > 1 else ''}, numbered 0 to "
                f"{size - 1}; {index} is not one of them. Take all with `--images {size}`."
            )
