"""Read many damaged inputs of a target, and record which are accepted, refused or handled wrongly.

The seed decides the input. Reading may succeed, or be refused by a ValueError or OSError that names the file.
Anything else is an error: another exception, a write, a program started, ten seconds or a gigabyte.
"""

from __future__ import annotations

import resource
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from helpers.limits import Watch, limited, process_watch
from helpers.mutations import Draws

REFUSALS = (ValueError, OSError)
Read = Callable[[], Any]


@dataclass(frozen=True)
class Target:
    """Something that reads files; `prepare` writes an input and returns what reads it, and its name."""

    name: str
    prepare: Callable[[Draws], tuple[Read, str]]


@dataclass
class Outcome:
    """The outcomes of reading a target's inputs."""

    target: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    memory_growth: int = 0  # of the peak, bytes
    errors: list[dict[str, Any]] = field(default_factory=list)


def fuzz(target: Target, inputs: int, first: int = 0) -> Outcome:
    """Read `inputs` inputs of a target, made by the seeds from `first` on."""
    watch, outcome = process_watch(), Outcome(target.name, inputs)
    _read(target, watch, None)  # imports write caches
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(first, first + inputs):
        verdict, seconds = _read(target, watch, seed)
        outcome.slowest_seconds = max(outcome.slowest_seconds, seconds)
        if verdict in ("accepted", "refused"):
            setattr(outcome, verdict, getattr(outcome, verdict) + 1)
        else:
            outcome.errors.append({"seed": seed, "error": verdict})
    outcome.memory_growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    return outcome


def _read(target: Target, watch: Watch, seed: int | None) -> tuple[str, float]:
    """Return 'accepted', 'refused' or the error, and the seconds taken; without a seed, do not watch."""
    read, name = target.prepare(Draws(f"{target.name} {seed}"))
    watch.seen.clear()
    started = time.perf_counter()
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch.on = seed is not None
            read()
        verdict = "accepted"
    except REFUSALS as error:
        verdict = "refused" if name in str(error) else f"does not name {name}: {error!r}"[:500]
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        verdict = "".join(traceback.format_exception(error))[-1500:]
    finally:
        watch.on = False
    return f"wrote: {watch.seen}" if watch.seen else verdict, time.perf_counter() - started
