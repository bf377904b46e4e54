"""The examples in the docstrings of the core run as printed."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = ("condensation", "cost", "deploy.condensed", "grouping", "masks.drawn", "stages", "topology")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_printed(name):
    found = doctest.testmod(import_module(f"condense_core.{name}"))
    assert found.attempted
    assert not found.failed
