"""The picture of a graph: well-formed, complete, and independent of anything but the graph."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from isobit.report.graph_svg import render_graph

from .cases import small_plan

SVG = "{http://www.w3.org/2000/svg}"


def test_every_node_and_port_is_a_box_with_its_name_and_tip() -> None:
    graph = small_plan().graph
    root = ElementTree.fromstring(render_graph(graph, {"act": "net/Relu;net/Bias"}))
    assert root.tag == f"{SVG}svg"
    boxes = [g for g in root.iter(f"{SVG}g") if "box" in g.get("class", "")]
    assert len(boxes) == len(graph.nodes) + 2
    tips = [box.findtext(f"{SVG}title") or "" for box in boxes]
    assert "tensor net/Relu;net/Bias" in tips[1] and "8×8×4 s8" in tips[1]
    for node, tip in zip(graph.nodes, tips[1:], strict=False):
        assert node.op in tip and node.outputs[0].name in tip
    arrows = [p for p in root.iter(f"{SVG}path") if "edge" in p.get("class", "")]
    assert len(arrows) == len(graph.nodes) + 1


def test_the_box_of_the_file_holds_every_mark() -> None:
    root = ElementTree.fromstring(render_graph(small_plan().graph))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert root.get("viewBox") == f"0 0 {width:.0f} {height:.0f}"
    bodies = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "body"]
    assert bodies
    for body in bodies:
        assert 0 <= float(body.get("x", -1)) <= width - float(body.get("width", 0))
        assert 0 <= float(body.get("y", -1)) <= height - float(body.get("height", 0))


def test_it_asks_nothing_of_the_network_and_follows_the_colour_scheme() -> None:
    shown = render_graph(small_plan().graph)
    assert shown == render_graph(small_plan().graph)
    assert "prefers-color-scheme: dark" in shown
    links = re.findall(r"https?://[^\"' )]+", shown)
    assert links == ["http://www.w3.org/2000/svg"]
    assert "<script" not in shown and "url(" not in shown


def test_names_cannot_break_out() -> None:
    graph = replace(small_plan().graph, name="<b>&\"'\u0001")
    names = {"act": "</title><script>alert(1)</script>\u0000"}
    shown = render_graph(graph, names)
    ElementTree.fromstring(shown)
    assert "<script" not in shown and "<b>" not in shown
