"""Open image files within limits, and crop them. Loads torch only for random crops."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # for others, Pillow may start other programs
MAX_PIXELS = 89_478_485  # of an image, as decoded or resized: Pillow's own limit
EVALUATION_RESIZE = 256 / 224  # the shorter side, before the centre crop of 224 (paper Sec. 4.2)
LARGE_IMAGE_PIXELS = 64  # images with longer sides stream from their files


def open_image(path: Path, size: int) -> Image.Image:
    """Open an image in RGB; raise ValueError if it cannot be read or is too large to be cropped to `size`."""
    try:
        image = Image.open(path, formats=FORMATS)
        _check_size(*image.size, size)
        return image.convert("RGB")
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"data: cannot read the image {path} ({reason})") from error


def _check_size(width: int, height: int, size: int) -> None:
    """Raise ValueError for a huge image, or one that is huge once its shorter side is resized to `size`."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}×{height} are more than {MAX_PIXELS:,} pixels")
    side = size * EVALUATION_RESIZE
    if side * side * max(width, height) > MAX_PIXELS * min(width, height):
        raise ValueError(f"{width}×{height} pixels are too long and narrow for {size}×{size}")


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side and crop the centre; return an image of that size unchanged."""
    return image if image.size == (size, size) else _centre_crop(size)(image)


def random_resized_crop(image: Image.Image, size: int, seed: int) -> Image.Image:
    """Crop at random, resize, and flip half the time (Szegedy et al. 2015): a function of the seed alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _random_resized_crop(size)(image)


def load_crops() -> None:
    """Load the modules that crops need. Before processes are forked, it spares each of them a second."""
    import torchvision.transforms.v2  # noqa: F401


Crop = Callable[[Image.Image], Image.Image]


@lru_cache
def _centre_crop(size: int) -> Crop:
    """Build the paper's evaluation crop for ImageNet; small images are only resized and cropped square."""
    from torchvision.transforms import v2  # takes a second, and most data sets do without

    side = size if size <= LARGE_IMAGE_PIXELS else round(size * EVALUATION_RESIZE)
    return v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size)])


@lru_cache
def _random_resized_crop(size: int) -> Crop:
    """Build the paper's training crop for ImageNet."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
