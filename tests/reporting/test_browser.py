"""The report in a real browser: `make browser` installs what it needs besides Chromium and runs it."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from helpers.paths import ROOT

from analysis import frames, stats
from analysis.reporting import StudyReport, render
from analysis.text import DIGITS
from condense_core.store import RunStore

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = ROOT / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")
EVIL = "</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(small_store, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render([StudyReport(small_store, "small")]), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser, report):
    """Open the report or another page; fail at the end if a page fetched anything or reported an error."""
    contexts, faults = [], []

    def opened(path: Path = report, **settings):
        context = browser.new_context(accept_downloads=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = path.as_uri()
        page.on("request", lambda r: r.url.startswith((own, "data:", "blob:")) or faults.append(r.url))
        page.goto(own)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def column(table, name: str) -> list[str]:
    place = [head.inner_text().strip(" ↕↑↓") for head in table.locator("thead th").all()].index(name)
    return [row.locator("th, td").nth(place).inner_text() for row in table.locator("tbody tr:visible").all()]


def download(page, name: str) -> bytes:
    with page.expect_download() as found:
        page.get_by_role("button", name=name).click()
    return Path(found.value.path()).read_bytes()


def test_tables_sort_by_click_and_by_keyboard(open_page):
    page = open_page()
    table = page.get_by_role("region", name="Variants").locator("table")
    before = column(table, "variant")
    errors = sorted(float(text.split(" ")[0]) for text in column(table, "test error %"))
    head = table.locator("thead th", has_text="test error %")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text.split(" ")[0]) for text in column(table, "test error %")] == errors
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text.split(" ")[0]) for text in column(table, "test error %")] == errors[::-1]
    table.locator("thead th", has_text="variant").get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(table, "variant") == sorted(before)


def test_a_filter_keeps_the_rows_with_all_its_words(open_page):
    page = open_page()
    table = page.get_by_role("region", name="Variants").locator("table")
    page.get_by_label("Filter small-Variants").fill("random BLOCK")
    rows = column(table, "variant")
    assert rows
    assert all(name.startswith("random") and "block" in name for name in rows)
    assert page.get_by_text(f"{len(rows)} of 17 rows").is_visible()


def test_what_differs_from_the_base_is_marked(open_page):
    page = open_page()
    rows = page.get_by_role("region", name="Variants").locator("tbody tr")
    assert rows.nth(0).locator(".differs").count() == 0
    for row in rows.all():
        if "random-exponential-full-k4" in row.inner_text():
            assert row.locator(".differs").all_inner_texts() == ["random"]


def exact(values):
    """Return numbers with the digits that tables have."""
    return [float(f"{value:.{DIGITS}g}") for value in values]


def test_downloads_equal_the_store(open_page, small_store):
    page = open_page()
    summary = stats.summary(frames.study_runs(small_store, "small"))
    rows = list(csv.DictReader(io.StringIO(download(page, "Download small-Variants as CSV").decode())))
    assert [row["variant"] for row in rows] == summary.variant.tolist()
    assert [float(row["test error %"]) for row in rows] == exact(summary.error_mean)
    assert [int(row["MACs"]) for row in rows] == summary.macs.tolist()
    data = list(csv.DictReader(io.StringIO(download(page, "Download small-life as CSV").decode())))
    epochs = frames.epochs(small_store.run(StudyReport(small_store, "small").started[0].config))
    assert [float(row["train loss"]) for row in data] == exact(epochs.train_loss)


def test_figures_download_as_svg_and_png(open_page, small_store):
    page = open_page()
    svg = download(page, "Download small-grid as SVG").decode()
    pictures = {picture.key: picture.svg for picture in StudyReport(small_store, "small").figures}
    assert svg == re.sub(r"<style id='dark'>.*?</style>", "", pictures["grid"])
    png = download(page, "Download small-grid as PNG")
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20]) > 1000  # pixels wide


def test_tables_download_as_latex_and_markdown(open_page):
    page = open_page()
    latex = download(page, "Download small-Main effects as LaTeX").decode()
    assert latex.startswith("\\begin{tabular}{lll")
    assert "grouping & learned & random &" in latex
    assert "95 \\%" in download(page, "Download small-Variants as LaTeX").decode()
    lines = download(page, "Download small-Main effects as Markdown").decode().splitlines()
    assert lines[0].startswith("| factor | level | against |")
    assert lines[1].startswith("| --- | --- | --- | ---: |")
    assert len(lines) == 2 + 5


def test_the_stage_slider_and_the_arrow_keys_give_exact_counts(open_page, small_store):
    page = open_page()
    run = StudyReport(small_store, "small").started[0]
    connections = frames.connections(run)
    slider = page.get_by_label("Stage of small-connections-alive")
    board = page.get_by_role("application", name=re.compile("Connections between layers"))
    board.focus()
    for stage, value in (("2", "2"), ("end", "4")):
        slider.fill(value)
        board.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        text = page.locator(".readout").first.inner_text()
        target, source, alive, total = re.match(
            r"Layer (\S+) reads (\S+) .*: (\d+) of (\d+) connections", text
        ).groups()
        part = connections[
            connections.target.eq(target) & connections.source.eq(source) & connections.stage.eq(stage)
        ]
        assert int(total) == part.connections.item()
        assert int(alive) == round(part.alive.item() * part.connections.item())
        assert f"mean |W| {part.mean_weight.item():.4f}" in text
    page.keyboard.press("Enter")
    assert page.locator(".map h4 select").evaluate("e => e.selectedOptions[0].text") == target


def test_hovering_a_connection_of_one_layer_tells_its_fate(open_page, small_store):
    page = open_page()
    run = StudyReport(small_store, "small").started[0]
    page.locator(".map h4 select").select_option("3.1")
    channels = frames.channels(run, "3.1")
    row = channels[channels.died == 2].iloc[0]
    page.locator(f'.map .board:nth-of-type(3) rect[data-key="{row.channel},{row.group}"]').hover()
    text = page.locator(".map .readout").last.inner_text()
    assert text.startswith(f"Layer 3.1, group {row.group}, input {row.channel} (channel ")
    assert f"of {row.source}): pruned at the start of stage 2" in text


def test_moving_over_the_ranks_tells_the_numbers_of_an_input(open_page, small_store):
    page = open_page()
    run = StudyReport(small_store, "small").started[0]
    ranks, channels = frames.ranks(run, "2.1"), frames.channels(run, "2.1")
    page.locator(".lines select").first.select_option("2.1")
    page.locator(".lines select").last.select_option("1")
    board = page.get_by_role("application", name=re.compile("Ranks of the inputs"))
    slider = page.get_by_label("Epoch", exact=True)
    slider.fill("0")
    board.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    text = page.locator(".lines .readout").inner_text()
    channel, rank = map(int, re.match(r"Layer 2.1, group 1, input (\d+) .*: rank (\d+) of", text).groups())
    assert rank == 2
    row = ranks[(ranks.group == 1) & (ranks.channel == channel) & (ranks.epoch == 0)]
    assert row["rank"].item() == 2
    assert page.locator(".lines polyline:not(.cursor)").count() == channels.channel.nunique()
    slider.fill(slider.get_attribute("max"))
    fates = channels[channels.group == 1]
    assert page.locator(".lines .death").count() == (fates.died > 0).sum()
    assert page.locator(".lines polyline.alive").count() == (fates.died == -1).sum()
    margin = fates[fates.channel == channel].margin.item()
    side = "below" if margin < 0 else "above"
    assert (
        f"{abs(round(1000 * margin)) / 10:.1f} % {side} the last one kept"
        in page.locator(".lines .readout").inner_text()
    )


def test_without_javascript_all_stages_stand_side_by_side(open_page):
    page = open_page(java_script_enabled=False)
    stages = page.locator("figure", has=page.locator(".stages")).locator(".stages img")
    assert stages.count() == 2
    assert all(stages.nth(place).is_visible() for place in range(2))
    assert not page.locator(".map").is_visible()
    assert not page.locator(".lines").is_visible()
    assert page.locator("tbody tr").count() > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_can_be_switched(open_page, scheme):
    page = open_page(color_scheme=scheme)
    background = "() => getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}
    assert page.evaluate(background) == colours[scheme]
    for name, colour in colours.items():
        page.get_by_role("radio", name=name).check()
        assert page.evaluate(background) == colour


def test_nothing_is_wider_than_a_phone(open_page):
    page = open_page(viewport={"width": 360, "height": 740}, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for box in page.locator("h1, h2, h3, figcaption, .findings").all():
        if box.is_visible():
            assert box.bounding_box()["x"] + box.bounding_box()["width"] <= 360


PHONE = {"viewport": {"width": 420, "height": 800}}


def test_the_table_of_contents_stays_beside_the_page_on_a_wide_screen(open_page):
    page = open_page(viewport={"width": 1300, "height": 900})
    side = page.locator(".side")
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    assert side.bounding_box()["y"] >= 0
    assert not page.locator(".bar").is_visible()
    side.get_by_text("Where the cost is").click()
    heading = page.get_by_role("heading", name="Where the cost is")
    assert 0 <= heading.bounding_box()["y"] < 100
    page.wait_for_function(
        "document.querySelector('.side [aria-current]')?.textContent === 'Where the cost is'"
    )


@pytest.mark.parametrize("script", [True, False])
def test_on_a_phone_the_table_of_contents_can_be_reached_from_everywhere_by_keyboard(open_page, script):
    page = open_page(**PHONE, java_script_enabled=script)
    bar, target = page.locator(".bar"), page.get_by_role("heading", name="Where the cost is")
    assert not page.locator(".side").is_visible()
    page.get_by_role("heading", name="Tuning").scroll_into_view_if_needed()
    assert bar.bounding_box()["y"] == 0
    bar.locator("summary").focus()
    page.keyboard.press("Enter")
    bar.get_by_text("Where the cost is").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert (bar.get_attribute("open") is None) == script
    if script:
        assert bar.bounding_box()["height"] < target.bounding_box()["y"] < 120


def test_figures_fit_on_a_phone_without_scrolling_them(open_page):
    page = open_page(**PHONE)
    assert page.evaluate(
        "[...document.querySelectorAll('.picture')].every(p => p.scrollWidth <= p.clientWidth)"
    )


def test_print_is_light_and_opens_what_is_collapsed_but_for_data_and_runs(open_page):
    page = open_page(color_scheme="dark")
    page.locator(".map").wait_for()
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details:not([open], .data, .run)").count() == 0
    assert not page.locator(".data:visible").count()
    assert not page.locator(".map").is_visible()
    assert not page.locator(".contents:visible").count()
    assert all(image.is_visible() for image in page.locator(".stages img").all())
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 20
    assert page.pdf().startswith(b"%PDF")


def test_hostile_names_stay_text(open_page, small_store, tmp_path):
    shutil.copytree(small_store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    record = copy.read_study("small")
    record["question"] = EVIL
    record["settings"] = {EVIL: EVIL}
    for variant in record["variants"]:
        variant["label"] += EVIL
    copy.write_study("small", record)
    with copy.runs()[0].hold() as writer:
        writer.set_state("failed", EVIL)
    path = tmp_path / "report.html"
    path.write_text(render([StudyReport(copy, "small")]), encoding="utf-8")
    page = open_page(path)
    assert page.title() == "small · Condense"
    assert page.locator("img[src=x], .findings img").count() == 0
    assert page.locator(".question").first.inner_text() == EVIL
    assert EVIL in page.get_by_role("region", name="Variants").locator("tbody th").first.inner_text()


@pytest.fixture(scope="module")
def short_report(small_store, tmp_path_factory) -> Path:
    """Write a report of three variants with every kind of content, because axe checks each element."""
    shutil.copytree(small_store.root, root := tmp_path_factory.mktemp("short") / "runs")
    record = small_store.read_study("small")
    RunStore(root).write_study("short", record | {"name": "short", "variants": record["variants"][:3]})
    path = root / "report.html"
    path.write_text(render([StudyReport(RunStore(root), "short")]), encoding="utf-8")
    return path


@pytest.mark.skipif(not AXE.is_file(), reason="axe is not installed (make browser installs it)")
@pytest.mark.parametrize(
    "settings", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 800}}]
)
def test_axe_finds_nothing_serious(open_page, short_report, settings):
    page = open_page(short_report, **settings)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    page.evaluate(AXE.read_text())  # the page's own policy forbids loading it
    found = page.evaluate("axe.run()")["violations"]
    bad = [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in found]
    assert [
        rule
        for rule, violation in zip(bad, found, strict=True)
        if violation["impact"] in ("serious", "critical")
    ] == []
