"""How the features of a batch lie in memory, and into which pieces the kernels cut them (see README.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kernels import conv3x3, conv3x3_small, tiles
from .kernels.vectors import LANES

Array = np.ndarray

MAX_SMALL_IMAGE = 64  # pixels
SMALL_IMAGES_PER_CHUNK = 64


@dataclass(frozen=True)
class Layout:
    """How the features of a batch lie: image by image, or, if images are small, pixel by pixel."""

    images: int
    height: int
    width: int

    @property
    def by_pixel(self) -> bool:
        """Whether neighbours in memory are the same pixel of different images."""
        return self.height * self.width <= MAX_SMALL_IMAGE and self.images >= LANES

    def shape(self, channels: int) -> tuple[int, int, int]:
        """Return the shape of features as kernels read them: (images, channels, pixels)."""
        if self.by_pixel:
            return 1, channels, self.pixels
        return self.images, channels, self.height * self.width

    def pixels_of(self, features: Array) -> Array:
        """View features as (N, C, H, W, I): I = 1, or all images side by side in one."""
        inner = self.images if self.by_pixel else 1
        return features.reshape(len(features), -1, self.height, self.width, inner)

    def lines_of(self, features: Array) -> Array:
        """View features as (N, C, pixels, I): I = 1, or all images side by side in one."""
        return features.reshape(len(features), features.shape[1], -1, self.images if self.by_pixel else 1)

    def images_of(self, features: Array) -> Array:
        """View features as (images, C, H, W)."""
        pixels = self.pixels_of(features)
        return pixels[0].transpose(3, 0, 1, 2) if self.by_pixel else pixels[..., 0]

    @cached_property
    def pixels(self) -> int:
        """Pixels of all images."""
        return self.images * self.height * self.width

    @cached_property
    def image_sizes(self) -> Array:
        """Pixels of each image that the kernels see."""
        return np.array([self.pixels]) if self.by_pixel else np.full(self.images, self.height * self.width)

    @cached_property
    def tile_sizes(self) -> Array:
        """Pixels of each tile of a 1×1 convolution."""
        return tiles.tile_sizes(len(self.image_sizes), int(self.image_sizes[0]))

    @cached_property
    def images_per_chunk(self) -> int:
        """Images that a 3×3 convolution works on at a time."""
        return SMALL_IMAGES_PER_CHUNK if self.by_pixel else tiles.cut(self.height * self.width)[0]

    @cached_property
    def chunks(self) -> int:
        """Pieces that a 3×3 convolution works on one after the other."""
        return -(-self.images // self.images_per_chunk)

    @cached_property
    def moment_sizes(self) -> Array:
        """Pixels of each of a 3×3 convolution's moments: of an image, or of a chunk of small ones."""
        if not self.by_pixel:
            return self.image_sizes
        firsts = np.arange(0, self.images, self.images_per_chunk)
        return np.minimum(self.images_per_chunk, self.images - firsts) * (self.height * self.width)

    @cached_property
    def conv3x3(self) -> Any:
        """The module with the 3×3 convolution's kernels."""
        return conv3x3_small if self.by_pixel else conv3x3


@lru_cache(maxsize=64)
def layout_of(images: int, height: int, width: int) -> Layout:
    """Return the layout of a batch; kept, because its sizes are needed in every step."""
    return Layout(images, height, width)


NUMBERS = {torch.float32: np.float32, torch.float64: np.float64}
"""The types of numbers that kernels know, in torch and in numpy."""


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor of unset numbers, in numpy's memory.

    It keeps small pieces and asks for large pages, while torch's `empty` costs a fault for every 4 KB.
    """
    return torch.from_numpy(np.empty(shape, NUMBERS[dtype]))
