"""Hostile texts are inert: in error messages, on terminals, in reports, in figures and in spreadsheets."""

from __future__ import annotations

import csv
import json
import re
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from helpers.paths import ROOT
from helpers.runs import BENCHMARK, edit

from analysis.ablate import ablate
from analysis.bench import bench
from analysis.condense import condense as condense_command
from analysis.cost import cost
from analysis.report import report
from analysis.reporting import StudyReport, write_report
from analysis.text import inert
from condense_core.files import write_json
from condense_core.store import RunStore

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
def store(trained, tmp_path) -> RunStore:
    shutil.copytree(trained.root, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


EVIL = (
    "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2066\x00\x9b31m\r\n$\\frac{"
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
)


def is_inert(text: str) -> bool:
    """Return whether a text has no characters that a terminal or browser obeys, except line breaks."""
    return not any(
        unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text.replace("\n", "")
    )


def test_what_a_terminal_would_obey_is_shown_as_an_escape():
    assert inert("\x1b[31mred\x07\u202e\ud800\u2028\x9b") == "\\x1b[31mred\\x07\\u202e\\ud800\\u2028\\x9b"
    for harmless in ("learned-exponential-full-k4", "1×1 – ± λ", "日本語", "می‌خواهم", "👩‍🔬", "a\xa0b"):
        assert inert(harmless) == harmless
    assert is_inert(inert("".join(map(chr, range(0x11000)))).replace("\u200c", "").replace("\u200d", ""))


def test_nothing_is_printed_but_through_what_makes_it_inert():
    for path in (ROOT / "analysis").rglob("*.py"):
        for line in path.read_text().splitlines():
            if "echo(" in line or re.search(r"\bprint\(", line):
                assert "json.dumps" in line or path.name == "text.py", f"{path.name}: {line.strip()}"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (cost, [EVIL.replace("\0", "")]),
        (cost, ["x.pth\x1b[2J\u202e.tar"]),
        (ablate, ["--study", "\x1b[2J\u202e"]),
        (ablate, ["--data", "folder:\x1b[2J\u202e"]),
        (ablate, ["--\x1b[2J"]),
        (ablate, ["\x1b[2J.toml"]),
        (report, ["\x1b[2J\u202e"]),
        (bench, ["x", "--execution", "\x1b[2J"]),
        (condense_command, ["x", "--to", "\x1b[2J.exe"]),
    ],
)
def test_an_error_is_one_inert_line(call, command, arguments):
    status, out, err = call(command, *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert is_inert(err)


def test_tables_progress_and_warnings_are_inert(store, run, call, capsys, without_figures):
    from analysis.engines.progress import Live
    from analysis.text import print_table, say

    print_table(EVIL, [EVIL, "b"], [[EVIL, "2"]])
    say(str(Live(EVIL, 1, 2, 0, None, None)))
    out = capsys.readouterr().out
    assert is_inert(out.replace("\x1b[1m", "").replace("\x1b[0m", ""))
    (run.folder / "status.json").write_text(json.dumps({"state": EVIL}))
    _, out, err = call(report, "one", "--out", "page.html", "--runs", store.root)
    assert "valid: diverged, done, failed, new, running, stopped" in err
    assert is_inert(out + err)


class Page(HTMLParser):
    """The elements and attributes of a page, which could act, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        if self.lasttag not in ("script", "style"):
            self.said.append(data)


@pytest.fixture(scope="module")
def evil_page(trained, tmp_path_factory) -> Path:
    """The report of a store in which all texts are hostile."""
    folder = tmp_path_factory.mktemp("evil")
    shutil.copytree(trained.root, folder / "runs")
    store = RunStore(folder / "runs")
    run = next(run for run in store.runs() if run.name != "sound")
    record = store.read_study("one")
    record |= {"question": EVIL, "settings": {EVIL: EVIL, "data": "=cmd|' /C calc'!A0"}}
    record["variants"][0] |= {"label": EVIL, "curve": EVIL}
    record["variants"][1] |= {"label": "=cmd|' /C calc'!A0", "curve": "+ learned"}
    store.write_study("one", record)
    edit(store.root / "sound" / "status.json", state="diverged", reason=EVIL)
    config = json.loads((run.folder / "config.json").read_text())
    config["environment"] = {EVIL: EVIL}
    config["data_fingerprint"] = EVIL
    write_json(run.folder / "config.json", config)
    evil = json.loads(json.dumps(BENCHMARK))
    for name in ("model", "execution", "processor"):
        evil["times"][0][name] = EVIL
    evil["parts"][0] |= {"model": EVIL, "layer": EVIL, "date": "2027"}
    evil["times"][0]["date"] = "2027"
    store.write_benchmark(evil)
    return write_report(StudyReport(store, "one"), folder / "reports")


def test_hostile_texts_are_inert_in_the_report_its_figures_and_its_tables(evil_page):
    text = evil_page.read_text(encoding="utf-8")
    page = Page(text)
    assert "alert(1)" in "".join(page.said), "it is shown"
    assert "\\x1b]0;owned\\x07" in "".join(page.said)
    assert is_inert(text)
    assert page.tags.count("script") == 3  # the maps, the ranks, and the code
    assert page.tags.count("img") == len(list(evil_page.parent.glob("*.svg")))
    assert not {"iframe", "object", "embed", "base", "form", "link"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "action", "data"):
            assert value.startswith(("#", "data:image/svg+xml,")), (tag, name, value)
    embedded = re.search(r'<script type="application/json" id="maps">(.*?)</script>', text, re.DOTALL)[1]
    assert "<" not in embedded
    json.loads(embedded)
    for url in [value for _, name, value in page.attributes if name == "src"]:
        check_svg(unquote(url.partition(",")[2]))
    for path in evil_page.parent.glob("*.svg"):
        check_svg(path.read_text(encoding="utf-8"))


def check_svg(text: str) -> None:
    assert is_inert(text)
    for element in ElementTree.fromstring(text).iter():
        assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a")
        assert not any(name.lower().startswith("on") for name in element.attrib)
        for name, value in element.attrib.items():
            assert not name.endswith("href") or value.startswith(("#", "data:image/png;base64,"))


def test_a_spreadsheet_takes_no_text_of_a_table_for_a_formula(evil_page):
    for path in evil_page.parent.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                for cell in row:
                    assert not cell.startswith(("=", "@", "\t", "\r"))
                    assert not cell.startswith(("+", "-")) or float(cell) is not None
    summary = (evil_page.parent / "summary.csv").read_text()
    assert "'=cmd|' /C calc'!A0" in summary
