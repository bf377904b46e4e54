"""Studies that differ in one number: what is compared, and which studies are none."""

from __future__ import annotations

import pytest
from helpers.readable import check_readable
from helpers.runs import SMALL_STUDY

from analysis.findings import StudyFindings, StudySeries
from analysis.reporting import StudyReport, render
from analysis.reporting.series_figure import series_figure
from analysis.studies import Study
from condense_core.store import RunStore

SETTINGS = SMALL_STUDY | {"grouping": ("learned", "random"), "reference": False, "sizes": ()}


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> list[StudyReport]:
    """The same study with four, one and two epochs, and one that differs in its network."""
    root = tmp_path_factory.mktemp("series") / "runs"
    several = {"four": {"epochs": 4}, "one": {"epochs": 1}, "two": {"epochs": 2}, "wide": {"growth_rate": 8}}
    for name, changed in several.items():
        Study.named("grouping", **SETTINGS | {"name": name} | changed).run(root)
    return [StudyReport(RunStore(root), name) for name in several]


def test_each_variant_is_compared_with_the_base_at_each_value_and_over_the_values(studies):
    series = StudySeries.of(studies[:3])
    assert series is not None
    assert (series.setting, series.values) == ("epochs", [1, 2, 4])
    base, other = series.variants
    errors = series.runs.pivot_table(index="value", columns="variant", values="test_error_percent")
    gaps = errors[other] - errors[base]
    assert series.differences.set_index("value").difference.to_dict() == pytest.approx(gaps.to_dict())
    change = series.compared[series.compared.kind == "main"].iloc[0]
    assert change.difference == pytest.approx(gaps[4] - gaps[1])
    assert change.low < change.difference < change.high
    (sentence,) = series.sentences
    assert f"{change.difference:+.2f} points" in sentence
    assert all(name in sentence for name in ("From 1 to 4 epochs", base, other))


def test_the_report_of_a_series_begins_with_its_figure(studies, undrawn):
    (sentence,) = StudySeries.of(studies[:3]).sentences
    page = render(studies[:3])
    assert page.index('id="series"') < page.index('id="study-0"')
    assert sentence in page
    assert "Over epochs" not in render(studies[:1])
    assert "Over epochs" not in render([studies[0], studies[2]], compare=True)


@pytest.mark.parametrize("places", [[0], [0, 3], [1, 3], [0, 0]], ids=str)
def test_other_studies_are_no_series(studies, places):
    found = StudySeries.of([studies[place] for place in places])
    assert (found is not None) == (places == [0, 3])  # these differ in growth_rate alone


def test_a_setting_without_numbers_and_other_variants_are_no_series(studies):
    store = studies[0].store
    record = store.read_study("four")
    store.write_study("full", record | {"settings": record["settings"] | {"data": "fashion-mnist"}})
    store.write_study("less", record | {"settings": record["settings"] | {"epochs": 9}} | _one_variant(record))
    for name in ("full", "less"):
        assert StudySeries.of([studies[0], StudyFindings(store, name)]) is None


def _one_variant(record):
    return {"variants": record["variants"][:1]}


def test_its_figure_can_be_read_on_a_phone(studies):
    series = StudySeries.of(studies[:3])
    assert series is not None
    check_readable(series_figure(series).figure, "series")


def test_it_stands_in_the_table_of_contents(studies, undrawn):
    assert '<a href="#series">Over epochs</a>' in render(studies[:3])
