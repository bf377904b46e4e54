"""Agreement of runs and of moments, in frames and figures."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from analysis import frames, plots
from analysis.frames import reading_layers
from analysis.stats import agreed
from condense_core.condensation import prune_mask
from condense_core.store import Run


def of_grouping(store, grouping: str) -> list:
    """Return the runs of the study's first variant of a grouping, one a seed."""
    runs = frames.study_runs(store, "small")
    chosen = runs[runs.grouping == grouping]
    names = chosen.run[chosen.variant == chosen.variant.iloc[0]]
    return [store.named(name) for name in names]


def test_a_run_agrees_with_itself_in_every_layer_and_source(small_store):
    run = of_grouping(small_store, "learned")[0]
    counts = frames.agreement([run, run])
    assert (counts["shared"] == counts.kept).all()
    found = agreed(counts, "unit", "target").agreement
    assert found.isna().sum() == 1  # the first layer has one source, so nothing to choose between sources
    assert np.allclose(found.dropna(), 1)


def test_pairs_are_runs_that_differ_in_their_seed_alone(small_store):
    counts = frames.agreement(small_store)
    assert len(counts)
    for run, other in counts[["run", "other"]].drop_duplicates().itertuples(index=False):
        assert run != other
        assert run.rpartition("-s")[0] == other.rpartition("-s")[0]


def test_windows_are_the_same_for_all_seeds_and_a_dense_network_has_no_choice(small_store):
    sequential = agreed(frames.agreement(of_grouping(small_store, "sequential")), "unit")
    assert sequential.agreement.tolist() == pytest.approx([1.0, 1.0])
    assert frames.agreement(of_grouping(small_store, "none")).empty
    assert frames.decided(of_grouping(small_store, "random")).empty


def test_what_scores_would_have_chosen_is_what_pruning_at_once_keeps(small_store):
    run = of_grouping(small_store, "learned")[0]
    records = run.stages()
    first, last = (run.stage_tensors(record) for record in (records[0], records[-1]))
    counts = frames.decided(run)
    for layer in reading_layers(run.config.model):
        final = last[f"mask.{layer.module}"]
        scores, every = first[f"importance.{layer.module}"], torch.ones_like(final)
        at_once = prune_mask(scores, every, int(final[0].sum()))
        own = counts[(counts.target == layer.label) & (counts.epoch == 0)]
        assert own["shared"].sum() == int((at_once & final).sum())
        assert own.kept.sum() == int(final.sum())
        assert own.expected.sum() == pytest.approx(float(final.sum() * final.float().mean()))


def test_at_the_last_step_everything_is_decided(small_store):
    run = of_grouping(small_store, "learned")[0]
    last = agreed(frames.decided(run), "epoch").sort_values("epoch").iloc[-1]
    assert last.share == 1
    assert last.chance == pytest.approx(0.5, abs=0.05)  # half of what stage 2 left


def test_the_figures_show_the_frames(small_store):
    runs = of_grouping(small_store, "learned")
    counts = frames.decided(runs)
    line = plots.decided(counts).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx(agreed(counts, "epoch").sort_values("epoch").share)
    pairs = frames.agreement(runs)
    drawn = [line.get_ydata() for line in plots.agreement(pairs).axes[1].lines[:2]]
    for unit, shown in zip(("channel", "source"), drawn, strict=True):
        found = agreed(pairs[pairs.unit == unit], "distance").sort_values("distance")
        assert np.allclose(shown, found.agreement, equal_nan=True)


def test_a_run_that_has_not_yet_pruned_for_the_last_time_has_decided_nothing(small_store, tmp_path):
    run = of_grouping(small_store, "learned")[0]
    begun = Run(tmp_path / run.name)
    shutil.copytree(run.folder, begun.folder)
    for name in ("end.json", f"stage-{run.config.model.last_stage}.json"):
        (begun.folder / "stages" / name).unlink()
    assert len(frames.connections(begun))
    assert frames.decided(begun).empty
