"""Open image files within limits, and crop them. Loads torch only for random crops."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from .pixels import shown

if TYPE_CHECKING:
    from torch import Generator

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "DIB", "ICO", "CUR", "ICNS"),
    *("PCX", "DCX", "PSD", "SGI", "SUN", "XBM", "XPM", "MSP", "QOI", "DDS", "FTEX", "BLP", "GBR", "PIXAR"),
    *("PCD", "FLI", "TGA"),  # TGA is known by no first bytes
)
"""The formats of pictures that Pillow reads; for others it may start programs, or they hold measurements."""

MAX_PIXELS = 89_478_485  # of an image, as decoded or resized: Pillow's own limit
EVALUATION_RESIZE = 256 / 224  # the shorter side, before the centre crop of 224 (paper Sec. 4.2)
LOG_RATIO = math.log(4 / 3)  # of width to height, at most, in a random crop
LARGE_IMAGE_PIXELS = 64  # images with longer sides stream from their files


@lru_cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files that are read, in lower case."""
    readable = {*_formats(), "MPO"}  # a JPEG with further pictures
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in readable)


@lru_cache
def _formats() -> tuple[str, ...]:
    """The formats that this Pillow was built to read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_image(path: Path, size: int) -> Image.Image:
    """Open an image in RGB; raise ValueError if it cannot be read or is too large to be cropped to `size`."""
    with naming_image(path), _opened(path) as image:
        _check_size(*image.size, size)
        rgb = shown(image)
        _check_size(*rgb.size, size)  # of an icon the file may say less than it holds
        return rgb


def read_image_size(path: Path) -> tuple[int, int]:
    """Read width and height of an image from the head of its file; raise ValueError if there is none."""
    with naming_image(path), _opened(path) as image:
        _check_size(*image.size, 1)
        return image.size


def _opened(path: Path) -> Image.Image:
    """Open an image as `Image.open` does, but without its warning of large ones, which `_check_size` refuses.

    Warnings cannot be turned off in one thread alone.
    """
    with path.open("rb") as file:
        start = file.read(16)
    for name in _formats():
        make, accepts = Image.OPEN[name]
        if accepts is None or accepts(start) is True:
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # of another format after all
                return cast(Image.Image, cast(Any, make)(str(path), str(path)))
    if start.startswith(b"version https://"):
        raise ValueError("it is a pointer of Git LFS; fetch the image with: git lfs pull")
    raise ValueError("it is of no format that is read" if start else "it is empty")


@contextmanager
def naming_image(path: Path) -> Iterator[None]:
    """Raise every fault as a ValueError that names the file: damage can make a decoder raise anything."""
    try:
        yield
    except Exception as error:
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
    from torchvision.transforms.v2.functional import horizontal_flip, resized_crop

    draws = torch.Generator().manual_seed(seed)  # not torch's own: other threads draw from that
    top, left, height, width = _random_box(*image.size, draws)
    cropped = resized_crop(image, top, left, height, width, [size, size])
    return horizontal_flip(cropped) if torch.rand(1, generator=draws) < 0.5 else cropped


def _random_box(width: int, height: int, draws: Generator) -> tuple[int, int, int, int]:
    """Draw a box of 8 to 100 % of the area as torchvision does: top, left, height, width."""
    import torch

    def draw(low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high, generator=draws).item()

    for _ in range(10):
        area, ratio = width * height * draw(0.08, 1), math.exp(draw(-LOG_RATIO, LOG_RATIO))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            places = (torch.randint(0, free + 1, (1,), generator=draws) for free in (height - h, width - w))
            top, left = (int(place) for place in places)
            return top, left, h, w
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


def load_crops() -> None:
    """Load the modules that crops need, before threads need them at the same time."""
    import torchvision.transforms.v2.functional  # noqa: F401


Crop = Callable[[Image.Image], Image.Image]


@lru_cache
def _centre_crop(size: int) -> Crop:
    """Build the paper's evaluation crop for ImageNet; small images are only resized and cropped square."""
    from torchvision.transforms import v2  # takes a second, and most data sets do without

    side = size if size <= LARGE_IMAGE_PIXELS else round(size * EVALUATION_RESIZE)
    return v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size)])
