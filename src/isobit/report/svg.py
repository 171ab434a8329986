"""Small pure functions that write markup: escaped tags, scales, axes, bars.

Everything that ends up in a page goes through `tag` and `text`; `Markup` is a type of its own, so
that mypy refuses an unescaped string as a child. Pictures have a fixed height in pixels and x in
percent of their width: text keeps its size on a phone and on a desk. Margins hold axis labels,
which are drawn outside the picture's own box.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

Markup = NewType("Markup", str)
"""A string that is already escaped."""

_VOID = frozenset({"meta", "br", "col"})
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(value: object) -> Markup:
    """Return text escaped for content and attributes; what XML forbids becomes U+FFFD."""
    return Markup(html.escape(_NOT_XML.sub("\ufffd", str(value)), quote=True))


def prose(words: str) -> Markup:
    """Return escaped text of ours, a percent sign kept on the line of its number."""
    return text(words.replace(" %", "\u00a0%"))


def join(parts: Iterable[Markup], between: str = "") -> Markup:
    """Return the parts one after the other."""
    return Markup(between.join(parts))


def tag(name: str, *children: Markup, **attributes: object) -> Markup:
    """Return `<name ...>children</name>`; `class_` is `class`, `a_b` is `a-b`, `None` is left out.

    Floats are written with at most two decimals, so that the bytes do not depend on rounding noise.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{shown} />")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def number(value: float) -> str:
    """Return a coordinate: at most two decimals, no trailing zeros, no negative zero."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def pct(fraction: float) -> str:
    """Return a fraction of the picture's width as an SVG length."""
    return f"{number(fraction * 100)}%"


def _value(value: object) -> str:
    if isinstance(value, float):
        return number(value)
    return text(value).replace("\n", "&#10;")  # a plain one is a space to XML


def picture(
    body: Markup,
    *,
    id_: str,
    title: str,
    desc: str,
    height: float,
    margin: tuple[float, float, float, float] = (0, 0, 0, 0),
    min_width: float = 0,
    class_: str = "",
) -> Markup:
    """Return an SVG as wide as its column, with title and description for those who cannot see it.

    margin: (top, right, bottom, left) pixels around the box for labels. min_width: pixels below
    which it scrolls.
    """
    top, right, bottom, left = map(number, margin)
    inner = f"calc(100% - {number(margin[1] + margin[3])}px)"
    floor = f"min-width:{number(min_width)}px;" if min_width else ""
    svg = tag(
        "svg",
        tag("title", text(title), id=f"{id_}-title"),
        tag("desc", text(desc), id=f"{id_}-desc"),
        body,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_labelledby=f"{id_}-title {id_}-desc",
        class_=f"picture {class_}".strip(),
        width="100%",
        height=height,
        style=f"{floor}width:{inner};margin:{top}px {right}px {bottom}px {left}px",
    )
    return tag(
        "div",
        svg,
        class_="scroll",
        tabindex=0 if min_width else None,
        role="region" if min_width else None,
        aria_label=title if min_width else None,
    )


def clipped(x: str, y: float, width: str, height: float, *children: Markup) -> Markup:
    """Return children in a box of their own that cuts off what does not fit."""
    return tag("svg", *children, x=x, y=y, width=width, height=height, overflow="hidden")


def label(words: object, x: object, y: float, class_: str = "", **attributes: object) -> Markup:
    """Return a text element."""
    return tag("text", text(words), x=x, y=y, class_=class_ or None, **attributes)


def shorten(words: str, characters: int) -> str:
    """Return at most `characters` characters, with an ellipsis where something was cut."""
    if len(words) <= characters:
        return words
    return words[: max(characters - 1, 1)] + "…"


def ending(words: str, characters: int) -> str:
    """Return at most the last `characters` characters: the part in which dotted names differ."""
    if len(words) <= characters:
        return words
    return "…" + words[len(words) - max(characters - 1, 1) :]


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear: domain `low..high` to range `start..end`."""

    low: float
    high: float
    start: float = 0.0
    end: float = 1.0

    def __call__(self, value: float) -> float:
        """Return the place of a value; the middle of the range where the domain is a point."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return about `most` round values (1, 2 or 5 times a power of ten apart) in low..high."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def grid_lines(scale: Scale, values: Iterable[tuple[float, str]]) -> Markup:
    """Return horizontal lines with their labels in the left margin."""
    lines = []
    for value, words in values:
        y = scale(value)
        lines.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        lines.append(label(words, "-8", y + 4, "tick end"))
    return join(lines)


def every(amount: int, most: int) -> int:
    """Return the distance between labels so that at most `most` of `amount` are shown."""
    return max(1, math.ceil(amount / most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stretch of a bar."""

    value: float
    class_: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row: `mark` (a number) and name, the parts end to end, then what they add up to."""

    mark: str
    name: str
    parts: tuple[Part, ...]
    shown: str
    aside: str = ""
    tip: str = ""


BAR_PITCH = 24
BAR_MARGIN = 148
_BAR_REACH = 0.7


def bars(rows: Iterable[Bar], *, id_: str, title: str, desc: str) -> Markup:
    """Return bars from 0, one row each; the longest leaves room for the numbers behind it."""
    listed = list(rows)
    longest = max((sum(p.value for p in row.parts) for row in listed), default=0.0) or 1.0
    drawn = []
    for index, row in enumerate(listed):
        y = index * BAR_PITCH
        at = 0.0
        pieces = [
            tag("rect", x="0", y=y, width="100%", height=BAR_PITCH, class_="row"),
            label(row.mark, -BAR_MARGIN + 18, y + 16, "tick end"),
            label(shorten(row.name, 17), -BAR_MARGIN + 26, y + 16, "mono"),
        ]
        for part in row.parts:
            width = part.value / longest * _BAR_REACH
            if part.value:
                pieces.append(
                    tag("rect", x=pct(at), y=y + 5, width=pct(width), height=14, class_=part.class_)
                )
            at += width
        aside = tag("tspan", text(row.aside), dx=8, class_="aside") if row.aside else Markup("")
        pieces.append(
            tag("text", text(row.shown), aside, x=pct(at), y=y + 16, dx=8, class_="figure")
        )
        drawn.append(tag("g", *pieces, class_="mark", data_tip=row.tip or None))
    axis = tag("line", x1="0", x2="0", y1="0", y2="100%", class_="axis")
    return picture(
        join([*drawn, axis]),
        id_=id_,
        title=title,
        desc=desc,
        height=len(listed) * BAR_PITCH,
        margin=(0, 0, 0, BAR_MARGIN),
        class_="bars",
    )


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Return (class of the swatch, words) pairs as a line of text above a picture."""
    items = [
        tag("li", tag("i", class_=f"swatch {class_}", aria_hidden="true"), text(words))
        for class_, words in entries
    ]
    return tag("ul", *items, class_="legend")
