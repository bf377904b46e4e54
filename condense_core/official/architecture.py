"""What network an official checkpoint is of, found from the names, shapes and masks of its tensors."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import Tensor

from condense_core.config import ModelConfig
from condense_core.stages import kept_inputs
from condense_core.topology import TransitionShape, parts

from .checkpoint import Checkpoint

IMAGENET_CLASSES = 1000
LAYER = re.compile(r"features\.denseblock_(\d{1,4})\.denselayer_(\d{1,4})\.conv_2\.conv\.weight")


def read_config(checkpoint: Checkpoint, given: dict[str, Any]) -> ModelConfig:
    """Read a checkpoint's configuration off its tensors; `given` settings come first. Raises ValueError."""
    stages = _stages(checkpoint)
    first = "features.denseblock_1.denselayer_1"
    width = checkpoint[f"{first}.conv_1.conv.weight"].shape[0]
    growth = tuple(
        checkpoint[f"features.denseblock_{block}.denselayer_1.conv_2.conv.weight"].shape[0]
        for block in range(1, len(stages) + 1)
    )
    pruned_classifier = checkpoint.has("classifier.index")
    classes = checkpoint["classifier.linear.weight" if pruned_classifier else "classifier.weight"].shape[0]
    stride = given.get("stem_stride", 2 if classes == IMAGENET_CLASSES else 1)
    widths = {
        "stages": stages,
        "growth": growth,
        "bottleneck": width // growth[0],
        "groups_3x3": width // max(1, checkpoint[f"{first}.conv_2.conv.weight"].shape[1]),
        "num_classes": classes,
        "stem_stride": stride,
        "image_size": 224 if stride > 1 else 32,
        "classifier_pruning": pruned_classifier,
    }
    try:
        config = ModelConfig(**widths | _grouping(checkpoint, growth[0], given) | given)
        return _with_reduction(checkpoint, config, given)
    except (ValueError, TypeError) as error:
        if str(error).startswith(str(checkpoint.path)):
            raise
        raise ValueError(f"{checkpoint.path}: is not a network of the official code: {error}") from error


def _stages(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Dense layers of each block; raises ValueError if one is missing in between."""
    layers: dict[int, set[int]] = {}
    for name in checkpoint.tensors:
        if found := LAYER.fullmatch(name):
            layers.setdefault(int(found[1]), set()).add(int(found[2]))
    blocks = range(1, max(layers, default=1) + 1)
    for block in blocks:
        for layer in range(1, max(layers.get(block, {1})) + 1):
            if layer not in layers.get(block, ()):
                raise checkpoint.error(
                    f"features.denseblock_{block}.denselayer_{layer}.conv_2.conv.weight", "is missing"
                )
    return tuple(len(layers[block]) for block in blocks)


def _grouping(checkpoint: Checkpoint, growth_rate: int, given: dict[str, Any]) -> dict[str, Any]:
    """Grouping, groups and condense factor of the 1×1 convolutions, and whether their outputs are permuted."""
    inputs, conv = 2 * growth_rate, "features.denseblock_1.denselayer_1.conv_1"
    if any(name.endswith("._mask") for name in checkpoint.tensors):
        return {"grouping": "learned"} | _learned(checkpoint, given)
    kept = max(1, checkpoint[f"{conv}.conv.weight"].shape[1])
    if checkpoint.has(f"{conv}.index"):
        groups = max(1, len(checkpoint[f"{conv}.index"]) // kept)
        return {"grouping": "learned", "groups": groups, "condense_factor": max(1, inputs // kept)}
    groups = max(1, inputs // kept)
    if groups == 1:
        return {"grouping": "none", "groups": 1, "condense_factor": 1}
    return {"grouping": "sequential", "groups": groups, "condense_factor": groups, "permute": False}


def _learned(checkpoint: Checkpoint, given: dict[str, Any]) -> dict[str, int]:
    """Groups from the period in which the rows of the masks repeat, C from what the stages have dropped."""
    groups, factors, layers = 1, set(), []
    for name in checkpoint.tensors:
        if name.endswith("._mask"):
            rows = mask_rows(checkpoint, name)
            groups = math.lcm(groups, _period(rows))
            stage = int(checkpoint[f"{name.removesuffix('_mask')}_stage"].flatten()[0])
            inputs, dropped = rows.shape[1], int((~rows[0]).sum())
            factors.add(Fraction(stage * inputs, dropped) if dropped else None)
            layers.append((name, inputs, dropped, stage))
    found = {"groups": groups} if factors != {None} else {}
    factor = factors.pop() if len(factors) == 1 else None
    if factor and factor.denominator == 1 and all(inputs % factor == 0 for _, inputs, _, _ in layers):
        found["condense_factor"] = int(factor)  # the official code asserts that it divides the inputs
    if given.get("groups", groups) != groups and groups > 1:
        raise ValueError(f"{checkpoint.path}: its masks have groups {groups}, not {given['groups']}")
    for name, inputs, dropped, stage in layers:
        factor = given.get("condense_factor")
        if factor and not _has_dropped(inputs, dropped, stage, factor):
            raise checkpoint.error(
                name,
                f"has dropped {dropped} of {inputs} inputs by stage {stage}: not with condense_factor {factor}",
            )
    found |= {name: given[name] for name in ("groups", "condense_factor") if name in given}
    missing = [name for name in ("groups", "condense_factor") if name not in found]
    if missing:
        raise ValueError(
            f"{checkpoint.path}: its masks do not show {' and '.join(missing)}; "
            f"give {' and '.join(f'{name}=…' for name in missing)}"
        )
    return found


def _has_dropped(inputs: int, dropped: int, stage: int, factor: int) -> bool:
    """Whether a condense factor can have dropped so many inputs by a stage: at most a slice for each."""
    slices = round(Fraction(dropped * factor, inputs))
    return slices <= min(stage, factor - 1) and inputs - dropped == kept_inputs(inputs, factor, slices)


def mask_rows(checkpoint: Checkpoint, name: str) -> Tensor:
    """A mask of the weight's size as bool (out, in); raises ValueError for values other than 0 and 1."""
    mask = checkpoint[name]
    if not ((mask == 0) | (mask == 1)).all():
        raise checkpoint.error(name, "is not a mask (out, in, 1, 1) of zeros and ones")
    rows = mask[:, :, 0, 0].bool()
    if len(shares := rows.sum(1).unique()) > 1:
        raise checkpoint.error(name, f"leaves its outputs unequal shares of the inputs: {shares.tolist()}")
    return rows


def _period(rows: Tensor) -> int:
    """Return the smallest number of groups g such that row o belongs to group o mod g."""
    outputs = len(rows)
    divisors = (groups for groups in range(1, outputs + 1) if outputs % groups == 0)
    return next(groups for groups in divisors if rows.equal(rows[:groups].repeat(outputs // groups, 1)))


def _with_reduction(checkpoint: Checkpoint, config: ModelConfig, given: dict[str, Any]) -> ModelConfig:
    """Return block connectivity and the reduction that gives the transitions' widths, if there are any."""
    names = [f"features.transition_{block}.conv.conv.weight" for block in range(1, len(config.stages))]
    if not names or not any(map(checkpoint.has, names)):
        return config
    widths = [checkpoint[name].shape[0] for name in names]
    tried = (
        [given["reduction"]]
        if "reduction" in given
        else [0.5, *(hundredths / 100 for hundredths in range(1, 101))]
    )
    for reduction in tried:
        block = replace(config, connectivity="block", reduction=reduction)
        transitions = (part for part in parts(block) if isinstance(part, TransitionShape))
        if [transition.out_channels for transition in transitions] == widths:
            return block
    raise checkpoint.error(names[0], f"and its like have {widths} outputs, which no reduction of {tried} gives")
