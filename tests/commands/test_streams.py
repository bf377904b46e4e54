"""Commands work whatever their streams, their terminal and their environment are."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from tqdm.auto import tqdm

from analysis import streams
from analysis.text import print_table, say
from condense_core.store import RunStore

TINY = (
    "--stages 1-1-1 --growth exponential --connectivity full --sizes= --seeds 1 --epochs 1 --grouping learned"
)
STUDY = """
from analysis import ablate as command
from analysis.cli import main
from analysis.text import say


def conclude(report, reports, outcomes, sort, as_json):
    say("Δ ± – …")
    return command.exit_status(outcomes, report.name, report.store)


if __name__ == "__main__":
    command._conclude = conclude
    main(command.ablate)
"""
WORK = {
    "list": f"{sys.executable} -m analysis.ablate --list-studies",
    "help": f"{sys.executable} -m analysis.ablate --help",
    "train": f"{sys.executable} study.py {TINY} --no-reference --jobs 1",
}
FULL = "ablate: [Errno 28] No space left on device\n"
CASES = [
    ("list", "<&-", 0, ""),
    ("list", ">&-", 0, ""),
    ("list", "<&- >&- 2>&-", 0, ""),
    ("list", "2>/dev/full", 0, ""),
    ("list", ">/dev/full", 1, FULL),
    ("help", ">/dev/full", 1, FULL),
    ("help", ">/dev/full 2>/dev/full", 1, ""),
    ("help", "2>&-", 0, ""),
    ("train", "<&- >&- 2>&-", 0, ""),
]


def run(work: str, streams: str, folder, **environment: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command whose streams the shell changes."""
    (folder / "study.py").write_text(STUDY)
    ended = subprocess.run(
        ["bash", "-c", f"{WORK[work]} {streams}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    return ended.returncode, ended.stdout.decode("latin-1"), ended.stderr.decode()


@pytest.mark.parametrize(("work", "streams", "status", "said"), CASES)
def test_streams_may_be_closed_full_or_cut_off(tmp_path, work, streams, status, said):
    assert run(work, streams, tmp_path)[::2] == (status, said)
    if work == "train":
        assert {run.status["state"] for run in RunStore(tmp_path / "runs").runs()} == {"done"}


def test_a_reader_that_has_gone_ends_the_output_without_a_word():
    reads, writes = os.pipe()
    os.close(reads)
    command, environment = WORK["list"].split(), os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, check=False, stdout=writes, stderr=subprocess.PIPE, env=environment)
    os.close(writes)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252:strict"])
def test_a_text_is_written_in_any_encoding(tmp_path, encoding):
    code = "from analysis import cli, text; cli.prepare_streams(); text.say('Δ ± … 数')"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert ended.stdout.endswith(b"\n")
    assert ended.stderr == b""


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path, name):
    number = ("stdin", "stdout", "stderr").index(name)
    code = f"import os; os.close({number}); import sys; sys.{name} = None\n"
    code += "from analysis.streams import prepare_streams; prepare_streams()\n"
    code += f"assert open(os.devnull).fileno() != {number} and os.get_inheritable({number}) and sys.{name}"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


class Lost:
    """A terminal whose window was closed."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, *text: str) -> int:
        raise OSError(5, "Input/output error")

    flush = write


@pytest.mark.parametrize("stream", [None, Lost(), io.StringIO()])
def test_work_goes_on_without_anybody_who_reads_of_its_progress(monkeypatch, stream):
    if isinstance(stream, io.StringIO):
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    say("1 of 2 runs", err=True)
    assert streams.ProgressStream().write("…") == 1
    assert streams.is_terminal() is isinstance(stream, Lost)
    assert list(tqdm([1, 2], file=streams.ProgressStream())) == [1, 2]


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_terminal_that_wants_no_escapes_gets_none(monkeypatch, capsys, name, value):
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)  # as on a terminal
    for unwanted in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(unwanted, raising=False)
    print_table("title", ["a"], [["1"]])
    assert "\x1b[1m" in capsys.readouterr().out
    monkeypatch.setenv(name, value)
    print_table("title", ["a"], [["1"]])
    assert "\x1b" not in capsys.readouterr().out


def test_a_folder_that_was_removed_is_named_before_torch_fails_on_it(tmp_path):
    command = f"rmdir ../gone; {WORK['list']}"
    (tmp_path / "gone").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "gone", check=False, capture_output=True, env=environment
    )
    assert ended.returncode == 2
    assert ended.stderr == b"ablate: the current folder was removed; change to another one\n"
