"""ShuffleNet v1, which no library that we use has: one of the networks that CondenseNet is compared with."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

STAGE_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Outputs of ShuffleNet 1x's first stage by groups (its paper, Table 1); each further stage doubles them."""

STEM_CHANNELS = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}
"""ShuffleNet's stem by width, as its authors' code has it: 36 for 1.5x would miss the printed 292 M."""

STAGE_UNITS = (4, 8, 4)


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ShuffleUnit(nn.Module):
    """1×1 in groups → shuffle → depthwise 3×3 → 1×1 in groups, added to the input.

    With `halve` it halves the resolution, and its result joins the pooled input instead.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, first_groups: int, halve: bool):
        super().__init__()
        width = out_channels // 4
        branch_channels = out_channels - in_channels if halve else out_channels
        self.branch = nn.Sequential(
            OrderedDict[str, nn.Module](
                reduce=_conv_norm(in_channels, width, groups=first_groups),
                relu=nn.ReLU(inplace=True),
                shuffle=nn.ChannelShuffle(groups),
                depthwise=_conv_norm(width, width, 3, stride=2 if halve else 1, groups=width),
                expand=_conv_norm(width, branch_channels, groups=groups),
            )
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if halve else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H, W), or (N, out, H/2, W/2) with `halve`."""
        y = self.branch(x)
        return self.relu(x + y if self.pool is None else torch.cat([self.pool(x), y], dim=1))


class ShuffleNet(nn.Module):
    """ShuffleNet v1 (Zhang et al. 2018): (N, 3, H, W) → (N, num_classes)."""

    def __init__(self, groups: int = 3, width: float = 1.0, num_classes: int = 1000):
        super().__init__()
        channels, out_channels = _shuffle_channels(groups, width)
        self.stem = nn.Sequential(
            _conv_norm(3, channels, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        )
        self.stages = nn.Sequential()
        for stage, units in enumerate(STAGE_UNITS):
            for unit in range(units):
                # the stem has too few channels to be read in groups (paper Table 1)
                first_groups = groups if stage or unit else 1
                self.stages.add_module(
                    f"stage{stage + 2}_unit{unit + 1}",
                    ShuffleUnit(channels, out_channels, groups, first_groups, halve=unit == 0),
                )
                channels = out_channels
            out_channels *= 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → logits (N, num_classes)."""
        features = self.stages(self.stem(x))  # (N, channels, H/32, W/32)
        return self.classifier(self.pool(features).flatten(1))


def _shuffle_channels(groups: int, width: float) -> tuple[int, int]:
    """Outputs of the stem and of the first stage."""
    if groups not in STAGE_CHANNELS:
        raise ValueError(f"groups {groups}: must be one of {', '.join(map(str, STAGE_CHANNELS))}")
    if width not in STEM_CHANNELS:
        raise ValueError(f"width {width}: must be one of {', '.join(map(str, STEM_CHANNELS))}")
    stem, first = STEM_CHANNELS[width], int(STAGE_CHANNELS[groups] * width)
    if first // 4 % groups or (first - stem) % groups:
        raise ValueError(f"width {width}: its channels do not divide into {groups} groups")
    return stem, first
