"""Scripts that train a study in worker processes, however they are run."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.paths import ROOT

from condense_core.store import RunStore

HEAD = """from analysis import Study
study = Study.named("grouping", epochs=1, sizes=(), seeds=1, stages=(1, 1, 1), reference=False)
"""
CALL = 'print(len(study.run("runs", jobs=2)))\n'


def run(command: str, script: str, folder, **variables: str) -> tuple[int, str, str]:
    (folder / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    line = ["bash", "-c", command.format(python=sys.executable)]
    ended = subprocess.run(line, cwd=folder, capture_output=True, check=False, text=True, env=environment)
    return ended.returncode, ended.stdout, ended.stderr


def test_a_script_without_a_guard_is_told_of_it_once_and_nothing_is_trained(tmp_path):
    status, out, err = run("{python} script.py", HEAD + CALL, tmp_path)
    assert (status, out) == (1, "")
    assert err.count("Traceback") == 1
    last = err.splitlines()[-1]
    assert last.startswith(
        f"ValueError: jobs: worker processes import {tmp_path / 'script.py'}, which would train"
    )
    assert 'put the call below `if __name__ == "__main__":`, or use jobs 1' in last
    assert not (tmp_path / "runs").exists()


def test_a_script_that_comes_through_a_pipe_trains_and_so_it_does_where_sockets_would_have_long_names(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    status, out, err = run("{python} <(cat script.py)", HEAD + CALL, tmp_path, TMPDIR=str(long))
    states = [run.status["state"] for run in RunStore(tmp_path / "runs").runs()]
    assert (status, out) == (0, f"{len(states)}\n"), err
    assert set(states) == {"done"}
