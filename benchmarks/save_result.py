"""Write the result of a benchmark, with the command, the date and the machine."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from condense_core.machine import processor
from condense_core.store import environment

RESULTS = Path(__file__).parent / "results"


def save_result(name: str, placeholders: dict[Path, str] | None = None, **result: Any) -> None:
    """Write results/<name>.json, with each folder of `placeholders` replaced in the command."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    for folder, text in (placeholders or {}).items():
        command = command.replace(str(folder), text)
    origin = {
        "command": command,
        "date": date.today().isoformat(),
        "processor": processor(),
        "environment": environment(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(origin | result, indent=2) + "\n")
