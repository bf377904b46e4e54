"""The records of a run store: their fields, and what each may hold. More fields may be there."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, TypeVar

from msgspec import Meta

from condense_core.files import (
    MAX_WHOLE,
    LeftOut,
    NonNegative,
    NonNegativeInt,
    Number,
    Percent,
    PositiveInt,
    check_record,
    plain_name,
)

Source = TypeVar("Source")
Found = TypeVar("Found")
Array = TypeVar("Array")  # of numpy or torch

Seconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]  # since 1970; later years have no date
Positive = Annotated[float, Meta(ge=1e-9, le=4e38)]
Shape = tuple[Annotated[int, Meta(ge=1, le=1 << 16)], Annotated[int, Meta(ge=1, le=1 << 16)]]


class Cost(TypedDict):
    """Figures of a network's cost."""

    macs: NonNegativeInt
    flops_paper: NonNegativeInt
    params: NonNegativeInt


class Config(TypedDict):
    """config.json: a run's configuration, and what it was started with."""

    config: Annotated[dict[str, Any], Meta(description="a RunConfig, or the TrackedConfig of a tracked run")]
    kind: NotRequired[Annotated[Literal["tracked"], Meta(description="a loop of one's own made the run")]]
    data_fingerprint: str
    environment: dict[str, Any]
    code: NotRequired[dict[str, Any]]
    ranks: NotRequired[PositiveInt]
    masks_fingerprint: NotRequired[Annotated[str, Meta(description="of masks taken from a run")]]


class Status(TypedDict):
    """status.json: the state of a run."""

    state: Literal["new", "running", "stopped", "done", "diverged", "failed"]
    reason: NotRequired[str | None]
    time: NotRequired[Seconds]


class Result(Cost):
    """result.json: the last weights of a run on the test images."""

    training_macs: Annotated[NonNegativeInt | None, Meta(description="null if it is not known (tracked)")]
    test_images: Annotated[NonNegativeInt, Meta(description="0 if a tracked run was not tested")]
    test_loss: Annotated[Number | None, Meta(description="null if it was not finite, or not tested")]
    test_error_percent: Annotated[Percent | None, Meta(description="null if it was not tested (tracked)")]
    weights_sha256: str
    outcomes_sha256: NotRequired[Annotated[str, Meta(description="runs of earlier versions have no outcomes")]]


class Epoch(TypedDict):
    """A row of metrics.jsonl."""

    epoch: PositiveInt
    step: NonNegativeInt
    stage: NonNegativeInt
    learning_rate: NonNegative
    curves_on: Literal["validation", "test"]
    macs: NonNegativeInt
    train_loss: Number | None
    curve_loss: Number | None
    train_error_percent: Percent | None
    curve_error_percent: Percent | None
    curve_top5_error_percent: NotRequired[Percent | None]


class Timing(TypedDict):
    """A row of timing.jsonl."""

    epoch: PositiveInt
    seconds: NonNegative


class Importance(TypedDict):
    """A row of importance.jsonl: Σ|W| of every connection after an epoch."""

    epoch: PositiveInt
    layers: Annotated[dict[str, Shape], Meta(description="groups and input channels of each layer, in order")]
    data: Annotated[str, Meta(description="base64 of zlib of float16, little-endian")]


class SensitivityRow(TypedDict):
    """What a share of a layer's inputs costs that is pruned alone, without training."""

    target: Annotated[str, Meta(description="the layer: block.layer, or t1 for the first transition")]
    target_position: Annotated[NonNegativeInt, Meta(description="its place in the network")]
    block: NonNegativeInt
    share: Annotated[float, Meta(ge=0, le=1, description="of its inputs that every group loses")]
    alive: Annotated[float, Meta(ge=0, le=1, description="share of its connections that are left")]
    loss: Number
    error_percent: Percent
    loss_anew: Annotated[Number, Meta(description="with the norms' statistics taken anew on training images")]
    error_percent_anew: Percent


class StatisticsRow(TypedDict):
    """The errors around a pruning step, also with the norms' statistics taken anew on training images."""

    stage: Annotated[str, Meta(description="that the step leads into")]
    error_before: Percent
    error_before_anew: Percent
    error_after: Percent
    error_after_anew: Percent


class Sensitivity(TypedDict):
    """sensitivity.json: what each layer alone may lose, and what of each pruning step is stale statistics."""

    layers: list[SensitivityRow]
    steps: list[StatisticsRow]


class Note(TypedDict):
    """A row of notes.jsonl: an event in the life of a run."""

    time: Number
    text: str
    bit_identical: bool


class Evaluation(TypedDict):
    """Figures of a network on the images that curves are on."""

    loss: Number | None
    error_percent: Percent | None


class LayerCost(Cost):
    """What one layer costs for one image."""

    name: str
    operator: str
    in_channels: NonNegativeInt
    out_channels: NonNegativeInt
    groups: PositiveInt
    output_size: NonNegativeInt


class Stage(Cost):
    """stages/*.json: the network at a stage's entry, or at the end (stage null)."""

    stage: NonNegativeInt | None
    epoch: NonNegative
    step: NonNegativeInt
    before: Evaluation | None
    after: Evaluation | None
    layers: NotRequired[
        Annotated[list[LayerCost], Meta(description="of a tracked run, whose layers no configuration gives")]
    ]
    tensors: str
    sha256: str


class Numbers(TypedDict):
    """The numbers of a checkpoint."""

    step: NonNegativeInt
    epoch: NonNegativeInt
    training_macs: NonNegativeInt
    stage: Annotated[int, Meta(ge=-1, le=MAX_WHOLE, description="-1: none has started")]


class StudyVariant(TypedDict):
    """A variant of a study and its runs."""

    label: str
    role: Literal["base", "grid", "reference", "dense-equal", "size", "same", "fork", "budget", "tracked"]
    size: NotRequired[Annotated[PositiveInt, Meta(description="k0 of the base at this size")]]
    residual: NotRequired[
        Annotated[float, Meta(ge=-1, le=4e38, description="its final MACs over the base's, less 1")]
    ]
    curve: NotRequired[str | None]
    first_seed: NotRequired[
        Annotated[int, Meta(ge=0, le=MAX_WHOLE, description="of its runs; 0 if it is not there")]
    ]
    seeds: NotRequired[Annotated[list[NonNegativeInt], Meta(description="of the runs of a tracked study")]]
    runs: list[str]


class Trial(TypedDict):
    """Values of tuned settings that a variant was trained with, with seeds that no result has."""

    variant: str
    values: dict[str, Number | None]
    runs: list[str]
    chosen: bool
    error_percent: Annotated[Percent | None, Meta(description="on validation images; null if a run diverged")]
    errors_percent: NotRequired[Annotated[list[Percent | None], Meta(description="of each of the runs")]]
    loss: Number | None
    training_macs: NonNegativeInt
    seconds: NonNegative


class StudyRecord(TypedDict):
    """studies/*.json: the settings of a study and the runs that belong to it."""

    question: str
    path: NotRequired[bool]
    tracked: NotRequired[Annotated[bool, Meta(description="its runs are those of loops of one's own")]]
    settings: dict[str, Any]
    variants: list[StudyVariant]
    tuning: NotRequired[list[Trial]]


class MeasuredTime(TypedDict):
    """The time of a network on a machine."""

    model: str
    execution: str
    processor: str
    date: str
    batch: PositiveInt
    image_size: PositiveInt
    macs: PositiveInt
    computed_macs: PositiveInt
    params: PositiveInt
    threads: PositiveInt
    milliseconds: Positive
    low: Positive
    high: Positive
    gflops: Positive
    peak_gflops: Positive
    peak_memory: NonNegative | None


class MeasuredPart(TypedDict):
    """The time of a part of a layer."""

    model: str
    execution: str
    part: str
    date: str
    layer: str
    batch: PositiveInt
    milliseconds: NonNegative


class Benchmark(TypedDict):
    """benchmarks/*.json: times that were measured."""

    times: list[MeasuredTime]
    parts: list[MeasuredPart]


def skip_damaged(read: Callable[[Source], Found], source: Source) -> Iterator[Found]:
    """Yield what `read` returns for a source, or warn and yield nothing if it is damaged."""
    try:
        yield read(source)
    except (ValueError, OSError) as error:
        warnings.warn(f"left out: {error}", LeftOut, stacklevel=2)


def check_study(record: Any, path: Path) -> dict[str, Any]:
    """Return a study's record. Raise ValueError, naming the file, if it is not one."""
    check_record(record, StudyRecord, str(path))
    trials = [name for trial in record.get("tuning", ()) for name in trial["runs"]]
    for name in [*runs_of(record), *trials]:
        plain_name(name, f"{path}: run")
    for place, variant in enumerate(record["variants"]):
        if len(variant.get("seeds", variant["runs"])) != len(variant["runs"]):
            raise ValueError(f"{path}: variants[{place}]: must have as many seeds as runs")
    return record


def runs_of(study: Mapping[str, Any]) -> list[str]:
    """Return the names of a study's runs, each once, in the order of its record."""
    return list(dict.fromkeys(name for variant in study["variants"] for name in variant["runs"]))


def check_benchmark(record: Any, path: Path) -> dict[str, Any]:
    """Return a record of measured times. Raise ValueError, naming the file, if it is not one."""
    check_record(record, Benchmark, str(path))
    for place, row in enumerate(record["times"]):
        if not row["low"] <= row["milliseconds"] <= row["high"]:
            raise ValueError(f"{path}: times[{place}]: low, milliseconds and high must rise")
    return record


FORMAT = 1  # of a store
OUTCOMES = {"image": "i", "predicted": "i", "label": "i", "probability": "f"}  # the kind of each number


def check_outcomes(arrays: dict[str, Any], result: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a run's outcomes. Raise ValueError, naming the file, if they are not those of its result."""
    tested = {"test"} if result["test_images"] else set()
    for split in {name.partition(".")[0] for name in arrays} | tested:
        parts = {name: arrays.get(f"{split}.{name}") for name in OUTCOMES}
        columns: list[Any] = [part for name, part in parts.items() if _is_column(part, OUTCOMES[name])]
        if len(columns) < len(OUTCOMES) or len({len(column) for column in columns}) > 1:
            raise ValueError(f"{path}: {split} must have {', '.join(OUTCOMES)}, one number for each image")
        images = columns[0][columns[0].argsort()]
        if (images < 0).any() or (images[1:] == images[:-1]).any():
            raise ValueError(f"{path}: {split}.image must name each image once, from 0 on")
    if not tested:
        return arrays
    wrong = arrays["test.predicted"] != arrays["test.label"]
    if len(wrong) != result["test_images"] or abs(100 * wrong.mean() - result["test_error_percent"]) > 1e-6:
        raise ValueError(
            f"{path}: {wrong.sum()} of {len(wrong)} test images are wrong, but result.json says "
            f"{result['test_error_percent']} % of {result['test_images']}"
        )
    return arrays


def _is_column(array: Any, kind: str) -> bool:
    return array is not None and array.ndim == 1 and array.dtype.kind == kind


def check_stage(record: Any, path: Path) -> dict[str, Any]:
    """Return a stage's record. Raise ValueError, naming the file, if it is not one."""
    check_record(record, Stage, str(path))
    plain_name(record["tensors"], f"{path}: tensors")
    return record


def by_layer(kind: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays or tensors of a stage that are of a kind, 'mask' or 'importance', by layer."""
    start = f"{kind}."
    return {name.removeprefix(start): own for name, own in arrays.items() if name.startswith(start)}
