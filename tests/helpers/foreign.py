"""Small random networks that are not CondenseNets, with learned groups."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from condense_core.condensation import learned_layers, prune_to_stage
from condense_core.grouping import LearnedGroupConv
from helpers.networks import live_in

CHANNELS = (4, 8, 12)
KINDS = ["learned", "learned", "learned", "plain", "depthwise", "norm", "relu", "pool"]


def learned(conv: nn.Conv2d, groups: int = 4, permute: bool = False) -> LearnedGroupConv:
    """A learned group convolution of the weights and the settings of a convolution."""
    layer = LearnedGroupConv(
        conv.in_channels, conv.out_channels, groups, groups, permute,
        kernel_size=conv.kernel_size, stride=conv.stride, padding=conv.padding, dilation=conv.dilation,
        bias=conv.bias is not None, padding_mode=conv.padding_mode,
    )  # fmt: skip
    layer.load_state_dict(conv.state_dict(), strict=False)
    return layer


def pruned(model: nn.Module) -> nn.Module:
    """Prune every layer to its last stage, and return the model."""
    factors = [layer.condense_factor for layer in learned_layers(model).values()]
    prune_to_stage(model, max(factors, default=1) - 1, max(factors, default=1) - 1)
    return model


class Step(nn.Module):
    """A module that reads some of the features before it; of two or more it makes one."""

    def __init__(self, sources: list[int], layer: nn.Module, together: str = ""):
        super().__init__()
        self.sources, self.layer, self.together = sources, layer, together

    def forward(self, features: list[Tensor]) -> Tensor:
        read = [features[source] for source in self.sources]
        if self.together == "cat":
            return self.layer(torch.cat(read, 1))
        return self.layer(sum(read[1:], start=read[0]))


class Steps(nn.Module):
    """A network of steps; its outputs are those of the last step and of another one."""

    def __init__(self, steps: list[Step], also: int):
        super().__init__()
        self.steps, self.also = nn.ModuleList(steps), also

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = [x]
        for step in self.steps:
            features.append(step(features))
        return {"last": features[-1], "also": features[self.also].mean((2, 3))}


@st.composite
def networks(draw) -> Steps:
    """Random networks of learned, plain and depthwise convolutions, norms, sums and concatenations."""
    shapes, steps = [(8, 9)], []  # channels and size of the features so far
    torch.manual_seed(draw(st.integers(0, 99)))
    for _ in range(draw(st.integers(1, 9))):
        first = draw(st.integers(max(0, len(shapes) - 3), len(shapes) - 1))
        alike = [place for place, (_, size) in enumerate(shapes) if size == shapes[first][1]]
        together = draw(st.sampled_from(["", "", "", "sum", "cat"]))
        if together == "sum":
            alike = [place for place in alike if shapes[place][0] == shapes[first][0]]
        sources = [first, *([draw(st.sampled_from(alike))] if together else [])]
        channels = sum(shapes[place][0] for place in sources) if together == "cat" else shapes[first][0]
        layer, shape = draw(layers(channels, shapes[first][1], KINDS if steps else ["learned"]))
        steps.append(Step(sources, layer, together))
        shapes.append(shape)
    return pruned(live_in(Steps(steps, draw(st.integers(0, len(steps))))))


@st.composite
def layers(draw, channels: int, size: int, kinds: list[str]) -> tuple[nn.Module, tuple[int, int]]:
    """A layer for so many channels, and the channels and the size of what it gives."""
    kind = draw(st.sampled_from(kinds))
    simple = {
        "norm": nn.BatchNorm2d(channels), "relu": nn.ReLU(draw(st.booleans())), "pool": nn.MaxPool2d(3, 1, 1),
    }  # fmt: skip
    if kind in simple:
        return simple[kind], (channels, size)
    kernel, stride = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 1, 1, 2]))
    dilation = draw(st.sampled_from([1, 2]))
    outputs = channels if kind == "depthwise" else draw(st.sampled_from(CHANNELS))
    conv = nn.Conv2d(
        channels, outputs, kernel, stride, (kernel // 2) * dilation, dilation,
        channels if kind == "depthwise" else 1, draw(st.booleans()),
        draw(st.sampled_from(["zeros", "reflect"])),
    )  # fmt: skip
    if conv.padding[0] >= size:
        conv = nn.Conv2d(channels, outputs, 1, stride, groups=conv.groups)
    shape = outputs, -(-size // stride)
    return (
        learned(conv, draw(st.sampled_from([1, 2, 4])), draw(st.booleans())) if kind == "learned" else conv
    ), shape
