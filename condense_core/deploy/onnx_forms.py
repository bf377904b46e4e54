"""Choose the forms in which an ONNX file is fastest in a runtime, by measuring them there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condense_core.looking import blank_image, evaluating
from condense_core.machine import processor
from condense_core.model import CondenseNet, Transition

from .measuring import Clock, shortest
from .onnx_graph import network_file, part_file
from .onnx_layers import Form
from .plan import CHOICES
from .runtimes import Runtime, check_runtime

BATCHES = (1, 8)
SECONDS = 0.5
Ratios = dict[Form, list[float]]  # to the dense form's time, by batch


@dataclass(frozen=True)
class FileTime:
    """Milliseconds per batch of a file, and of the dense network's file beside it."""

    batch: int
    milliseconds: float
    dense_milliseconds: float

    @property
    def ratio(self) -> float:
        """The share of the dense file's time."""
        return self.milliseconds / self.dense_milliseconds


@dataclass(frozen=True)
class Forms:
    """The form of each block and transition, chosen in a runtime, and what the whole file gains by them."""

    parts: Mapping[str, Form]
    times: tuple[FileTime, ...]
    runtime: str
    threads: int
    processor: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        ratios = ", ".join(f"{one.ratio:.2f} (batch {one.batch})" for one in self.times)
        beside = f"ONNX file: {ratios} of the dense network's time in {self.runtime}, {self.threads} threads."
        if all(one.ratio == 1 for one in self.times):
            return f"{beside} No other form is faster: the file is that of the dense network."
        return "\n".join([beside, *(f"{name}: {form}." for name, form in self.parts.items())])


def dense_forms(model: CondenseNet) -> dict[str, Form]:
    """Return the forms of the dense network: all weights, pruned ones as zeros, 3×3 groups as they are."""
    return {name: _dense(part) for name, part in model.blocks.named_children()}


def choose_forms(model: CondenseNet, runtime: str, batches: Sequence[int] = BATCHES, repeats: int = 9) -> Forms:
    """Measure the forms of each part in a runtime, and then the whole file beside the dense network's.

    Parts are compared by the processor's time, which other programs on the machine hardly disturb, the whole by
    the clock: the shortest of `repeats` or more, in turns. If the whole is slower for a batch, all forms are
    dense. Raises ValueError if there is no such runtime.
    """
    own = check_runtime(runtime)
    with evaluating(model):
        ratios = {name: _measure_part(part, x, own, batches, repeats) for name, part, x in _inputs(model)}
    # with and without forms that gather: what these cost their neighbours is not in a part's own time
    candidates = [
        {name: _fastest(found, among) for name, found in ratios.items()} for among in (CHOICES, ("dense",))
    ]
    parts, times = _fastest_whole(model, candidates, own, batches, repeats)
    return Forms(parts, times, str(own), torch.get_num_threads(), processor())


def _fastest_whole(
    model: CondenseNet,
    candidates: list[dict[str, Form]],
    runtime: Runtime,
    batches: Sequence[int],
    repeats: int,
) -> tuple[dict[str, Form], tuple[FileTime, ...]]:
    """Return the candidate whose file is fastest, or the dense forms if each is slower for a batch."""
    dense, x = dense_forms(model), blank_image(model, model.config.image_size)
    reference, *files = (network_file(model, forms) for forms in (dense, *candidates))
    by_batch = [
        _beside(reference, files, x, runtime, batch, repeats, time.perf_counter, SECONDS) for batch in batches
    ]
    found = list(zip(candidates, zip(*by_batch, strict=True), strict=True))
    unchanged = dense, tuple(replace(one, milliseconds=one.dense_milliseconds) for one in found[0][1])
    faster = [
        (forms, times) for forms, times in found if forms != dense and max(one.ratio for one in times) <= 1
    ]
    return min(faster, key=lambda whole: fmean(one.ratio for one in whole[1]), default=unchanged)


def _dense(part: nn.Module) -> Form:
    return Form("dense", 1 if isinstance(part, Transition) else _groups(part))


def _groups(block: nn.Module) -> int:
    return int(block.get_submodule("0.conv2").groups)  # type: ignore[arg-type]


def forms_of(part: nn.Module) -> list[Form]:
    """Return the forms that a block or a transition can take."""
    if isinstance(part, Transition):
        return [Form(how) for how in CHOICES] if "conv" in part._modules else [Form()]
    groups = _groups(part)
    merged = [count for count in range(groups, 0, -1) if groups % count == 0]
    return [Form(how, count) for how, count in itertools.product(CHOICES, merged)]


def _inputs(model: CondenseNet) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield each part by name, with the features of one image that it reads."""
    x = model.stem(blank_image(model, model.config.image_size))
    for name, part in model.blocks.named_children():
        yield name, part, x
        x = part(x)


def _measure_part(part: nn.Module, x: Tensor, runtime: Runtime, batches: Sequence[int], repeats: int) -> Ratios:
    """Measure each form of a part, in turns with the dense one."""
    dense, shape = _dense(part), tuple(x.shape[1:])
    files = {form: part_file(part, form, shape) for form in forms_of(part)}
    reference = files.pop(dense)
    ratios: Ratios = {dense: [1.0] * len(batches)} | {form: [] for form in files}
    for batch in batches:
        times = _beside(reference, files.values(), x, runtime, batch, repeats, time.process_time)
        for form, found in zip(files, times, strict=True):
            ratios[form].append(found.ratio)
    return ratios


def _fastest(ratios: Ratios, among: Collection[str]) -> Form:
    """Return the form with the lowest mean ratio of those that are for no batch slower than the dense one."""
    allowed = [form for form in ratios if max(ratios[form]) <= 1 and form.pointwise in among]
    return min(allowed, key=lambda form: fmean(ratios[form]))


def _beside(
    dense: bytes,
    files: Iterable[bytes],
    x: Tensor,
    runtime: Runtime,
    batch: int,
    repeats: int,
    clock: Clock,
    seconds: float = 0.0,
) -> Iterator[FileTime]:
    """Time each file in turns with the dense one, on a batch of noise of the shape of `x` (1, C, H, W)."""
    shape = batch, *x.shape[1:]
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    reference = partial(runtime.load(dense, shape), images)
    for file in files:
        calls = {"own": partial(runtime.load(file, shape), images), "dense": reference}
        times = shortest(calls, repeats, clock, seconds)
        yield FileTime(batch, times["own"], times["dense"])
