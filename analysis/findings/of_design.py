"""Questions about how a study was made: what its seeds draw, what it chose, and whether its terms are equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analysis.text import count, counted
from condense_core.store import FINISHED, runs_of, skip_damaged

from .answer import HELD, NOT_HELD, PARTLY, Answer, by_share, ends
from .terms import compared_cost, terms, unequal_cost
from .tuning import edge_sentences, seeds_of_tuning, tried_in_words

if TYPE_CHECKING:
    from .study_findings import StudyFindings

ENOUGH_SIZES = 3


def variation(study: StudyFindings) -> Answer:
    """Answer whether the seeds draw everything that may vary."""
    requirement, seeds = "Seeds draw everything that may vary", study.done.seed.nunique()
    if seeds < 2:
        return Answer(requirement, NOT_HELD, "one seed", "--seeds 5")
    weights = f"{seeds} seeds draw the initial weights, the order of the images and the augmentation"
    if study.setting("split", "fixed") != "seed":
        return Answer(requirement, PARTLY, f"{weights}; all of them share one split", "--split seed")
    return Answer(requirement, HELD, f"{weights}, and the split: {_tested(study)}")


def _tested(study: StudyFindings) -> str:
    each, known = study.done.test_images.max(), [run for run in study.done.run if study.outcomes.has(run)]
    different = study.outcomes.count(known) if known else 0
    if different <= each:
        return "the validation images differ, the test images are the same"
    return f"{different:,} images are tested by some seed, {each:,.0f} by each"


def test_images_once(study: StudyFindings) -> Answer:
    """Answer whether the test images were used once, for the result."""
    requirement = "Test images are used once"
    if study.curves_on == "test":
        seen = "the curves are measured on the test images, because there are no validation images"
        return Answer(requirement, PARTLY, seen, "--validation-fraction 0.1")
    once = f"each of {len(study.done)} runs used them for its last weights alone"
    return Answer(requirement, HELD, once)


def selection(study: StudyFindings) -> Answer:
    """Answer whether what was chosen was chosen on validation images."""
    requirement = "Choices are made on validation images"
    if study.trials:
        seeds = seeds_of_tuning(study.trials)
        chosen = f"settings were chosen by the validation error of {seeds} seeds that no result has"
        return Answer(requirement, HELD, chosen)
    return Answer(
        requirement, HELD, "nothing was chosen in this study; it cannot know how its recipe was found"
    )


def tuning(study: StudyFindings) -> Answer:
    """Answer whether every variant's settings were tuned, and alike."""
    requirement = "Variants are tuned alike"
    if not any(row["chosen"] for row in study.trials):
        rate = study.setting("learning_rate")
        found = "one recipe served all variants" + ("" if rate is None else f": learning rate {rate:g}")
        return Answer(requirement, NOT_HELD, found, "--tune learning_rate=0.05,0.1,0.2")
    facts = [f"{tried_in_words(study.trials)}, for each variant by the same rule"]
    mend = []
    if edge_sentences(study.trials):
        facts.append("values at the end of a list were chosen")
        mend.append("longer lists of --tune")
    if seeds_of_tuning(study.trials) == 1:
        facts.append("one seed cannot say how far chance chose")
        mend.append("--tune-seeds 3")
    return Answer(requirement, PARTLY if mend else HELD, "; ".join(facts), ", ".join(mend))


def sizes(study: StudyFindings) -> Answer:
    """Answer whether the networks have several sizes."""
    shown = study.summary[(study.summary.n > 0) & study.summary.role.isin(["base", "grid", "size"])]
    widths, macs = sorted(shown["size"].unique()), shown.macs
    few = HELD if len(widths) >= ENOUGH_SIZES else PARTLY if len(widths) > 1 else NOT_HELD
    span = ends(count(macs.min()), count(macs.max()))
    found = f"k₀ of the base {', '.join(map(str, widths))}: {span} MACs"
    return Answer("Networks have several sizes", few, found, "" if few == HELD else "--sizes 2,8")


def data_sets(study: StudyFindings) -> Answer:
    """Answer whether the question was asked on several data sets, by other studies of the same store."""
    requirement, own = "The question is asked on several data sets", study.setting("data")
    others = [f"{record['settings']['data']} ({name})" for name, record in _same_question(study)]
    if not others:
        return Answer(requirement, NOT_HELD, f"one: {own}", "--data")
    return Answer(requirement, HELD, f"{own}; other studies of this store: {', '.join(others)}")


def _same_question(study: StudyFindings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the store's finished studies of the same question on other data."""
    question, own = (study.setting(name) for name in ("study", "data"))
    for name in (file.stem for file in study.store.study_files()):
        for record in skip_damaged(study.store.read_study, name):
            other = record["settings"]
            if (other.get("study"), other.get("data", own) == own) == (question, False) and _is_done(
                study, record
            ):
                yield name, record


def _is_done(study: StudyFindings, record: dict[str, Any]) -> bool:
    runs = [run for name in runs_of(record) for run in skip_damaged(study.store.named, name)]
    return all(run.started and run.status["state"] in FINISHED for run in runs)


def equal_cost(study: StudyFindings) -> Answer | None:
    """Answer whether the compared variants cost the same."""
    compared = compared_cost(study.summary)
    if compared.empty:
        return None
    low, high = 100 * compared.residual.min(), 100 * compared.residual.max()
    equal = not unequal_cost(study.summary)
    span = ends(f"{low:+.1f} %", f"{high:+.1f} %")
    found = f"MACs of {counted(len(compared), 'variant')} are {span} from the base's"
    return Answer("Variants cost the same", HELD if equal else NOT_HELD, found, "" if equal else "--match cost")


def equal_terms(study: StudyFindings) -> Answer:
    """Answer whether all runs were trained with the same code, torch, data and processor."""
    found = terms(study.runs)
    unequal = [f"{len(values)} versions of {name}" for name, values in found.items() if len(values) > 1]
    resumed = int((~study.runs.bit_identical.astype(bool)).sum())
    if resumed:
        unequal.append(f"{counted(resumed, 'run')} resumed on other terms")
    if not unequal:
        same = f"{', '.join(found)} are the same for {len(study.runs)} runs"
        return Answer("Runs are trained on equal terms", HELD, same)
    mend = "a new --runs folder, on one machine"
    return Answer("Runs are trained on equal terms", PARTLY, "; ".join(unequal), mend)


def failures(study: StudyFindings) -> Answer:
    """Answer whether all runs that were asked for are among the results."""
    lost = {
        state: int((study.runs.state == state).sum()) for state in ("diverged", "failed", "stopped", "running")
    }
    lost["damaged"] = len(study.damaged)
    lost["not started"] = study.not_started
    share = len(study.done) / study.requested
    named = ", ".join(f"{number} {state}" for state, number in lost.items() if number > 0)
    found = f"{len(study.done)} of {study.requested} are done" + (f": {named}" if named else "")
    mend = "run the study again" if share < 1 else ""
    return Answer("All runs are among the results", by_share(share), found, mend)
