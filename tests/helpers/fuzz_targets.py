"""Everything that reads files, as targets to fuzz: configurations, studies, stores, networks, checkpoints."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
import torch

from analysis import frames
from analysis.engines.single_run import execute
from analysis.networks import load_run
from analysis.reporting import StudyReport
from analysis.reporting.connection_maps import connection_maps
from analysis.studies import command, read_toml, study_config
from analysis.studies.config import DEFAULTS
from condense_core import PRESETS, DataConfig, RecipeConfig, RunConfig, condense, cost_table, load_official
from condense_core.deploy import load_condensed, make_plan, save_condensed
from condense_core.store import Run, RunStore
from condense_core.store.checkpoints import load_newest
from condense_core.validation import from_json, to_dict, to_json, to_toml
from helpers.fuzzing import Read, Target
from helpers.mutations import (
    Draws,
    changed_checkpoint,
    changed_json,
    changed_rows,
    changed_tensors,
    changed_toml,
)
from helpers.networks import lived_in
from helpers.official_states import State, changed_state, official_state
from helpers.runs import BENCHMARK, small_model, small_run


def configurations(folder: Path) -> Target:
    """Configurations of runs as JSON."""
    valid = [to_json(RunConfig(model, RecipeConfig(), DataConfig())).encode() for model in PRESETS.values()]

    def prepare(draws: Draws) -> tuple[Read, str]:
        text = changed_json(draws.choice(valid), draws).decode(errors="replace")

        def read() -> None:
            config = from_json(RunConfig, text)
            assert config.name
            to_toml(config)
            assert from_json(RunConfig, to_json(config)) == config
            assert to_dict(config)
            cost_table(config.model)

        return read, ""

    return Target("configuration", prepare)


def tomls(folder: Path) -> Target:
    """Settings of a study as a TOML file."""
    full = {name: list(v) if isinstance(v, tuple) else v for name, v in DEFAULTS.items() if v is not None}
    valid = [
        tomli_w.dumps(full),
        'study = "pruning"\nseeds = 5\n',
        'preset = "condensenet-86"\ndata = "cifar10"\n',
    ]
    path = folder / "study.toml"

    def prepare(draws: Draws) -> tuple[Read, str]:
        path.write_bytes(changed_toml(draws.choice(valid).encode(), draws))
        return lambda: command(study_config(**read_toml(path))), ""

    return Target("toml", prepare)


def condensed(folder: Path) -> Target:
    """Condensed networks with their plans."""
    valid, images = [], torch.zeros(1, 3, 8, 8)
    for settings in ({}, {"connectivity": "block", "classifier_pruning": True}):
        small = condense(lived_in(small_model(**settings)))
        plan = make_plan(small, images, 1)
        assert str(plan)  # now, because pandas reserves more memory at its first use than the limit allows
        save_condensed(small, folder / "valid.safetensors", plan)
        valid.append((folder / "valid.safetensors").read_bytes())
    path = folder / "network.safetensors"

    def prepare(draws: Draws) -> tuple[Read, str]:
        path.write_bytes(changed_tensors(draws.choice(valid), draws))

        def read() -> None:
            network, plan = load_condensed(path)
            if network.config.image_size <= 32 and sum(network.config.stages) < 10:
                condense(network, plan=plan or "grouped")(images)
            str(plan)

        return read, str(path)

    return Target("condensed", prepare)


def official(folder: Path) -> Target:
    """Official checkpoints, masked and converted, in the zip format of torch.save and in the older one."""
    model = lived_in(small_model(growth=(8, 8, 8), groups_3x3=4, image_size=32))
    valid, path = [], folder / "checkpoint.pth.tar"
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1, "params": list(range(9))}]}
    rest = {"epoch": 3, "arch": "condensenet", "best_prec1": 0.5, "optimizer": optimizer}
    states = [official_state(model, converted) for converted in (False, True)]

    def save(state: State, as_zip: bool) -> bytes:
        named = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"state_dict": named, **rest}, path, _use_new_zipfile_serialization=as_zip)
        return path.read_bytes()

    for state in states:
        for as_zip in (True, False):
            valid.append(save(state, as_zip))
            load_official(path)

    def prepare(draws: Draws) -> tuple[Read, str]:
        if draws.random() < 0.5:
            save(changed_state(draws.choice(states), draws), draws.random() < 0.7)
        else:
            path.write_bytes(changed_checkpoint(draws.choice(valid), draws))
        return lambda: load_official(path), str(path)

    return Target("official", prepare)


CHANGES: dict[str, Callable[[bytes, Draws], bytes]] = {
    ".json": changed_json,
    ".jsonl": changed_rows,
    ".safetensors": changed_tensors,
}


def stores(folder: Path) -> Target:
    """Run stores: a finished run with its stages, checkpoints, study and benchmark."""
    store = RunStore(folder / "runs")
    store.create()
    run = store.run(small_run())
    execute(small_run(), store, folder)
    store.write_study("one", _study_of(run.name))
    store.write_benchmark(BENCHMARK)
    whole = {path: path.read_bytes() for path in sorted(store.root.rglob("*")) if path.is_file()}
    whole = {path: content for path, content in whole.items() if path.suffix in CHANGES}
    sums = {path: _sum_of(path) for path in whole if path.suffix == ".safetensors"}
    touched: list[Path] = []
    made: list[Path] = []

    def prepare(draws: Draws) -> tuple[Read, str]:
        for path in made:
            path.unlink()
        for path in touched:
            path.write_bytes(whole[path])
        made.clear()
        touched[:] = [draws.choice(list(whole))]
        path = touched[0]
        path.write_bytes(CHANGES[path.suffix](whole[path], draws))
        if path in sums and draws.random() < 0.8:  # make the checksum fit
            old, new = (hashlib.sha256(one).hexdigest() for one in (whole[path], path.read_bytes()))
            if (record := sums[path]) is None:  # it is in the file's name
                made.append(path.rename(path.with_name(path.name.replace(old[:16], new[:16]))))
            else:
                record.write_bytes(whole[record].replace(old.encode(), new.encode()))
                touched.append(record)
        in_full = draws.random() < 0.25  # a report's statistics take longer than everything else
        return lambda: _read_store(store, run, in_full), str(store.root)

    return Target("store", prepare)


def _study_of(run: str) -> dict[str, Any]:
    """Return the record of a study of one run."""
    variant = {"label": "learned", "role": "base", "size": 4, "residual": 0.0, "curve": None, "runs": [run]}
    settings = {"data": "digits"}
    return {"name": "one", "question": "?", "path": False, "settings": settings, "variants": [variant]}


def _sum_of(path: Path) -> Path | None:
    """Return the record that holds the checksum of a run's file, or None if the file's name holds it."""
    if path.parent.name == "checkpoints":
        return None
    return path.with_suffix(".json") if path.parent.name == "stages" else path.with_name("result.json")


def _read_store(store: RunStore, run: Run, in_full: bool) -> None:
    """Read everything that commands read of a store with one run."""
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        shown = StudyReport(store, "one")
        if in_full:
            _read_report(shown)
        runs = [Run(store.root / name) for name in shown.runs.run] if len(shown.runs) else []
        connection_maps(runs)
        for frame in (frames.epochs, frames.stages, frames.steps, frames.layers, frames.connections):
            frame(runs)
        assert frames.times(store).empty or frames.parts(store) is not None
    load_run(run)
    state, passed_over = load_newest(run.folder / "checkpoints", 6)
    assert state or passed_over
    if passed_over:
        raise ValueError(passed_over[0])
    if faults := [str(warning.message) for warning in left_out if "left out" in str(warning.message)]:
        raise ValueError(faults[0])


def _read_report(report: StudyReport) -> None:
    """Read everything that a report shows except its figures, which take seconds."""
    names = ("tables", "unfinished", "damaged", "requested", "curves_on", "command", "settings", "environments")
    for name in (*names, "finished", "seconds", "findings", "run_table", "maps"):
        assert getattr(report, name) is not None
    for view in report.run_views:
        for name in ("state", "reason", "error", "stages", "settings"):
            assert getattr(view, name) is not None
        for chart in view.charts:
            assert all(map(chart.points, chart.lines)) or chart.lines


TARGETS: dict[str, Callable[[Path], Target]] = {
    "configuration": configurations,
    "toml": tomls,
    "store": stores,
    "condensed": condensed,
    "official": official,
}
