"""The page: complete in itself, safe, deterministic, well formed, and without empty sections."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from isobit.report.html import render_html
from isobit.report.report import Report, Step
from isobit.run.verify import Difference
from report.cases import HISTORY, comparison, full_report, large_report

ALL = ["verification", "network", "memory", "flash", "instructions", "training", "confusion"]
VOID = {"meta", "br", "col"}


class _Page(HTMLParser):
    """Checks nesting and collects tags, ids, attributes and text."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def _pictures(page: str) -> list[ElementTree.Element]:
    """Every outermost SVG, parsed as XML."""
    found = re.findall(r'<div class="scroll"[^>]*>(<svg .*?</svg>)</div>', page)
    return [ElementTree.fromstring(svg) for svg in found]


def test_page_is_well_formed(full: Report) -> None:
    page = _Page(render_html(full))
    assert page.tags.count("h1") == 1
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_page_asks_nothing_of_the_network(full: Report) -> None:
    markup = render_html(full)
    page = _Page(markup)
    assert not {"link", "img", "iframe", "object", "image", "use"} & set(page.tags)
    assert not page.values("src")
    assert all(value.startswith("#") for value in page.values("href"))
    addresses = set(re.findall(r"\w+://[^\s\"'<]+", markup))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in markup
    assert all(url == "#memory-hatch" for url in re.findall(r"url\((.*?)\)", markup))


def test_policy_names_the_script_by_hash(full: Report) -> None:
    markup = render_html(full)
    (script,) = re.findall(r"<script>(.*?)</script>", markup, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [v for v in _Page(markup).values("content") if "default-src" in v]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_equal_reports_give_equal_bytes() -> None:
    assert render_html(full_report()) == render_html(full_report())


def test_names_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&\x00\x1b"
    report = full_report(
        prefix=evil,
        classes=(evil, f"{evil}2", "owl"),
        accuracy_on=evil,
        notes=[evil],
        hashes={evil: evil},
        comparisons=[
            comparison(
                evil,
                Difference(value=evil, index=(0,), golden=1, other=2, location=evil, count=1),
                1,
            )
        ],
    )
    markup = render_html(report)
    page = _Page(markup)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert "\x00" not in markup
    assert len(_pictures(markup)) == 8


@pytest.mark.parametrize("name", ["full", "bare", "large"])
def test_pictures_are_xml_with_title_and_description(
    name: str, request: pytest.FixtureRequest
) -> None:
    pictures = _pictures(render_html(request.getfixturevalue(name)))
    assert pictures
    for svg in pictures:
        titles = [child.text for child in svg if child.tag.endswith("}title")]
        descriptions = [child.text for child in svg if child.tag.endswith("}desc")]
        assert all(titles + descriptions)
        assert len(titles) == len(descriptions) == 1
        numbers = " ".join(v for element in svg.iter() for v in element.attrib.values())
        assert "nan" not in numbers and "inf" not in numbers.replace("infer", "")


def _sections(report: Report) -> list[str]:
    return re.findall(r'<section id="(\w+)" class="part">', render_html(report))


def test_every_section_is_there_with_data(full: Report) -> None:
    assert _sections(full) == [*ALL, "layers"]


def test_sections_without_data_are_left_out(full: Report, bare: Report) -> None:
    assert _sections(bare) == ["network", "memory", "flash", "layers"]
    assert _sections(replace(full, epochs=())) == [*(s for s in ALL if s != "training"), "layers"]
    assert "confusion" not in _sections(replace(full, confusion=None))
    page = _Page(render_html(bare)).text
    assert "Please note" not in page
    assert "Accuracy" not in page
    assert "Instructions" not in page
    assert "values differ" not in page


def test_links_lead_to_sections(full: Report, bare: Report) -> None:
    for report in (full, bare):
        page = _Page(render_html(report))
        assert {f"#{section}" for section in _sections(report)} == set(page.values("href"))


def test_headline_counts_every_execution(full: Report) -> None:
    words = re.sub(r"\s+", " ", _Page(render_html(full)).text)
    assert "0 of 1,234,566 values differ" in words
    assert "First difference" not in words


def test_a_difference_is_shown_first() -> None:
    first = Difference(
        value="act", index=(0, 3, 1, 2), golden=12, other=-13, location="net.py:7", count=4
    )
    report = full_report(comparisons=[comparison("host"), comparison("cortex-m4", first, 7)])
    words = re.sub(r"\s+", " ", _Page(render_html(report)).text)
    assert "7 of 1,234,566 values differ" in words
    alarm = words[words.index("First difference") :]
    for shown in ("cortex-m4", "%act[0, 3, 1, 2]", "12", "-13", "4 values differ", "net.py:7"):
        assert shown in alarm[:200]
    assert words.index("First difference") < words.index("RAM")


def test_changed_c_is_claimed_nothing_of() -> None:
    markup = render_html(full_report(changed=True))
    words = re.sub(r"\s+", " ", _Page(markup).text)
    assert "Changed since verification" in words and "values differ" not in words
    assert " changed " in words and 'class="chain"' not in markup


def test_where_the_c_came_from_is_shown() -> None:
    again = replace(comparison("host"), replanned=True)
    own = replace(comparison("cortex-m4"), edited=("src/a.c",))
    words = _Page(render_html(full_report(comparisons=[again, own]))).text
    assert "re-planned for host" in words
    assert "the folder's, edited since deployment: src/a.c" in words


def test_cards_fill_every_row() -> None:
    """A grid would show its background where the last row is not full."""
    style = render_html(full_report()).split("<style>")[1].split("</style>")[0]
    (rule,) = re.findall(r"^\.cards \{([^}]*)\}", style, re.MULTILINE)
    assert "display: flex" in rule and "flex-wrap: wrap" in rule
    assert "flex: 1 1 " in re.findall(r"^\.card \{([^}]*)\}", style, re.MULTILINE)[0]


def test_a_difference_of_shapes_is_shown() -> None:
    report = full_report(comparisons=[comparison("host", None, 64)])
    assert "another shape" in _Page(render_html(report)).text


def test_large_networks_have_every_node_in_every_picture(large: Report) -> None:
    page = render_html(large)
    wide, narrow, memory, flash, instructions = _pictures(page)
    for graph in (wide, narrow):
        boxes = [e for e in graph.iter() if e.get("class", "").startswith("box")]
        edges = [e for e in graph.iter() if e.get("class", "").startswith("edge")]
        assert len(boxes) == 62
        assert len(edges) == 61 + 15
    rows = [len([e for e in p.iter() if e.get("class") == "mark"]) for p in (flash, instructions)]
    assert rows == [61, 61]
    buffers = [e for e in memory.iter() if e.get("class", "").startswith("buffer")]
    assert len(buffers) == 60


def test_boxes_of_the_graph_do_not_overlap(large: Report) -> None:
    for graph in _pictures(render_html(large))[:2]:
        bodies = [e for e in graph.iter() if e.get("class") == "body"]
        places = sorted((float(e.get("x", "")), float(e.get("y", ""))) for e in bodies)
        width, height = float(bodies[0].get("width", "")), float(bodies[0].get("height", ""))
        for i, (x, y) in enumerate(places):
            for other_x, other_y in places[i + 1 :]:
                assert abs(x - other_x) >= width or abs(y - other_y) >= height


def test_shared_bytes_are_hatched(full: Report) -> None:
    memory = next(p for p in _pictures(render_html(full)) if "RAM" in "".join(p[0].itertext()))
    hatched = [e for e in memory.iter() if e.get("fill") == "url(#memory-hatch)"]
    tips = [e.get("data-tip") for e in hatched]
    assert "x and act share 256 bytes" in tips or "act and x share 256 bytes" in tips


def test_one_epoch_and_one_class_are_drawn() -> None:
    report = full_report(history=HISTORY[:1], confusion=[[5]], classes=["only"])
    assert {"training", "confusion"} <= set(_sections(report))


def hybrid(floats: int, exact: int) -> list[dict[str, object]]:
    """A history of float epochs, then exact ones, without times; the float ones look better."""
    rows = [HISTORY[i % 10] for i in range(floats + exact)]
    return [
        {
            **{k: v for k, v in row.items() if k != "seconds"},
            "epoch": i + 1,
            "phase": "float" if i < floats else "exact",
            "val_accuracy": 0.9 if i < floats else 0.6 + 0.001 * (i % 7),
        }
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(("floats", "exact"), [(1, 1), (6, 14), (18, 2), (1, 299), (200, 100)])
def test_where_integers_begin_is_marked(floats: int, exact: int) -> None:
    report = full_report(history=hybrid(floats, exact))
    page = render_html(report)
    for id_ in ("loss", "accuracy"):
        drawn = next(p for p in _pictures(page) if p.get("aria-labelledby", "").startswith(id_))
        (mark,) = (e for e in drawn.iter() if e.get("class") == "switch")
        at = float(mark.attrib["x1"].rstrip("%"))
        assert at == pytest.approx(100 * (floats - 0.5) / (floats + exact - 1), abs=0.01)
        words = "".join(drawn.itertext())
        assert ("← float" in words) != ("integers →" in words)
    assert "validation, float network" in page and "validation, integers" in page
    assert report.best.phase == "exact", "what is not deployed is not the best"


def test_one_phase_has_no_mark() -> None:
    for history in (HISTORY, hybrid(3, 0), hybrid(0, 3)):
        assert 'class="switch"' not in render_html(full_report(history=history))
    page = _Page(render_html(full_report(history=hybrid(3, 0))))
    assert "validated in float" in page.text
    assert "Validation runs the chip" not in page.text


@pytest.mark.parametrize("amount", [1, 20, 300])
def test_histories_of_any_length_are_drawn_with_and_without_times(amount: int) -> None:
    history = [{**HISTORY[i % 10], "epoch": i + 1} for i in range(amount)]
    plural = "" if amount == 1 else "s"
    page = render_html(full_report(history=history))
    assert f"{amount} epoch{plural} in {amount * 1.25:,.0f} s." in page
    assert page.count("1.3 s") + page.count("1.2 s") == 2 * amount, "under the pointer, in both"
    timeless = render_html(full_report(history=hybrid(0, amount)))
    assert f"{amount} epoch{plural}." in timeless and "1.2 s" not in timeless


def test_a_hundred_classes_are_drawn() -> None:
    counts = [[3 if i == j else (i + j) % 2 for j in range(100)] for i in range(100)]
    report = full_report(confusion=counts, classes=[f"class number {i}" for i in range(100)])
    assert len(_pictures(render_html(report))) == 8


def test_a_network_without_nodes_has_no_pictures(bare: Report) -> None:
    empty: tuple[Step, ...] = ()
    assert _sections(replace(bare, steps=empty, lifetimes=())) == []


@pytest.mark.parametrize("amount", [3, 4, 7, 8, 9, 13, 26])
def test_edges_end_at_boxes_for_any_number_of_nodes(amount: int) -> None:
    large = large_report(amount)
    last = replace(large.steps[-1], reads=(*large.steps[-1].reads, "x"))  # over every column
    report = replace(large, steps=(*large.steps[:-1], last))
    for graph in _pictures(render_html(report))[:2]:
        bodies = [e for e in graph.iter() if e.get("class") == "body"]
        assert len(bodies) == amount + 2
        lefts = {round(float(e.get("x", "")), 1) for e in bodies}
        tops = {round(float(e.get("y", "")), 1) for e in bodies}
        width = float(bodies[0].get("width", ""))
        middles = {round(left + width / 2, 1) for left in lefts}
        for edge in (e for e in graph.iter() if e.get("class", "").startswith("edge")):
            head = edge.get("d", "").split("M")[2].split("L")[1]  # the tip of the arrow
            x, y = map(float, head.split())
            into_top = (
                min(abs(x - m) for m in middles) < 0.2 and min(abs(y - t) for t in tops) < 0.2
            )
            assert into_top or min(abs(x - left) for left in lefts) < 0.2


def test_no_address_is_in_the_page(bare: Report) -> None:
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", render_html(bare))
