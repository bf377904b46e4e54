"""`analysis.track`: hold a run of the store while a loop of one's own trains."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from analysis.engines import reason_of
from condense_core import Condensation, cost_table
from condense_core.files import plain_name
from condense_core.looking import unwrapped
from condense_core.store import FINISHED, Run, RunHeld, RunStore, RunWriter, join_study

from .description import describe
from .tracked_run import TrackedRun


@contextmanager
def track(
    model: nn.Module,
    condensation: Condensation,
    *,
    image_size: int,
    epochs: int,
    runs: str | Path = "runs",
    study: str = "own",
    variant: str | None = None,
    seed: int = 0,
    data: str = "own",
    settings: Mapping[str, Any] | None = None,
    evaluate: Callable[[], float] | None = None,
) -> Iterator[TrackedRun | OtherRank]:
    """Write the training of `model` in the block into the run store `runs`, as a run of `study`.

    The run is of `variant` (default: the network with its groups) and `seed`, which is your own, and keeps your
    `settings`. Costs are of images of `image_size` pixels; the condensation's steps are those of `epochs`.
    Stages are written when the condensation enters them, with masks, importances and the costs of each layer;
    `log` and `outcomes` of what is yielded write the rest. `evaluate` returns an error in percent, to be known
    before and after each pruning. A training that begins again replaces its run, which is kept in superseded/;
    one whose condensation was loaded goes on. In a distributed training rank 0 alone writes.

    Raise ValueError for bad input before anything is written; RunHeld if another process tracks this run.
    """
    _check(model, condensation, evaluate)
    plain_name(study, "study")
    if dist.is_available() and dist.is_initialized() and dist.get_rank():
        yield OtherRank()
        return
    if condensation.layers:
        cost_table(condensation.model, image_size=image_size)  # says what is wrong with the size
    said = {"epochs": epochs, "seed": seed, "data": data, "settings": dict(settings or {})}
    config = describe(condensation, image_size, variant, **said)
    store = RunStore(Path(runs))
    run = store.named(config.name)
    _check_place(run, condensation.done)
    store.create()
    run.check_links()
    with run.hold() as writer:
        join_study(store, study, config)
        writer.begin(config, condensation.done)
        yield from _tracked(TrackedRun(config, condensation, writer, evaluate), condensation, writer)


def _tracked(tracked: TrackedRun, condensation: Condensation, writer: RunWriter) -> Iterator[TrackedRun]:
    """Yield a run whose stages are written, and write how it ended."""
    condensation.observers.append(tracked.entering)
    try:
        if condensation.due() == 0:
            condensation.enter(0)  # nothing is pruned yet: the weights as they were drawn
        yield tracked
        tracked.finish()
    except RunHeld:
        raise  # another process has it now
    except KeyboardInterrupt:
        writer.set_state("stopped", "interrupted")
        raise
    except Exception as error:
        writer.write_error(traceback.format_exc())
        with suppress(OSError):  # of a full disk, which must not hide the error
            writer.set_state("failed", reason_of(error))
        raise
    finally:
        condensation.observers.remove(tracked.entering)


def _check(model: nn.Module, condensation: Condensation, evaluate: object) -> None:
    if not isinstance(condensation, Condensation):
        raise TypeError(f"condensation {type(condensation).__name__}: must be a Condensation")
    if not isinstance(model, nn.Module) or unwrapped(model) is not condensation.model:
        raise ValueError(f"model {type(model).__name__}: must be the one that the condensation prunes")
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate {evaluate!r}: must be a function without arguments")


def _check_place(run: Run, done: int) -> None:
    """Raise ValueError if a training that goes on has no run that waits for it."""
    if not done:
        return
    where = f"the condensation has taken {done} steps"
    if not run.started:
        raise ValueError(f"{where}, but there is no run {run.name} to go on with: track from the first step")
    if (state := run.status["state"]) in FINISHED:
        raise ValueError(f"{where}, but the run {run.name} is {state}")


class OtherRank:
    """What ranks other than the first are given: it writes nothing."""

    def log(self, epoch: int, **numbers: float | Tensor) -> None:
        """Do nothing."""

    def outcomes(self, split: str, logits: Tensor, labels: Tensor) -> None:
        """Do nothing."""
