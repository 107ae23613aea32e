"""Pictures of any kind as RGB in [0, 1], or the reason why one cannot be used."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from privbench.errors import BadData, Unreadable

EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp"),
    *(".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".tif", ".tiff"),
)
"""Of files that are pictures; upper case counts, too."""
UNREAD = (
    *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".tga", ".psd", ".xcf"),
    *(".ico", ".icns", ".svg", ".eps", ".pcx", ".sgi", ".exr", ".hdr", ".pfm", ".dds", ".qoi"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm"),
)
"""Of pictures that are not read, so that a folder with some of them is refused, not thinned out."""
BEGINNINGS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*"),
)
"""Of pictures, whatever their files are called."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "PPM", "GIF", "TIFF")
"""No format that starts another program."""
NAMED = 3
"""Files that a sentence names."""
SMALLEST = 8
"""Pixels of the shorter side: half of a usual patch; set by reason."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's names of what 8-bit RGB can hold."""


def open_rgb(source: Traversable, name: str, *, upright: bool = False) -> Image.Image:
    """Decode a whole picture (the first frame) and convert it to RGB; what shines through is white.

    Upright turns it as its EXIF orientation says. Without it pixels are as stored, as torchvision's
    ImageFolder shows them and as accuracies on released sets are published.
    """
    image = decode(source, name)
    if _torn(image):
        raise BadData(
            f"'{name}' is an uncompressed TIFF of one plane per color and more than 8 bits, which "
            "Pillow decodes wrongly. Convert it to 8-bit RGB first."
        )
    if upright:
        with suppress(Exception):  # damaged EXIF data say nothing of the pixels
            image = ImageOps.exif_transpose(image)
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


def _torn(image: Image.Image) -> bool:
    """Say whether it is a kind of TIFF whose pixels Pillow 13 mixes up without a word."""
    tags = getattr(image, "tag_v2", {})
    compression, planes, bits = (tags.get(tag, 1) for tag in (259, 284, 258))
    return bool(compression == 1 and planes == 2 and np.max(bits) > 8)


def square(image: Image.Image, side: int) -> Image.Image:
    """Resize the short side to `side` (bicubic, antialiased) and cut out the center."""
    return ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)


Interpolation = Literal["bicubic", "bilinear"]


def cropped(image: Image.Image, side: int, crop: float, how: Interpolation) -> Image.Image:
    """Resize the short side to side / crop and cut out the center, as timm does."""
    steps = [Resize(int(side / crop), InterpolationMode(how)), CenterCrop(side)]
    return Compose(steps)(image)


def as_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """Float32 in [0, 1] from 8-bit RGB."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def refuse_unread(top: Path, names: Sequence[str]) -> None:
    """Refuse a folder with pictures that nobody would see; raises BadData."""
    others = [name for name in names if not name.lower().endswith(EXTENSIONS)]
    unread = [name for name in others if name.lower().endswith(UNREAD)]
    if unread:
        what, remedy = "of a format that is not read", "Convert {} to PNG, or take {} away."
    elif unread := [name for name in others if _begins_as_picture(top / name)]:
        what = "without a picture's suffix"
        remedy = "Give {} a suffix such as .png or .jpg, or take {} away."
    else:
        return
    one, more = len(unread) == 1, ", ..." if len(unread) > NAMED else ""
    raise BadData(
        f"'{top}' holds {len(unread)} {'picture' if one else 'pictures'} {what}: "
        f"{', '.join(unread[:NAMED])}{more}. {remedy.replace('{}', 'it' if one else 'them')}"
    )


def _begins_as_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:  # a folder, or nothing that may be read
        return False
    return start.startswith(BEGINNINGS) or (start[:4], start[8:]) == (b"RIFF", b"WEBP")


def check_indices(dataset: str, indices: Sequence[int], size: int) -> None:
    """Refuse a number that no picture has."""
    for index in indices:
        if not 0 <= index < size:
            raise BadData(
                f"{dataset} has {size} picture{'s' if size > 1 else ''}, numbered 0 to "
                f"{size - 1}; {index} is not one of them. Take all with `--images {size}`."
            )
