"""The study of masks: which run takes whose masks, at equal terms, from its settings to its report."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from helpers.readable import check_readable
from helpers.runs import EXECUTION

from analysis import plots, stats
from analysis.ablate import ablate
from analysis.findings import HELD
from analysis.masks import MASK_QUESTIONS, MASK_VARIANTS
from analysis.reporting import StudyReport, render
from analysis.reporting.report_figure import shown_run
from analysis.studies import Study, study_config
from condense_core import cost_table
from condense_core.masks import fingerprint
from condense_core.store import RunStore

TOY = {"epochs": 3, "train_images": 64, "stages": (1, 1, 1), "seeds": 2, "execution": EXECUTION}


def masks_study(**settings) -> Study:
    return Study.named("masks", device="cpu", **TOY | settings)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    store = RunStore(tmp_path_factory.mktemp("masks") / "runs")
    masks_study().run(store.root)
    return store


def end_masks(store: RunStore, name: str) -> str:
    run = store.named(name)
    tensors = run.stage_tensors(run.stages()[-1])
    return fingerprint({layer: mask for layer, mask in tensors.items() if layer.startswith("mask.")})


def test_every_run_says_whose_masks_and_weights_it_takes():
    runs = {(variant.curve, run.seed): run for variant, run in masks_study(seeds=3).run_configs()}
    assert {name for name, _ in runs} == set(MASK_VARIANTS)
    for seed, other in ((0, 1), (1, 0), (2, 1)):
        own, theirs = runs["learned", seed].name, runs["learned", other].name
        taken = {name: runs[name, seed].masks for name in MASK_VARIANTS if runs[name, seed].masks}
        assert {name: (masks.run, masks.shuffled) for name, masks in taken.items()} == {
            "replay": (own, False),
            "transplant": (own, False),
            "stranger": (theirs, False),
            "shuffled": (own, True),
        }
        weights = {name: runs[name, seed].initial_seed for name in MASK_VARIANTS}
        assert weights == dict.fromkeys(MASK_VARIANTS) | {"transplant": other}
    assert runs["at-start", 0].recipe.pruning == "at-start"
    assert len({run.name for run in runs.values()}) == len(runs)


def test_all_variants_cost_the_same_and_train_as_long():
    study = masks_study()
    assert {cost_table(variant.model).macs for variant in study.variants} == {cost_table(study.base.model).macs}
    assert {variant.recipe.epochs for variant in study.variants} == {3}
    assert study.base.curve == "learned"


def test_more_seeds_leave_earlier_runs_as_they_are():
    few, more = ({run.name for _, run in masks_study(seeds=seeds).run_configs()} for seeds in (2, 5))
    assert few < more


def test_the_study_of_masks_learns_what_the_ablation_does():
    ours, theirs = (
        Study.named(name, device="cpu", **TOY | {"sizes": (), "match": "width"})
        for name in ("masks", "ablation")
    )
    learned = [run.name for variant, run in ours.run_configs() if variant.curve == "learned"]
    assert set(learned) <= {run.name for _, run in theirs.run_configs()}


def test_masks_are_shared_as_the_variants_say(store):
    names = {variant["curve"]: variant["runs"] for variant in store.read_study("masks-digits")["variants"]}
    found = {name: [end_masks(store, run) for run in runs] for name, runs in names.items()}
    assert found["replay"] == found["transplant"] == found["learned"]
    assert found["stranger"] == found["learned"][::-1]
    others = ("learned", "shuffled", "independent", "random")
    assert len({found[name][0] for name in others}) == len(others)


def test_the_report_answers_each_question_and_adds_the_chain_up(store, undrawn):
    report = StudyReport(store, "masks-digits")
    assert list(report.effects.factor) == list(MASK_QUESTIONS)
    *questions, chain = report.findings[: len(MASK_QUESTIONS) + 1]
    for question, sentence in zip(MASK_QUESTIONS.values(), questions, strict=True):
        assert sentence.startswith(f"With {question.gives} ({question.level} against {question.against})")
    assert chain.startswith("From independent to learned masks the test error changes by ")
    errors = report.summary.set_index("curve").error_mean
    assert f" by {errors['learned'] - errors['independent']:+z.2f} points: " in chain
    page = render([report])
    assert MASK_QUESTIONS["channels"].gives in page
    assert report.top[0].key == "masks"
    assert not {"effects", "grid"} & {figure.key for figure in report.figures}
    held = {answer.requirement: answer.verdict for answer in report.audit}
    assert held["Control: random groups"] == held["Control: independent groups"] == HELD
    assert held["Variants cost the same"] == HELD
    assert report.runs.set_index("run").curve[shown_run(report.runs)] == "learned"


def test_the_figure_shows_the_chain_first_and_a_row_for_each_question(store):
    report = StudyReport(store, "masks-digits")
    figure = plots.masks(report.effects, report.summary, stats.effects_by_seed(report.runs))
    above, below = figure.axes
    check_readable(figure, "masks")
    shown = [label.get_text() for label in above.get_yticklabels()]
    assert shown[:4] == ["learned", "replay", "shuffled", "independent"]
    assert set(shown) == set(MASK_VARIANTS)
    rows = [label.get_text().partition(":")[0] for label in below.get_yticklabels()]
    assert rows == list(MASK_QUESTIONS)


def test_without_some_variants_the_other_questions_are_answered(store):
    runs = stats.summary(StudyReport(store, "masks-digits").runs)
    assert list(runs.curve) == list(MASK_VARIANTS)
    some = StudyReport(store, "masks-digits").runs
    effects = stats.effects(some[some.curve != "shuffled"])
    assert set(MASK_QUESTIONS) - set(effects.factor) == {"channels", "source shares"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 1}, "seeds 1: the study 'masks' needs 2 or more, or there is no stranger"),
        ({"condense_factor": (1,)}, "condense_factor 1: the study 'masks' needs 2 or more"),
        ({"condense_factor": (2, 4)}, "the study 'masks' is of one network; name one"),
        ({"growth": ("exponential", "constant")}, "the study 'masks' is of one network; name one"),
        ({"grouping": ("random",)}, "grouping .*: the study 'masks' has its own; leave it out"),
        ({"pruning": ("gradual",)}, "pruning .*: the study 'masks' has its own; leave it out"),
        ({"tune": {"learning_rate": (0.1, 0.2)}}, "tune learning_rate: the study 'masks' trains all variants"),
    ],
)
def test_settings_that_do_not_go_with_the_study_are_named_before_any_work(settings, message):
    with pytest.raises(ValueError, match=message):
        study_config(study="masks", **TOY | settings)


def test_given_masks_are_no_level_of_another_study():
    with pytest.raises(ValueError, match="grouping 'given': needs the masks of a run"):
        Study.named("grouping", device="cpu", grouping=("learned", "given"), sizes=())


def test_on_the_command_line_it_is_planned_and_one_seed_is_one_error(tmp_path):
    options = ["--study", "masks", "--runs", str(tmp_path / "runs"), "--epochs", "3", "--train-images", "64"]
    result = CliRunner().invoke(ablate, [*options, "--stages", "1-1-1", "--seeds", "2", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["runs"]) == 18
    result = CliRunner().invoke(ablate, [*options, "--seeds", "1"])
    assert result.exit_code != 0
    assert "seeds 1: the study 'masks' needs 2 or more" in f"{result.output}{result.exception}"
    assert not (tmp_path / "runs").exists()


def test_with_blocks_and_further_sizes_each_size_takes_the_masks_of_its_own_learned_run():
    study = masks_study(connectivity=("block",), sizes=(8,), match="width")
    by_name = {run.name: (variant, run) for variant, run in study.run_configs()}
    for variant, run in by_name.values():
        if run.masks:
            source, learned = by_name[run.masks.run]
            assert (source.size, learned.model.growth) == (variant.size, run.model.growth)
    assert {variant.size for variant, _ in by_name.values()} == {4, 8}
