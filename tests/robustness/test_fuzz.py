"""A few hundred damaged and hostile inputs of every kind; `benchmarks/soak.py fuzz` reads ten thousand."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.fuzz_targets import TARGETS
from helpers.fuzzing import Target, fuzz
from helpers.limits import Hang, limited
from helpers.mutations import Draws, changed_checkpoint, changed_json, changed_tensors
from helpers.paths import ROOT

INPUTS = {"configuration": 400, "toml": 400, "store": 60, "condensed": 100, "official": 200}


@pytest.mark.parametrize("name", TARGETS)
def test_reading_is_refused_in_a_line_or_succeeds_and_does_nothing_else(tmp_path, name):
    found = fuzz(TARGETS[name](tmp_path), INPUTS[name])
    assert not found.errors, found.errors[0]["error"]
    assert found.accepted
    assert found.refused > found.accepted / 4
    assert found.memory_growth < 512 << 20


def test_the_seed_makes_the_input(tmp_path):
    for change, content in (
        (changed_json, b'{"a": [1, 2]}'),
        (changed_tensors, b"\2" + b"\0" * 7 + b"{}"),
        (changed_checkpoint, b"\x80\x02}."),
    ):
        once, again = ([change(content, Draws(seed)) for seed in range(50)] for _ in range(2))
        assert once == again
        assert len(set(once)) > 10


def raises_nothing_of_ours(path: Path) -> None:
    raise KeyError("state")


def names_no_file(path: Path) -> None:
    raise ValueError("is not JSON")


def writes(path: Path) -> None:
    (path.parent / "written").write_text("")


def renames(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def starts_a_program(path: Path) -> None:
    subprocess.run(["true"], check=True)


def takes_memory(path: Path) -> None:
    bytearray(2 << 30)


@pytest.mark.parametrize(
    ("read", "noticed"),
    [
        (raises_nothing_of_ours, "KeyError"),
        (names_no_file, "does not name"),
        (writes, "wrote: .*open"),
        (renames, "wrote: .*os.rename"),
        (starts_a_program, "wrote: .*(subprocess.Popen|os.posix_spawn)"),
        (takes_memory, "MemoryError"),
    ],
)
def test_the_fuzzer_notices(tmp_path, read, noticed):
    path = tmp_path / "input"

    def prepare(draws):
        path.write_bytes(draws.randbytes(4))
        return lambda: read(path), str(path)

    found = fuzz(Target("test", prepare), 1)
    assert re.search(noticed, found.errors[0]["error"], re.DOTALL)


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("never_ends", [spin, lambda: time.sleep(1000)])
def test_the_fuzzer_notices_what_never_ends(never_ends):
    with pytest.raises(Hang), limited(seconds=0.05):
        never_ends()


def test_the_command_line_reads_inputs_and_gives_its_result_as_json(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import soak

    arguments = ["fuzz", "--inputs", "5", "--target", "toml", "--json"]
    done = CliRunner().invoke(soak.soak, arguments, standalone_mode=False)
    assert done.return_value == 0
    (row,) = json.loads(done.stdout)["rows"]
    assert row["inputs"] == row["accepted"] + row["refused"] == 5
