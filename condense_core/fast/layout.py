"""How the features of a batch lie in memory in the fast execution, and into what pieces kernels cut them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kernels import conv3x3, conv3x3_small, tiles

Array = np.ndarray

SMALL_IMAGE = 64  # pixels
TOGETHER = 64  # small images that a 3×3 convolution works on at a time


@dataclass(frozen=True)
class Layout:
    """How the features of a batch lie: image by image, or, where images are small, pixel by pixel."""

    images: int
    height: int
    width: int

    @property
    def by_pixel(self) -> bool:
        """Whether neighbours in memory are the same pixel of different images."""
        return self.height * self.width <= SMALL_IMAGE and self.images >= conv3x3.LANES

    def empty(self, channels: int, dtype: torch.dtype) -> Tensor:
        """Room for features (N, channels, H, W)."""
        if self.by_pixel:
            return empty(channels, self.height, self.width, self.images, dtype=dtype).permute(3, 0, 1, 2)
        return empty(self.images, channels, self.height, self.width, dtype=dtype)

    def array(self, features: Tensor) -> Array:
        """Features that lie so, as kernels read them: (images, channels, pixels), or all images as one."""
        channels = features.shape[1]
        if self.by_pixel:
            return features.permute(1, 2, 3, 0).numpy().reshape(1, channels, -1)
        return features.numpy().reshape(self.images, channels, -1)

    @cached_property
    def pixels(self) -> int:
        """Of all images."""
        return self.images * self.height * self.width

    @cached_property
    def of_images(self) -> Array:
        """Pixels of each image that the kernels see."""
        return np.array([self.pixels]) if self.by_pixel else np.full(self.images, self.height * self.width)

    @cached_property
    def of_tiles(self) -> Array:
        """Pixels of each tile of a 1×1 convolution."""
        return tiles.tile_sizes(len(self.of_images), int(self.of_images[0]))

    @cached_property
    def each(self) -> int:
        """Images that a 3×3 convolution works on at a time."""
        return TOGETHER if self.by_pixel else tiles.cut(self.height * self.width)[0]

    @cached_property
    def of_parts(self) -> Array:
        """Pixels of each of a 3×3 convolution's sums: those of an image, or of images worked on together."""
        if not self.by_pixel:
            return self.of_images
        firsts = np.arange(0, self.images, self.each)
        return np.minimum(self.each, self.images - firsts) * (self.height * self.width)

    @cached_property
    def parts(self) -> int:
        """Pieces that a 3×3 convolution works on one after the other."""
        return -(-self.images // self.each)

    @cached_property
    def kernels(self) -> Any:
        """Where the 3×3 convolution's kernels are."""
        return conv3x3_small if self.by_pixel else conv3x3


@lru_cache(maxsize=64)
def layout_of(images: int, height: int, width: int) -> Layout:
    """The layout of a batch; kept, for its sizes are needed in every step."""
    return Layout(images, height, width)


NUMBERS = {torch.float32: np.float32, torch.float64: np.float64}
"""What numpy calls the numbers that kernels know."""


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """A tensor of unset numbers, in numpy's memory.

    It keeps small pieces and asks for large pages, where torch's `empty` costs a fault for every 4 KB.
    """
    return torch.from_numpy(np.empty(shape, NUMBERS[dtype]))
