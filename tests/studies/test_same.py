"""One network under two names: what the report finds there is false."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.runs import EXECUTION
from scipy import stats

from analysis.explorer.contents import runs_of
from analysis.findings.controls import same_sentences, welch_interval
from analysis.reporting import StudyReport, render
from analysis.studies import Study, study_config
from condense_core.store import RunStore

TOY = {"stages": (1, 1, 1), "match": "width", "epochs": 2, "train_images": 64, "execution": EXECUTION}


def test_the_same_network_is_trained_under_two_names_with_seeds_of_its_own(tmp_path, undrawn):
    study = Study.named("same", device="cpu", seeds=2, **TOY)
    first, second = study.variants
    assert (first.model, first.recipe) == (second.model, second.recipe)
    runs = study.run(tmp_path)
    seeds = {label: part.seed.tolist() for label, part in runs.groupby("variant", sort=False)}
    assert seeds == {f"{first.model.label} first": [0, 1], f"{first.model.label} second": [2, 3]}
    report = StudyReport(RunStore(tmp_path), "same-digits")
    (sentence,) = same_sentences(report.runs)
    assert sentence in report.findings
    assert "2 and 2 runs" in sentence
    page = render([report])
    assert sentence in page.replace("&#39;", "'")
    assert "Error against cost" in page
    shown = runs_of(RunStore(tmp_path), "same-digits")
    assert [[run.config.seed for run in part.values()] for part in shown.values()] == [[0, 1], [2, 3]]
    assert [list(part) for part in shown.values()] == [[0, 1], [2, 3]]


def test_its_runs_are_those_of_a_study_of_more_seeds():
    same = Study.named("same", device="cpu", seeds=2, **TOY).run_configs()
    plain = Study.named("growth", device="cpu", growth=("exponential",), seeds=4, **TOY).run_configs()
    assert {run.name for _, run in same} == {run.name for _, run in plain}


@pytest.mark.parametrize("settings", [{"grouping": ("learned", "random")}, {"groups": (2, 4)}])
def test_a_second_network_is_refused(settings):
    with pytest.raises(ValueError, match=r"^group.*: the study 'same' is of one network; name one"):
        study_config(study="same", **settings)


def frame(first, second) -> pd.DataFrame:
    rows = [("base", error) for error in first] + [("same", error) for error in second]
    frame = pd.DataFrame(rows, columns=["role", "test_error_percent"])
    return frame.assign(state="done", seed=range(len(rows)))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((1.0, 2.0, 3.0), (1.5, 2.5, 3.5), "rightly no difference is found (+0.50 points, Welch's interval "),
        ((1.0, 1.1, 0.9), (3.0, 3.1, 2.9), "a difference is found, and it is false (+2.00 points, "),
        ((1.0,), (2.0, 3.0), "+1.50 points of test error (1 and 2 runs, no two of one seed); too few"),
        ((1.0, 1.0), (2.0, 2.0), "+1.00 points of test error (2 and 2 runs, no two of one seed); too few"),
    ],
)
def test_the_sentence_says_whether_a_difference_is_found(first, second, words):
    (sentence,) = same_sentences(frame(first, second))
    assert sentence.startswith(f"One network under two names, which cannot differ: {words}")


def test_another_study_and_one_without_runs_have_no_such_sentence():
    assert same_sentences(pd.DataFrame()) == []
    assert same_sentences(frame((1.0, 2.0), ())) == []
    assert same_sentences(frame((1.0, 2.0), (1.0, 2.0)).assign(state="running")) == []


def test_welchs_interval_is_that_of_the_formula():
    draws = np.random.default_rng(0)
    a, b = draws.normal(3, 1, 5), draws.normal(3, 4, 9)
    va, vb = a.var(ddof=1) / 5, b.var(ddof=1) / 9
    freedom = (va + vb) ** 2 / (va**2 / 4 + vb**2 / 8)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(va + vb)
    found = welch_interval(pd.Series(a), pd.Series(b))
    assert (found.low, found.high) == pytest.approx((b.mean() - a.mean() - half, b.mean() - a.mean() + half))


def test_in_one_of_twenty_studies_a_difference_is_found():
    draws = np.random.default_rng(1)
    samples = draws.normal(3, 0.8, (1000, 2, 10))
    found = [welch_interval(pd.Series(a), pd.Series(b)) for a, b in samples]
    assert np.mean([not interval.includes(0) for interval in found]) == pytest.approx(0.05, abs=0.02)
