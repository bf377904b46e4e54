"""The notebooks run from top to bottom, and the stored ones contain their outputs."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from helpers.paths import ROOT
from helpers.runs import SMALL_STUDY
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES = 500_000
MACHINE_PATH = re.compile(r"(?<![\w./:-])/(?:work|tmp|root|home)\b.{0,40}")
SMALL = {name: value for name, value in SMALL_STUDY.items() if name not in ("name", "sizes")}

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def complaints(notebook: NotebookNode) -> list[str]:
    """Return errors and everything written to stderr, mainly warnings."""
    return [
        output.get("text") or output.get("evalue")
        for output in outputs(notebook)
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def texts(notebook: NotebookNode) -> Iterator[str]:
    """Yield all text of a notebook: sources, outputs and widgets, without its pictures."""
    yield from (cell.source for cell in notebook.cells)
    for output in outputs(notebook):
        yield output.get("text", "")
        yield from (str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/"))
    yield str(notebook.metadata)


def parameters_place(notebook: NotebookNode) -> int:
    (place,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    return place


def parameters(notebook: NotebookNode) -> dict[str, object]:
    """Return the names and plain values that the parameters cell assigns."""
    values = {}
    for statement in ast.parse(notebook.cells[parameters_place(notebook)].source).body:
        assert isinstance(statement, ast.Assign)
        (name,) = statement.targets
        assert isinstance(name, ast.Name)
        values[name.id] = ast.literal_eval(statement.value)
    return values


def made_small(notebook: NotebookNode, root: Path) -> NotebookNode:
    """Insert a cell after the parameters, as papermill does, that makes the notebook quick to test."""
    known = parameters(notebook)
    values = {
        "runs": str(root / ("packed" if str(known.get("runs")).startswith("../reports/") else "runs")),
        "data_dir": str(root / "data"),
        "jobs": 1,
        "epochs": 2,
        "preset": "condensenet-50",
        "study_settings": known.get("study_settings", {}) | SMALL,
    }
    lines = [f"{name} = {value!r}" for name, value in values.items() if name in known]
    lines += ["import sys", f"assert sys.executable == {sys.executable!r}"]
    notebook.cells.insert(parameters_place(notebook) + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    return notebook


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all notebooks, with this interpreter, regardless of other installed kernels."""
    kernel = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    kernel.client_class = "jupyter_client.asynchronous.AsyncKernelClient"
    kernel.start_kernel(cwd=str(FOLDER))
    yield kernel
    kernel.shutdown_kernel(now=True)


def execute(notebook: NotebookNode, kernel: KernelManager) -> NotebookNode:
    """Run a notebook from top to bottom, without names of the previous one."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    return NotebookClient(notebook, km=kernel, timeout=300).execute()


@pytest.fixture(scope="module")
def root(small_store, tmp_path_factory) -> Path:
    """A store with the small study, which the notebooks train under other names, and the packed store."""
    root = tmp_path_factory.mktemp("notebooks")
    (root / "packed").mkdir()
    shutil.copy(ROOT / "reports" / "cifar10-jpeg" / "store" / "runs.tar.xz", root / "packed")
    shutil.copytree(small_store.root, root / "runs")
    return root


def test_there_are_notebooks():
    assert [path.stem[:2] for path in PATHS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


@every_notebook
def test_a_notebook_runs_from_top_to_bottom_without_a_complaint(path, root, kernel):
    executed = execute(made_small(read(path), root), kernel)
    assert complaints(executed) == []
    assert all(cell.execution_count for cell in code_cells(executed))


@every_notebook
def test_a_kept_notebook_was_run_from_top_to_bottom(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert complaints(notebook) == []


@every_notebook
def test_a_notebook_says_first_how_long_it_takes(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert re.search(r"\*\*Time:\*\* .*(second|minute)", first.source)


@every_notebook
def test_a_notebooks_parameters_are_plain_values(path):
    assert parameters(read(path))


@every_notebook
def test_a_kept_notebook_names_no_folder_of_the_machine_that_ran_it(path):
    assert [found for text in texts(read(path)) for found in MACHINE_PATH.findall(text)] == []


@every_notebook
def test_a_kept_notebook_is_small(path):
    assert path.stat().st_size < MAX_BYTES
