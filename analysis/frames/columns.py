"""The columns of every frame of the workbench, with their units and types."""

from __future__ import annotations

import pandas as pd

from condense_core.tables import Named

_RUN = {"run": "name of the run"}
_TARGET = {
    "target": "layer that reads: block.layer, t1 for the first transition's 1×1, a module if tracked",
    "target_position": "its position among them, from 0",
    "block": "its block, from 1",
}
_STAGE = {"stage": "0 … C−1 at the start of a stage, or 'end'"}
_SOURCE = {
    "source": "layer that the target reads: stem, block.layer, or a transition",
    "distance": "layers from source to target: 1 is the layer just before",
}
_SHARED = {
    "kept": "connections from the source that are kept, the mean of both choices that are compared",
    "shared": "connections that both choices keep, their groups matched if they are of two runs",
    "expected": "the same by chance: of independent choices of as many connections",
}

_COLUMNS: dict[str, dict[str, str]] = {
    "runs": _RUN
    | {
        "variant": "grouping, growth, connectivity and k0 in one name",
        "grouping": "how the inputs of each group of a 1×1 convolution are chosen",
        "growth": "growth schedule; 'own' in a tracked run",
        "connectivity": "full or block; 'own' in a tracked run",
        "groups": "G",
        "condense_factor": "C; missing if the layers differ",
        "condense_factors": "C of each 1×1 layer, such as '4-2-8'; missing if one is for all",
        "group_lasso": "weight of the group lasso",
        "pruning": "when connections are pruned",
        "criterion": "measure by which connections are pruned",
        "growth_rate": "k0, growth rate of the first block",
        "fork": "stage at whose entry it left its parent, and what it changed; missing if it is no fork",
        "parent": "name of the run that it left",
        "data": "data set",
        "seed": "seed of all random numbers",
        "state": "running, stopped, done, diverged or failed",
        "reason": "why it diverged or failed",
        "macs": "multiply-adds of one image through the final network",
        "flops_paper": "the same as the paper counts",
        "params": "live weights and all other learnables",
        "training_macs": "multiply-adds of all forward and backward passes of training",
        "test_error_percent": "error of the last weights on the test images, %",
        "test_loss": "cross entropy on the test images, nats",
        "test_images": "number of test images",
        "seconds": "time spent training and evaluating, s",
        "code": "hash of condense_core when the run was started",
        "torch": "version of torch when the run was started",
        "processor": "processor that the run was started on; rounding differs between processors",
        "data_fingerprint": "hash of all the data that the run used",
        "bit_identical": "whether it is bit-identical to an uninterrupted run: never resumed on other terms",
    },
    "epochs": _RUN
    | {
        "epoch": "epochs done, from 1",
        "step": "iterations done",
        "stage": "stage of condensation, 0 … C−1",
        "learning_rate": "at the end of the epoch",
        "train_loss": "mean cross entropy of the epoch's batches, nats",
        "train_error_percent": "error on the epoch's augmented batches, %",
        "lasso": "mean group lasso, in the loss's unit",
        "curve_loss": "cross entropy on the images of the curves, nats",
        "curve_error_percent": "error on the images of the curves, %",
        "curve_top5_error_percent": "top-5 error on the images of the curves, %",
        "curves_on": "images of the curves: validation or test",
        "macs": "multiply-adds of one image with the present masks",
    },
    "outcomes": _RUN
    | {
        "split": "test or validation",
        "image": "place of the image in the whole data, from 0",
        "label": "right class, from 0",
        "predicted": "class that the final weights give the highest logit",
        "correct": "whether that is the right one",
        "probability": "probability of the right class, 0 to 1, in half precision",
    },
    "stages": _RUN
    | _STAGE
    | {
        "epoch": "epochs done by then",
        "step": "iterations done by then",
        "macs": "multiply-adds of one image",
        "flops_paper": "the same as the paper counts",
        "params": "live weights and all other learnables",
        "error_percent_before": "error right before the pruning step, %",
        "error_percent_after": "error right after the pruning step, %",
    },
    "steps": _RUN
    | {
        "stage": "stage that the pruning step leads into",
        "epoch": "epochs done by then",
        "macs": "multiply-adds of one image after the step",
        "error_before": "error right before the step, %",
        "error_after": "error right after the step, %",
        "error_recovered": "lowest error of an epoch before the next step, %",
        "epochs_to_recover": "epochs until the error is as low as before the step; NaN if it never is",
    },
    "connections": _RUN
    | _STAGE
    | _TARGET
    | {
        "source": _SOURCE["source"],
        "source_position": "its position among the target's sources, from 0",
        "distance": _SOURCE["distance"],
        "channels": "channels of the source",
        "connections": "pairs of a group and a channel of the source",
        "alive": "share of the connections that survive, 0 to 1",
        "mean_weight": "mean |W| from the source; pruned weights count as 0",
    },
    "channels": _RUN
    | _TARGET
    | {
        "group": "group of outputs, from 0",
        "channel": "input channel of the target, from 0",
        "source": "layer that the channel comes from",
        "died": "stage at whose start it was pruned; 0 if it was never alive, -1 if it still is",
        "importance": "Σ|W| over the group's outputs when it was pruned, or at the end",
        "rank": "its rank by importance among the group's live inputs when it was pruned, or at the last "
        "pruning step; 1: the most important, 0: it never was alive",
        "margin": "its importance over that of the last input that the group kept then, less 1; NaN if nothing "
        "was pruned, or single weights were",
    },
    "ranks": _RUN
    | _TARGET
    | {
        "group": "group of outputs, from 0",
        "channel": "input channel of the target, from 0",
        "source": "layer that the channel comes from",
        "epoch": "epochs done by then; 0: the weights as drawn",
        "rank": "its rank by importance among the group's live inputs; 1: the most important",
        "importance": "Σ|W| over the group's outputs; after an epoch in half precision",
    },
    "agreement": _RUN
    | {"other": "name of the run that it is compared with: they differ in their seed alone"}
    | _STAGE
    | {
        "unit": "channel: the same input channels; source: as many channels of the same source layer, "
        "because the channels of a layer have no order that two seeds have in common"
    }
    | _TARGET
    | _SOURCE
    | _SHARED,
    "decided": _RUN | {"epoch": "epochs done by then; 0: the weights as drawn"} | _TARGET | _SOURCE | _SHARED,
    "sensitivity": _RUN
    | _TARGET
    | {
        "share": "share of its inputs that every group of the target loses, 0 to 7/8",
        "alive": "share of its connections that are left",
        "loss": "cross entropy on the images of the curves, nats; no other layer is pruned",
        "error_percent": "error on the images of the curves, %",
        "loss_anew": "the same with the batch norms' statistics taken anew on training images, nats",
        "error_percent_anew": "the error with these, %",
    },
    "statistics": _RUN
    | {
        "stage": "stage that the pruning step leads into",
        "error_before": "error right before the step, %",
        "error_before_anew": "the same with the batch norms' statistics taken anew on training images, %",
        "error_after": "error right after the step, %",
        "error_after_anew": "the same with the statistics taken anew, %",
    },
    "regret": _RUN
    | {
        "parent": "name of the run that it left",
        "stage": "stage at which it pruned nothing, 1 … C−1",
        "moment": "when connections count as kept: next (the next stage prunes), or end",
    }
    | _TARGET
    | {
        "dropped": "connections that the parent dropped at the stage",
        "returned": "those of them that the fork keeps at the moment",
        "expected": "how many it would keep of as many that are dropped at random",
        "cost": "test error of the parent less that of the fork, percentage points",
        "random_cost": "the same for a fork that prunes at random from the stage on; missing if there is none",
    },
    "factors": _RUN
    | _TARGET
    | {
        "condense_factor": "C of the layer",
        "in_channels": "input channels",
        "macs": "multiply-adds of one image through the layer in the last stage",
    },
    "layers": _RUN
    | _STAGE
    | {
        "layer": "name of the module",
        "position": "position in the order of execution, from 0",
        "block": "name of the block, 'stem' or 'head'",
        "operator": "conv1x1, conv3x3, linear, norm, relu or pool",
        "in_channels": "input channels",
        "out_channels": "output channels",
        "groups": "groups",
        "output_size": "height of the output, pixels",
        "macs": "multiply-adds of one image",
        "flops_paper": "the same as the paper counts",
        "params": "live weights and all other learnables",
    },
    "times": {
        "model": "name of the network",
        "execution": "runtime, and whether dense or condensed",
        "batch": "batch size",
        "threads": "number of threads",
        "image_size": "height and width of the images, pixels",
        "macs": "multiply-adds of one image left after pruning, even if the execution computes more",
        "computed_macs": "multiply-adds of one image that the execution computes",
        "params": "live weights and all other learnables",
        "milliseconds": "median time for one image, ms",
        "low": "lower end of its 95 % interval, ms",
        "high": "upper end of its 95 % interval, ms",
        "gflops": "2 · computed_macs per median time, GFLOP/s",
        "peak_memory": "peak of the additional memory, including the weights, bytes",
        "processor": "name of the processor",
        "peak_gflops": "highest speed of a square product on that machine, GFLOP/s",
        "date": "time of the measurement",
    },
    "parts": {
        "model": "name of the network",
        "batch": "batch size",
        "layer": "name of the module",
        "part": "1×1, 3×3, normalisation, gather, shuffle, concatenation, or the modules outside the layers",
        "execution": "dense, condensed, or dense if its time followed its MACs",
        "milliseconds": "median time for the batch, ms",
        "gflops": "2 · MACs of the part per median time, GFLOP/s; NaN if it computes no convolution",
        "date": "time of the measurement",
    },
    "published": {
        "model": "name",
        "family": "CondenseNet, DenseNet, MobileNet, ShuffleNet, pruned or other",
        "data": "data set",
        "flops": "published FLOPs of one image",
        "params": "published parameters",
        "error_percent": "published top-1 test error, %",
        "source": "publication",
    },
}
_KNOWN = {
    "finding": "differs, same (within the margin), open, or unknown (no interval)",
    "meaningful": "margin of what matters, percentage points",
    "covers": "what the interval covers: seeds, or seeds and images",
}
_NEEDED = {
    "seeds_needed": "seeds that settle the difference if it stays so; infinite if the test images forbid it",
    "images_needed": "test images below which no number of seeds settles it",
}
_EFFECT = (
    {
        "factor": "axis whose levels are compared",
        "level": "level",
        "against": "level that it is compared with",
        "difference": "mean difference in test error, percentage points",
        "low": "lower end of its corrected 95 % interval",
        "high": "upper end of its corrected 95 % interval",
        "p": "p value of the hypothesis that the difference is 0, corrected with all others",
        "pairs": "number of pairs",
        "seeds": "number of seeds among them",
        "effect": "whether the interval excludes 0",
    }
    | _KNOWN
    | {
        "se_seeds": "standard error from the seeds, percentage points",
        "se_images": "standard error from the test images, percentage points",
        "df": "degrees of freedom of the part from the seeds",
        "half_width_next_seed": "half the width of the interval with one more seed, percentage points",
        "half_width_twice_images": "the same with twice the test images, percentage points",
    }
    | _NEEDED
)
_VARIANT = {
    "role": "base, grid, reference, dense-equal, size, same, fork, budget or tracked",
    "size": "k0 of the base at this size",
    "residual": "final MACs / target's − 1",
    "curve": "curve of the trade-off that it is on, if any",
    "seeds": "seeds that the study asks for",
    "path": "whether the study is a path of steps",
    "study": "the named study that it is, if any",
}
_LEVELS = (
    *("variant", "grouping", "growth", "connectivity", "groups", "condense_factor", "group_lasso", "pruning"),
    *("criterion", "growth_rate"),
)
_COLUMNS |= {
    "study_runs": _COLUMNS["runs"] | _VARIANT,
    "effects": _EFFECT,
    "summary": {name: _COLUMNS["runs"][name] for name in _LEVELS}
    | _VARIANT
    | {name: _COLUMNS["runs"][name] for name in ("macs", "flops_paper", "params", "training_macs")}
    | {
        "error_mean": "mean test error of the finished runs, %",
        "error_sd": "its standard deviation over the seeds, %",
        "error_low": "lower end of the 95 % interval of the mean error, %",
        "error_high": "upper end of the 95 % interval of the mean error, %",
        "n": "finished runs",
        "difference": "mean difference to the base, paired by seed, percentage points",
        "difference_low": "lower end of its corrected interval",
        "difference_high": "upper end of its corrected interval",
        "pairs": "seeds that both have",
    }
    | _KNOWN
    | _NEEDED,
}

COLUMNS = Named("frame", _COLUMNS)
"""Every frame's columns, with their units."""

_WHOLE = frozenset(
    (
        *("groups", "condense_factor", "growth_rate", "seed", "seeds", "size", "n", "pairs", "step"),
        *("target_position", "source_position", "position", "distance", "channels", "connections", "group"),
        *("channel", "died", "in_channels", "out_channels", "output_size", "batch", "threads", "image_size"),
        *("computed_macs", "dropped", "returned", "rank"),
    )
)
_REAL = frozenset(
    (
        *("group_lasso", "training_macs", "test_error_percent", "test_loss", "test_images", "seconds"),
        "residual",
        *("learning_rate", "train_loss", "train_error_percent", "lasso", "curve_loss", "curve_error_percent"),
        *("curve_top5_error_percent", "error_percent_before", "error_percent_after", "error_before"),
        *("error_after", "error_recovered", "epochs_to_recover", "alive", "mean_weight", "importance"),
        *("milliseconds", "low", "high", "gflops", "peak_memory", "peak_gflops", "flops", "error_percent"),
        *("share", "loss", "loss_anew", "error_percent_anew", "error_before_anew", "error_after_anew"),
        *("error_mean", "error_sd", "error_low", "error_high", "difference", "difference_low"),
        *("difference_high", "p", "meaningful", "se_seeds", "se_images", "df", "half_width_next_seed"),
        *("half_width_twice_images", "seeds_needed", "images_needed", "kept", "shared", "expected", "margin"),
        *("cost", "random_cost"),
    )
)
_OTHER = {
    "bit_identical": "bool", "path": "bool", "effect": "bool", "correct": "bool",
    "image": "int32", "label": "int32", "predicted": "int32", "probability": "float32",
}  # fmt: skip
_COSTS = ("macs", "flops_paper", "params")
_BY_FRAME = {
    ("epochs", "epoch"): "int64",
    ("stages", "epoch"): "float64",
    ("steps", "epoch"): "float64",
    ("decided", "epoch"): "float64",
    ("ranks", "epoch"): "float64",
    ("epochs", "stage"): "int64",
    ("connections", "block"): "int64",
    ("channels", "block"): "int64",
    ("regret", "block"): "int64",
    ("factors", "block"): "int64",
    ("sensitivity", "block"): "int64",
    ("agreement", "block"): "int64",
    ("decided", "block"): "int64",
    ("ranks", "block"): "int64",
    **{(frame, cost): "float64" for frame in ("runs", "study_runs", "summary", "published") for cost in _COSTS},
    **{
        (frame, cost): "int64"
        for frame in ("epochs", "stages", "steps", "layers", "times", "factors")
        for cost in _COSTS
    },
}  # the cost of a run that is not finished is missing


def _type_of(frame: str, column: str) -> str:
    if found := _BY_FRAME.get((frame, column)) or _OTHER.get(column):
        return found
    return "int64" if column in _WHOLE else "float64" if column in _REAL else "str"


TYPES = Named(
    "frame",
    {frame: {name: _type_of(frame, name) for name in columns} for frame, columns in _COLUMNS.items()},
)
"""Every frame's columns and their types, as `read_csv(dtype=)` and `astype` take them."""


def typed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with its documented columns in their types, even if it is empty; others come last."""
    types = TYPES[name]
    frame = frame.reindex(columns=[*types, *(column for column in frame if column not in types)])
    return frame.astype({column: _possible(frame[column], kind) for column, kind in types.items()})


def _possible(values: pd.Series, kind: str) -> str:
    """Return a type, or the nearest one that has missing values if there are some."""
    if len(values) and values.isna().any():
        return {"int64": "float64", "int32": "float64", "bool": "boolean"}.get(kind, kind)
    return kind
