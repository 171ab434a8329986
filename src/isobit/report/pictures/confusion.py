"""Confusion matrix: true class by row, answer by column; errors have a scale of their own."""

from __future__ import annotations

from isobit.report import units
from isobit.report.report import Confusion, Report
from isobit.report.svg import Markup, every, join, label, legend, pct, picture, shorten, tag, text

_NAME_MOST = 14
_ERRORS_MOST = 8


def draw(report: Report) -> str:
    """Return the picture; "" without counts."""
    table = report.confusion
    if table is None or not table.total:
        return ""
    amount = len(table.classes)
    cell = 34 if amount <= 12 else 26 if amount <= 25 else 640 / amount
    skip = every(amount, 25)
    names = [shorten(name, _NAME_MOST) for name in table.classes]
    longest = max(map(len, names))
    upright = longest <= 3 and amount <= 25
    left = 30 + 7 * longest
    worst = max(
        (c for i, row in enumerate(table.counts) for j, c in enumerate(row) if i != j), default=0
    )
    body: list[Markup] = []
    for i in range(0, amount, skip):
        y = (i + 0.5) * cell + 4
        body.append(label(names[i], "-8", y, "tick end"))
        body.append(_column_name(names[i], (i + 0.5) / amount, upright))
    for i, row in enumerate(table.counts):
        body += [_cell(table, i, j, cell, worst) for j in range(amount)]
        if amount <= 25:
            share = row[i] / sum(row) if sum(row) else None
            shown = "" if share is None else units.percent(share)
            body.append(
                tag("text", text(shown), x="100%", y=(i + 0.5) * cell + 4, dx=8, class_="figure")
            )
    whole = picture(
        join(body),
        id_="confusion",
        title="Confusion matrix",
        desc=_description(table),
        height=amount * cell,
        margin=(24 if upright else 14 + 5.2 * longest, 62 if amount <= 25 else 8, 4, left),
        min_width=amount * 26 if amount <= 25 else 0,
    )
    widest = left + 62 + amount * 44 if amount <= 12 else 860
    key = legend([("right", "right"), ("wrong", "wrong, on a scale of its own")])
    matrix = tag("div", key, whole, class_="matrix", style=f"max-width:{widest}px")
    return join([matrix, _frequent(table)])


def _column_name(name: str, x: float, upright: bool) -> Markup:
    if upright:
        return label(name, pct(x), -8, "tick middle")
    turned = label(name, 0, 0, "tick", transform="rotate(-45)")
    return tag("svg", turned, x=pct(x), y=-8, overflow="visible", width=1, height=1)


def _cell(table: Confusion, i: int, j: int, size: float, worst: int) -> Markup:
    amount, value = len(table.classes), table.counts[i][j]
    total = sum(table.counts[i])
    strength = (value / total if total else 0.0) if i == j else (value / worst if worst else 0.0)
    if i != j:
        strength *= 0.75
    class_ = "right" if i == j else "wrong"
    x, y = pct(j / amount), i * size
    box = tag("rect", x=x, y=y, width=pct(1 / amount), height=size, class_="cell empty")
    parts = [box]
    if value:
        parts.append(
            tag(
                "rect",
                x=x,
                y=y,
                width=pct(1 / amount),
                height=size,
                class_=f"cell {class_}",
                fill_opacity=0.1 + 0.9 * strength,
            )
        )
    if amount <= 25 and value:
        strong = "strong-cell" if strength > 0.55 else ""
        words = label(
            value, pct((j + 0.5) / amount), y + size / 2 + 4, f"count middle {strong}".strip()
        )
        parts.append(words)
    what = "right" if i == j else f"taken for {table.classes[j]}"
    tip = f"{table.classes[i]} {what}: {units.count(value)} of {units.count(total)}"
    return tag("g", *parts, class_="mark", data_tip=tip)


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
