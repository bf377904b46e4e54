"""Findings of the study of masks in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import stats
from analysis.findings.effects import effect_sentence
from analysis.findings.masks import chain_sentences
from analysis.masks import MASK_QUESTIONS, MASK_VARIANTS


def study(errors: dict[str, float], seeds: int = 6, scatter: float = 0.05) -> pd.DataFrame:
    """Return runs of the study with these mean errors."""
    draws = np.random.default_rng(0)
    rows = [
        {"variant": f"{name}-k4", "curve": name, "seed": seed, "state": "done", "run": f"{name}-{seed}"}
        | {"test_error_percent": errors[name] + scatter * draws.normal(), "study": "masks", "seeds": seeds}
        | {"role": "base" if name == "learned" else "grid", "grouping": how.grouping, "pruning": how.pruning}
        for name, how in MASK_VARIANTS.items()
        if name in errors
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


ERRORS = dict.fromkeys(MASK_VARIANTS, 3.0) | {"learned": 2.0, "replay": 2.0, "independent": 5.0}


def test_differences_have_the_sign_of_the_first_side_and_the_chain_adds_up():
    effects = stats.effects(study(ERRORS)).set_index("factor")
    expected = {"dense start": 0, "channels": -1, "source shares": -2, "initial weights": -1, "overlap": 2}
    for factor, difference in expected.items():
        assert effects.difference[factor] == pytest.approx(difference, abs=0.1)
    (chain,) = chain_sentences(effects.reset_index())
    assert chain.startswith("From independent to learned masks the test error changes by -")
    total = effects.difference[["dense start", "channels", "source shares"]].sum()
    assert f" by {total:+.2f} points: " in chain
    assert chain.endswith("(means of the same 6 seeds; the intervals are those above).")


def test_each_question_is_answered_in_words():
    sentences = {row.factor: effect_sentence(row) for _, row in stats.effects(study(ERRORS)).iterrows()}
    assert sentences.keys() == MASK_QUESTIONS.keys()
    start = "With learned channels within each source layer (replay against shuffled)"
    assert sentences["channels"].startswith(f"{start} the test error is lower: -")
    assert (
        " (learned against replay) the test error is the same within 0.5 points: " in sentences["dense start"]
    )
    assert " (independent against random) the test error is higher: +" in sentences["overlap"]


def test_what_is_open_or_has_no_interval_is_said():
    wide = stats.effects(study(ERRORS, seeds=3, scatter=2.0))
    assert (wide.finding == "open").any()
    for _, row in wide[wide.finding == "open"].iterrows():
        assert "it is open whether the test error changes: " in effect_sentence(row)
    one = stats.effects(study(ERRORS, seeds=1))
    assert all("one seed is too few for an interval" in effect_sentence(row) for _, row in one.iterrows())


def test_the_chain_is_not_added_up_over_different_seeds_or_if_a_link_is_missing():
    runs = study(ERRORS)
    assert chain_sentences(stats.effects(runs[(runs.curve != "shuffled") | (runs.seed < 4)])) == []
    assert chain_sentences(stats.effects(runs[runs.curve != "shuffled"])) == []
    assert chain_sentences(pd.DataFrame()) == []
