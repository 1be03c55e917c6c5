"""The report in a real browser, without network: it opens, tables sort, the viewer scrolls and changes the window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, chromium, find_chromium
from small_report import UNKIND, bare_report, masks, small_report

from nnlite.evaluation.report.page import render

PIXELS = """(() => {
    const canvas = document.querySelector("#viewer canvas");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.reduce((sum, value, place) => (sum * 31 + value * (place % 7 + 1)) % 1000000007, 7);
})()"""
FIRST_ROW = 'document.querySelector("[data-table=score-data] tbody tr").textContent'
ROWS = 'document.querySelectorAll("[data-table=score-data] tbody tr").length'
SLICE = "Report.viewer.view.slice"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs a browser: Debian's chromium, or Chrome, is not on the PATH")
    with chromium(program, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(small_report()), encoding="utf-8")
    return file


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """The report, newly opened, with its tables and its first case on the screen."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(report)
    browser.wait_for(f"{ROWS} > 0 && Report.viewer.volume !== null && Report.viewer.placed !== undefined")
    return browser


def changes(page: Page, expression: str, before: object) -> bool:
    page.wait_for(f"({expression}) !== {before!r}" if not isinstance(before, str) else f"({expression}) !== `{before}`")
    return True


def test_it_opens_without_network_and_without_complaint(page: Page):
    assert page.complaints == []
    assert [address for address in page.requests if not address.startswith(("file:", "data:"))] == []
    assert page.value("document.title") == "brain <3: nnlite report"
    # the unkind name is text, and nothing else
    assert page.value("document.querySelector('[data-card] strong').textContent") == UNKIND
    drawn = """[...document.querySelectorAll("[data-card] canvas")].map((canvas) =>
        new Set(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size > 10)"""
    page.wait_for(f"{drawn}.every(Boolean)")


def test_what_was_packed_is_what_the_browser_unpacks(page: Page):
    volume = small_report().shown[0].volume
    sums = "[truth, prediction].map((part) => part.reduce((sum, label) => sum + label, 0))"
    told = page.value(f"(({{ truth, prediction }}) => {sums})(Report.viewer.volume)")
    truth, prediction = masks(0)
    assert told == [int(truth.sum()), int(prediction.sum())]
    assert page.value("Report.viewer.volume.levels[0].length") == volume.shape[0] * volume.shape[1] * volume.shape[2]


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(page: Page):
    dice = "[data-table=score-data] thead th:nth-child(4) button"
    assert page.value(FIRST_ROW).startswith(UNKIND)
    cells = 'document.querySelectorAll("[data-table=score-data] tbody td:nth-child(4)")'
    values = f"[...{cells}].map((one) => Number(one.textContent))"
    page.click(dice)
    rising = page.value(values)
    assert rising == sorted(rising)
    page.click(dice)
    falling = page.value(values)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > rising[0]
    assert not page.value(FIRST_ROW).startswith(UNKIND)
    assert (
        page.value('document.querySelector("[data-table=score-data] thead th:nth-child(4)").ariaSort') == "descending"
    )


def test_a_table_is_narrowed_by_a_choice_and_by_a_name(page: Page):
    total = page.value("document.querySelector('[data-table=score-data] .count').textContent")
    assert total == "80 of 80 rows"
    choose = """(() => {
        const select = document.querySelector("[data-table=score-data] select");
        select.value = "1";
        select.dispatchEvent(new Event("change"));
        const search = document.querySelector("[data-table=score-data] input");
        search.value = "CASE_1";
        search.dispatchEvent(new Event("input"));
        return document.querySelector("[data-table=score-data] .count").textContent;
    })()"""
    assert page.value(choose) == "22 of 80 rows"  # case_1 and case_10 to case_19, of one label, by two candidates


def test_the_wheel_and_the_keys_scroll_through_the_slices(page: Page):
    first, pixels = page.value(SLICE), page.value(PIXELS)
    page.wheel("#viewer canvas", 100)
    assert changes(page, SLICE, first)
    assert changes(page, PIXELS, pixels)
    second = page.value(SLICE)
    page.value("document.querySelector('#viewer canvas').focus()")
    page.press("ArrowDown")
    assert page.value(SLICE) == second - 1
    page.press("End")
    assert page.value(SLICE) == page.value("Report.viewer.volume.shape[0]") - 1


def test_window_and_level_change_the_picture_by_slider_and_by_dragging(page: Page):
    move = """(() => {
        const slider = document.querySelector("#viewer [name=window]");
        slider.value = slider.min;
        slider.dispatchEvent(new Event("input"));
    })()"""
    wide = page.value(PIXELS)
    page.value(move)
    assert changes(page, PIXELS, wide)
    narrow = page.value(PIXELS)
    page.drag("#viewer canvas", right=60, down=20)
    assert changes(page, PIXELS, narrow)
    page.click("#viewer [name=reset]")
    assert page.value(PIXELS) == wide


def test_each_overlay_each_plane_and_each_case_is_another_picture(page: Page):
    page.value("document.querySelector('#viewer canvas').focus()")
    seen = {page.value(PIXELS)}
    for key in ("n", "p", "e", "o"):
        page.press(key)
        seen.add(page.value(PIXELS))
    assert len(seen) == 5
    for plane in ("coronal", "sagittal"):
        page.value(f"Report.viewer.turn('{plane}')")
        seen.add(page.value(PIXELS))
    assert len(seen) == 7
    page.click("[data-card='1'] button")
    page.wait_for("Report.viewer.index === 1 && document.querySelector('[data-card=\"1\"]').ariaCurrent === 'true'")
    assert page.value(PIXELS) not in seen


def test_it_fits_a_phone_and_both_schemes(page: Page, tmp_path: Path):
    page.picture(tmp_path / "light.png", height=800)
    page.picture(tmp_path / "dark.png", height=800, dark=True)
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()
    page.picture(tmp_path / "phone.png", width=390, height=800)
    assert page.value("document.documentElement.scrollWidth") <= 390
    page.command("Emulation.clearDeviceMetricsOverride")


def test_a_report_of_a_plan_alone_opens_too(browser: Page, tmp_path: Path):
    file = tmp_path / "report.html"
    file.write_text(render(bare_report()), encoding="utf-8")
    browser.complaints.clear()
    browser.open(file)
    browser.wait_for('document.querySelector("[data-table=case-data] tbody tr") !== null')
    assert browser.complaints == []
