"""What every frame of the workbench holds: each column with its unit."""

from __future__ import annotations

_RUN = {"run": "name of the run"}
_TARGET = {
    "target": "1×1 convolution that reads: block.layer, t1 for the first transition's",
    "target_position": "its place among the 1×1 convolutions, from 0",
    "block": "its block, from 1",
}
_STAGE = {"stage": "0 … C−1 when it has begun, or 'end'"}

COLUMNS: dict[str, dict[str, str]] = {
    "runs": _RUN
    | {
        "variant": "grouping, growth, connectivity and k0 in one name",
        "grouping": "which inputs a group of a 1×1 reads",
        "growth": "growth schedule",
        "connectivity": "full or block",
        "groups": "G",
        "condense_factor": "C",
        "group_lasso": "weight of the group lasso",
        "pruning": "when connections are pruned",
        "criterion": "what is pruned first",
        "growth_rate": "k0, growth rate of the first block",
        "data": "data set",
        "seed": "seed of everything that is drawn",
        "state": "running, stopped, done, diverged or failed",
        "reason": "why it diverged or failed",
        "macs": "multiply-adds of one image through the final network",
        "flops_paper": "the same as the paper counts",
        "params": "live weights and all other learnables",
        "training_macs": "multiply-adds of all forward and backward passes of training",
        "test_error_percent": "error on the test images, of the last weights, %",
        "test_loss": "cross entropy on the test images, nats",
        "test_images": "number of test images",
        "seconds": "time spent training and evaluating, s",
        "code": "hash of condense_core when it was begun",
        "torch": "version of torch when it was begun",
        "data_fingerprint": "hash of all that it saw of the data",
        "bit_identical": "whether it went on, if it was stopped, as it was begun",
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
        "curve_loss": "cross entropy on the images that curves are on, nats",
        "curve_error_percent": "error on the images that curves are on, %",
        "curve_top5_error_percent": "top-5 error on them, %",
        "curves_on": "validation or test images",
        "macs": "multiply-adds of one image through the network as it is, by its masks",
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
        "error_percent_after": "error right after it, %",
    },
    "steps": _RUN
    | {
        "stage": "stage that the pruning step leads into",
        "epoch": "epochs done by then",
        "macs": "multiply-adds of one image after it",
        "error_before": "error right before it, %",
        "error_after": "error right after it, %",
        "error_recovered": "lowest error of an epoch before the next step, %",
        "epochs_to_recover": "epochs until the error is as low as before it; NaN where it never is",
    },
    "connections": _RUN
    | _STAGE
    | _TARGET
    | {
        "source": "layer whose outputs it reads: stem, block.layer, or a transition",
        "source_position": "its place among the target's sources, from 0",
        "distance": "layers from source to target: 1 is the layer just before",
        "channels": "channels of the source",
        "connections": "pairs of a group and a channel of the source",
        "alive": "share of them that survive, 0 to 1",
        "mean_weight": "mean |W| from the source, pruned weights counted as 0",
    },
    "channels": _RUN
    | _TARGET
    | {
        "group": "group of outputs, from 0",
        "channel": "input channel of the target, from 0",
        "source": "layer that the channel comes from",
        "died": "stage at whose entry it was pruned; 0 where it never was alive, -1 where it still is",
        "importance": "Σ|W| over the group's outputs when it was pruned, or at the end",
    },
    "layers": _RUN
    | _STAGE
    | {
        "layer": "name of the module",
        "position": "place in the order of execution, from 0",
        "block": "block.layer's block, 'stem' or 'head'",
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
        "execution": "what ran it, and whether dense or condensed",
        "batch": "images at a time",
        "threads": "threads that it was given",
        "image_size": "height and width of the images, pixels",
        "macs": "multiply-adds of one image that are left after pruning, whatever the execution computes",
        "computed_macs": "multiply-adds of one image that the execution computes",
        "params": "live weights and all other learnables",
        "milliseconds": "median time for one image, ms",
        "low": "lower end of its 95 % interval, ms",
        "high": "upper end of it, ms",
        "gflops": "2 · computed_macs in that time, GFLOP/s",
        "peak_memory": "bytes that it took at most beyond what was there before, its weights included",
        "processor": "name of the processor",
        "peak_gflops": "the most that a square product reached there, GFLOP/s",
        "date": "when it was measured",
    },
    "parts": {
        "model": "name of the network",
        "batch": "images at a time",
        "layer": "name of the module",
        "part": "1×1, 3×3, normalisation, gather, shuffle, concatenation, or what stands around the layers",
        "execution": "dense, condensed, or the dense one if time followed MACs",
        "milliseconds": "median time for the batch, ms",
        "gflops": "2 · MACs of the part in that time, GFLOP/s; NaN where it computes no convolution",
        "date": "when it was measured",
    },
    "published": {
        "model": "name",
        "family": "CondenseNet, DenseNet, MobileNet, ShuffleNet, pruned or other",
        "data": "data set",
        "flops": "FLOPs of one image as its paper prints them",
        "params": "parameters as printed",
        "error_percent": "top-1 test error as printed, %",
        "source": "where it is printed",
    },
}
"""Every frame's columns, with their units."""
