"""Public names: they are there, they have types, and light ones do not load heavy packages."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest
from helpers.paths import ROOT

STUBS = sorted(path for package in ("condense_core", "analysis") for path in (ROOT / package).rglob("*.pyi"))


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_every_public_name_is_there(stub):
    package = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
    imported = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imported for alias in node.names}
    assert names == set(package.__all__)
    for name in names:
        assert getattr(package, name) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "import condense_core",
        "from condense_core import RunConfig, PRESETS",
        "from condense_core import ModelConfig, cost_table; cost_table(ModelConfig((1, 1), (4, 8)))",
        "import analysis; from analysis.studies import Study",
        "from condense_core.data import summarise; summarise(condense_core.DataConfig())",
        "from condense_core.data import folders",
        "from analysis.cost import cost; cost(['condensenet-86', '--per-layer'], standalone_mode=False)",
    ],
)
def test_light_names_load_no_torch(statement):
    check = "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    code = f"import sys, condense_core; {statement}; {check}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_explore_is_the_function_although_a_package_has_nearly_its_name():
    code = "import analysis.explorer, analysis; assert callable(analysis.explore)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", ["condense_core", "analysis"])
def test_type_checkers_see_the_types_of_both_packages(package):
    assert (ROOT / package / "py.typed").is_file()
