"""RAM over time: x = nodes in execution order, y = address in the arena, a rectangle per buffer."""

from __future__ import annotations

from dataclasses import dataclass

from isobit.report import units
from isobit.report.report import Lifetime, Report
from isobit.report.svg import (
    Markup,
    Scale,
    clipped,
    ending,
    every,
    grid_lines,
    join,
    label,
    legend,
    pct,
    picture,
    tag,
    text,
    ticks,
)

HEIGHT = 320
MARGIN = (40, 4, 44, 74)
_WIDTH = 960
"""Roughly, on a desk; decides only which names have room."""
_LETTER = 7.2
_INDENT = 5
_SIZE_LEAST = 58
_END_LEAST = 10


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a name stands, in pixels at `_WIDTH`."""

    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: _Place) -> bool:
        """Whether the two overlap."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def draw(report: Report) -> str:
    """Return the picture; "" where nothing lies in the arena."""
    arena, amount = report.estimate.arena_bytes, len(report.steps)
    if not report.lifetimes or not amount or not arena:
        return ""
    y = Scale(0, arena, HEIGHT, 0)
    overlaps = _overlaps(report.lifetimes)
    body = [
        _hatch(),
        _peak(report),
        grid_lines(y, [(v, units.short_bytes(v)) for v in ticks(0, arena) if y(v) > 26]),
        *(_buffer(life, report, y) for life in report.lifetimes),
        *(_overlap(a, b, amount, y) for a, b in overlaps),
        *_names(report, y),
        tag("line", x1="0", x2="100%", y1="0", y2="0", class_="limit"),
        label("arena", "-8", -5, "tick end"),
        label(units.short_bytes(arena), "-8", 9, "tick end strong"),
        *_axis(report),
    ]
    peak = report.steps[report.peak_index]
    whole = picture(
        join(body),
        id_="memory",
        title="RAM over time",
        desc=(
            f"{len(report.lifetimes)} buffers in an arena of {units.count(arena)} bytes; the "
            f"highest address is in use while node {peak.index} ({peak.op}) runs. "
            f"{len(overlaps)} pairs of buffers share bytes."
        ),
        height=HEIGHT,
        margin=MARGIN,
        min_width=amount * 15,
    )
    keys = [("activation", "activation")]
    if any(_is_port(life, report) for life in report.lifetimes):
        keys.append(("ends", "network input or output"))
    if any(life.is_scratch for life in report.lifetimes):
        keys.append(("scratch", "scratch of one kernel"))
    if overlaps:
        keys.append(("hatched", "shared: the output is written over input that was already read"))
    return join([legend(keys), whole])


def _overlaps(lifetimes: tuple[Lifetime, ...]) -> list[tuple[Lifetime, Lifetime]]:
    """Return pairs that have bytes in common at the same time, as kernels declare they may."""
    return [
        (a, b)
        for i, a in enumerate(lifetimes)
        for b in lifetimes[i + 1 :]
        if max(a.first, b.first) <= min(a.last, b.last)
        and max(a.offset, b.offset) < min(a.end, b.end)
    ]


def _is_port(life: Lifetime, report: Report) -> bool:
    return any(port.name in life.values for port in (*report.inputs, *report.outputs))


def _buffer(life: Lifetime, report: Report, y: Scale) -> Markup:
    amount = len(report.steps)
    x, width = pct(life.first / amount), pct((life.last + 1 - life.first) / amount)
    top, height = y(life.end), y(life.offset) - y(life.end)
    kind = "scratch" if life.is_scratch else "ends" if _is_port(life, report) else "activation"
    parts = [
        tag("rect", x=x, y=top, width=width, height=max(height, 1.0), rx=2, class_=f"buffer {kind}")
    ]
    views = [v for v in life.values if v != life.name]
    lines = [
        f"{life.name}: {units.count(life.size_bytes)} bytes",
        f"address {units.count(life.offset)} to {units.count(life.end)}",
        f"nodes {life.first} to {life.last}" if life.last > life.first else f"node {life.first}",
    ]
    lines += [f"also {', '.join(views)} (views)"] if views else []
    return tag("g", *parts, class_="mark", data_tip="\n".join(lines))


def _names(report: Report, y: Scale) -> list[Markup]:
    """Names over everything else: largest buffers first, none over another.

    Where a name has no room, the number of the node that writes the buffer stands for it.
    """
    amount = len(report.steps)
    writer = {name: step.index for step in report.steps for name in step.writes}
    found: list[Markup] = []
    taken: list[_Place] = []
    for life in sorted(report.lifetimes, key=lambda b: (-b.size_bytes, b.first, b.name)):
        top, height = y(life.end), y(life.offset) - y(life.end)
        room = (life.last + 1 - life.first) / amount * _WIDTH
        words = _fitting(life, room, writer)
        line = top + min(15.0, height / 2 + 4)
        sized = height >= 34 and room >= _SIZE_LEAST
        left = life.first / amount * _WIDTH + _INDENT
        right = left + max(len(words) * _LETTER, _SIZE_LEAST if sized else 0.0)
        place = _Place(left, right, line - 11, line + (18 if sized else 3))
        if height < 13 or not words or any(place.meets(other) for other in taken):
            continue
        taken.append(place)
        lines = [label(words, _INDENT, line - top, "mono halo")]
        if sized:
            size = units.short_bytes(life.size_bytes)
            lines.append(label(size, _INDENT, line - top + 15, "soft small halo"))
        width = pct((life.last + 1 - life.first) / amount)
        found.append(clipped(pct(life.first / amount), top, width, height, *lines))
    return found


def _fitting(life: Lifetime, room: float, writer: dict[str, int]) -> str:
    """Return the name, its end if that is most of it, the writer's number, or ""."""
    letters = int((room - _INDENT - 2) / _LETTER)
    if letters >= min(len(life.name), _END_LEAST):
        return ending(life.name, letters)
    number = str(writer.get(life.name, ""))
    return number if len(number) <= letters else ""


def _overlap(a: Lifetime, b: Lifetime, amount: int, y: Scale) -> Markup:
    first, last = max(a.first, b.first), min(a.last, b.last)
    low, high = max(a.offset, b.offset), min(a.end, b.end)
    return tag(
        "rect",
        x=pct(first / amount),
        y=y(high),
        width=pct((last + 1 - first) / amount),
        height=y(low) - y(high),
        fill="url(#memory-hatch)",
        class_="mark",
        data_tip=f"{a.name} and {b.name} share {units.count(high - low)} bytes",
    )


def _hatch() -> Markup:
    line = tag("line", x1=0, x2=0, y1=0, y2=6, class_="hatch")
    pattern = tag(
        "pattern",
        line,
        id="memory-hatch",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    return tag("defs", pattern)


def _peak(report: Report) -> Markup:
    """The node at which the highest address is in use: a band, and its name above."""
    amount, index = len(report.steps), report.peak_index
    middle = (index + 0.5) / amount
    anchor = "start" if middle < 0.3 else "end" if middle > 0.7 else "middle"
    at = {"start": index / amount, "middle": middle, "end": (index + 1) / amount}[anchor]
    words = tag("tspan", text("peak "), class_="strong")
    step = report.steps[index]
    return join(
        [
            tag(
                "rect",
                x=pct(index / amount),
                y=-12,
                width=pct(1 / amount),
                height=HEIGHT + 12,
                class_="band",
            ),
            tag(
                "text",
                words,
                text(f"at node {index}, {step.op}"),
                x=pct(at),
                y=-20,
                text_anchor=anchor,
                class_="figure",
            ),
        ]
    )


def _axis(report: Report) -> list[Markup]:
    amount = len(report.steps)
    skip = every(amount, 30)
    marks = [tag("line", x1="0", x2="100%", y1=HEIGHT, y2=HEIGHT, class_="axis")]
    for step in report.steps[::skip]:
        x = pct((step.index + 0.5) / amount)
        marks.append(label(step.index, x, HEIGHT + 16, "tick middle"))
        if amount <= 10:
            marks.append(label(step.op, x, HEIGHT + 31, "tick middle roomy"))
    note = "roomless" if amount <= 10 else ""
    marks.append(
        label("node, in execution order", "50%", HEIGHT + 34, f"tick middle {note}".strip())
    )
    return marks
