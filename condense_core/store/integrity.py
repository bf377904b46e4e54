"""Check that the files of a run are whole and fit one another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import ModelConfig
from condense_core.cost import cost_table
from condense_core.tables import LEARNED

from .run import Run
from .store import RunStore
from .tracked import TrackedConfig

if TYPE_CHECKING:
    import numpy as np


Network = ModelConfig | TrackedConfig


def check_run(run: Run) -> dict[str, np.ndarray]:
    """Read all that a report reads of a run, and return its outcomes.

    Raise ValueError or OSError, naming the file that is damaged.
    """
    run.check_links()
    network, done = run.network, run.status["state"] == "done"
    epochs, stages = run.epochs(), run.stages()
    run.seconds()
    for found in run.importances():
        check_layers(found.layers, network, run.folder / "importance.jsonl")
    names = [record["stage"] for record in stages]
    needed = {"result.json": run.result, "stages/end.json": None in names}
    if not run.is_tracked:
        needed["metrics.jsonl"] = epochs
    if done and not all(needed.values()):
        name = next(name for name, found in needed.items() if not found)
        raise ValueError(f"{run.folder / name}: is missing or empty, though the run is done")
    if len(set(names)) < len(names) or any(name is not None and name > network.last_stage for name in names):
        raise ValueError(f"{run.folder / 'stages'}: {names} must be 0 to {network.last_stage} and the end")
    for record in stages if done else ():
        check_masks(run.stage_arrays(record), network, run.folder / "stages" / record["tensors"])
    return run.outcomes() if done else {}


def find_damage(store: RunStore, name: str, check: Callable[[Run], Any] = check_run) -> str | None:
    """Return the first fault that `check` finds in a run, or None; a run that was not started has none."""
    try:
        run = store.named(name)
        if run.started:
            check(run)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def find_damages(store: RunStore, names: Iterable[str]) -> dict[str, str]:
    """Return the fault of each damaged run by its name.

    Runs of one seed on the same data are tested on the same images. If they disagree about these or about
    their classes, the runs that agree with most of the others are whole.
    """
    seen: dict[str, Seen] = {}

    def check(run: Run) -> None:
        if "test.image" in (said := check_run(run)):
            terms = run.record["data_fingerprint"], run.seed
            seen[run.name] = terms, _digest(said["test.image"], said["test.label"])

    found = {name: find_damage(store, name, check) for name in names}
    for name in _contradicted(seen):
        path = store.root / name / "outcomes.safetensors"
        found[name] = (
            f"{path}: other runs of its data and seed were tested on other images, or name other classes"
        )
    return {name: fault for name, fault in found.items() if fault}


Seen = tuple[tuple[str, int], str]  # fingerprint of the data and seed, and a hash of the images and classes


def _digest(images: np.ndarray, labels: np.ndarray) -> str:
    order = images.argsort()
    return hashlib.sha256(images[order].tobytes() + labels[order].tobytes()).hexdigest()


def _contradicted(seen: Mapping[str, Seen]) -> Iterator[str]:
    """Yield the runs that at least as many others contradict as agree with, themselves included."""
    counts = Counter(seen.values())
    for name, (terms, digest) in seen.items():
        others = [count for other, count in counts.items() if other[0] == terms and other[1] != digest]
        if max(others, default=0) >= counts[terms, digest]:
            yield name


def check_masks(arrays: dict[str, np.ndarray], network: Network, path: Path) -> None:
    """Raise ValueError unless masks and importances fit the layers of a network."""
    masks = {name.removeprefix("mask."): array for name, array in arrays.items() if name.startswith("mask.")}
    layers, needed = _shapes(network)
    if not needed <= masks.keys():
        raise ValueError(f"{path}: has no mask of {min(needed - masks.keys())}")
    for name, mask in masks.items():
        importance = arrays.get(f"importance.{name}")
        shape = layers.get(name, mask.shape)
        if mask.dtype != bool or mask.ndim != 2 or mask.shape != shape:
            raise ValueError(f"{path}: mask.{name} must be true or false, of shape {shape}")
        if importance is None or importance.dtype.kind != "f" or importance.shape != mask.shape:
            raise ValueError(f"{path}: importance.{name} must be numbers of shape {shape}")


def check_layers(importances: Mapping[str, np.ndarray], network: Network, path: Path) -> None:
    """Raise ValueError unless the importances of an epoch fit the layers of a network."""
    layers, needed = _shapes(network)
    if not needed <= importances.keys():
        raise ValueError(f"{path}: has no layer {min(needed - importances.keys())}")
    for name, shape in layers.items():
        if name in importances and importances[name].shape != shape:
            raise ValueError(f"{path}: layer {name} must have shape {shape}")


def _shapes(network: Network) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """Return the shape of each layer's mask, and the layers that must have one."""
    if isinstance(network, TrackedConfig):
        shapes = {layer["name"]: (layer["groups"], layer["inputs"]) for layer in network.layers}
        return shapes, set(shapes)
    shapes = {
        layer.name: (layer.groups, layer.in_channels)
        for layer in cost_table(network, 0).layers
        if layer.operator == "conv1x1"
    }
    return shapes, set(shapes) if network.grouping in LEARNED else set()
