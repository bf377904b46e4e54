"""What all commands share: options, checks, and bad input as one line on stderr and exit status 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from condense_core.machine import allowed_cores, usable_cores

from .engines import is_first_rank
from .margin import MEANINGFUL
from .streams import drop_unwritten, prepare_streams
from .text import one_line, say

if TYPE_CHECKING:
    from condense_core.store import RunStore

    from .engines import Outcome

Function = TypeVar("Function", bound=Callable[..., Any])


def command(function: Callable[..., Any]) -> click.Command:
    """Make a command of a function: its docstring is the help text, which -h shows too."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
    return click.command(context_settings=settings)(function)


def folder_option(name: str, contents: str) -> Callable[[Function], Function]:
    """Return an option that takes a folder, which by default has the option's name without '-dir'."""
    default = name.removesuffix("-dir")
    folder = click.Path(path_type=Path)
    return click.option(f"--{name}", type=folder, default=default, help=f"{contents}  (default: {default})")


runs_option = folder_option("runs", "run store")
reports_option = folder_option("reports", "folder of the reports")
data_dir_option = folder_option("data-dir", "downloads and caches")
meaningful_option = click.option(
    "--meaningful",
    type=float,
    default=MEANINGFUL,
    metavar="X",
    help=f"smallest difference of test error that matters, in points  (default: {MEANINGFUL})",
)
json_option = click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")


def checkpoint_options(function: Function) -> Function:
    """Add options for what the tensors of an official checkpoint do not say."""
    unseen = "of an official checkpoint whose masks do not show it yet"
    options = (
        ("--groups", f"groups {unseen}"),
        ("--condense-factor", f"condense factor {unseen}"),
        ("--stem-stride", "stem stride of an official checkpoint  (default: 2 for 1000 classes, else 1)"),
    )
    for name, text in reversed(options):
        function = click.option(name, type=int, help=text)(function)
    return function


@contextmanager
def bad_input() -> Iterator[None]:
    """Report errors of the checks before any work in one line, without a traceback."""
    try:
        yield
    except BrokenPipeError:  # the reader closed the pipe: click ends quietly
        raise
    except (ValueError, OSError) as error:
        raise click.UsageError(one_line(error)) from error


def check_writable(*folders: Path) -> None:
    """Raise PermissionError if a folder cannot be made or written."""
    for folder in folders:
        existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise PermissionError(f"{folder}: cannot be written ({existing} is read-only or not a folder)")


def _limit_threads() -> None:
    """Let libraries that see cores, but no quota, start no more threads than there is time for."""
    if (cores := usable_cores()) < allowed_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def _check_folder() -> None:
    """Raise UsageError if the current folder is gone: torch would end the process without a word of it."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise click.UsageError("the current folder was removed; change to another one") from error


def main(command: click.Command) -> None:
    """Run a command and exit: with 2 on bad input, 1 if the system fails (a full disk), 130 on Ctrl-C."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        say(f"{command.name}: {one_line(message)}", err=True)

    prepare_streams()
    warnings.showwarning = show
    _limit_threads()
    try:
        _check_folder()
        sys.exit(command.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        if is_first_rank():
            say(f"{command.name}: {one_line(error.format_message())}", err=True)
        sys.exit(2)
    except OSError as error:
        say(f"{command.name}: {one_line(error)}", err=True)
        drop_unwritten(sys.stdout)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    finally:
        drop_unwritten(sys.stderr)


def exit_status(outcomes: list[Outcome], name: str, store: RunStore) -> int:
    """Report failures and notes of a study's runs on stderr, and return the exit status."""
    from .studies import report_command

    for outcome in outcomes:
        for note in outcome.notes:
            say(one_line(f"{outcome.run}: {note}"), err=True)
        if outcome.state not in ("done", "stopped"):
            say(one_line(f"{outcome.state}: {outcome.run}: {outcome.reason}"), err=True)
    states = Counter(outcome.state for outcome in outcomes)
    if states["stopped"]:
        report = f"; {report_command(name, store)} reports those." if states["done"] else "."
        done = f"{states['done']} of {len(outcomes)} runs are done"
        say(f"Stopped; {done}. Run the same command to resume{report}", err=True)
        return 130
    if states["held"]:
        say("Skipped runs that another process is training; rerun this command when it has finished.", err=True)
    return 1 if states["failed"] or states["held"] else 0


def batch_sizes(text: str) -> list[int]:
    """Parse batch sizes with commas between them; raise ValueError if they are no such numbers."""
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(sizes) < 1:
        raise ValueError(f"batch {text!r}: must be whole numbers of at least 1, with commas between them")
    return list(dict.fromkeys(sizes))
