"""The network of an official checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from condense_core.cost import check_fits
from condense_core.model import CondenseNet
from condense_core.validation import nearest

from .architecture import read_config
from .checkpoint import Checkpoint, read_checkpoint
from .tensors import load_tensors, was_trained_on, with_norms_of

SETTINGS = ("groups", "condense_factor", "reduction", "stem_stride", "image_size", "dropout")


def load_official(path: str | Path, **settings: Any) -> CondenseNet:
    """The network of an official checkpoint (condensenet, densenet_LGC or densenet; masked or converted).

    Settings that no tensor shows can be given: groups and condense_factor if nothing is pruned yet, stem_stride
    (default: 2 for 1000 classes, else 1), image_size, dropout, reduction. A converted network that was trained
    further, so that the copies of a batch norm differ between groups, comes in condensed form. Raises
    FileNotFoundError or ValueError, naming file and tensor.
    """
    for name in settings:
        if name not in SETTINGS:
            raise ValueError(f"unknown setting {name!r}: {nearest(name, SETTINGS)}")
    return network_of(read_checkpoint(path), **settings)


def network_of(checkpoint: Checkpoint, **settings: Any) -> CondenseNet:
    """`load_official` of a file that was read."""
    found = {name: value for name, value in settings.items() if value is not None}
    try:
        config = read_config(checkpoint, found)
        check_fits(config, checkpoint.path.stat().st_size, str(checkpoint.path))
        model = CondenseNet(config, seed=0)
        converted = load_tensors(checkpoint, model)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(
            f"{checkpoint.path}: contradicts itself and is no network of the official code ({reason})"
        ) from error
    return with_norms_of(checkpoint, model) if converted and was_trained_on(checkpoint, model) else model
