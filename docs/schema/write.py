"""Write the JSON Schemas of a study file and of a store's records, and docs/choices.md (`make schema`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from analysis.studies import DEFAULTS, StudyConfig
from condense_core.store import schemas
from condense_core.tables import CRITERIA, DATASETS, GROUPINGS
from condense_core.validation import hints_of

FOLDER = Path(__file__).parent
RECORDS: dict[str, Any] = {
    "config": schemas.Config,
    "status": schemas.Status,
    "result": schemas.Result,
    "metrics-row": schemas.Epoch,
    "timing-row": schemas.Timing,
    "importance-row": schemas.Importance,
    "sensitivity": schemas.Sensitivity,
    "notes-row": schemas.Note,
    "stage": schemas.Stage,
    "study-record": schemas.StudyRecord,
    "benchmark": schemas.Benchmark,
}


def schema_texts() -> dict[str, str]:
    """Return the content of every schema file by its name."""
    kinds = {"study": _study_file()} | RECORDS
    return {f"{name}.json": _text(msgspec.json.schema(kind)) for name, kind in kinds.items()}


def choices_text() -> str:
    """Return docs/choices.md: the named groupings, criteria and data sets."""
    how = "[CONTRIBUTING](../CONTRIBUTING.md) says how to add one."
    lines = ["# Choices", "", f"Written by `make schema` from `condense_core/tables`. {how}"]
    for title, table in (("Groupings", GROUPINGS), ("Criteria", CRITERIA), ("Data sets", DATASETS)):
        lines += ["", f"## {title}", "", "| name | |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(name, entry)} |" for name, entry in table.items()]
    return "\n".join(lines) + "\n"


def _cell(name: str, entry: Any) -> str:
    properties = {
        "is_learned": "starts dense and is pruned in stages",
        "ranks_weights": "also for the grouping `unstructured`",
        "at_path": f"named with its path: `{name}:PATH`",
    }
    texts = [entry.help, *(text for key, text in properties.items() if getattr(entry, key, False))]
    return "; ".join(texts).replace("|", r"\|")


def _study_file() -> Any:
    """A study's settings as a file has them: each may be left out for its default, and no others are known."""
    defaults = {name: value for name, value in DEFAULTS.items() if value is not None}  # TOML has no null
    fields = [(name, hint, defaults.get(name, msgspec.UNSET)) for name, hint in hints_of(StudyConfig).items()]
    doc = {"__doc__": "The settings of a study: python -m analysis.ablate study.toml"}
    return msgspec.defstruct("Study", fields, forbid_unknown_fields=True, namespace=doc)


def _text(schema: dict[str, Any]) -> str:
    text = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
    # JSON has no lone surrogates, and the expressions of other languages cannot name them
    return text.replace(r"\\ud800-\\udfff", "").replace(r"$(?!\\n)", "$") + "\n"


if __name__ == "__main__":
    for name, text in schema_texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    (FOLDER.parent / "choices.md").write_text(choices_text(), encoding="utf-8")
