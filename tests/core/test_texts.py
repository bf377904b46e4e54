"""Text files that users write: of any editor and system, and named in every error."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.ablate import ablate
from analysis.studies.options import read_toml
from condense_core import DataConfig
from condense_core.files import read_json, read_rows, read_text
from condense_core.validation import from_json, from_toml

TOML = 'study = "grouping"\r\nname = "größe"\r\nstages = [1,\r\n  1, 1]\r\n'
STUDY = {"study": "grouping", "name": "größe", "stages": [1, 1, 1]}
JSON = '{"name": "digits",\r\n "validation_fraction": 0.5}\r\n'
DATA = DataConfig("digits", 0.5)


def rows_of(path: Path) -> dict:
    """The settings of a study in a file of JSON lines, one a line."""
    return {name: value for row in read_rows(path) for name, value in row.items()}


READERS = {
    "TOML": (TOML, read_toml, STUDY),
    "JSON": (JSON, read_json, {"name": "digits", "validation_fraction": 0.5}),
    "JSON lines": ('{"a": 1}\r\n{"b": 2}\r\n', rows_of, {"a": 1, "b": 2}),
    "text": ("größe\n", lambda path: read_text(path, 100), "größe\n"),
}


@pytest.mark.parametrize("lines", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("kind", READERS)
def test_a_text_is_read_with_the_mark_and_the_line_ends_of_windows(tmp_path, kind, mark, lines):
    text, read, expected = READERS[kind]
    path = tmp_path / "x"
    path.write_bytes(mark + text.replace("\r\n", lines).encode())
    assert read(path) == expected


@pytest.mark.parametrize("text", [TOML, JSON])
def test_a_text_that_python_has_read_may_begin_with_a_mark(text):
    if text is JSON:
        assert from_json(DataConfig, "\ufeff" + JSON) == DATA
    else:
        assert from_toml(DataConfig, '\ufeffname = "digits"\r\nvalidation_fraction = 0.5\r\n') == DATA


ENCODINGS = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32": "UTF-32"}
ENCODINGS |= {"cp1252": r"not UTF-8 \(invalid \w+ byte at byte \d+\)"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["TOML", "JSON", "JSON lines"])
def test_another_encoding_is_refused_by_its_name(tmp_path, kind, encoding):
    text, read, _ = READERS[kind]
    path = tmp_path / "x.txt"
    path.write_bytes(text.replace("digits", "größe").replace('"a"', '"ß"').encode(encoding))
    with pytest.raises(ValueError, match=rf"x\.txt(, line 1)?: is {ENCODINGS[encoding]}; save it as UTF-8"):
        read(path)


BAD = {
    "epochs = 0": "epochs 0: must be a whole number at least 1",
    "stages = 4": "stages 4: must be a list of one or more, like [4, 4, 4]",
    'grouping = "learned"': "grouping 'learned': must be a list of one or more, like ['learned']",
    "growth-rate = 'a'": "growth_rate 'a': must be a whole number",
    "groups = 3": "groups 3: must divide the output channels",
    "data = 'digit'": "data 'digit': did you mean 'digits'?",
    "data = 'folder:nowhere'": "data 'folder:nowhere': there is no folder nowhere",
    "train_images = 5000": "train_images 5000: at most",
    "study = 'groping'": "study 'groping': did you mean 'grouping'?",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_value_is_named_with_its_file(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(line)
    result = CliRunner().invoke(ablate, ["study.toml", "--device", "cpu"], standalone_mode=False)
    assert str(result.exception.message).startswith(f"study.toml: {BAD[line]}")
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_a_bad_option_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text("epochs = 3\n")
    options = ["study.toml", "--epochs", "0", "--device", "cpu"]
    result = CliRunner().invoke(ablate, options, standalone_mode=False)
    assert result.exception.message == "epochs 0: must be a whole number at least 1"


def test_what_an_editor_leaves_beside_the_code_is_not_part_of_its_hash(tmp_path, monkeypatch):
    from condense_core.store import provenance

    (tmp_path / "model.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "HERE", tmp_path)
    before = provenance.code.__wrapped__()
    for name in (".ipynb_checkpoints/model-checkpoint.py", "._model.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7\xff")
    assert provenance.code.__wrapped__() == before == {"model.py": before["model.py"]}
