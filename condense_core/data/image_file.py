"""Open image files within limits, and crop them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")


MOST_PIXELS = 89_478_485  # of an image, as decoded or resized: Pillow's own limit


EVALUATION_RESIZE = 256 / 224  # the shorter side, before the centre crop of 224 (paper Sec. 4.2)


LARGE_IMAGE_PIXELS = 64  # above that many pixels a side images stream from their files


def _open(path: Path, size: int) -> Image.Image:
    """An image in RGB. Raises ValueError, naming the file, where it is none or would be too large at `size`."""
    try:
        image = Image.open(path, formats=FORMATS)  # of more formats some start other programs
        _check_size(*image.size, size)
        return image.convert("RGB")
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"data: cannot read the image {path} ({reason})") from error


def _check_size(width: int, height: int, size: int) -> None:
    """Raise ValueError for what is huge, or would be once its shorter side is resized to `size`."""
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width}×{height} are more than {MOST_PIXELS:,} pixels")
    side = size * EVALUATION_RESIZE
    if side * side * max(width, height) > MOST_PIXELS * min(width, height):
        raise ValueError(f"{width}×{height} pixels are too long a strip for {size}×{size}")


@lru_cache
def _crop(size: int, augmented: bool) -> Callable[[Image.Image], Image.Image]:
    """The paper's crops for ImageNet; small images are only resized."""
    from torchvision.transforms import v2  # takes a second, and most data sets need none of it

    if augmented:
        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    side = size if size <= LARGE_IMAGE_PIXELS else round(size * EVALUATION_RESIZE)
    return v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size)])


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side and crop the centre; an image of the size itself stays as it is."""
    return image if image.size == (size, size) else _crop(size, False)(image)


def random_resized_crop(image: Image.Image, size: int, seed: int) -> Image.Image:
    """A random crop, resized and flipped half the time (Szegedy et al. 2015): a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _crop(size, True)(image)
