"""Long checks: a study that is killed again and again, and ten thousand damaged inputs of every kind.

python benchmarks/soak.py kills --kills 200      # exit status 1 if a run differs from an undisturbed one
python benchmarks/soak.py fuzz --inputs 10000    # exit status 1 if anything is found
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from kills import kills
from save_result import save_result

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


@click.group()
def soak() -> None:
    """Run one of the long checks, print its findings and save the result."""


soak.add_command(kills)


@soak.command()
@click.option("--inputs", type=click.IntRange(1), default=10_000, show_default=True, help="for each target")
@click.option("--first", type=int, default=0, show_default=True, help="seed of the first input")
@click.option("--target", "targets", multiple=True, help="a reader to test; may be given again  (default: all)")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout; save nothing")
def fuzz(inputs: int, first: int, targets: tuple[str, ...], as_json: bool) -> int:
    """Read damaged and hostile files: no traceback, no hang, nothing written, memory within bounds."""
    from helpers.fuzz_targets import TARGETS
    from helpers.fuzzing import fuzz as read_all

    rows: list[dict[str, Any]] = []
    for name in targets or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            row = asdict(read_all(TARGETS[name](Path(folder)), inputs, first))
        rows.append(row)
        click.echo(
            f"{name:<14}{row['inputs']:7} inputs {row['accepted']:6} accepted {row['refused']:6} refused "
            f"{len(row['errors']):4} errors  slowest {row['slowest_seconds']:.2f} s  "
            f"memory +{row['memory_growth'] / 1e6:.0f} MB",
            err=True,
        )
    errors = sum(len(row["errors"]) for row in rows)
    if as_json:
        click.echo(json.dumps({"inputs": inputs, "errors": errors, "rows": rows}, indent=1))
    else:
        save_result("fuzz", first=first, rows=rows)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(soak.main(standalone_mode=False) or 0)
