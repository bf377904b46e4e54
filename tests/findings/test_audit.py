"""The audit of a study, on a real store and with one fact changed at a time."""

from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest

from analysis.findings import HELD, NOT_HELD, PARTLY, StudyFindings, audit, verdict_counts
from analysis.findings.settling import settling_sentence
from analysis.stats import Outcomes
from condense_core.store import RunStore

EDGE = {"variant": "learned", "values": {"momentum": 0.9}, "runs": ["a", "b"], "chosen": True}
TUNING = [EDGE | {"values": {"momentum": 0.8}, "chosen": False}, EDGE]
INSIDE = [*TUNING, EDGE | {"values": {"momentum": 0.95}, "chosen": False}]
ONE_SEED = [row | {"runs": ["a"]} for row in INSIDE]


def changed(store: RunStore, meaningful: float = 0.5, **parts) -> StudyFindings:
    """Return the small study with some of its parts replaced by what a function makes of them."""
    study = StudyFindings(store, "small", meaningful)
    vars(study).update({name: change(getattr(study, name)) for name, change in parts.items()})
    return study


def with_settings(**settings):
    return lambda record: record | {"settings": record["settings"] | settings}


def answer_to(study: StudyFindings, start: str):
    (found,) = (answer for answer in audit(study) if answer.requirement.startswith(start))
    return found


def one_seed(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs.seed == 0]


def but_first(column: str, value: object):
    return lambda runs: runs.assign(**{column: [value, *runs[column][1:]]})


def with_first(compared, first: str, others: str = "open"):
    return compared.assign(finding=[first] + [others] * (len(compared) - 1))


CASES = [
    ("Seeds draw", {}, HELD, "2 seeds draw the initial weights"),
    ("Seeds draw", {"record": with_settings(split="fixed")}, PARTLY, "share one split"),
    ("Seeds draw", {"runs": one_seed}, NOT_HELD, "one seed"),
    ("Intervals resolve", {}, NOT_HELD, "5 main effects, intervals of ±"),
    ("Intervals resolve", {"meaningful": 100}, HELD, "2 seeds: 5 main effects"),
    ("Intervals resolve", {"runs": one_seed}, NOT_HELD, "one seed: no interval"),
    ("Intervals cover", {}, HELD, "599 test images in a run; their standard error is"),
    (
        "Intervals cover",
        {"outcomes": lambda _: Outcomes({}, {})},
        NOT_HELD,
        "5 of 5 main effects cover the seeds",
    ),
    ("Test images are used once", {}, HELD, "each of 34 runs"),
    ("Test images are used once", {"curves_on": lambda _: "test"}, PARTLY, "no validation images"),
    ("Choices", {}, HELD, "nothing was chosen in this study"),
    ("Choices", {"record": lambda r: r | {"tuning": INSIDE}}, HELD, "of 2 seeds that no result has"),
    ("Variants are tuned", {}, NOT_HELD, "one recipe served all variants: learning rate 0.1"),
    (
        "Variants are tuned",
        {"record": lambda r: r | {"tuning": TUNING}},
        PARTLY,
        "at the end of a list",
    ),
    ("Variants are tuned", {"record": lambda r: r | {"tuning": INSIDE}}, HELD, "momentum from 0.8, 0.9, 0.95"),
    ("Variants are tuned", {"record": lambda r: r | {"tuning": ONE_SEED}}, PARTLY, "one seed cannot say"),
    ("Variants cost the same", {}, NOT_HELD, "MACs of 11 variants are"),
    ("Control: dense", {}, NOT_HELD, "there is none"),
    ("Control: random", {}, HELD, "learned against random: "),
    ("Control: independent", {}, NOT_HELD, "there are none"),
    ("Control: random", {"runs": lambda r: r[r.grouping != "random"]}, NOT_HELD, "there are none"),
    ("Control: random", {"effects": lambda e: e[e.factor != "grouping"]}, PARTLY, "no main effect of them"),
    ("Networks have several sizes", {}, PARTLY, "k₀ of the base 2, 4: "),
    ("Networks have several sizes", {"runs": lambda r: r[r["size"] == 4]}, NOT_HELD, "k₀ of the base 4: "),
    ("The question", {}, NOT_HELD, "one: digits"),
    ("The cost of training", {}, HELD, "times the dense reference; all runs"),
    ("Claims", {"meaningful": 100}, HELD, "0 are open"),
    ("Claims", {"compared": lambda c: c.assign(finding="differs")}, HELD, "of 5 main effects, 5 differ"),
    ("Claims", {"compared": lambda c: with_first(c, "differs")}, PARTLY, "1 differs"),
    ("Claims", {"compared": lambda c: with_first(c, "open", "same")}, PARTLY, "1 is open"),
    ("Claims", {"runs": one_seed}, NOT_HELD, "5 are open"),
    (
        "Runs are trained on equal terms",
        {},
        HELD,
        "condense_core, torch, data, processor are the same for 34 runs",
    ),
    ("Runs are trained on equal terms", {"runs": but_first("torch", "2.11.0")}, PARTLY, "2 versions of torch"),
    (
        "Runs are trained on equal terms",
        {"runs": but_first("bit_identical", False)},
        PARTLY,
        "1 run resumed",
    ),
    ("All runs are among", {}, HELD, "34 of 34 are done"),
    ("All runs are among", {"runs": but_first("state", "diverged")}, PARTLY, "33 of 34 are done: 1 diverged"),
    ("All runs are among", {"runs": one_seed}, PARTLY, "17 of 34 are done: 17 not started"),
]


@pytest.mark.parametrize(("requirement", "parts", "verdict", "evidence"), CASES)
def test_a_requirement_is_held_partly_or_not(small_store, requirement, parts, verdict, evidence):
    found = answer_to(changed(small_store, **parts), requirement)
    assert (found.verdict, evidence in found.evidence) == (verdict, True), found
    assert verdict == HELD or found.mend or requirement.startswith("Control: random")


def test_every_option_that_would_mend_something_exists(small_store):
    from analysis.ablate import ablate

    options = {name for parameter in ablate.params for name in parameter.opts}
    studies = [changed(small_store, **parts) for _, parts, _, _ in CASES]
    named = {word for study in studies for one in audit(study) for word in re.findall(r"--[a-z-]+", one.mend)}
    assert named <= options
    assert {"--seeds", "--split", "--dense-equal", "--grouping", "--tune", "--sizes", "--match"} <= named


def test_another_study_of_the_same_question_on_other_data_counts(small_store, tmp_path):
    store = RunStore(shutil.copytree(small_store.root, tmp_path / "runs"))
    record = store.read_study("small")
    store.write_study("other", record | {"settings": record["settings"] | {"data": "cifar10"}})
    (tmp_path / "runs" / "studies" / "damaged.json").write_text("{")
    with pytest.warns(match="damaged"):
        found = answer_to(StudyFindings(store, "small"), "The question")
    assert (found.verdict, found.evidence) == (HELD, "digits; other studies of this store: cifar10 (other)")


def test_a_study_without_a_finished_run_has_no_audit(small_store):
    assert audit(changed(small_store, runs=lambda runs: runs.assign(state="failed"))) == []
    assert verdict_counts([]) == ""


def test_a_network_against_itself_has_no_audit(small_store):
    second = changed(small_store, runs=lambda runs: runs.assign(role=[*runs.role[1:], "same"]))
    assert audit(second) == []


def test_the_verdicts_are_counted(small_store):
    answers = audit(StudyFindings(small_store, "small"))
    counted = verdict_counts(answers)
    assert counted.startswith(f"Of {len(answers)} requirements of the audit: ")
    assert all(one.requirement in counted for one in answers if one.verdict == NOT_HELD)


def compared(*rows: tuple[str, float], kind: str = "main") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["finding", "seeds_needed"]).assign(kind=kind)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ((("differs", 3.0), ("same", 4.0)), ""),
        (
            (("open", 8.0), ("same", 4.0)),
            "1 of 2 main effects is open. If they stay as they are, 8 seeds would settle all (--seeds).",
        ),
        (
            (("open", 8.0), ("open", 20.0), ("open", 500.0)),
            "3 of 3 main effects are open. If they stay as they are, 8 seeds would settle 1, "
            "20 seeds 2, 500 seeds all (--seeds).",
        ),
        (
            (("open", 8.0), ("open", float("inf"))),
            "2 of 2 main effects are open. If they stay as they are, 8 seeds would settle 1 (--seeds), "
            "1 needs more test images.",
        ),
        (
            (("unknown", float("nan")),),
            "1 of 1 main effect is open: one seed gives no interval. Use at least two (--seeds).",
        ),
    ],
)
def test_it_is_said_how_many_seeds_would_settle_what_is_open(rows, sentence):
    assert settling_sentence(compared(*rows)) == sentence
    other = sentence.replace("main effects", "differences to the base").replace(
        "main effect", "difference to the base"
    )
    assert settling_sentence(compared(*rows, kind="difference")) == other
