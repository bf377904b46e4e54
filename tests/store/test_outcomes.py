"""Outcomes that are damaged, exchanged or contradict those of other runs are found, and nothing is written."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from helpers.runs import edit
from safetensors.numpy import save

from analysis import frames
from analysis.findings import StudyFindings
from condense_core.files import LeftOut
from condense_core.store import Run, RunStore, find_damage, find_damages, runs_of


@pytest.fixture
def copied(small_store, tmp_path) -> RunStore:
    """A copy of the small study."""
    shutil.copytree(small_store.root, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


def rewrite(run: Run, change) -> None:
    """Write changed outcomes with their checksum, as a program would."""
    arrays = run.outcomes()
    content = save({name: change(name, array.copy()) for name, array in arrays.items()})
    (run.folder / "outcomes.safetensors").write_bytes(content)
    edit(run.folder / "result.json", outcomes_sha256=hashlib.sha256(content).hexdigest())


def cut(run: Run, other: Run) -> None:
    path = run.folder / "outcomes.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def remove(run: Run, other: Run) -> None:
    (run.folder / "outcomes.safetensors").unlink()


def exchange(run: Run, other: Run) -> None:
    shutil.copy(other.folder / "outcomes.safetensors", run.folder)


def exchange_with_the_result(run: Run, other: Run) -> None:
    exchange(run, other)
    shutil.copy(other.folder / "result.json", run.folder)


def change_the_error(run: Run, other: Run) -> None:
    edit(run.folder / "result.json", test_error_percent=1.0)


def leave_out_an_image(run: Run, other: Run) -> None:
    rewrite(run, lambda name, array: array[1:] if name.startswith("test.") else array)


def repeat_an_image(run: Run, other: Run) -> None:
    def change(name, array):
        array[1] = array[0] if name == "test.image" else array[1]
        return array

    rewrite(run, change)


def name_other_images(run: Run, other: Run) -> None:
    rewrite(run, lambda name, array: array + (name == "test.image"))


def name_other_classes(run: Run, other: Run) -> None:
    rewrite(run, lambda name, array: array + (name in ("test.label", "test.predicted")))


def name_images_in_another_order(run: Run, other: Run) -> None:
    rewrite(run, lambda name, array: array[::-1].copy())


CONTRADICTS = "other runs of its data and seed were tested on other images, or name other classes"
DAMAGES = {
    cut: "its tensors should have",
    remove: "No such file",
    exchange: "does not match its checksum",
    exchange_with_the_result: CONTRADICTS,
    change_the_error: "test images are wrong, but result.json says 1.0 % of",
    leave_out_an_image: "of 598 test images are wrong, but result.json says",
    repeat_an_image: "test.image must name each image once",
    name_other_images: CONTRADICTS,
    name_other_classes: CONTRADICTS,
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_run_whose_outcomes_are_damaged_is_named_and_no_study_with_it_runs(copied, small_study, damage):
    names = runs_of(copied.read_study("small"))
    first, other = (next(name for name in names if f"-s{seed}-" in name) for seed in (0, 1))
    damage(copied.named(first), copied.named(other))
    faults = find_damages(copied, names)
    assert list(faults) == [first]
    assert "outcomes.safetensors" in faults[first]
    assert DAMAGES[damage] in faults[first]
    findings = StudyFindings(copied, "small")
    with pytest.warns(LeftOut, match=r"left out: .*outcomes\.safetensors"):
        left_out = findings.damaged
    assert left_out == faults
    assert set(names) - set(findings.runs.run) == {first}
    before = {path: path.stat().st_mtime_ns for path in copied.root.rglob("*")}
    with pytest.raises(ValueError, match=r"outcomes\.safetensors.*remove the run's folder to train it again$"):
        small_study.run(copied.root)
    assert {path: path.stat().st_mtime_ns for path in copied.root.rglob("*")} == before


def test_the_order_of_the_images_is_no_contradiction(copied):
    names = runs_of(copied.read_study("small"))
    name_images_in_another_order(copied.named(names[0]), copied.named(names[1]))
    assert find_damages(copied, names) == {}


def test_of_two_runs_that_contradict_each_other_neither_is_whole(copied):
    names = [name for name in runs_of(copied.read_study("small")) if "-s0-" in name][:2]
    name_other_classes(copied.named(names[0]), copied.named(names[1]))
    assert list(find_damages(copied, names)) == names
    assert find_damage(copied, names[0]) is None


def test_the_outcomes_of_every_run_give_its_error_and_the_seeds_of_a_study_share_their_images(small_store):
    said, runs = frames.outcomes(small_store), frames.runs(small_store).set_index("run")
    wrong = 100 * (1 - said.groupby("run").correct.mean())
    assert wrong.to_numpy() == pytest.approx(runs.test_error_percent[wrong.index].to_numpy(), abs=1e-6)
    assert set(wrong.index) == set(runs[runs.state == "done"].index)
    images = said.groupby("run").image.apply(frozenset)
    assert images.groupby(runs.seed[images.index]).nunique().tolist() == [1, 1]
