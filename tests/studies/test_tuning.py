"""Settings that are tuned for each variant, from the option to the report."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from click.testing import CliRunner
from helpers.runs import EXECUTION

from analysis.ablate import ablate
from analysis.cli import main
from analysis.engines import single_run
from analysis.engines.processes import ThisProcess
from analysis.findings.tuning import tuning_sentences
from analysis.reporting import StudyReport
from analysis.reporting.tables import tuning_table
from analysis.studies import Study, command, read_toml, study_config
from analysis.studies.tunable import TUNABLE
from analysis.studies.tuning import FIRST_SEED, judged
from condense_core.store import RunStore

TOY = {"stages": (1, 1, 1), "match": "width", "sizes": (), "epochs": 2, "train_images": 64, "seeds": 2}
TOY |= {"grouping": ("learned", "random"), "reference": False, "dense_equal": False, "execution": EXECUTION}
RATES = (1e-4, 0.1)


def toy(**settings) -> Study:
    given = TOY | {"tune": {"learning_rate": RATES}, "tune_seeds": 1} | settings
    return Study.named("grouping", device="cpu", **given)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("tuned") / "runs")
    return store, toy().run(store.root)


def test_each_variant_has_the_value_with_the_lowest_validation_error(tuned):
    store, runs = tuned
    record = store.read_study("grouping-digits")
    assert [(row["variant"].split("-")[0], row["values"]) for row in record["tuning"]] == [
        (grouping, {"learning_rate": rate}) for grouping in ("learned", "random") for rate in RATES
    ]
    chosen = {row["variant"]: row["values"]["learning_rate"] for row in record["tuning"] if row["chosen"]}
    assert chosen.keys() == set(runs.variant)
    for row in record["tuning"]:
        (run,) = map(store.named, row["runs"])
        epoch = run.epochs()[-1]
        assert epoch["curves_on"] == "validation"
        assert (row["error_percent"], row["loss"]) == (epoch["curve_error_percent"], epoch["curve_loss"])
        assert run.config.recipe.learning_rate == row["values"]["learning_rate"]
        others = [other for other in record["tuning"] if other["variant"] == row["variant"]]
        assert row["chosen"] == (row == min(others, key=lambda row: (row["error_percent"], row["loss"])))
    for run in map(store.named, runs.run):
        assert run.config.recipe.learning_rate == chosen[run.config.model.label]


def test_a_run_of_the_tuning_is_never_a_result(tuned):
    store, runs = tuned
    tried = {name for row in store.read_study("grouping-digits")["tuning"] for name in row["runs"]}
    assert {store.named(name).config.seed for name in tried} == {FIRST_SEED}
    assert set(runs.seed) == {0, 1}
    assert not tried & set(runs.run)
    assert len(store.runs()) == len(tried) + len(runs) == 4 + 4


def test_what_is_tuned_is_trained_once(tuned, monkeypatch):
    store, before = tuned
    monkeypatch.setattr(ThisProcess, "execute_all", None)  # nothing is left to train
    assert toy().run(store.root).run.tolist() == before.run.tolist()
    assert [path.stem for path in store.root.glob("studies/*")] == ["grouping-digits"]


def test_a_study_that_is_killed_while_it_is_tuned_goes_on(tmp_path, tuned):
    store, study = RunStore(tmp_path), toy()
    store.create()
    study.enter(store)
    for config in study.next_runs()[:2]:
        single_run.execute(config, store, tmp_path / "data")
    report = StudyReport(store, "grouping-digits")
    assert report.tuning == ["The settings are not chosen yet: runs that try them are left to train."]
    assert not study.settled(store).is_tuned
    assert study.run(tmp_path).test_loss.tolist() == tuned[1].test_loss.tolist()


def test_one_that_fails_leaves_nothing_chosen(tmp_path, monkeypatch):
    def fail(self, configs, *_):
        return [single_run.Outcome(config.name, "failed", "OSError: disk full") for config in configs]

    monkeypatch.setattr(ThisProcess, "execute_all", fail)
    with pytest.warns(UserWarning, match="disk full"):
        assert toy().run(tmp_path).empty


def test_a_plan_counts_the_runs_of_the_tuning(tmp_path, monkeypatch, tuned):
    monkeypatch.chdir(tmp_path)
    options = [*shlex.split(command(toy().config))[3:], "--device", "cpu", "--dry-run"]
    result = CliRunner().invoke(ablate, options)
    assert "8 of 8 runs are left to train (4 of them to tune the settings)" in result.output
    assert not list(tmp_path.iterdir())
    rows = json.loads(CliRunner().invoke(ablate, [*options, "--json"]).output)["runs"]
    assert [row["role"] for row in rows] == ["tuning"] * 4 + ["base", "grid"] * 2
    assert [row["run"] is None for row in rows] == [False] * 4 + [True] * 4
    done = json.loads(CliRunner().invoke(ablate, [*options, "--json", "--runs", str(tuned[0].root)]).output)
    assert {row["state"] for row in done["runs"]} == {"done"}


def test_the_report_says_what_was_tried_and_chosen_and_what_it_cost(tuned):
    report = StudyReport(tuned[0], "grouping-digits")
    assert report.tuning[0].startswith(
        "For each variant learning_rate from 0.0001, 0.1 was chosen by the error on validation images, with "
        "1 seed that no result has. This took 4 runs, "
    )
    assert len(report.tuning_table.rows) == 4
    assert [row[-1].text for row in report.tuning_table.rows].count("yes") == 2
    assert any("extend the list" in sentence for sentence in report.findings)  # of two values one is an end
    assert tuning_sentences([]) == [
        "One recipe served all variants: no setting was tuned for each of them (option --tune)."
    ]


ROW = {"runs": ["a"], "chosen": False, "loss": 1.0, "training_macs": 5, "seconds": 1.0, "error_percent": 9.0}


def test_only_an_end_of_the_list_is_warned_of():
    rows = [
        ROW | {"variant": variant, "values": {"momentum": value}, "chosen": value == chosen}
        for variant, chosen in (("x", 0.5), ("y", 0.9), ("z", 0.9))
        for value in (0.0, 0.5, 0.9)
    ]
    (_, edge, _) = tuning_sentences(rows)
    assert edge.startswith("The largest momentum that was tried, 0.9, was chosen for y, z.")
    odd = [ROW | {"variant": "x", "values": {"retraining_rate": None}, "chosen": True}]
    assert len(tuning_sentences(odd)) == 2


def test_a_choice_says_how_far_chance_decided_it():
    def said(errors: dict[str, list[list[float | None]]]) -> str:
        rows = [
            ROW
            | {"variant": variant, "values": {"momentum": float(place)}, "chosen": place == 0}
            | {
                "runs": ["a", "b", "c"],
                "errors_percent": own,
                "error_percent": None if None in own else sum(own) / 3,
            }
            for variant, lists in errors.items()
            for place, own in enumerate(lists)
        ]
        return tuning_sentences(rows)[-1]

    quiet = {"x": [[10, 11, 12], [20.1, 21, 22]], "y": [[10, 11, 12], [11, 12, 13.1]]}
    assert (
        "by up to 0.1 points (95 %). Another value is that close to the chosen one for 0 of 2 variants."
        in said(quiet)
    )
    noisy = quiet | {"z": [[10, 17, 12], [12, 11, 18], [13, 14, 15]]}
    assert re.search(r"by up to [4-9]\.\d points \(95 %\)\. .* for 2 of 3 variants\.$", said(noisy))
    assert said({"x": quiet["x"] + [[None, 1, 2]]}).endswith("chosen one for 0 of 1 variant.")
    lost = [ROW | {"variant": "x", "values": {"momentum": value}, "chosen": value == 0} for value in (0, 1, 2)]
    assert tuning_sentences(lost)[-1].startswith("One seed of the tuning does not say how far chance")
    old = [row | {"runs": ["a", "b"]} for row in lost]
    assert len(tuning_sentences(old)) == 2  # rows of earlier versions have no errors of single runs


def test_a_value_with_which_a_run_diverged_is_chosen_last(tuned):
    store, _ = tuned
    rows = store.read_study("grouping-digits")["tuning"][:2]
    lost = dict(ROW, variant=rows[0]["variant"], values={"learning_rate": 9.0}, runs=["never-started"])
    found = judged([lost, *rows], store)
    assert found[0]["error_percent"] is None
    assert [row["chosen"] for row in found] == [False] + [row["chosen"] for row in rows]
    assert tuning_table(found).rows[0][2].text == "–"


def test_several_settings_are_crossed_where_they_matter():
    study = toy(tune={"learning_rate": RATES, "group_lasso": (0.0, 1e-4, 1e-3)})
    tried = {}
    for trial, _ in study.trials:
        tried.setdefault(trial.variant.model.grouping, []).append(dict(trial.values))
    assert len(tried["learned"]) == 6
    assert tried["random"] == [{"learning_rate": rate} for rate in RATES]  # it has no group lasso


def test_a_file_asks_for_it_and_the_command_of_the_study_repeats_it(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("tune-seeds = 3\n[tune]\nlearning-rate = [0.05, 1]\nbatch_size = [16, 32]\n")
    config = study_config(**read_toml(path))
    assert config.tune == {"learning_rate": (0.05, 1.0), "batch_size": (16, 32)}
    given = ablate.make_context("ablate", shlex.split(command(config))[3:]).params
    assert study_config(**{name: given[name] for name in vars(config)}) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tune", "learning_rate"], "must be a setting and its values, like learning_rate=0.05,0.1"),
        (["--tune", "learning_rat=0.1,0.2"], "did you mean 'learning_rate'"),
        (["--tune", "pruning=1,2"], f"'pruning': valid: {', '.join(TUNABLE)}"),
        (["--tune", "learning_rate="], "tune learning_rate []: must be a list of two or more values"),
        (["--tune", "learning_rate=0.1"], "tune learning_rate [0.1]: must be a list of two or more values"),
        (["--tune", "learning_rate=0.1,0.10"], "tune learning_rate [0.1, 0.1]: names one twice"),
        (["--tune", "learning_rate=0.1,x"], "'0.1,x' must be numbers"),
        (["--tune", "learning_rate=0.1,,0.2"], "'0.1,,0.2' must be numbers"),
        (["--tune", "learning_rate=-1,0.1"], "tune learning_rate -1.0: must be a number at least 0"),
        (["--tune", "momentum=0.5,1"], "tune momentum 1.0: must be a number at least 0 and below 1"),
        (["--tune", "batch_size=16.5,32"], "'16.5,32' must be whole numbers"),
        (["--tune", "learning_rate=1,2", "--tune", "learning-rate=2,3"], "learning_rate is given twice"),
        (
            ["--tune", "learning_rate=1,2", "--tune-seeds", "0"],
            "tune_seeds 0: must be a whole number at least 1",
        ),
        (["--tune", "learning_rate=1,2", "--validation-fraction", "0"], "validation_fraction 0: tune needs"),
        (["--study", "lasso", "--tune", "group_lasso=0,1"], "tune group_lasso: is what the study varies"),
        (["--tune", "retraining_rate=0.1,0.2"], "tune retraining_rate: changes no variant of this study"),
        (["name.toml"], "tune 'lr': valid: epochs, "),
        (["text.toml"], "tune learning_rate 'a': must be a number at least 0"),
        (["list.toml"], "tune [1, 2]: must be a table of settings and their values"),
    ],
)
def test_a_bad_list_is_one_line_and_exit_status_2_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    for name, text in (("name", "[tune]\nlr = [1, 2]"), ("list", "tune = [1, 2]")):
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "text.toml").write_text('[tune]\nlearning_rate = ["a", 0.1]')
    monkeypatch.setattr("sys.argv", ["ablate", *options])
    with pytest.raises(SystemExit, match="2"):
        main(ablate)
    out, err = capsys.readouterr()
    assert message in err
    assert re.fullmatch(r"ablate: .*\n", err)
    assert not out
    assert {path.suffix for path in tmp_path.iterdir()} == {".toml"}
