"""The networks that CondenseNet is compared with on cost, by name; `published` has their printed figures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from condense_core.tables import Named

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Baseline:
    """A network to compare with; `build()` makes it with random weights, for images of `image_size` pixels."""

    label: str
    build: Callable[[], nn.Module]
    image_size: int
    source_of_code: str


def _shufflenet(groups: int, width: float) -> nn.Module:
    from .shufflenet import ShuffleNet

    return ShuffleNet(groups, width)


def _from_torchvision(name: str) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None)


def _from_timm(key: str, name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, which timm still uses
        try:
            import timm
        except ModuleNotFoundError as error:
            if error.name != "timm":
                raise
            raise ValueError(
                f"{key}: needs timm, which is not installed: pip install 'condense[peers]'"
            ) from error
        return timm.create_model(name, pretrained=False)


def _torchvision(label: str, name: str) -> Baseline:
    return Baseline(label, partial(_from_torchvision, name), 224, "torchvision")


BASELINES = Named(
    "baseline",
    {
        "mobilenet-1.0": Baseline(
            "1.0 MobileNet-224", partial(_from_timm, "mobilenet-1.0", "mobilenetv1_100"), 224, "timm"
        ),
        "shufflenet-2x-g3": Baseline(
            "ShuffleNet 2x (g = 3)", partial(_shufflenet, groups=3, width=2.0), 224, "condense"
        ),
        "mobilenet-v2": _torchvision("MobileNetV2", "mobilenet_v2"),
        "shufflenet-v2-1x": _torchvision("ShuffleNet V2 1x", "shufflenet_v2_x1_0"),
        "shufflenet-v2-2x": _torchvision("ShuffleNet V2 2x", "shufflenet_v2_x2_0"),
        "densenet-121": _torchvision("DenseNet-121", "densenet121"),
        "resnet-50": _torchvision("ResNet-50", "resnet50"),
        "resnet-18": _torchvision("ResNet-18", "resnet18"),
        "vgg-16": _torchvision("VGG-16", "vgg16"),
    },
)
"""The networks by name, all for ImageNet."""
