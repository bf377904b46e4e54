"""Studies of tracked runs: variants and seeds, and the report and the explorer that show them."""

from __future__ import annotations

import pytest
from helpers.tracked import Loop, tracked

import analysis
from analysis import frames, stats
from analysis.reporting import StudyReport, render
from condense_core.store import RunStore

VARIANTS = ["Joined G=4 C=4", "Joined G=8 C=4"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two variants with two seeds. No test may write to it."""
    runs = tmp_path_factory.mktemp("tracked") / "runs"
    for seed in (3, 1):
        for groups in (4, 8):
            tracked(runs, seed, groups, settings={"learning_rate": 0.05})
    return RunStore(runs)


def test_the_first_variant_is_the_base_and_seeds_are_in_order(store):
    record = store.read_study("mine")
    assert [(one["label"], one["role"], one["seeds"]) for one in record["variants"]] == [
        (VARIANTS[0], "base", [1, 3]),
        (VARIANTS[1], "tracked", [1, 3]),
    ]
    assert frames.study_runs(store, "mine")[["variant", "seed"]].values.tolist() == [
        [variant, seed] for variant in VARIANTS for seed in (1, 3)
    ]


def test_each_variant_is_compared_with_the_first_by_seed(store):
    runs = frames.study_runs(store, "mine")
    effects = stats.effects(runs, frames.answers(store))
    assert effects[["factor", "level", "against", "seeds"]].values.tolist() == [["variant", *VARIANTS[::-1], 2]]
    errors = runs.groupby("variant").test_error_percent.mean()
    assert effects.difference.tolist() == pytest.approx([errors[VARIANTS[1]] - errors[VARIANTS[0]]])


def test_the_report_shows_maps_costs_life_and_effects(store, undrawn):
    report = StudyReport(store, "mine")
    keys = [figure.key for figure in report.figures]
    assert {
        "effects",
        "tradeoff",
        "connections-alive",
        "layer",
        "sources",
        "life",
        "steps",
        "macs",
        "cost",
    } <= {*keys}
    assert report.not_there == [
        "There is no audit: how your loop draws, tunes and tests is known to you alone."
    ]
    assert len(report.findings) == 1
    assert len(report.maps["maps"]) == 4
    page = render([report])
    assert "settings.learning_rate" not in page  # it is the same in all runs
    assert "nan" not in page.split("</style>")[1].split("<script")[0].lower()


def test_the_figures_of_a_report_are_drawn(store):
    for figure in StudyReport(store, "mine").figures:
        assert figure.svg.startswith("<?xml")


def test_a_report_of_runs_that_said_nothing_says_what_is_missing(tmp_path, undrawn):
    loop = Loop()
    with loop.track(tmp_path / "runs"):
        for _ in range(4):
            loop.epoch()
    report = StudyReport(RunStore(tmp_path / "runs"), "mine")
    page = render([report])
    assert [sentence.partition(":")[0] for sentence in report.not_there] == [
        "No errors are compared",
        "No curves are drawn",
        "What each pruning step did to the error is not known",
        "There is no audit",
    ]
    assert all(sentence.partition(":")[0] in page for sentence in report.not_there)
    assert {"connections-alive", "cost", "macs"} <= {figure.key for figure in report.figures}


def test_a_study_that_has_only_begun_has_a_report(tmp_path, undrawn):
    loop = Loop()
    with loop.track(tmp_path / "runs"):
        assert "No run is done yet." in render([StudyReport(RunStore(tmp_path / "runs"), "mine")])
        loop.condensation.done = loop.condensation.steps


def test_the_explorer_shows_tracked_runs(store):
    explorer = analysis.explore(store.root)
    assert [label for label, _ in explorer.variant.options] == VARIANTS
    assert [value for _, value in explorer.seed.options] == [1, 3]
    assert explorer.layer.value == "c"
    assert all("<svg" in panel.value for panel in explorer.panels.values())
    assert set(explorer.figures()) == {"connections", "costs", "mask", "curves", "ranks"}
    explorer.study.value = ""
    assert [label for label, _ in explorer.variant.options] == VARIANTS
    explorer.close()


def test_a_variant_of_other_settings_needs_another_name(tmp_path):
    tracked(tmp_path / "runs", 0, settings={"learning_rate": 0.1})
    message = (
        "variant 'Joined G=4 C=4': its seed 0 has learning_rate 0.1, not 0.2; give it another variant or study"
    )
    with pytest.raises(ValueError, match=message):
        tracked(tmp_path / "runs", 1, settings={"learning_rate": 0.2})
    tracked(tmp_path / "runs", 0, settings={"learning_rate": 0.2})  # it takes the place of the first
    tracked(tmp_path / "runs", 1, settings={"learning_rate": 0.2})
    assert len(RunStore(tmp_path / "runs").read_study("mine")["variants"][0]["runs"]) == 2
    assert len(RunStore(tmp_path / "runs").runs()) == 3


def test_tracked_runs_do_not_join_a_study_of_ablate(small_study, tmp_path):
    store = RunStore(tmp_path / "runs")
    store.create()
    store.write_study("mine", small_study.record())
    with pytest.raises(ValueError, match=r"study 'mine': is one of analysis\.ablate"):
        Loop().track(tmp_path / "runs").__enter__()
