"""Studies: variants on equal terms, each run once."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings, strategies as st

from analysis.axes import MATCH_TOLERANCE
from analysis.studies import NAMED_STUDIES, Study, study_config
from analysis.studies.matching import match_cost, width_step
from condense_core import PRESETS, ModelConfig, cost_table
from condense_core.config import growth_rates

ROLES = ("base", "grid", "reference", "dense-equal", "size")


@pytest.fixture(scope="module")
def ablation() -> Study:
    return Study.named("ablation", device="cpu", seeds=3)


def test_the_ablation_is_the_grid_the_reference_and_two_more_sizes(ablation):
    roles = [variant.role for variant in ablation.variants]
    assert [roles.count(role) for role in ROLES] == [1, 11, 1, 1, 8]
    assert ablation.base.label.startswith("learned-exponential-full")
    assert {variant.model.groups for variant in ablation.variants if variant.model.grouping != "none"} == {4}
    assert len(ablation.base.model.stages) == 3
    assert len({run.name for _, run in ablation.run_configs()}) == 66


def test_the_grid_costs_what_its_base_costs(ablation):
    base = cost_table(ablation.base.model).macs
    for variant in ablation.variants:
        if variant.role == "grid":
            assert abs(cost_table(variant.model).macs / base - 1) <= MATCH_TOLERANCE
            assert variant.residual == pytest.approx(cost_table(variant.model).macs / base - 1)


def test_the_reference_is_dense_at_the_bases_width(ablation):
    reference = next(variant for variant in ablation.variants if variant.role == "reference")
    assert reference.model.growth == ablation.base.model.growth
    assert reference.residual > 0.2


@pytest.mark.parametrize(
    "settings",
    [
        {"study": "ablation"},
        {"study": "pruning"},
        {"study": "grouping", "growth_rate": 8},
        {"study": "grouping", "growth_rate": 3, "groups_3x3": 1},
        {"study": "grouping", "growth": ("constant",), "growth_rate": 8},
        {"study": "grouping", "match": "width"},
        {"study": "ablation", "preset": "condensenet-86", "data": "cifar10", "match": "width"},
    ],
)
def test_a_smaller_dense_network_costs_what_the_base_does(settings):
    study = Study.named(device="cpu", **settings)
    (control,) = [variant for variant in study.variants if variant.role == "dense-equal"]
    assert control.model.grouping == "none"
    assert abs(cost_table(control.model).macs / cost_table(study.base.model).macs - 1) <= MATCH_TOLERANCE
    assert all(rate <= own for rate, own in zip(control.model.growth, study.base.model.growth, strict=True))
    rest = Study.named(device="cpu", dense_equal=False, **settings)
    assert [v.label for v in rest.variants] == [v.label for v in study.variants if v != control]


def test_without_the_reference_there_is_no_curve_of_wider_dense_networks():
    study = Study.named("grouping", device="cpu", reference=False)
    dense = [variant for variant in study.variants if variant.model.grouping == "none"]
    assert [(variant.role, variant.curve) for variant in dense] == [("dense-equal", "none")]


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["full", "block"]),
    st.sampled_from(["exponential", "constant"]),
    st.integers(10_000, 2_000_000),
)
def test_equal_cost_matching_is_never_worse_than_one_step_of_width_off(
    blocks, layers, groups_3x3, connectivity, schedule, macs
):
    model = ModelConfig(
        stages=(layers,) * blocks,
        growth=growth_rates(schedule, 4, blocks),
        connectivity=connectivity,
        groups_3x3=groups_3x3,
        image_size=8,
    )
    matched, step = match_cost(model, macs), width_step(model)

    def distance(rate: int) -> int:
        rates = growth_rates(matched.growth_schedule if blocks > 1 else schedule, rate, blocks)
        return abs(cost_table(dataclasses.replace(matched, growth=rates)).macs - macs)

    own = matched.growth[0]
    assert own % step == 0
    assert all(distance(own) <= distance(other) for other in (own - step, own + step) if other > 0)


def test_a_match_that_is_too_far_off_is_refused_and_width_is_offered():
    with pytest.raises(ValueError, match=r"comes only within .* %.*match 'width'"):
        Study.named("ablation", device="cpu", groups_3x3=4, growth_rate=4, sizes=())
    study = Study.named("ablation", device="cpu", groups_3x3=4, growth_rate=4, sizes=(), match="width")
    assert {variant.model.growth[0] for variant in study.variants} == {4}


def test_width_8_with_4_groups_stays_within_the_tolerance():
    Study.named("ablation", device="cpu", groups_3x3=4, growth_rate=8, sizes=())


def test_the_base_is_learned_exponential_full_in_any_order_of_the_levels():
    study = Study.named(
        "ablation", device="cpu", grouping=("random", "learned"), connectivity=("block", "full")
    )
    assert study.base.label == "learned-exponential-full-k4"


def test_a_variant_that_is_asked_for_twice_is_trained_once():
    study = Study.named("grouping", device="cpu", sizes=(4, 8), grouping=("learned", "random"))
    assert len({variant.model for variant in study.variants}) == len(study.variants) == 7
    one_block = Study.named("growth", device="cpu", stages=(3,))
    assert len(one_block.variants) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_base_of_its_study(preset):
    study = Study.named("ablation", device="cpu", preset=preset, data="cifar10", match="width")
    assert study.base.model == dataclasses.replace(PRESETS[preset], image_size=32, num_classes=10)


@pytest.mark.parametrize("name", NAMED_STUDIES)
def test_every_named_study_has_a_question_and_variants(name):
    assert NAMED_STUDIES[name].question.endswith("?")
    assert len(Study.named(name, device="cpu").variants) > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"study": "ablatoin"}, "did you mean 'ablation'"),
        ({"grouping": ("lerned",)}, "grouping 'lerned': did you mean 'learned'"),
        ({"grouping": "learned"}, "grouping 'learned': must be a list"),
        ({"grouping": ("learned", "learned")}, "names one twice"),
        ({"seeds": 0}, "seeds 0"),
        ({"epochs": -3}, "epochs -3: must be a whole number at least 1"),
        ({"epoch": 3}, "unknown setting 'epoch': did you mean 'epochs'"),
        ({"preset": "condensenet-99"}, "did you mean 'condensenet-98'"),
        ({"match": "time"}, "match 'time'"),
    ],
)
def test_a_bad_setting_of_a_study_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        study_config(**settings)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda': there is no GPU"):
        Study.named("ablation", device="cuda")
    with pytest.raises(ValueError, match="device 'tpu'"):
        Study.named("ablation", device="tpu")
