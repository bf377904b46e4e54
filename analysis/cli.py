"""What the command lines share: bad input is one line on stderr and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def bad_input() -> Iterator[None]:
    """Around the checks before any work: what they raise is told in one line, without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error


def main(command: click.Command) -> None:
    """Run a command line and exit."""
    try:
        sys.exit(command.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        click.echo(f"{command.name}: {error.format_message()}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
