"""Confusion matrix: true class by row, answer by column; errors have a scale of their own."""

from __future__ import annotations

from isobit.report import units
from isobit.report.report import Confusion, Report
from isobit.report.svg import Markup, every, join, label, legend, pct, picture, shorten, tag, text

LABELLED_MOST = 25
"""Up to so many classes every cell has its number and every row its share."""
_NAME_MOST = 14
_ERRORS_MOST = 8
_STRONG = 0.6


def draw(report: Report) -> str:
    """Return the picture; "" without counts."""
    table = report.confusion
    if table is None or not table.total:
        return ""
    amount = len(table.classes)
    labelled = amount <= LABELLED_MOST
    size = 34 if amount <= 12 else 26 if labelled else 640 / amount
    longest = min(max(map(len, table.classes)), _NAME_MOST)
    upright = longest <= 3 and labelled
    left, right = 30 + 7 * longest, 62 if labelled else 8
    ground = tag("rect", x=0, y=0, width="100%", height=amount * size, class_="cell empty")
    body = [ground, *_names(table, size, upright), *_cells(table, size)]
    if labelled:
        body += [_share(row[i], sum(row), (i + 0.5) * size) for i, row in enumerate(table.counts)]
    whole = picture(
        join(body),
        id_="confusion",
        title="Confusion matrix",
        desc=_description(table),
        height=amount * size,
        margin=(24 if upright else 14 + 5.2 * longest, right, 4, left),
        min_width=amount * 26 if labelled else 0,
    )
    widest = left + right + amount * 44 if amount <= 12 else 860
    key = legend([("right", "right"), ("wrong", "wrong, on a scale of its own")])
    matrix = tag("div", key, whole, class_="matrix", style=f"max-width:{widest}px")
    return join([matrix, _frequent(table)])


def _names(table: Confusion, size: float, upright: bool) -> list[Markup]:
    """Class names at the left and on top; every second or so where there are many."""
    amount = len(table.classes)
    found = []
    for i in range(0, amount, every(amount, LABELLED_MOST)):
        name = shorten(table.classes[i], _NAME_MOST)
        found.append(label(name, "-8", (i + 0.5) * size + 4, "tick end"))
        x = pct((i + 0.5) / amount)
        if upright:
            found.append(label(name, x, -8, "tick middle"))
        else:
            turned = label(name, 0, 0, "tick", transform="rotate(-45)")
            found.append(tag("svg", turned, x=x, y=-8, overflow="visible", width=1, height=1))
    return found


def _share(right: int, total: int, y: float) -> Markup:
    shown = units.percent(right / total) if total else ""
    return tag("text", text(shown), x="100%", y=y + 4, dx=8, class_="figure")


def _cells(table: Confusion, size: float) -> list[Markup]:
    """Every cell while they are few; else only those with a count."""
    worst = max((count for count, _, _ in table.errors()), default=1)
    few = len(table.classes) <= LABELLED_MOST
    return [
        _cell(table, i, j, size, worst)
        for i, row in enumerate(table.counts)
        for j, value in enumerate(row)
        if value or few
    ]


def _cell(table: Confusion, i: int, j: int, size: float, worst: int) -> Markup:
    amount, value, total = len(table.classes), table.counts[i][j], sum(table.counts[i])
    few = amount <= LABELLED_MOST
    strength = value / max(total, 1) if i == j else 0.75 * value / worst
    box = {"x": pct(j / amount), "y": i * size, "width": pct(1 / amount), "height": size}
    parts = [tag("rect", **box, class_="cell empty")] if few else []
    if value:
        opacity = _opacity(strength) if few else 0.15 + 0.85 * strength
        class_ = "right" if i == j else "wrong"
        parts.append(tag("rect", **box, class_=f"cell {class_}", fill_opacity=opacity))
    if value and few:
        class_ = "count middle strong-cell" if strength >= _STRONG else "count middle"
        parts.append(label(value, pct((j + 0.5) / amount), i * size + size / 2 + 4, class_))
    what = "right" if i == j else f"taken for {table.classes[j]}"
    tip = f"{table.classes[i]} {what}: {units.count(value)} of {units.count(total)}"
    return tag("g", *parts, class_="mark", data_tip=tip)


def _opacity(strength: float) -> float:
    """Leave out the middle tones, on which neither dark nor light digits can be read."""
    if strength < _STRONG:
        return 0.1 + 0.35 * strength / _STRONG
    return 0.88 + 0.12 * (strength - _STRONG) / (1 - _STRONG)


def _description(table: Confusion) -> str:
    words = f"{units.count(table.right)} of {units.count(table.total)} examples right."
    for count, true, answer in table.errors()[:1]:
        words += f" Most frequent error: {true} taken for {answer}, {units.count(count)} times."
    return words


def _frequent(table: Confusion) -> Markup:
    errors = table.errors()[:_ERRORS_MOST]
    if not errors:
        return Markup("")
    items = [
        tag(
            "li",
            tag("b", text(units.count(count))),
            tag("span", text(true), tag("i", text(" taken for ")), text(answer)),
        )
        for count, true, answer in errors
    ]
    return tag("div", tag("h3", text("Most frequent errors")), tag("ol", *items), class_="errors")
