"""Find the network that a command names: a preset, a baseline, a run or an official checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.cost import CostTable, check_fits, cost_table
from condense_core.files import LeftOut
from condense_core.presets import PRESETS
from condense_core.store import Run, RunStore, kept_state
from condense_core.validation import nearest

from .peers import BASELINES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from condense_core import CondenseNet, ModelConfig

CHECKPOINT_SUFFIXES = (".tar", ".pth", ".pt", ".ckpt")


def find_run(name: str, store: RunStore, others: Sequence[str] = ()) -> Run:
    """Find a run by its name, the start or the end of it, or its folder. Raise ValueError unless one fits.

    `others` are further valid names, for the hint in the error.
    """
    if (Path(name) / "config.json").is_file():
        return Run(Path(name))
    runs = {run.name: run for run in store.runs()}
    if name in runs:
        return runs[name]
    fitting = [run for run in runs if run.startswith(name) or run.endswith(name)]
    if len(fitting) == 1:
        return runs[fitting[0]]
    if fitting:
        raise ValueError(f"run {name!r}: fits {len(fitting)} runs: {', '.join(fitting[:5])}")
    raise ValueError(f"{'' if others else 'run '}{name!r}: {_hint(name, store, list(runs), list(others))}")


def _hint(name: str, store: RunStore, runs: list[str], others: list[str]) -> str:
    """Return what may have been meant by a name, or everything that may be named: also runs and files."""
    if (meant := nearest(name, [*others, *runs])).startswith("did you mean"):
        return meant
    if not others and name in PRESETS:
        return f"is a preset, without trained weights; must be {_choices(store, runs)}"
    networks = f"a network ({', '.join(others)}), " if others else ""
    return f"must be {networks}{_choices(store, runs)}"


def _choices(store: RunStore, runs: list[str]) -> str:
    some = f"{', '.join(runs[:3])}{f', … {len(runs)} in all' if runs[3:] else ''}"
    there = some if runs else f"none is in {store.root}"
    return f"a run ({there}) or a checkpoint file ({', '.join(CHECKPOINT_SUFFIXES)})"


def load_run(run: Run) -> CondenseNet:
    """Load the network of a run with its final weights or, if it is not done, those of its newest checkpoint.

    Warns of checkpoints that are damaged and passed over.
    """
    return _with_weights(run, run.weights() if run.result else _checkpoint_weights(run))


def load_run_at(run: Run, stage: int) -> CondenseNet:
    """Load the network of a run as it was when a stage began, before anything was pruned for it.

    Raise FileNotFoundError if the run keeps no such state.
    """
    return _with_weights(run, _weights_in(kept_state(run, stage).load()))


def _with_weights(run: Run, tensors: Mapping[str, Tensor]) -> CondenseNet:
    from condense_core import CondenseNet

    config, length = run.config, sum(tensor.nbytes for tensor in tensors.values())
    check_fits(config.model, length, str(run.folder))
    model = CondenseNet(config.model, config.seed)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).split("\n\t")[1 if "\n\t" in str(error) else 0]  # the first of many
        raise ValueError(f"{run.folder}: its weights are of another network ({reason})") from error
    return model


def _checkpoint_weights(run: Run) -> dict[str, Tensor]:
    state, faults = run.load_checkpoint()
    for fault in faults:
        warnings.warn(f"left out: {fault}", LeftOut, stacklevel=3)
    if state is None:
        raise ValueError(f"run {run.name}: is {run.status['state']} and has no weights yet")
    return _weights_in(state)


def _weights_in(state: tuple[Mapping[str, Tensor], Any]) -> dict[str, Tensor]:
    """Return the network's own tensors in the state of a training."""
    tensors, _ = state
    prefix = "model."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def is_file_name(name: str) -> bool:
    """Return whether a name means a checkpoint file, even a missing one."""
    return Path(name).is_file() or name.endswith(CHECKPOINT_SUFFIXES)


def load_network(name: str, store: RunStore, **settings: Any) -> CondenseNet:
    """Load the network of a run or of an official checkpoint; `settings` are those of `load_official`."""
    if is_file_name(name):
        from condense_core import load_official

        return load_official(name, **settings)
    return load_run(find_run(name, store))


def find_network(name: str, store: RunStore, **settings: Any) -> tuple[ModelConfig | nn.Module, int]:
    """Find a network to cost, and its image size. Raise ValueError or FileNotFoundError with a hint."""
    if name in PRESETS:
        return PRESETS[name], PRESETS[name].image_size
    if name in BASELINES:
        from condense_core.looking import same_draws

        with same_draws():
            return BASELINES[name].build(), BASELINES[name].image_size
    if is_file_name(name):
        model = load_network(name, store, **settings)
    else:
        model = load_run(find_run(name, store, [*PRESETS, *BASELINES]))
    return model, model.config.image_size


def find_cost(name: str, store: RunStore, stage: int | None = None, **settings: Any) -> tuple[CostTable, int]:
    """Find what a network costs, and its image size. Raise as `find_network` does.

    A preset and a run, in the last stage that it entered, are counted by their configuration, without torch.
    """
    if name in PRESETS:
        return cost_table(PRESETS[name], stage), PRESETS[name].image_size
    if name in BASELINES or is_file_name(name):
        network, size = find_network(name, store, **settings)
        return cost_table(network, image_size=size), size
    run = find_run(name, store, [*PRESETS, *BASELINES])
    return cost_table(run.config.model, _stage_of(run)), run.config.model.image_size


def _stage_of(run: Run) -> int:
    """Return the last stage that a run entered; of a fork that pruned nothing there, that of its masks."""
    model, records = run.config.model, run.stages()
    entered = [record["stage"] for record in records]
    last = model.last_stage if run.result or None in entered else max(entered, default=0)
    if run.config.fork and records:
        equal = (stage for stage in range(last, -1, -1) if cost_table(model, stage).macs == records[-1]["macs"])
        return next(equal, last)
    return last


def check_used(name: str, stage: int | None, **settings: Any) -> None:
    """Raise ValueError if a stage or a setting is given that this kind of network does not have."""
    if stage is not None and name not in PRESETS:
        raise ValueError(f"stage {stage}: only a preset has stages to choose from; {name!r} is as it is")
    for setting, value in settings.items():
        if value is not None and not is_file_name(name):
            raise ValueError(f"{setting} {value}: is only for an official checkpoint")
