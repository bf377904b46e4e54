"""What the command lines share: bad input is one line on stderr and exit status 2."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .text import inert, say

LONGEST_LINE = 2000  # characters


def one_line(message: object) -> str:
    """A message as one line that a terminal only shows."""
    text = inert(" ".join(str(message).split()))
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"


@contextmanager
def bad_input() -> Iterator[None]:
    """Around the checks before any work: what they raise is told in one line, without a traceback."""
    try:
        yield
    except BrokenPipeError:  # who reads has read enough: click ends quietly
        raise
    except (ValueError, OSError) as error:
        raise click.UsageError(one_line(error)) from error


def check_writable(*folders: Path) -> None:
    """Raise PermissionError where a folder cannot be made or written."""
    for folder in folders:
        there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise PermissionError(f"{folder}: cannot be written ({there} is read-only or not a folder)")


@contextmanager
def signals_to(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM call `handle` meanwhile."""
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launched_ranks() -> int:
    """Processes that `torchrun` started to train each run together: 1 without it."""
    told = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if told else 1


def is_first_rank() -> bool:
    """Whether this process is the one of them that writes and prints."""
    return launched_ranks() == 1 or os.environ["RANK"] == "0"


def main(command: click.Command) -> None:
    """Run a command line and exit: with 2 on bad input, with 1 where the system fails it (a full disk)."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        say(f"{command.name}: {one_line(message)}", err=True)

    warnings.showwarning = show
    try:
        sys.exit(command.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        if is_first_rank():
            say(f"{command.name}: {one_line(error.format_message())}", err=True)
        sys.exit(2)
    except OSError as error:
        say(f"{command.name}: {one_line(error)}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
