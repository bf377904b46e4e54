"""CondenseNet (paper Figure 1 and Sec. 3), from the small part to the whole."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .grouping import LearnedGroupLinear, MaskedConv, conv1x1, give_masks, live_weights
from .looking import same_draws
from .randomness import generator
from .topology import BlockShape, TransitionShape, parts


def _conv1x1(inputs: int, outputs: int, factor: int, config: ModelConfig, draws: torch.Generator) -> nn.Module:
    return conv1x1(inputs, outputs, config.grouping, config.groups, factor, draws, config.permute)


class DenseLayer(nn.Sequential):
    """BN → ReLU → 1×1 in learned groups → BN → ReLU → 3×3 in groups (Figure 1); its result joins the input.

    The permute layer of the figure is the order of the 1×1 convolution's outputs, see `grouping`.
    """

    def __init__(
        self, inputs: int, factor: int, block: BlockShape, config: ModelConfig, draws: torch.Generator
    ):
        width, growth_rate = block.width, block.growth_rate
        layers = OrderedDict[str, nn.Module](norm1=nn.BatchNorm2d(inputs), relu1=nn.ReLU(inplace=True))
        if config.dropout:
            layers["dropout"] = nn.Dropout(config.dropout)
        layers["conv1"] = _conv1x1(inputs, width, factor, config, draws)
        layers["norm2"] = nn.BatchNorm2d(width)
        layers["relu2"] = nn.ReLU(inplace=True)
        layers["conv2"] = nn.Conv2d(width, growth_rate, 3, padding=1, groups=config.groups_3x3, bias=False)
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, in + growth_rate, H, W)."""
        return torch.cat([x, super().forward(x)], dim=1)


class DenseBlock(nn.Sequential):
    """Dense layers of one growth rate at one resolution; each reads the results of all before it.

    (N, in, H, W) → (N, in + layers · growth_rate, H, W).
    """

    def __init__(self, shape: BlockShape, config: ModelConfig, draws: torch.Generator):
        layers = zip(shape.inputs, shape.condense_factors, strict=True)
        super().__init__(*(DenseLayer(*layer, shape, config, draws) for layer in layers))


class Transition(nn.Sequential):
    """Halves the resolution; all features pass on (full connectivity, Sec. 3.3) or a 1×1 compresses them.

    (N, in, H, W) → (N, out_channels, H / 2, W / 2).
    """

    def __init__(self, shape: TransitionShape, config: ModelConfig, draws: torch.Generator):
        layers = OrderedDict[str, nn.Module]()
        if factor := shape.condense_factor:
            layers["norm"] = nn.BatchNorm2d(shape.in_channels)
            layers["relu"] = nn.ReLU(inplace=True)
            layers["conv"] = _conv1x1(shape.in_channels, shape.out_channels, factor, config, draws)
        layers["pool"] = nn.AvgPool2d(2)
        super().__init__(layers)


class CondenseNet(nn.Module):
    """The network of a configuration: (N, 3, H, W) → (N, num_classes).

    `seed` fixes the initial weights and the random groups; without it, torch's global generator draws a seed.
    `initial_seed` fixes the weights alone. `masks` by layer are those of the grouping 'given'; raise ValueError
    if they are of another network.
    """

    def __init__(
        self,
        config: ModelConfig,
        seed: int | None = None,
        masks: Mapping[str, Tensor] | None = None,
        initial_seed: int | None = None,
    ):
        super().__init__()
        self.config = config
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        with same_draws():  # torch's layers draw weights of their own first
            self._build(config, seed)
            if masks is not None:
                give_masks(self, masks)
            self._initialise(generator(seed if initial_seed is None else initial_seed, "initialisation"))

    def _build(self, config: ModelConfig, seed: int) -> None:
        draws, shapes = generator(seed, "grouping"), list(parts(config))
        self.stem = nn.Conv2d(3, shapes[0].in_channels, 3, stride=config.stride, padding=1, bias=False)
        self.blocks = nn.Sequential()
        for shape in shapes:  # a dense block at each resolution, and the transitions between them
            if isinstance(shape, BlockShape):
                self.blocks.add_module(shape.name, DenseBlock(shape, config, draws))
            else:
                self.blocks.add_module(shape.name, Transition(shape, config, draws))
        channels = shapes[-1].out_channels
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        linear = LearnedGroupLinear if config.classifier_pruning else nn.Linear
        self.classifier = linear(channels, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → logits (N, num_classes)."""
        features = self.blocks(self.stem(x))  # (N, channels, H', W')
        return self.classifier(self.pool(self.relu(self.norm(features))).flatten(1))

    @torch.no_grad()
    def _initialise(self, draws: torch.Generator) -> None:
        """He normal by fan-out (He et al. 2015), as the official code does; nothing under a mask."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.weight[0, 0].numel()
                module.weight.normal_(0, math.sqrt(2 / fan_out), generator=draws)
                if isinstance(module, MaskedConv):
                    module.weight.mul_(live_weights(module))
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
                module.weight.uniform_(-bound, bound, generator=draws)
                module.bias.zero_()
