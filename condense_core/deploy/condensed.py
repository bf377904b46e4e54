"""Condensed networks: an index of the surviving inputs before each grouped convolution (paper Figure 1).

The groups of a grouped convolution are contiguous, so the permutation that costs nothing in training becomes
a channel shuffle before the 3×3 convolution.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, overload

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from condense_core import fast
from condense_core.config import Execution
from condense_core.grouping import LearnedGroupLinear, MaskedConv, masked_layers
from condense_core.looking import same_draws, unwrapped
from condense_core.model import CondenseNet, DenseLayer, Transition

from .blocks import CondensedBlock, CondensedTransition, Index
from .layers import (
    check_shares,
    condense_layer,
    dense_layer,
    grouped_conv,
    is_sorted,
    output_order,
    select_channels,
)
from .outputs import arguments_of, check_reads
from .plan import CHOICES, Plan
from .planned import CondensedNet, PlannedBlocks
from .tracing import condense_module


@overload
def condense(
    model: CondenseNet,
    example: Any = None,
    fold: bool = True,
    *,
    plan: Plan | str | None = None,
    execution: Execution = "fast",
) -> CondenseNet: ...
@overload
def condense(model: nn.Module, example: Any, fold: bool = True) -> nn.Module: ...
def condense(
    model: nn.Module,
    example: Any = None,
    fold: bool = True,
    *,
    plan: Plan | str | None = None,
    execution: Execution = "fast",
) -> nn.Module:
    """Build a physically smaller network with the same outputs as `model`, for any grouping and stage.

    It is for inference: in evaluation mode, its weights take no gradients, and batch norms after convolutions
    are folded into them. `fold=False` keeps them, and the gradients, for fine-tuning.

    Any network with masked layers can be condensed; another than a CondenseNet needs an `example` of what it
    reads, a tensor or a tuple of arguments, on which the outputs are compared. `result.condensed` says what was
    done; see `tracing`.

    A CondenseNet's first call for a shape of images measures how each layer is computed fastest on this
    processor, or remembers it. `plan` says it instead, for every shape: a plan, or one of `plan.CHOICES` for
    all layers; nothing is measured then. Execution 'reference' is torch's modules. Raise ValueError if no layer
    is masked, single weights were pruned, groups keep unequal shares, the model cannot read the example, or the
    plan is another network's.

    >>> from condense_core import ModelConfig
    >>> model = CondenseNet(ModelConfig(stages=(1,), growth=(8,), grouping="random"), seed=0)
    >>> [sum(tensor.numel() for tensor in network.parameters()) for network in (model, condense(model))]
    [1914, 1498]
    """
    if isinstance(example, bool):  # condense(model, fold)
        example, fold = None, example
    model = unwrapped(model)
    if not isinstance(model, CondenseNet):
        _check_options(model, example, plan)
        return condense_module(model, example, fold)
    if example is not None:
        check_reads(model, arguments_of(example))
    for name, masked in masked_layers(model).items():
        check_shares(name, masked)
    with same_draws():
        small = _condensed(model)
    if fold:
        fold_norms(small.eval()).requires_grad_(False)
    fast.use(small, execution)
    _give(plan, small)
    return small


def _check_options(model: nn.Module, example: Any, plan: Plan | str | None) -> None:
    if example is None:
        raise TypeError(
            f"{type(model).__name__}: only a CondenseNet can be condensed without an example of what it reads"
        )
    if plan is not None:
        raise ValueError(f"plan: is for the kernels of a CondenseNet, not for a {type(model).__name__}")


def _give(plan: Plan | str | None, small: CondenseNet) -> None:
    if isinstance(plan, Plan):
        plan.apply(small)
    elif plan is not None and plan not in CHOICES:
        raise ValueError(f"plan {plan!r}: must be a Plan or one of {', '.join(CHOICES)}")
    else:
        small.blocks.given = plan  # type: ignore[assignment]


def _condensed(model: CondenseNet) -> CondenseNet:
    small = CondensedNet.__new__(CondensedNet)
    small.__dict__.update(copy.deepcopy(model).__dict__)
    small.blocks = PlannedBlocks(OrderedDict(small.blocks.named_children()))
    small.blocks.stride = model.config.stride
    for place, part in list(small.blocks.named_children()):
        condensed: nn.Module
        if isinstance(part, Transition):
            _condense_sequence(part)
            condensed = CondensedTransition(dict(part.named_children()))
        else:
            for layer in part.children():
                _condense_sequence(layer)  # type: ignore[arg-type]
            condensed = CondensedBlock(part.children())
        condensed.training = part.training
        small.blocks.add_module(place, condensed)
    if isinstance(small.classifier, LearnedGroupLinear):
        small.classifier = condense_layer(small.classifier)  # type: ignore[assignment]
    return small


def fold_norms(model: CondenseNet) -> CondenseNet:
    """Fold every batch norm that follows a convolution into it, in place: exact in evaluation mode."""
    for layer in model.modules():
        if isinstance(layer, DenseLayer) and "norm2" in layer._modules:
            conv, norm = layer.get_submodule("conv1"), layer.get_submodule("norm2")
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            layer.conv1 = fuse_conv_bn_eval(conv, norm)
            del layer.norm2
    return model


@torch.no_grad()
def _condense_sequence(layers: DenseLayer | Transition) -> None:
    """Rebuild a sequence BN → ReLU → masked 1×1 → … as index → BN → ReLU → grouped 1×1 → … → shuffle."""
    conv = next((child for child in layers if isinstance(child, MaskedConv)), None)
    if conv is None:
        return
    index, order, dense = conv.mask.nonzero()[:, 1], output_order(conv), bool(conv.mask.all())
    children = OrderedDict[str, nn.Module]()
    shuffled = dense or is_sorted(order)
    for name, child in layers.named_children():
        if name == "conv2" and not shuffled:
            children["shuffle"], shuffled = nn.ChannelShuffle(len(conv.mask)), True
        if dense:
            children[name] = dense_layer(conv) if child is conv else child
        elif name in ("norm1", "norm"):
            children |= {"index": Index(index), name: select_channels(child, index)}
        elif child is conv:
            children[name] = grouped_conv(conv, order)
        else:
            children[name] = select_channels(child, order) if name == "norm2" else child
    if not shuffled:  # a transition: after the pooling there is less to move
        children["shuffle"] = nn.ChannelShuffle(len(conv.mask))
    layers._modules = dict(children)
