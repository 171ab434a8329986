"""The graph: a box per node in execution order, an arrow per activation, branches in lanes.

The order of execution runs down one column, then down the next. A column ends where few edges
cross, so that a block with its branch stays together; whatever crosses runs through the gap between
the columns. Lanes are given out first fit by where they start: O(edges * lanes), optimal for
intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isobit.report import units
from isobit.report.report import Port, Report, Step
from isobit.report.svg import Markup, ending, join, label, picture, shorten, tag, text

WIDE = 1040
NARROW = 340
BOX_HEIGHT = 46
PITCH = 66
LANE = 11
MARGIN = 6
_BOX_MOST = 330.0
_OP_WIDTH = 8.7
_MONO_WIDTH = 7.0


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `mark`, `title` and `name` above, `shape` and `note` below. `reads` and `writes` are
    value names; `tip` is what a pointer shows; `class_`: box, and port, view, weighted or plain.
    """

    mark: str
    title: str
    name: str
    shape: str
    note: str
    class_: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tip: str


@dataclass(frozen=True, slots=True)
class Edge:
    """From the box that writes a value to one that reads it, by their places in the order."""

    source: int
    target: int


def draw(report: Report) -> str:
    """Return the picture for wide and for narrow screens (the style sheet shows one).

    "" without nodes.
    """
    if not report.steps:
        return ""
    boxes = [*map(_input, report.inputs), *map(_step, report.steps), *map(_output, report.outputs)]
    edges = edges_between(boxes)
    columns = min(3, -(-len(boxes) // 4))
    desc = f"{len(report.steps)} nodes in execution order: " + ", ".join(s.op for s in report.steps)
    wide = drawing(boxes, edges, column_breaks(len(boxes), edges, columns), WIDE)
    narrow = drawing(boxes, edges, [0, len(boxes)], NARROW)
    return join(_frame(kind, size, desc) for kind, size in (("wide", wide), ("narrow", narrow)))


def _frame(kind: str, drawn: tuple[Markup, float, float], desc: str) -> Markup:
    body, width, height = drawn
    whole = picture(
        body,
        id_=f"network-{kind}",
        title="The network's graph",
        desc=desc,
        height=height,
    )
    return tag("div", whole, class_=f"{kind}-only graph", style=f"width:{width:.0f}px")


def _input(port: Port) -> Box:
    return _port(port, "input", (), (port.name,))


def _output(port: Port) -> Box:
    return _port(port, "output", (port.name,), ())


def _port(port: Port, title: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> Box:
    shape = f"{units.shape(port.shape)} {port.dtype}"
    tip = f"{title} {port.name}: {shape}" + (f"\ntensor {port.tensor}" if port.tensor else "")
    return Box("", title, port.name, shape, "", "box port", reads, writes, tip)


def _step(step: Step) -> Box:
    cost = step.cost
    shape = f"{units.shape(step.shape)} {step.dtype}"
    lines = [f"{step.index}  {step.op}  {step.name}", f"output {shape}", f"kernel {step.kernel}"]
    lines += [f"{units.count(cost.macs)} MACs"] if cost.macs else []
    lines += (
        [f"{units.count(cost.instructions)} instructions"] if cost.instructions is not None else []
    )
    lines += [step.source] if step.source else []
    lines += [f"tensor {step.tensor}"] if step.tensor else []
    kind = "view" if step.is_view else "weighted" if cost.macs else "plain"
    note = "view, no code" if step.is_view else step.kernel
    return Box(
        str(step.index),
        step.op,
        step.name,
        shape,
        note,
        f"box {kind}",
        step.reads,
        step.writes,
        "\n".join(lines),
    )


def edges_between(boxes: list[Box]) -> list[Edge]:
    """Return an edge per box and value that it reads."""
    found = []
    made_by: dict[str, int] = {}
    for index, box in enumerate(boxes):
        found += [
            Edge(made_by[name], index) for name in dict.fromkeys(box.reads) if name in made_by
        ]
        made_by.update(dict.fromkeys(box.writes, index))
    return found


def column_breaks(amount: int, edges: list[Edge], columns: int) -> list[int]:
    """Return where columns start, and the end: near equal heights, where the fewest edges cross."""
    breaks = [0]
    for column in range(1, columns):
        ideal = column * amount / columns
        reach = max(1, amount // (4 * columns))
        near = range(
            max(breaks[-1] + 1, round(ideal) - reach), min(amount, round(ideal) + reach + 1)
        )
        crossing = {cut: sum(e.source < cut <= e.target for e in edges) for cut in near}
        breaks.append(min(near, key=lambda cut: (crossing[cut], abs(cut - ideal))))
    return [*breaks, amount]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything is, in pixels. `lanes` and `channels` are by the box an edge starts at."""

    column: dict[int, int]
    row: dict[int, int]
    left: list[float]
    box_width: float
    gap: float
    top: float
    lanes: dict[int, int]
    channels: dict[int, int]

    def y(self, index: int) -> float:
        """The top of a box."""
        return self.top + self.row[index] * PITCH

    @property
    def width(self) -> float:
        """Of the whole picture."""
        return self.left[-1] + self.box_width + MARGIN

    @property
    def height(self) -> float:
        """Of the whole picture."""
        return self.top + max(self.row.values()) * PITCH + BOX_HEIGHT + MARGIN


def drawing(
    boxes: list[Box], edges: list[Edge], breaks: list[int], width: float, *, alone: bool = False
) -> tuple[Markup, float, float]:
    """Return (markup, width, height) of boxes in columns that start at `breaks`, `width` pixels at
    most. alone: for a file without the page's script, so that the viewer itself shows the tips.
    """
    layout = _layout(edges, breaks, width)
    drawn = [_arrow(*_route(edge, layout)) for edge in edges]
    for i, box in enumerate(boxes):
        left, top = layout.left[layout.column[i]], layout.y(i)
        drawn.append(_rect(box, left, top, layout.box_width, alone=alone))
    return join(drawn), layout.width, layout.height


def _layout(edges: list[Edge], breaks: list[int], width: float) -> _Layout:
    columns = len(breaks) - 1
    column = {i: c for c in range(columns) for i in range(breaks[c], breaks[c + 1])}
    skips = [e for e in edges if column[e.source] == column[e.target] and e.target > e.source + 1]
    crossings = [e for e in edges if column[e.source] != column[e.target]]
    lanes = _lanes(skips)
    channels = {source: i for i, source in enumerate(dict.fromkeys(e.source for e in crossings))}
    gap = 40 + LANE * max(len(channels) - 1, 0) / 2 if columns > 1 else 0.0
    inset = []
    for c in range(columns):
        depth = max((lanes[e.source] + 1 for e in skips if column[e.source] == c), default=0)
        inset.append(float(MARGIN + (LANE * depth + 6 if depth else 0)))
    free = width - sum(inset) - gap * (columns - 1) - MARGIN
    box_width = min(free / columns, _BOX_MOST)
    left = [sum(inset[: c + 1]) + c * (box_width + gap) for c in range(columns)]
    far = any(column[e.target] > column[e.source] + 1 for e in crossings)
    return _Layout(
        column=column,
        row={i: i - breaks[c] for i, c in column.items()},
        left=left,
        box_width=box_width,
        gap=gap,
        top=float(MARGIN + (14 if far else 0)),
        lanes=lanes,
        channels=channels,
    )


def _route(edge: Edge, layout: _Layout) -> tuple[list[tuple[float, float]], str]:
    """Return the corners of an edge, and its class.

    To the next box straight down, further down the column by a lane at its left, to another column
    through the gap between them (above the columns that lie between).
    """
    a, b = layout.column[edge.source], layout.column[edge.target]
    left, y1, y2 = layout.left[a], layout.y(edge.source), layout.y(edge.target)
    middle = BOX_HEIGHT / 2
    if a == b and edge.target == edge.source + 1:
        x = left + layout.box_width / 2
        return [(x, y1 + BOX_HEIGHT), (x, y2)], "edge"
    if a == b:
        lane = left - 10 - LANE * layout.lanes[edge.source]
        start, end = y1 + middle + 8, y2 + middle - 8
        return [(left, start), (lane, start), (lane, end), (left, end)], "edge branch"
    out, end = left + layout.box_width, y2 + middle
    lane = out + 14 + (layout.channels[edge.source] * LANE) % max(layout.gap - 26, 1)
    points = [(out, y1 + middle + 6), (lane, y1 + middle + 6)]
    if b > a + 1:
        before = lane + layout.left[b] - left - layout.box_width - layout.gap
        points += [(lane, MARGIN), (before, MARGIN), (before, end)]
    else:
        points.append((lane, end))
    return [*points, (layout.left[b], end)], "edge"


def _lanes(skips: Iterable[Edge]) -> dict[int, int]:
    """Return a lane per source: first fit over the stretch from the source to its last reader."""
    ends: dict[int, int] = {}
    for edge in skips:
        ends[edge.source] = max(ends.get(edge.source, 0), edge.target)
    busy: list[int] = []
    found: dict[int, int] = {}
    for source in sorted(ends):
        lane = next((i for i, until in enumerate(busy) if until <= source), len(busy))
        busy[lane : lane + 1] = [ends[source]]
        found[source] = lane
    return found


def _arrow(points: list[tuple[float, float]], class_: str = "edge") -> Markup:
    """Return a line with rounded corners and a head at its end."""
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        (ax, ay), (bx, by) = (_towards(corner, before, 6), _towards(corner, after, 6))
        path.append(f"L{ax:.1f} {ay:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {bx:.1f} {by:.1f}")
    x, y = points[-1]
    path.append(f"L{x:.1f} {y:.1f}")
    across = points[-2][1] == y
    head = f"M{x - 6:.1f} {y - 3.5:.1f}L{x:.1f} {y:.1f}L{x - 6:.1f} {y + 3.5:.1f}"
    if not across:
        head = f"M{x - 3.5:.1f} {y - 6:.1f}L{x:.1f} {y:.1f}L{x + 3.5:.1f} {y - 6:.1f}"
    return tag("path", d="".join([*path, head]), class_=class_)


def _towards(
    start: tuple[float, float], end: tuple[float, float], most: float
) -> tuple[float, float]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    distance = abs(dx) + abs(dy)  # lines are horizontal or vertical
    share = min(most, distance / 2) / distance if distance else 0
    return start[0] + dx * share, start[1] + dy * share


def _rect(box: Box, x: float, y: float, width: float, *, alone: bool) -> Markup:
    inner = width - 24
    mark = tag("tspan", text(f"{box.mark} "), class_="index") if box.mark else Markup("")
    head = shorten(box.title, int(inner / _OP_WIDTH))
    space = int((inner - (len(head) + len(box.mark) + 2) * _OP_WIDTH) / _MONO_WIDTH)
    shape_space = int((inner - (len(box.note) + 2) * _MONO_WIDTH) / _MONO_WIDTH)
    parts = [tag("title", text(box.tip))] if alone else []
    parts += [
        tag(
            "rect",
            x=x,
            y=y,
            width=width,
            height=BOX_HEIGHT,
            rx=BOX_HEIGHT / 2 if "port" in box.class_ else 5,
            class_="body",
        ),
        tag("text", mark, text(head), x=x + 12, y=y + 19, class_="op"),
        label(shorten(box.shape, max(shape_space, 8)), x + 12, y + 36, "mono"),
    ]
    if space > 2:
        parts.append(label(ending(box.name, space), x + width - 12, y + 19, "mono soft end"))
    if box.note:
        parts.append(label(shorten(box.note, 24), x + width - 12, y + 36, "mono soft end"))
    if "weighted" in box.class_:
        parts.append(tag("rect", x=x, y=y + 8, width=3, height=BOX_HEIGHT - 16, class_="stripe"))
    return tag("g", *parts, class_=f"{box.class_} mark", data_tip=None if alone else box.tip)
