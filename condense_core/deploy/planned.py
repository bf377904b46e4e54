"""The blocks of a condensed network, which run as is fastest for the shape of their input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from condense_core import fast
from condense_core.looking import evaluating
from condense_core.model import CondenseNet

from .blocks import CondensedBlock
from .measuring import measure, run_parts
from .plan import Plan
from .remembered import recall, remember

MAX_IMAGES = 8
REPEATS = 3
_ONE_AT_A_TIME = Lock()  # plans that are measured at the same time would slow one another


class Shape(NamedTuple):
    """What a plan is for: a power of two of images, of which more are worked through piece by piece."""

    images: int
    height: int
    width: int
    dtype: torch.dtype
    threads: int


def shape_of(count: int, height: int, width: int, dtype: torch.dtype) -> Shape:
    """Return the shape whose plan holds for a batch of so many images."""
    threads = torch.get_num_threads()
    images = 1 << (min(count, max(MAX_IMAGES, threads)).bit_length() - 1)
    return Shape(images, height, width, dtype, threads)


class PlannedBlocks(nn.Sequential):
    """Blocks and transitions: (N, in, H, W) → (N, out, H', W').

    The first call for a shape measures a plan, or takes one that was measured before on this processor. What is
    `given`, a plan or a choice for all layers, holds for every shape instead.
    """

    given: Plan | str | None = None
    stride: int = 1  # of the stem, from images to what the blocks read

    def __init__(self, *parts: Any):
        super().__init__(*parts)
        self.plans: dict[Shape, Plan] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Run by the plan for this shape."""
        return run_parts(self, x, self._choices(x))

    def condensed(self) -> dict[str, CondensedBlock]:
        """Return the condensed blocks by name."""
        return {name: part for name, part in self.named_children() if isinstance(part, CondensedBlock)}

    def choices_for(self, images: Tensor, stem: nn.Module) -> Mapping[str, Sequence[str]]:
        """Return the choices for images (N, 3, H, W); the stem prepares them if the blocks are measured."""
        height, width = (-(-size // self.stride) for size in images.shape[2:])
        shape = shape_of(len(images), height, width, images.dtype)
        return self._choices_of(lambda: self.plans.get(shape) or self._plan_for(stem(images)))

    def measure(self, x: Tensor, shape: Shape, repeats: int) -> Plan:
        """Measure a plan on `x`, and keep it for a shape, also for later processes."""
        size = x.shape[2] * self.stride, x.shape[3] * self.stride
        plan = self.plans[shape] = measure(self, x, size, repeats)
        if plan.layers:
            remember(plan, self, shape)
        return plan

    def adopt(self, plan: Plan, dtype: torch.dtype) -> None:
        """Keep a plan for the shape that it was measured for."""
        height, width = (-(-size // self.stride) for size in plan.image_size)
        self.plans[shape_of(plan.batch, height, width, dtype)] = plan

    def _choices(self, x: Tensor) -> Mapping[str, Sequence[str]]:
        return self._choices_of(lambda: self._plan_for(x)) if fast.can_run(x) else {}

    def _choices_of(self, planned: Callable[[], Plan | None]) -> Mapping[str, Sequence[str]]:
        if isinstance(self.given, str):
            return {name: (self.given,) * len(block) for name, block in self.condensed().items()}
        plan = self.given or planned()
        return plan.choices if plan else {}

    def _plan_for(self, x: Tensor) -> Plan | None:
        """Return the plan for the shape of `x`; None if kernels cannot compute the blocks as they are now."""
        shape = shape_of(len(x), x.shape[2], x.shape[3], x.dtype)
        if (plan := self.plans.get(shape)) or not self._are_ready(x):
            return plan
        with _ONE_AT_A_TIME:
            plan = self.plans.get(shape) or self._recall(shape)
            return plan or self.measure(x[: shape.images], shape, REPEATS)

    def _are_ready(self, x: Tensor) -> bool:
        blocks = self.condensed().values()
        return all(block.engine is not None and block.engine.can_compute(block, x) for block in blocks)

    def _recall(self, shape: Shape) -> Plan | None:
        if plan := recall(self, shape):
            self.plans[shape] = plan
        return plan


class CondensedNet(CondenseNet):
    """A condensed network: (N, 3, H, W) → (N, num_classes), in one call of a kernel where that can be."""

    engine: Any = None  # torch's modules; `fast.use` gives it another
    blocks: PlannedBlocks

    def forward(self, x: Tensor) -> Tensor:
        """By the plan for this shape, in one call if that can be; otherwise part by part."""
        if self.engine is None or not fast.can_run(x) or not self.engine.can_compute(self, x):
            return super().forward(x)
        choices = self.blocks.choices_for(x, self.stem)
        return self.engine.run(self, x, choices) if choices else super().forward(x)


def make_plan(model: CondenseNet, images: Tensor, repeats: int = 7) -> Plan:
    """Measure each layer of `model` by each choice on `images` (N, 3, H, W); let it run by the fastest.

    The plan holds for batches of this shape, also in later processes. Nothing else of the model is changed.
    Times are the shortest of `repeats`; the choices take turns. Raises ValueError if the network is not
    condensed, or if the kernels cannot read the images.
    """
    blocks = model.blocks
    if not isinstance(blocks, PlannedBlocks):
        raise ValueError("plan: the network is not condensed; condense(model) gives one that is")
    if fast.available() and not fast.can_run(images):
        raise ValueError(
            f"plan: images must be float32 or float64 on the CPU, not {images.dtype} on {images.device}"
        )
    before = fast.execution_of(model)
    try:
        with evaluating(model), _ONE_AT_A_TIME:
            fast.use(model)
            x = model.stem(images)
            return blocks.measure(x, shape_of(len(x), x.shape[2], x.shape[3], x.dtype), repeats)
    except BaseException:
        fast.use(model, before)
        raise
