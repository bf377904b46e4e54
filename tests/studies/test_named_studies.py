"""The paper's questions by name, each asked at toy size from its settings to its report."""

from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.runs import EXECUTION

from analysis import frames, stats
from analysis.ablate import ablate
from analysis.findings.study_findings import comparison_sentences
from analysis.reporting import StudyReport, render
from analysis.reporting.report_figure import shown_run
from analysis.studies import NAMED_STUDIES, Study
from analysis.studies.named import PATH
from condense_core import cost_table
from condense_core.store import RunStore

TOY = {"epochs": 3, "train_images": 64, "stages": (1, 1, 1), "match": "width", "seeds": 2, "sizes": ()}
TOY |= {"execution": EXECUTION}


def toy(name: str, **settings) -> Study:
    return Study.named(name, device="cpu", **TOY | settings)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    return RunStore(tmp_path_factory.mktemp("named") / "runs")


@pytest.mark.parametrize(
    ("name", "settings", "factors"),
    [
        (
            "pruning",
            {"criterion": ("l1", "random"), "pruning": ("one-shot", "gradual")},
            {"grouping", "pruning", "criterion"},
        ),
        ("groups", {"groups": (1, 4)}, {"groups"}),
        ("condense-factor", {"condense_factor": (1, 4), "sizes": (8,)}, {"condense_factor"}),
        ("lasso", {"group_lasso": (0.0, 1e-3)}, {"group_lasso"}),
        ("path", {}, {"step"}),
    ],
)
def test_a_named_study_runs_to_its_report(store, name, settings, factors, undrawn):
    study = toy(name, **settings)
    runs = study.run(store.root)
    assert (runs.state == "done").all()
    assert len(runs) == len(study.run_configs())
    assert set(runs.variant) == {variant.label for variant in study.variants}
    effects, summary = stats.effects(runs), stats.summary(runs)
    assert set(effects.factor) == factors
    assert (effects.pairs >= 2).all()
    unequal = any(
        "not at equal cost" in sentence for sentence in comparison_sentences(effects, summary, pd.DataFrame())
    )
    assert unequal == (name in ("condense-factor", "path"))  # at equal width here
    assert (
        len(comparison_sentences(effects, summary, pd.DataFrame())) == len(effects) + unequal + 1
    )  # without outcomes
    shown = shown_run(runs)
    steps = frames.steps(store.run(next(c for _, c in study.run_configs() if c.name == shown)))
    assert steps.stage.tolist() == (["3"] if name == "pruning" else ["1", "2", "3"])
    page = render([StudyReport(store, study.config.name)])
    assert NAMED_STUDIES[name].question in page
    assert "Error against cost" in page


def test_pruning_is_compared_at_equal_cost_and_equal_epochs():
    study = Study.named("pruning", device="cpu")
    grid = [variant for variant in study.variants if variant.role != "dense-equal"]
    assert len({cost_table(variant.model).macs for variant in grid}) == 1
    assert len({variant.recipe.epochs for variant in study.variants}) == 1
    cells = {(v.model.grouping, v.recipe.pruning, v.recipe.criterion) for v in grid}
    assert len(cells) == len(grid) == len(study.variants) - 1 == 3 * 4 + 3 * 2
    assert study.base.label == "learned-exponential-full-k4 condensing l1"


def test_the_path_goes_from_densenet_to_condensenet_one_step_at_a_time_at_equal_cost():
    study = Study.named("path", device="cpu", sizes=())
    assert [variant.curve for variant in study.variants] == list(PATH)
    first, *_, last = study.variants
    assert (first.model.grouping, first.model.groups_3x3, first.model.connectivity) == ("none", 1, "block")
    assert last is study.base
    assert all(abs(variant.residual) <= 0.05 for variant in study.variants)


def test_condense_factors_are_shown_as_curves_over_sizes():
    study = Study.named("condense-factor", device="cpu")
    assert {variant.curve for variant in study.variants} == {"C=1", "C=2", "C=4", "C=8"}
    assert {variant.size for variant in study.variants} == {2, 4, 8}


def test_groups_cost_the_same_however_many_they_are():
    study = Study.named("groups", device="cpu")
    assert len({cost_table(variant.model).macs for variant in study.variants}) == 1


def test_a_preset_keeps_the_axes_that_a_study_varies():
    study = Study.named("growth", device="cpu", preset="condensenet-86", data="cifar10", match="width")
    assert {variant.model.growth_schedule for variant in study.variants} == {"exponential", "constant"}
    factors = Study.named("condense-factor", device="cpu", preset="condensenet-86", data="cifar10")
    assert {variant.model.condense_factor for variant in factors.variants} == {1, 2, 4, 8}


def test_groups_that_are_given_are_trained_once_however_they_would_be_pruned():
    study = toy("pruning", grouping=("learned", "random"), criterion=("l1",), dense_equal=False)
    random = [variant for variant in study.variants if variant.model.grouping == "random"]
    assert len(random) == 1
    assert random[0].recipe.pruning == "condensing"
    lasso = toy("lasso", grouping=("learned", "random"), group_lasso=(0.0, 1e-3))
    assert len(lasso.variants) == 3
    single = toy("groups", grouping=("learned", "unstructured"), groups=(1, 2))
    assert len(single.variants) == 3


def test_a_preset_leaves_what_a_study_holds():
    lasso = Study.named("lasso", device="cpu", preset="condensenet-50", data="cifar10")
    assert {variant.model.grouping for variant in lasso.variants} == {"learned"}
    assert len(lasso.variants) == 4
    path = Study.named("path", device="cpu", match="width", preset="condensenet-50", data="cifar10")
    assert {variant.model.groups_3x3 for variant in path.variants} == {1}


RUNS = {
    "ablation": (63, "9951c3cc21aaca0a"),
    "path": (36, "9e966f0a94653c35"),
    "grouping": (36, "129ed955bcb5c21e"),
    "growth": (6, "082d9acf3b8a4900"),
    "connectivity": (6, "c4fc1d1919bb648a"),
    "pruning": (54, "23f1011e6804e30f"),
    "groups": (12, "ffb6b8e32f50fd49"),
    "condense-factor": (36, "8e894d3641756cc0"),
    "lasso": (12, "997ca5c0002a25d0"),
}
"""Of each named study the number of runs and the hash of their names, as commit 40ebbf7 gave them."""

ADDED = {
    "ablation": (3, "b1b1895b2a86d924"),
    "grouping": (12, "7007087db85c8bd6"),
    "pruning": (3, "b1b1895b2a86d924"),
    "masks": (27, "14b67ac6909787a7"),
    "same": (20, "5fc26b62c5f97278"),
}
"""The same of the variants that were added later: `is_added`."""


def is_added(study: str, variant) -> bool:
    added = study in ("same", "masks") or variant.role == "dense-equal"
    return added or variant.model.grouping == "independent"


def test_the_runs_of_every_named_study_have_the_names_of_the_first_stores():
    for study in NAMED_STUDIES:
        seeds = None if study == "same" else 3
        runs = Study.named(study, device="cpu", split="fixed", seeds=seeds).run_configs()
        for known, added in ((RUNS, False), (ADDED, True)):
            names = [run.name for variant, run in runs if is_added(study, variant) == added]
            digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
            assert (len(names), digest) == known.get(study, (0, hashlib.sha256().hexdigest()[:16])), study


def test_a_single_number_may_stand_for_an_axis():
    assert toy("grouping", groups=2, group_lasso=0.5).config.groups == (2,)


def test_the_studies_are_listed_with_their_questions_and_places_in_the_paper():
    result = CliRunner().invoke(ablate, ["--list-studies"])
    assert result.exit_code == 0
    for name, study in NAMED_STUDIES.items():
        assert name in result.stdout
        assert study.question in result.stdout
        assert study.paper in result.stdout
    plain = json.loads(CliRunner().invoke(ablate, ["--list-studies", "--json"]).stdout)
    assert plain.keys() == NAMED_STUDIES.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": (0,)}, "groups 0: must be a whole number at least 1"),
        ({"pruning": ("one-shoot",)}, "did you mean 'one-shot'"),
        ({"criterion": ("l3",)}, "criterion 'l3': valid: l1, l2"),
        ({"group_lasso": (-1.0,)}, r"group_lasso -1.0: must be a number at least 0"),
        ({"groups": (3,)}, "groups 3: must divide"),
        (
            {"grouping": ("unstructured",), "criterion": ("l2",)},
            "criterion .*: grouping 'unstructured' needs l1 or random",
        ),
    ],
)
def test_a_bad_level_of_an_axis_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        _ = toy("pruning", **settings).variants
