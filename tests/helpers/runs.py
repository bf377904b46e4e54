"""Small configurations, runs and records, which many tests share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from condense_core import DataConfig, ModelConfig, RecipeConfig, RunConfig, Trainer
from condense_core.files import write_json


def train(config, digits, masks=None):
    trainer = Trainer(config, digits, masks=masks)
    return trainer, list(trainer.run())


def row(epoch: int) -> dict[str, Any]:
    """Return the row of an epoch."""
    figures = ("learning_rate", "train_loss", "train_error_percent", "curve_loss", "curve_error_percent")
    numbers = {"epoch": epoch, "step": 3 * epoch, "stage": 0, "macs": 1, **dict.fromkeys(figures, 0.5)}
    return numbers | {"curves_on": "validation"}


EXECUTION = os.environ.get("CONDENSE_TEST_EXECUTION", "reference")  # of the runs that tests train


def small_model(**settings) -> ModelConfig:
    """Return three blocks on 8-pixel images, trained in a second."""
    defaults = {"stages": (1, 2, 1), "growth": (4, 8, 16), "groups_3x3": 2, "image_size": 8}
    return ModelConfig(**defaults | settings)


def small_run(seed: int = 0, **settings) -> RunConfig:
    """Return a run of `small_model` on a part of the digits: 6 epochs of 3 steps."""
    recipe = RecipeConfig(epochs=6, group_lasso=1e-4)
    return RunConfig(
        small_model(**settings), recipe, DataConfig("digits", train_images=192), seed, execution=EXECUTION
    )


SMALL_STUDY = {
    "name": "small",
    "device": "cpu",
    "stages": (2, 1, 1),
    "sizes": (2,),
    "dense_equal": False,
    "seeds": 2,
    "epochs": 4,
    "train_images": 128,
    "match": "width",
    "execution": EXECUTION,
}

BENCHMARK = {
    "times": [
        {
            "model": "x",
            "execution": "torch",
            "processor": "p",
            "date": "2026-01-01",
            "threads": 1,
            "batch": 1,
            "image_size": 8,
            "macs": 10,
            "computed_macs": 20,
            "params": 5,
            "milliseconds": 1.0,
            "low": 0.9,
            "high": 1.1,
            "gflops": 1.0,
            "peak_gflops": 9.0,
            "peak_memory": None,
        }
    ],
    "ties": [],
    "parts": [
        {
            "model": "x",
            "execution": "torch",
            "part": "1×1",
            "date": "2026-01-01",
            "layer": "a",
            "batch": 1,
            "milliseconds": 1.0,
            "gflops": None,
        }
    ],
}
"""The record of a benchmark of one model."""


def edit(path: Path, **changes) -> None:
    """Change values of a JSON file."""
    write_json(path, json.loads(path.read_text()) | changes)
