"""Training: loss, and accuracy with validation on the chip's integers, by epoch; where a float
network was trained first, a mark where the integers begin.
"""

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
MARGIN = (24, 14, 40, 56)
_POINTS_MOST = 60
_LATE = 0.7
"""Right of it a word stands at the left of the mark that it belongs to."""


def draw(report: Report) -> str:
    """Return both panels side by side; "" without a history."""
    epochs = report.epochs
    if not epochs:
        return ""
    floats = report.float_epochs
    shown = [("line val", "validation, integers")] if floats < len(epochs) else []
    shown += [("line float", "validation, float network")] if floats else []
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
                legend([*shown, ("line train", "training")]),
                _accuracy(epochs, report.best),
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
            f"Validation {_how(epochs[-1])}: "
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
    x = Scale(0, len(epochs) - 1)
    body = [grid_lines(y, lines)]
    body += _switch(epochs, x)
    for name, read in curves:
        places = [(x(i), y(read(e))) for i, e in enumerate(epochs)]
        for class_, own in _parts(name, epochs, places):
            body.append(_curve(own, class_))
            few = own if len(epochs) <= _POINTS_MOST else []
            body += [_point(place, 2.5, class_) for place in few]
            if own[-1] == places[-1] or len(own) == 1:
                body.append(_point(own[-1], 4, class_))
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


def _point(place: tuple[float, float], radius: float, class_: str) -> Markup:
    return tag("circle", cx=pct(place[0]), cy=place[1], r=radius, class_=f"point {class_}")


def _parts(
    name: str, epochs: Sequence[Epoch], places: Sequence[tuple[float, float]]
) -> list[tuple[str, Sequence[tuple[float, float]]]]:
    """Return a curve's classes and points: validation is another thing in each phase, and the two
    are not joined.
    """
    if name != "val":
        return [(name, places)]
    phases = {"float": "float", "exact": "val"}
    found = [
        (class_, [p for p, e in zip(places, epochs, strict=True) if e.phase == phase])
        for phase, class_ in phases.items()
    ]
    return [(class_, own) for class_, own in found if own]


def _switch(epochs: Sequence[Epoch], x: Scale) -> list[Markup]:
    """Return the mark between the float epochs and the exact ones."""
    floats = sum(epoch.phase == "float" for epoch in epochs)
    if not 0 < floats < len(epochs):
        return []
    at = (x(floats - 1) + x(floats)) / 2
    line = tag("line", x1=pct(at), x2=pct(at), y1=-18, y2=HEIGHT, class_="switch")
    words = "\u2190 float" if at > _LATE else "integers \u2192"
    side = "tick end" if at > _LATE else "tick"
    dx = -6 if at > _LATE else 6
    return [line, tag("text", text(words), x=pct(at), y=-9, dx=dx, class_=side)]


def _how(epoch: Epoch) -> str:
    return "on the chip's integers" if epoch.phase == "exact" else "in float"


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
    taken = "" if epoch.seconds is None else f"\n{epoch.seconds:,.1f} s"
    return (
        f"epoch {epoch.epoch}\nloss {epoch.loss:.4f}\n"
        f"validation {units.accuracy(epoch.val_accuracy)}, {_how(epoch)}\n"
        f"training {units.accuracy(epoch.train_accuracy)}\n"
        f"learning rate {epoch.learning_rate:.3g}{taken}"
    )
