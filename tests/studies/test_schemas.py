"""The JSON Schemas in docs/schema: current, and of the opinion of the code."""

from __future__ import annotations

import json
import runpy
import tomllib

import pytest
from helpers.paths import ROOT

from analysis.studies import read_toml, study_config

FOLDER = ROOT / "docs" / "schema"
WRITE = runpy.run_path(str(FOLDER / "write.py"))


def test_the_schemas_are_those_of_the_code():
    texts = WRITE["schema_texts"]()
    assert {path.name for path in FOLDER.glob("*.json")} == texts.keys(), "make schema"
    for name, text in texts.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "make schema"


def test_the_list_of_choices_is_that_of_the_tables():
    text = (ROOT / "docs" / "choices.md").read_text(encoding="utf-8")
    assert text == WRITE["choices_text"](), "make schema"


def test_the_example_of_the_document_is_a_study_and_starts_with_the_schemas_path(tmp_path):
    text = (FOLDER / "README.md").read_text().partition("```toml\n")[2].partition("```")[0]
    first = text.splitlines()[0]
    assert (ROOT / first.removeprefix("#:schema ")).is_file()
    (tmp_path / "study.toml").write_text(text)
    assert study_config(**read_toml(tmp_path / "study.toml")).seeds == 5
    known = json.loads((FOLDER / "study.json").read_text())["$defs"]["Study"]
    assert tomllib.loads(text).keys() <= known["properties"].keys()
    assert known["additionalProperties"] is False
    assert "required" not in known or not known["required"]


def test_a_store_that_was_written_meets_the_schemas_that_are_written(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    from helpers.runs import SMALL_STUDY

    from analysis.studies import Study
    from condense_core.store import RunStore

    study = Study.named("grouping", **SMALL_STUDY | {"seeds": 1, "sizes": (), "grouping": ("learned",)})
    study.run(tmp_path)
    run = RunStore(tmp_path).runs()[0]

    def check(kind, *records):
        schema = json.loads((FOLDER / f"{kind}.json").read_text())
        assert records
        for record in records:
            jsonschema.validate(record, schema)

    for name in ("config", "status", "result"):
        check(name, json.loads((run.folder / f"{name}.json").read_text()))
    for name in ("metrics", "timing"):
        rows = (run.folder / f"{name}.jsonl").read_text().splitlines()
        check(f"{name}-row", *map(json.loads, rows))
    check("stage", *(json.loads(path.read_text()) for path in (run.folder / "stages").glob("*.json")))
    check("study-record", *(json.loads(path.read_text()) for path in (tmp_path / "studies").glob("*.json")))
    settings = {name: value for name, value in study.record()["settings"].items() if value is not None}
    check("study", settings)
    with pytest.raises(jsonschema.ValidationError, match="epoch"):
        check("study", {"epoch": 3})
    with pytest.raises(jsonschema.ValidationError, match="minimum"):
        check("study", {"epochs": 0})
