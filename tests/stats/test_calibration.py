"""Small simulations: how often do studies announce what is not so, and do they find what is?"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import pytest
from helpers.paths import ROOT
from scipy import stats as scipy_stats

STUDIES, MEANT = 300, 0.06


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark of the intervals as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("intervals", ROOT / "benchmarks" / "intervals.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["intervals"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("nothing differs", 3),
        ("nothing differs", 10),
        ("one level scatters nine times as much as the others", 3),
        ("errors near 0: 0.3 %", 5),
        ("two variants", 3),
        ("a path of four steps", 5),
    ],
)
def test_few_studies_announce_what_is_not_so(benchmark, name, seeds):
    scenario = next(each for each in benchmark.SCENARIOS if each.name == name)
    found = benchmark.simulate(scenario, seeds, 600, STUDIES)["methods"]
    most = 100 * scipy_stats.binom.ppf(0.999, STUDIES, MEANT) / STUDIES
    assert found["seeds and images"]["false_findings"] <= most
    assert found["seeds and images"]["least_coverage"] >= 93
    if len(scenario.levels) == 3:
        assert found["plain t"]["false_findings"] > 3 * most  # the simulation can tell a bad method


def test_a_large_effect_is_found_and_covered(benchmark):
    scenario = replace(benchmark.SCENARIOS[0], mean=6.0, effect=4.0)
    found = benchmark.simulate(scenario, 5, 600, 100)["methods"]["seeds and images"]
    assert found["power"]["main"] > 95
    assert found["least_coverage"] >= 93


def test_intervals_with_twice_the_scatter_are_wider(benchmark):
    widths = [
        benchmark.simulate(scenario, 5, 600, 50)["methods"]["seeds and images"]["half_width"]["main"]
        for scenario in benchmark.SCENARIOS
        if scenario.name in ("half the scatter", "nothing differs", "twice the scatter")
    ]
    assert sorted(widths) == [widths[1], widths[0], widths[2]]
