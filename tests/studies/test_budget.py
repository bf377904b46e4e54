"""Uneven budgets: the knapsack, the factors, the study that compares them with the uniform network."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from helpers.runs import SMALL_STUDY, small_model
from hypothesis import given, strategies as st

from analysis import layer_sensitivity
from analysis.reporting import StudyReport
from analysis.studies import Study, study_config
from analysis.studies.budget import FACTORS, cheapest, uneven_factors
from condense_core import cost_table
from condense_core.grouping import masked_layers
from condense_core.store import RunStore

SETTINGS = SMALL_STUDY | {"grouping": ("learned", "random"), "reference": False, "sizes": (), "epochs": 2}


@given(st.data())
def test_the_knapsack_is_solved_as_by_trying_all(data):
    items, choices = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    numbers = st.lists(st.integers(0, 20), min_size=items * choices, max_size=items * choices)
    values, costs = (np.array(data.draw(numbers)).reshape(items, choices) for _ in range(2))
    costs, budget = costs + 1, data.draw(st.integers(1, 60))
    tried = [
        (values[range(items), each].sum(), -costs[range(items), each].sum()) for each in all_choices(values)
    ]
    fitting = [(value, cost) for value, cost in tried if -cost <= budget]
    if not fitting:
        with pytest.raises(ValueError, match="nothing fits"):
            cheapest(values, costs, budget)
        return
    found = cheapest(values, costs, budget)
    assert (values[range(items), found].sum(), -costs[range(items), found].sum()) == min(fitting)


def all_choices(values: np.ndarray) -> list[tuple[int, ...]]:
    return list(product(range(values.shape[1]), repeat=len(values)))


def curves(slopes: list[float]) -> pd.DataFrame:
    """Return curves whose loss rises in proportion to the share, by layer."""
    rows = [
        {"target": str(layer), "share": part / 8, "loss_anew": 1 + slope * part / 8}
        for layer, slope in enumerate(slopes)
        for part in range(8)
    ]
    return pd.DataFrame(rows)


def test_a_layer_that_loses_nothing_pays_for_those_that_do():
    model = small_model(stages=(2, 2), growth=(8, 8))
    factors = uneven_factors(curves([0.0, 1.0, 1.0, 1.0]), model)
    assert factors[0] == FACTORS[-1]
    assert min(factors[1:]) < model.condense_factor
    uneven = cost_table(small_model(stages=(2, 2), growth=(8, 8), condense_factors=factors)).macs
    assert 0.95 < uneven / cost_table(model).macs <= 1


def test_a_curve_that_falls_by_chance_is_not_followed_down():
    falling = curves([1.0, 1.0, 1.0, 1.0])
    falling.loc[(falling.target == "2") & (falling.share == 0.875), "loss_anew"] = 0.0
    model = small_model(stages=(2, 2), growth=(8, 8))
    flat = uneven_factors(curves([1.0, 1.0, 0.0, 1.0]), model)
    assert uneven_factors(falling, model)[2] <= flat[2]


def test_more_than_a_sensitivity_prunes_is_refused():
    with pytest.raises(ValueError, match=r"condense_factor 16: an uneven budget needs 8 or less"):
        uneven_factors(curves([1.0] * 4), small_model(condense_factor=16))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[RunStore, Study]:
    """A store with the runs of a study, without a budget."""
    store = RunStore(tmp_path_factory.mktemp("budget") / "runs")
    study = Study.named("grouping", **SETTINGS)
    study.run(store.root, store.root.parent / "data")
    return store, study


def named(study: Study, grouping: str = "learned") -> str:
    return next(run.name for variant, run in study.run_configs() if variant.model.grouping == grouping)


def test_a_study_compares_an_uneven_budget_with_the_uniform_one(trained, monkeypatch):
    store, plain = trained
    name = named(plain)
    data_dir = store.root.parent / "data"
    study = Study.named("grouping", **SETTINGS | {"budget": f"from:{name}"})
    assert study.budgeted(store, data_dir, keep=False).variants[-1].role == "budget"
    assert not store.named(name).sensitivity(), "a dry run writes nothing"
    frame = study.run(store.root, data_dir)
    monkeypatch.setattr(layer_sensitivity, "layer_sensitivity", None)  # it is kept: nothing is computed twice
    again = study.budgeted(store, data_dir)
    [variant] = [each for each in again.variants if each.role == "budget"]
    assert variant.recipe == again.base.recipe
    assert variant.model.growth == again.base.model.growth
    assert -0.05 <= variant.residual <= 0
    uneven = frame[frame.role == "budget"]
    assert (uneven.state == "done").all()
    assert set(uneven.macs) == {cost_table(variant.model).macs}
    assert set(uneven.condense_factors) == {"-".join(map(str, variant.model.condense_factors))}
    assert len(masked_layers_of(variant)) == len(variant.model.condense_factors)
    report = StudyReport(store, "small")
    [effect] = report.effects[report.effects.factor == "budget"].itertuples()
    assert (effect.level, effect.against) == ("uneven", "uniform")
    assert any(sentence.startswith("An uneven budget") for sentence in report.findings)
    [figure] = [figure for figure in report.figures if figure.key == "budget"]
    assert "The uneven budget prunes layer" in figure.alt
    assert f"--budget from:{name}" in report.command


def masked_layers_of(variant) -> dict:
    from condense_core import CondenseNet

    return masked_layers(CondenseNet(variant.model, seed=0))


@pytest.mark.parametrize(
    ("budget", "changed", "message"),
    [
        ("from:{random}", {}, r"must be a run of the base's network .* differs in grouping"),
        ("from:{learned}", {"growth_rate": 8}, "must be a run of the base's network .* differs in growth"),
        ("from:{random}", {"grouping": ("random",)}, "no layer learns its groups"),
        ("from:{learned}x", {}, "did you mean '{learned}'"),
    ],
)
def test_a_run_that_gives_no_budget_is_refused_by_name(trained, budget, changed, message):
    store, plain = trained
    names = {grouping: named(plain, grouping) for grouping in ("learned", "random")}
    study = Study.named("grouping", **SETTINGS | changed | {"budget": budget.format(**names)})
    with pytest.raises(ValueError, match=message.format(**names)):
        study.budgeted(store, store.root.parent / "data")


def test_a_run_without_its_dense_state_is_refused_by_name(trained, tmp_path):
    import shutil

    store, plain = trained
    copy = RunStore(shutil.copytree(store.root, tmp_path / "runs"))
    run = copy.named(named(plain))
    shutil.rmtree(run.folder / "checkpoints")
    (run.folder / "sensitivity.json").unlink(missing_ok=True)
    study = Study.named("grouping", **SETTINGS | {"budget": f"from:{run.name}"})
    with pytest.raises(FileNotFoundError, match=rf"run {run.name} \(done\) keeps no such state"):
        study.budgeted(copy, store.root.parent / "data")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": "uneven"}, "budget 'uneven': must be from:RUN"),
        ({"budget": "from:"}, "budget 'from:': must be from:RUN"),
        ({"budget": "not from:x"}, "budget 'not from:x': must be from:RUN"),
        ({"budget": "from:x", "study": "same"}, "budget 'from:x': the study 'same' is of one network"),
    ],
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        study_config(**settings)
