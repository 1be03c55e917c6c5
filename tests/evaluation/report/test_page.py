"""The page tells everything, breaks at nothing that a name may hold, and names no address outside of itself."""

from __future__ import annotations

import base64
import json
import re
import tomllib
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from small_report import CASES, UNKIND, bare_report, small_report

import nnlite
from nnlite.evaluation.instance_scores import InstanceScores, score_instances
from nnlite.evaluation.report.page import render

NEVER_CLOSED = {"meta", "link", "input", "br", "circle", "line", "rect", "polyline"}


class Outline(HTMLParser):
    """Elements that are open, their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in NEVER_CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in NEVER_CLOSED:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            name = self.elements[-1][1].get("id") or ""
            self.scripts[name] = self.scripts.get(name, "") + data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page() -> str:
    return render(small_report())


def test_every_section_tells_its_numbers(page: str):
    text = Outline(page).text
    whole = small_report()
    assert whole.evidence is not None
    for words in (
        "brain <3",
        "2d: not trained",
        "10 epochs of 2 steps",
        "all foreground: only the largest component",
        "changes no mean",
        "dense CRF: smoothness 2 over 1.5 mm, appearance 3 over 6 mm and 0.25 of intensity",
        "the Dice of core falls",
        "3d-lowres: left out, fold3 not finished",
        "nnlite plan brain",
        f"{whole.evidence.mean_dice:.4f}",
        "expected Dice of core",
        "patch size 16 x 16 x 16: because",
    ):
        assert words in text, words


def test_no_number_is_longer_than_it_can_be_read(page: str):
    text = Outline(page).text
    assert "0.178" in text  # GiB
    assert not re.search(r"\d\.\d{7}", text)


def test_every_element_that_is_opened_is_closed_and_no_name_opens_one(page: str):
    outline = Outline(page)
    assert outline.open == []
    assert UNKIND not in page
    assert UNKIND in outline.text
    assert not any(tag == "b" for tag, _ in outline.elements)


def test_the_page_asks_for_nothing_outside_of_itself(page: str):
    addresses = [
        value
        for _, attributes in Outline(page).elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href")
    ]
    assert addresses
    assert [address for address in addresses if not (address or "").startswith(("#", "data:"))] == []
    assert not re.search(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|import\(", page)
    assert "default-src 'none'" in page


def test_what_a_reader_cannot_see_is_named_for_those_who_listen(page: str):
    elements = Outline(page).elements
    pictures = [attributes for tag, attributes in elements if tag in ("svg", "canvas")]
    assert pictures
    assert all(attributes.get("aria-label") and attributes.get("role") == "img" for attributes in pictures)
    identities = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = [attributes["href"] for tag, attributes in elements if tag == "a"]
    assert targets
    assert {str(target)[1:] for target in targets} <= set(identities)


def test_the_tables_and_the_viewer_carry_every_number(page: str):
    scripts = Outline(page).scripts
    table = json.loads(zlib.decompress(base64.b64decode(scripts["score-data"])))
    assert len(table["rows"]) == len(CASES) * 2 * 2  # labels, candidates
    assert {row[0] for row in table["rows"]} == set(CASES)
    assert [column["title"] for column in table["columns"]][:4] == ["case", "label", "configuration", "Dice"]
    viewer = json.loads(scripts["viewer-data"])
    assert [case["id"] for case in viewer["cases"]] == [UNKIND, CASES[-1]]


def test_what_is_not_there_is_said_and_nothing_fails():
    outline = Outline(render(bare_report()))
    for words in ("no model is selected", "Nothing is trained yet", "nothing is scored yet", "No held-out case"):
        assert words in outline.text
    assert "viewer-data" not in outline.scripts
    assert not any(attributes.get("href") == "#reliability" for _, attributes in outline.elements)


def test_the_curve_of_a_loss_says_which_it_is():
    whole = small_report()
    courses = tuple(replace(course, loss=loss) for course, loss in zip(whole.courses, ("ce", "focal"), strict=True))
    assert "ce, focal on patches; lower is better." in Outline(render(replace(whole, courses=courses))).text


def test_single_objects_are_told_where_they_are_told_apart(page: str):
    assert "Single objects" not in Outline(page).text
    whole = small_report()
    true, found = np.array([[1, 1, 0, 2]]), np.array([[1, 1, 0, 0]])
    instances = InstanceScores(rows=(score_instances("one", true, found),)).summary()
    candidates = (replace(whole.candidates[0], instances=instances), *whole.candidates[1:])
    text = Outline(render(replace(whole, candidates=candidates))).text
    assert "AP 0.5 to 0.95 F1 AJI 3d 2 1 0.500 0.500 0.667 0.667" in text


def test_templates_styles_and_scripts_come_along_in_a_wheel():
    package = Path(nnlite.__file__).parent
    settings = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["nnlite"]
    carried = {path for pattern in patterns for path in package.glob(pattern)}
    needed = {
        path for path in (package / "evaluation" / "report").glob("*/*") if path.suffix in (".html", ".css", ".js")
    }
    assert len(needed) > 10
    assert needed <= carried


def test_a_selection_that_no_longer_holds_is_not_in_the_summary():
    whole = small_report()
    assert whole.evidence is not None
    outdated = replace(whole, evidence=replace(whole.evidence, outdated="3d fold0 was trained anew"))
    text = Outline(render(outdated)).text
    assert "3d fold0 was trained anew" in text
    assert "selected model" not in text
