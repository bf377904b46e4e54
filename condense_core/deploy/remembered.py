"""Plans that were measured before on this machine: a file each in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from torch import nn

from condense_core import fast
from condense_core.files import read_json, write_json
from condense_core.machine import processor

from .plan import Plan


def folder() -> Path:
    """Return the folder of the plans; raise RuntimeError if the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "condense" / "plans"


def recall(blocks: nn.Module, shape: tuple[object, ...]) -> Plan | None:
    """Return the plan for blocks and the shape of their input, or None if there is none that can be read."""
    with suppress(OSError, RuntimeError, ValueError):
        plan = Plan.from_dict(read_json(_path(blocks, shape)))
        plan.check_fits(blocks)
        return plan
    return None


def remember(plan: Plan, blocks: nn.Module, shape: tuple[object, ...]) -> None:
    """Keep a plan for later processes, if the folder can be written."""
    with suppress(OSError, RuntimeError):
        path = _path(blocks, shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, plan.to_dict())


def _path(blocks: nn.Module, shape: tuple[object, ...]) -> Path:
    """Name a plan by all that its times depend on: the sizes of all modules, processor and kernels too."""
    what = json.dumps([repr(blocks), *map(str, shape), processor(), fast.KERNELS])
    return folder() / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.json"
