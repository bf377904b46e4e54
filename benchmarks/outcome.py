"""How every benchmark keeps what it found, with the command, the date and the machine."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from condense_core.machine import processor
from condense_core.store import environment

RESULTS = Path(__file__).parent / "results"


def keep(name: str, places: dict[Path, str] | None = None, **found: Any) -> None:
    """Write results/<name>.json; `places` are what folders are called in the command that stands there."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    for folder, called in (places or {}).items():
        command = command.replace(str(folder), called)
    where = {
        "command": command,
        "date": date.today().isoformat(),
        "processor": processor(),
        "environment": environment(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(where | found, indent=2) + "\n")
