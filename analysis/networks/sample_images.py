"""Real images to run a network on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from condense_core import CondenseNet


def real_images(
    name: str, store: Any, model: CondenseNet, data: str | None, data_dir: Path, count: int
) -> tuple[Tensor, str]:
    """Return normalised images (N, 3, H, W) of the network's size, and a description of their source."""
    import torch

    from condense_core.config import DataConfig
    from condense_core.data import load, spread

    from .lookup import find_run, is_file_name

    size = model.config.image_size
    if data is None and is_file_name(name):
        return photographs(count, size), "crops of scikit-learn's two photographs"
    if data:
        config, seed = DataConfig(data), 0
    else:
        run = find_run(name, store).config
        config, seed = run.data, run.seed
    if data and config.kind in ("folder", "imagenet"):
        config = dataclasses.replace(config, data_image_size=size)
    test = load(config, data_dir, seed=seed).test
    images = torch.cat([batch for batch, _ in spread(test, count).evaluation_batches()])
    if images.shape[2] != size:
        raise ValueError(
            f"data {config.name!r}: has images of {images.shape[2]} pixels, the network needs {size}"
        )
    return images, f"test images of {config.name}"


def photographs(count: int, size: int) -> Tensor:
    """Return normalised crops of two photographs that come with scikit-learn: (count, 3, size, size)."""
    import torch
    from sklearn.datasets import load_sample_images
    from torch.nn.functional import interpolate

    photos = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    draws = torch.Generator().manual_seed(0)
    side = min(min(photo.shape[1:]) for photo in photos) // 2
    crops = []
    for place in range(count):
        photo = photos[place % len(photos)]
        top, left = (int(torch.randint(edge - side, (), generator=draws)) for edge in photo.shape[1:])
        crops.append(photo[:, top : top + side, left : left + side])
    images = interpolate(torch.stack(crops).float() / 255, size, mode="bilinear", antialias=True)
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


def repeated(images: Tensor, count: int) -> Tensor:
    """Return `count` images; repeat the given ones if they are fewer."""
    return images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
