"""The columns of every frame of the workbench, with their units."""

from __future__ import annotations

from condense_core.tables import Named

_RUN = {"run": "name of the run"}
_TARGET = {
    "target": "1×1 convolution that reads: block.layer, or t1 for that of the first transition",
    "target_position": "its position among the 1×1 convolutions, from 0",
    "block": "its block, from 1",
}
_STAGE = {"stage": "0 … C−1 at the start of a stage, or 'end'"}

_COLUMNS: dict[str, dict[str, str]] = {
    "runs": _RUN
    | {
        "variant": "grouping, growth, connectivity and k0 in one name",
        "grouping": "how the inputs of each group of a 1×1 convolution are chosen",
        "growth": "growth schedule",
        "connectivity": "full or block",
        "groups": "G",
        "condense_factor": "C",
        "group_lasso": "weight of the group lasso",
        "pruning": "when connections are pruned",
        "criterion": "measure by which connections are pruned",
        "growth_rate": "k0, growth rate of the first block",
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
        "source": "layer that the target reads: stem, block.layer, or a transition",
        "source_position": "its position among the target's sources, from 0",
        "distance": "layers from source to target: 1 is the layer just before",
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
COLUMNS = Named("frame", _COLUMNS)
"""Every frame's columns, with their units."""
