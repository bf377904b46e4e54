"""Normalise batches of decoded images, and augment them by random shifts and flips, on any device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How training images are augmented: a shift by up to `padding` pixels and, if `flip`, a random flip."""

    padding: int
    flip: bool


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise images: uint8 (N, 3, H, W) → float, channels last."""
        scale, shift = _scale_and_shift(self, images.device)
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        return pixels.mul_(scale[:, None, None]).add_(shift[:, None, None])


@lru_cache(maxsize=64)
def _scale_and_shift(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return factor and offset (3,), kept on the device, because copying them would stall each step."""
    mean, std = (torch.tensor(values, device=device) for values in (normalisation.mean, normalisation.std))
    return 1 / (255 * std), -mean / std


def measure_normalisation(images: Tensor) -> Normalisation:
    """Measure mean and standard deviation of each channel of uint8 images (N, 3, H, W)."""
    histogram = torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(3)])
    levels, share = torch.arange(256) / 255, histogram / histogram.sum(1, keepdim=True)
    mean = share @ levels
    variance = share @ levels**2 - mean**2
    return Normalisation(tuple(mean.tolist()), tuple(variance.clamp(min=1e-6).sqrt().tolist()))


CIFAR10_NORMALISATION = Normalisation((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))
CIFAR100_NORMALISATION = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
IMAGENET_NORMALISATION = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def augment(images: Tensor, augmentation: Augmentation, draws: torch.Generator) -> Tensor:
    """Pad with black, crop at a random place, flip half of the images: (N, C, H, W) → (N, C, H, W)."""
    count, _, height, width = images.shape
    pad, device = augmentation.padding, images.device
    if pad:
        padded = F.pad(images, (pad,) * 4)
        down, right = torch.randint(2 * pad + 1, (2, count), generator=draws, device=device)
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, down, right, H, W), without a copy
        images = crops[torch.arange(count, device=device), :, down, right]
    if augmentation.flip:
        flipped = torch.rand(count, generator=draws, device=device) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images
