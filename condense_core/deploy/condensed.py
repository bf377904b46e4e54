"""Condensed networks: an index of the surviving inputs before each grouped convolution (paper Figure 1).

The groups of a grouped convolution are contiguous, so the permutation that costs nothing in training becomes
a channel shuffle before the 3×3 convolution.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from condense_core import fast
from condense_core.config import Execution
from condense_core.grouping import (
    LearnedGroupLinear,
    Masked,
    MaskedConv,
    UnstructuredConv,
    live_weights,
    masked_layers,
)
from condense_core.looking import same_draws
from condense_core.model import CondenseNet, DenseLayer, Transition

from .blocks import CondensedBlock, CondensedTransition, Index
from .plan import CHOICES, Plan
from .planned import PlannedBlocks


def condense(
    model: CondenseNet, fold: bool = True, *, plan: Plan | str | None = None, execution: Execution = "fast"
) -> CondenseNet:
    """Build a physically smaller network with the same outputs as `model`, for any grouping and stage.

    It is for inference: in evaluation mode, its weights take no gradients, and batch norms after 1×1
    convolutions are folded into them. `fold=False` keeps them, and the gradients, for fine-tuning.

    Its first call for a shape of images measures how each layer is computed fastest on this processor, or
    remembers it. `plan` says it instead, for every shape: a plan, or one of `plan.CHOICES` for all layers;
    nothing is measured then. Execution 'reference' is torch's modules. Raise ValueError if single weights were
    pruned, groups keep unequal shares, or the plan is another network's.

    >>> from condense_core import ModelConfig
    >>> model = CondenseNet(ModelConfig(stages=(1,), growth=(8,), grouping="random"), seed=0)
    >>> [sum(tensor.numel() for tensor in network.parameters()) for network in (model, condense(model))]
    [1914, 1498]
    """
    if not isinstance(model, CondenseNet):
        raise TypeError(f"{type(model).__name__}: only a CondenseNet can be condensed")
    for name, masked in masked_layers(model).items():
        _check_shares(name, masked)
    with same_draws():
        small = _condensed(model)
    if fold:
        fold_norms(small.eval()).requires_grad_(False)
    fast.use(small, execution)
    _give(plan, small)
    return small


def _give(plan: Plan | str | None, small: CondenseNet) -> None:
    if isinstance(plan, Plan):
        plan.apply(small)
    elif plan is not None and plan not in CHOICES:
        raise ValueError(f"plan {plan!r}: must be a Plan or one of {', '.join(CHOICES)}")
    else:
        small.blocks.given = plan  # type: ignore[assignment]


def _condensed(model: CondenseNet) -> CondenseNet:
    small = copy.deepcopy(model)
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
        small.classifier = _condense_linear(small.classifier)  # type: ignore[assignment]
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


def _check_shares(name: str, layer: Masked) -> None:
    if isinstance(layer, UnstructuredConv):
        reason = "single weights are pruned (grouping 'unstructured'), which no group can skip"
        raise ValueError(f"{name}: {reason}")
    kept = layer.mask.sum(1)
    if len(kept.unique()) > 1:
        shares = kept.tolist()
        raise ValueError(f"{name}: groups keep {shares} inputs, but a grouped convolution needs equal shares")


@torch.no_grad()
def _condense_sequence(layers: DenseLayer | Transition) -> None:
    """Rebuild a sequence BN → ReLU → masked 1×1 → … as index → BN → ReLU → grouped 1×1 → … → shuffle."""
    conv = next((child for child in layers if isinstance(child, MaskedConv)), None)
    if conv is None:
        return
    index, order, dense = conv.mask.nonzero()[:, 1], output_order(conv), bool(conv.mask.all())
    children = OrderedDict[str, nn.Module]()
    shuffled = dense or order.equal(order.sort().values)
    for name, child in layers.named_children():
        if name == "conv2" and not shuffled:
            children["shuffle"], shuffled = nn.ChannelShuffle(conv.groups), True
        if dense:
            children[name] = _dense(conv) if child is conv else child
        elif name in ("norm1", "norm"):
            children |= {"index": Index(index), name: select_channels(child, index)}
        elif child is conv:
            children[name] = _grouped(conv, order)
        else:
            children[name] = select_channels(child, order) if name == "norm2" else child
    if not shuffled:  # a transition: after the pooling there is less to move
        children["shuffle"] = nn.ChannelShuffle(conv.groups)
    layers._modules = dict(children)


def output_order(conv: MaskedConv) -> Tensor:
    """List the outputs of a masked convolution group by group, the order that a grouped convolution has."""
    outputs = torch.arange(conv.out_channels, device=conv.weight.device)
    return outputs.view(-1, conv.groups).t().flatten() if conv.permute else outputs


def _grouped(conv: MaskedConv, order: Tensor) -> nn.Conv2d:
    """Build the grouped convolution of the surviving weights, its outputs in contiguous groups."""
    live = live_weights(conv)[order].flatten(1)
    kept = int(live[0].sum())
    weight = conv.weight[order].flatten(1)[live].view(conv.out_channels, kept, 1, 1)
    small = nn.Conv2d(kept * conv.groups, conv.out_channels, 1, groups=conv.groups, bias=False)
    return with_state(small, weight=weight).train(conv.training)


def _dense(conv: MaskedConv) -> nn.Conv2d:
    """Build the standard convolution of a layer that is not pruned yet."""
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False)
    return with_state(plain, weight=conv.weight).train(conv.training)


def select_channels(norm: nn.Module, index: Tensor) -> nn.BatchNorm2d:
    """Build the batch norm of the channels at `index`."""
    assert isinstance(norm, nn.BatchNorm2d)
    state = {name: tensor[index] if tensor.dim() else tensor for name, tensor in norm.state_dict().items()}
    return with_state(nn.BatchNorm2d(len(index), norm.eps, norm.momentum), **state).train(norm.training)


def _condense_linear(layer: LearnedGroupLinear) -> nn.Module:
    """Build the linear layer of the surviving inputs, after an index if some are pruned."""
    index = layer.mask[0].nonzero()[:, 0]
    small = nn.Linear(len(index), layer.out_features)
    linear = with_state(small, weight=layer.weight[:, index], bias=layer.bias)
    if len(index) == layer.in_features:
        return linear
    return nn.Sequential(OrderedDict(index=Index(index), linear=linear))


def with_state(module: Any, **state: Tensor) -> Any:
    """Load `state` into `module`, on the device and in the type of that state."""
    module = module.to(next(iter(state.values())))
    module.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    return module
