"""Write the report as one HTML page, with its tables and figures next to it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from analysis.frames import typed
from analysis.text import FLOAT_FORMAT, count, duration, inert

if TYPE_CHECKING:
    from .study_report import StudyReport

HEADING = re.compile(r'<h(?P<level>[23])(?P<name> class="name")? id="(?P<anchor>[^"]+)">(?P<title>[^<]*)<')
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SAFE_IN_A_DATA_URL = " =:/;,'()[]{}|^~!*+@$?-._<>"  # within double quotes


def write_report(study: StudyReport, reports: Path) -> Path:
    """Write `reports/<study>/index.html` with its tables and figures next to it; return its path."""
    folder = reports / study.name
    page = render([study])
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"study_runs": study.runs, "summary": study.summary, "effects": study.effects}
    for kind, table in tables.items():
        name, frame = kind.removeprefix("study_"), typed(kind, table)
        plain = frame.map(no_formula).to_csv(index=False, float_format=FLOAT_FORMAT)
        _write(folder / f"{name}.csv", plain.encode())
        _write(folder / f"{name}.parquet", frame.to_parquet(index=False))
    for figure in study.figures:
        _write(folder / f"{figure.key}.svg", figure.svg.encode())
    return write_page(folder / "index.html", page)


def write_page(path: Path, page: str) -> Path:
    """Write a page completely or not at all; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, page.encode())
    return path


def _write(path: Path, content: bytes) -> None:
    from condense_core.files import write_atomically

    write_atomically(path, lambda file: file.write(content))


def no_formula(value: Any) -> Any:
    """Put a quote before the text of a CSV cell if a spreadsheet would take it for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def render(studies: list[StudyReport], compare: bool = False) -> str:
    """Return the page of one or several studies, or with `compare`, of two side by side.

    The same store gives the same bytes. Only the page's own style and script may run in it.
    """
    from jinja2 import Environment, PackageLoader

    from analysis.findings import StudySeries

    from .comparison import Comparison
    from .series_figure import series_figure
    from .tables import frame_table

    environment = Environment(
        loader=PackageLoader("analysis", "reporting/templates"),
        autoescape=True,
        finalize=lambda value: inert(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "duration": duration,
        "data_url": data_url,
        "headings": headings,
        "data_table": lambda figure: frame_table(f"{figure.title}: data", figure.data),
    }
    series = None if compare else StudySeries.of(studies)
    css, *scripts = (
        files("analysis").joinpath("reporting", "templates", name).read_text("utf-8")
        for name in ("report.css", "report.js", "ranks.js")
    )
    js = "\n".join(scripts)
    return environment.get_template("report.html").render(
        studies=studies,
        comparison=Comparison(*studies) if compare else None,
        series=series and {"sentences": series.sentences, "figure": series_figure(series)},
        title=(" against " if compare else ", ").join(study.name for study in studies),
        maps={f"{place}": study.maps for place, study in enumerate(studies) if study.maps},
        ranks={f"{place}": study.ranks for place, study in enumerate(studies) if study.ranks},
        policy=policy(css, js),
        css=css,
        js=js,
    )


@dataclass(frozen=True)
class Heading:
    """A heading of a page: 1 of a study, 2 of a part, 3 of a figure; `title` is HTML."""

    level: int
    anchor: str
    title: Any


def headings(html: str) -> list[Heading]:
    """Return the headings of a page that can be linked to, in their order: its table of contents."""
    from markupsafe import Markup

    found = HEADING.finditer(html)
    return [
        Heading(1 if one["name"] else int(one["level"]), one["anchor"], Markup(one["title"])) for one in found
    ]


def data_url(svg: str) -> Any:
    """Return a picture as a URL within double quotes; nothing in it ends them or starts an entity."""
    from markupsafe import Markup

    return Markup("data:image/svg+xml," + quote(svg, safe=SAFE_IN_A_DATA_URL))


def policy(css: str, js: str) -> str:
    """Return a Content-Security-Policy that allows only this style, this script and the page's own images."""
    hashes = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in (("style", css), ("script", js))
    }
    rules: dict[str, Any] = {
        "default-src": "'none'",
        "style-src": hashes["style"],
        "script-src": hashes["script"],
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
