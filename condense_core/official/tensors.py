"""Where the tensors of an official checkpoint go in a network of ours; every one is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from condense_core.deploy import Index, condense, output_order
from condense_core.grouping import LearnedGroupLinear, MaskedConv, live_weights, masked_layers
from condense_core.model import CondenseNet

from .architecture import mask_rows
from .checkpoint import Checkpoint

NORM = ("weight", "bias", "running_mean", "running_var")


def _official_name(name: str) -> str:
    """The official name of one of our modules."""
    names = {"stem": "features.init_conv", "norm": "features.norm_last", "classifier": "classifier"}
    if name in names:
        return names[name]
    if found := re.fullmatch(r"blocks\.transition(\d+)\.(norm|conv)", name):
        return f"features.transition_{found[1]}.conv.{found[2]}"
    found = re.fullmatch(r"blocks\.block(\d+)\.(\d+)\.(norm|conv)(\d)", name)
    assert found, name
    block, layer, kind, place = found.groups()
    return f"features.denseblock_{block}.denselayer_{int(layer) + 1}.conv_{place}.{kind}"


def official_parts(model: CondenseNet) -> dict[str, nn.Module]:
    """The modules of a network that hold tensors, by their official names."""
    kinds = nn.Conv2d | nn.BatchNorm2d | nn.Linear
    return {_official_name(name): part for name, part in model.named_modules() if isinstance(part, kinds)}


@torch.no_grad()
def load_tensors(checkpoint: Checkpoint, model: CondenseNet) -> bool:
    """Check and copy every tensor; whether the file was converted."""
    parts, left = official_parts(model), set(checkpoint.tensors)
    indices = _indices(checkpoint, parts)
    _load_masks(checkpoint, parts, indices)
    for name, part in parts.items():
        for own, tensor, where in _tensors(name, part, indices):
            _copy(checkpoint, own, tensor, where)
            left.discard(own)
        if (own := f"{name}.num_batches_tracked") in left:  # old versions of torch had none
            _copy(checkpoint, own, part.get_buffer("num_batches_tracked"), None)
            left.discard(own)
    for name in masked_parts(parts):
        holder = name.removesuffix(".conv")
        kinds = ("index",) if name in indices else ("_mask", "_count", "_stage")
        left -= {f"{holder}.{kind}" for kind in kinds}
    if left:
        raise checkpoint.error(min(left), f"does not belong to this network ({model.config.label})")
    for layer in masked_layers(model).values():
        layer.weight *= live_weights(layer)
    return bool(indices)


def masked_parts(parts: Mapping[str, nn.Module]) -> dict[str, MaskedConv | LearnedGroupLinear]:
    """Those parts that have a mask or an index of their own in an official file."""
    masked = {name: part for name, part in parts.items() if isinstance(part, MaskedConv | LearnedGroupLinear)}
    return {name: part for name, part in masked.items() if part.permute}


def _indices(checkpoint: Checkpoint, parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The index of every converted layer as (groups, kept), by the part's name; checked."""
    indices = {}
    for name, part in masked_parts(parts).items():
        holder = name.removesuffix(".conv")
        index = checkpoint.tensors.get(f"{holder}.index")
        if index is None:
            continue
        inputs = part.mask.shape[1]
        if len(index) % part.groups:
            raise checkpoint.error(
                f"{holder}.index", f"has shape {tuple(index.shape)}, not {part.groups} equal groups"
            )
        index = index.view(part.groups, -1)
        ordered = index.sort(1).values
        if ordered.min() < 0 or ordered.max() >= inputs or (ordered.diff(dim=1) == 0).any():
            raise checkpoint.error(
                f"{holder}.index", f"does not name each input (0 to {inputs - 1}) once in a group"
            )
        indices[name] = index
    return indices


def _load_masks(checkpoint: Checkpoint, parts: Mapping[str, nn.Module], indices: Mapping[str, Tensor]) -> None:
    for name, part in masked_parts(parts).items():
        holder = name.removesuffix(".conv")
        if name in indices:
            part.mask.zero_().scatter_(1, indices[name], True)
        elif indices:
            raise checkpoint.error(f"{holder}.index", "is missing")
        else:
            part.mask.copy_(_mask(checkpoint, f"{holder}._mask", part))


def _mask(checkpoint: Checkpoint, name: str, part: MaskedConv | LearnedGroupLinear) -> Tensor:
    """A mask of the weight's size as (groups, in_channels)."""
    rows = mask_rows(checkpoint, name)
    if rows.shape != part.weight.shape[:2]:
        raise checkpoint.error(name, f"has shape {tuple(checkpoint[name].shape)}, unlike its weight's")
    mask = rows[: part.groups]
    if not rows.equal(mask.repeat(len(rows) // part.groups, 1)):
        raise checkpoint.error(name, f"is not the same for all outputs of a group (groups {part.groups})")
    return mask


Where = tuple[Tensor, Tensor] | Tensor | None


def _tensors(name: str, part: nn.Module, indices: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Where]]:
    """Yield the official name, our tensor and, if the file holds only a part, the places that it fills."""
    if isinstance(part, nn.BatchNorm2d):
        index = indices.get(f"{name.removesuffix('.norm')}.conv")
        for kind in NORM:
            yield f"{name}.{kind}", getattr(part, kind), None if index is None else index.flatten()
    elif isinstance(part, nn.Linear):
        if name in indices:
            rows = torch.arange(part.out_features)[:, None]
            yield f"{name}.linear.weight", part.weight, (rows, indices[name])
            yield f"{name}.linear.bias", part.bias, None
        else:
            yield f"{name}.weight", part.weight, None
            yield f"{name}.bias", part.bias, None
    elif isinstance(part, MaskedConv) and (name in indices or not part.permute):
        index = indices[name] if name in indices else part.mask.nonzero()[:, 1].view(part.groups, -1)
        outputs = part.out_channels // part.groups
        yield f"{name}.weight", part.weight, (output_order(part)[:, None], index.repeat_interleave(outputs, 0))
    else:
        assert isinstance(part, nn.Conv2d)
        yield f"{name}.weight", part.weight, None


def _copy(checkpoint: Checkpoint, name: str, own: Tensor, where: Where) -> None:
    given = checkpoint[name]
    target = own if where is None else own[where]
    if tuple(given.shape) != tuple(target.shape):
        raise checkpoint.error(
            name, f"has shape {tuple(given.shape)}, but the rest of the file needs {tuple(target.shape)}"
        )
    if where is None:
        own.copy_(given)
    else:
        own[where] = given.to(own)


def was_trained_on(checkpoint: Checkpoint, model: CondenseNet) -> bool:
    """Whether copies of a batch norm that belong to one input differ."""
    for name, norm in official_parts(model).items():
        index = checkpoint.tensors.get(f"{name.removesuffix('.norm')}.index")
        if isinstance(norm, nn.BatchNorm2d) and index is not None:
            for kind in NORM:
                if not checkpoint[f"{name}.{kind}"].to(norm.weight).equal(getattr(norm, kind)[index]):
                    return True
    return False


@torch.no_grad()
def with_norms_of(checkpoint: Checkpoint, model: CondenseNet) -> CondenseNet:
    """The condensed form of `model` with the batch norms of every group as the file has them."""
    small = condense(model, fold=False)
    indices = {name: part for name, part in small.named_modules() if isinstance(part, Index)}
    for name, part in indices.items():
        layer = name.removesuffix(".index")
        if layer == "classifier":
            continue
        place = "norm1" if ".block" in layer else "norm"
        norm, official = small.get_submodule(f"{layer}.{place}"), _official_name(f"{layer}.{place}")
        index = checkpoint[f"{official.removesuffix('.norm')}.index"]
        kept = len(index) // model.config.groups
        by_group = index.view(-1, kept).argsort(1) + torch.arange(0, len(index), kept)[:, None]
        for kind in NORM:
            getattr(norm, kind).copy_(checkpoint[f"{official}.{kind}"][by_group.flatten()])
        assert part.index.equal(index[by_group.flatten()])
    return small
