"""Training: loss, and accuracy with validation on the chip's integers, by epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isobit.report import units
from isobit.report.report import Epoch, Report
from isobit.report.svg import (
    Markup,
    Scale,
    every,
    grid_lines,
    join,
    label,
    legend,
    number,
    pct,
    picture,
    tag,
    text,
    ticks,
)

HEIGHT = 220
MARGIN = (14, 14, 40, 56)
_POINTS_MOST = 60


def draw(report: Report) -> str:
    """Return both panels side by side; "" without a history."""
    epochs = report.epochs
    if not epochs:
        return ""
    best = max(epochs, key=lambda e: (e.val_accuracy, -e.epoch))
    return join(
        [
            tag(
                "div",
                tag("h3", text("Loss")),
                legend([("line loss", "training")]),
                _loss(epochs),
            ),
            tag(
                "div",
                tag("h3", text("Accuracy")),
                legend([("line val", "validation, integers"), ("line train", "training")]),
                _accuracy(epochs, best),
            ),
        ]
    )


def _loss(epochs: Sequence[Epoch]) -> Markup:
    top = max(e.loss for e in epochs)
    values = ticks(0, top, 4) if top > 0 else [0.0]
    y = Scale(0, max(top, values[-1]) or 1.0, HEIGHT, 0)
    return _panel(
        epochs,
        y,
        [(v, f"{v:g}") for v in values],
        [("loss", lambda e: e.loss)],
        id_="loss",
        title="Training loss by epoch",
        desc=f"From {epochs[0].loss:.4f} to {epochs[-1].loss:.4f} in {len(epochs)} epochs.",
    )


def _accuracy(epochs: Sequence[Epoch], best: Epoch) -> Markup:
    shown = [a for e in epochs for a in (e.train_accuracy, e.val_accuracy)]
    low, high = min(shown), max(shown)
    values = ticks(low - max((high - low) * 0.1, 0.01), min(high + 0.01, 1.0), 4)
    floor = max(0.0, min([low - 0.005, *values]))
    y = Scale(floor, max([high + 0.002, *values]), HEIGHT, 0)
    step = values[1] - values[0] if len(values) > 1 else 0.01
    digits = 0 if step >= 0.0099 else 1 if step >= 0.00099 else 2
    return _panel(
        epochs,
        y,
        [(v, f"{v * 100:.{digits}f} %") for v in values if v >= floor],
        [("train", lambda e: e.train_accuracy), ("val", lambda e: e.val_accuracy)],
        id_="accuracy",
        title="Accuracy by epoch",
        desc=(
            "Validation on the chip's integers: "
            f"{units.accuracy(epochs[-1].val_accuracy)} at the end, best "
            f"{units.accuracy(best.val_accuracy)} in epoch {best.epoch}."
        ),
    )


def _panel(
    epochs: Sequence[Epoch],
    y: Scale,
    lines: Sequence[tuple[float, str]],
    curves: Sequence[tuple[str, Callable[[Epoch], float]]],
    *,
    id_: str,
    title: str,
    desc: str,
) -> Markup:
    x = Scale(0, max(len(epochs) - 1, 1))
    body = [grid_lines(y, lines)]
    for class_, read in curves:
        places = [(x(i), y(read(e))) for i, e in enumerate(epochs)]
        body.append(_curve(places, class_))
        if len(epochs) <= _POINTS_MOST:
            body += [
                tag("circle", cx=pct(px), cy=py, r=2.5, class_=f"point {class_}")
                for px, py in places
            ]
        body.append(
            tag("circle", cx=pct(places[-1][0]), cy=places[-1][1], r=4, class_=f"point {class_}")
        )
    skip = every(len(epochs), 10)
    for i, epoch in enumerate(epochs):
        if i % skip == 0:
            body.append(label(epoch.epoch, pct(x(i)), HEIGHT + 18, "tick middle"))
        width = 1 / max(len(epochs) - 1, 1)
        hit = tag(
            "rect", x=pct(x(i) - width / 2), y=0, width=pct(width), height=HEIGHT, class_="hit"
        )
        rule = tag("line", x1=pct(x(i)), x2=pct(x(i)), y1=0, y2=HEIGHT, class_="rule")
        body.append(tag("g", hit, rule, class_="mark", data_tip=_tip(epoch)))
    body.append(label("epoch", "50%", HEIGHT + 36, "tick middle"))
    return picture(join(body), id_=id_, title=title, desc=desc, height=HEIGHT, margin=MARGIN)


def _curve(places: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return a line in a box that stretches with the picture's width; its stroke does not."""
    path = "M" + "L".join(f"{number(x * 1000)} {number(y)}" for x, y in places)
    return tag(
        "svg",
        tag("path", d=path, class_=f"curve {class_}", vector_effect="non-scaling-stroke"),
        x=0,
        y=0,
        width="100%",
        height=HEIGHT,
        viewBox=f"0 0 1000 {HEIGHT}",
        preserveAspectRatio="none",
        overflow="visible",
    )


def _tip(epoch: Epoch) -> str:
    return (
        f"epoch {epoch.epoch}\nloss {epoch.loss:.4f}\n"
        f"validation {units.accuracy(epoch.val_accuracy)}\n"
        f"training {units.accuracy(epoch.train_accuracy)}\n"
        f"learning rate {epoch.learning_rate:.3g}\n{epoch.seconds:,.1f} s"
    )
