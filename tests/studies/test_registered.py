"""A grouping, a criterion and a data set of one's own, registered in this process and used in a study.

CONTRIBUTING.md shows the code between the marks.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.paths import ROOT
from helpers.runs import EXECUTION

from analysis import frames
from analysis.engines.engine import known_only_here
from analysis.reporting import StudyReport, render
from analysis.studies import Study, study_config
from condense_core import CondenseNet, DataConfig, ModelConfig, cost_table
from condense_core.data import Augmentation, DecodedImages, Normalisation
from condense_core.store import RunStore
from condense_core.tables import (
    CRITERIA,
    DATASETS,
    GROUPINGS,
    LEARNED,
    WEIGHT_CRITERIA,
    Criterion,
    DataSource,
    Grouping,
)

TOY = {
    "device": "cpu",
    "stages": (1, 1, 1),
    "growth": ("exponential",),
    "connectivity": ("full",),
    "sizes": (),
    "seeds": 1,
    "epochs": 3,
    "match": "width",
    "execution": EXECUTION,
}


# grouping
def strided_mask(in_channels, groups, kept, draws):
    """Group g reads every G-th input from g on: bool (groups, in_channels)."""
    index = (torch.arange(groups)[:, None] + groups * torch.arange(kept)) % in_channels
    return torch.zeros(groups, in_channels, dtype=torch.bool).scatter_(1, index, True)


STRIDED = Grouping("every G-th input", mask=strided_mask)
# end


# criterion
def largest(layer, norm, draws):
    """The largest |W| of the group's outputs: (groups, in_channels)."""
    weight = layer.weight.detach().abs().flatten(1)
    return torch.stack([weight[group :: layer.groups].amax(0) for group in range(layer.groups)])


LARGEST = Criterion("the largest |W| of the group", score=largest)
# end


# data
def load_stripes(config, data_dir, progress):
    """Stripes across or down, in noise: classes, training images, test images."""

    def images(count, seed):
        draws = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 2
        stripes = torch.arange(8).remainder(2).mul(128).expand(8, 8)
        both = torch.stack([stripes, stripes.T])[labels]
        noise = torch.randint(0, 100, (count, 3, 8, 8), generator=draws)
        pixels = (both[:, None] + noise).to(torch.uint8)
        normalise = Normalisation((0.4,) * 3, (0.3,) * 3)
        return DecodedImages(pixels, labels, normalise, Augmentation(0, flip=True))

    return ("across", "down"), images(80, 0), images(40, 1)


STRIPES = DataSource("stripes", load=load_stripes, summary=(2, 8, (40, 40), 40))
# end


@pytest.fixture
def registered():
    GROUPINGS.add("strided", STRIDED)
    CRITERIA.add("largest", LARGEST)
    DATASETS.add("stripes", STRIPES)
    yield
    for table, name in ((GROUPINGS, "strided"), (CRITERIA, "largest"), (DATASETS, "stripes")):
        table.remove(name)


@pytest.mark.parametrize(
    "settings",
    [
        {"grouping": ("learned", "strided"), "data": "digits", "train_images": 64},
        {"grouping": ("learned",), "criterion": ("l1", "largest"), "data": "digits", "train_images": 64},
        {"grouping": ("learned", "strided"), "criterion": ("largest",), "data": "stripes"},
    ],
)
def test_what_is_registered_is_used_in_a_study_to_the_end(tmp_path, registered, settings):
    study = Study.named("grouping", reference=False, dense_equal=False, **TOY | settings)
    runs = study.run(tmp_path / "runs", tmp_path / "data")
    assert (runs.state == "done").all()
    assert len(runs) == 2
    assert set(runs.grouping) <= {"learned", "strided"}
    costs = {variant.model: cost_table(variant.model).macs for variant in study.variants}
    assert sorted(runs.macs) == sorted(costs[run.model] for _, run in study.run_configs())
    assert all(cost_table(CondenseNet(model, seed=0)).macs == cost_table(model, 0).macs for model in costs)
    assert len({run.name for _, run in study.run_configs()}) == 2
    assert all(known_only_here(run) for variant, run in study.run_configs()[1:])
    assert len(frames.epochs(tmp_path / "runs")) == 6


@pytest.mark.parametrize("how", [{"jobs": 2}, {"engine": "ray"}])
def test_other_processes_do_not_know_them(tmp_path, registered, monkeypatch, how):
    from analysis import engines

    if "engine" in how:  # a cluster is asked nothing before the check
        ray = SimpleNamespace(check=lambda config: None)
        monkeypatch.setattr(engines, "connect", lambda *_, **__: nullcontext(ray))
    study = Study.named(
        "grouping", reference=False, dense_equal=False, **TOY | {"grouping": ("learned", "strided")}
    )
    with pytest.raises(ValueError, match=r"^grouping 'strided': only this process knows it"):
        study.run(tmp_path / "runs", **how)
    assert not list(tmp_path.glob("runs/*/config.json"))


def test_a_report_shows_them(tmp_path, registered):
    study = Study.named(
        "grouping", reference=False, dense_equal=False, **TOY | {"grouping": ("learned", "strided")}
    )
    study.run(tmp_path)
    assert "strided-exponential-full" in render([StudyReport(RunStore(tmp_path), study.config.name)])


def test_valid_values_and_checks_follow_from_the_tables(registered):
    assert "strided" not in LEARNED
    assert "largest" not in WEIGHT_CRITERIA
    for settings, message in (
        ({"grouping": ("stridet",)}, "grouping 'stridet': did you mean 'strided'?"),
        ({"criterion": ("larger",)}, "criterion 'larger': did you mean 'largest'?"),
        ({"data": "stripe"}, "data 'stripe': did you mean 'stripes'?"),
        ({"data": "stripes:here"}, "data 'stripes:here': "),
    ):
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            _ = study_config(**settings).data_config


def test_a_name_is_unknown_once_it_is_removed():
    for config in (lambda: ModelConfig((1,), (4,), grouping="strided"), lambda: DataConfig("stripes")):
        with pytest.raises(ValueError, match=r"'(strided|stripes)'"):
            config()


def test_names_of_the_package_and_bad_names_are_refused(registered):
    for name in ("learned", "none"):
        with pytest.raises(ValueError, match=f"grouping '{name}': comes with the package"):
            GROUPINGS.add(name, STRIDED)
        with pytest.raises(ValueError, match="comes with the package"):
            GROUPINGS.remove(name)
    for name in ("../x", "My Grouping", "a/b", ""):
        with pytest.raises(ValueError, match="must be lower-case"):
            GROUPINGS.add(name, STRIDED)
    GROUPINGS.add("strided", STRIDED)  # a notebook's cell may run again


def test_a_mask_of_another_share_is_refused(registered):
    GROUPINGS.add("strided", Grouping("all", mask=lambda inputs, groups, *_: torch.ones(groups, inputs)))
    with pytest.raises(ValueError, match=r"grouping 'strided': mask must be bool \(4, 8\) with 2 True"):
        CondenseNet(ModelConfig((1,), (4,), grouping="strided"), seed=0)


def test_the_guide_shows_the_code_that_is_tested():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = Path(__file__).read_text(encoding="utf-8")
    for name in ("grouping", "criterion", "data"):
        code = source.partition(f"# {name}\n")[2].partition("# end\n")[0].strip()
        assert f"```python\n{code}\n```" in guide, name
    for path in re.findall(r"`((?:analysis|condense_core|tests)/[\w/]+\.py)`", guide):
        assert (ROOT / path).is_file(), path
