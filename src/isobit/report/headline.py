"""The top of the page: the verdict, the executions that were compared, and a card per figure."""

from __future__ import annotations

from isobit.report import units
from isobit.report.report import Report
from isobit.report.svg import Markup, join, prose, tag, text
from isobit.run.estimate import Estimate
from isobit.run.verify import GOLDEN_VECTORS, Comparison


def draw(report: Report) -> str:
    """Return verdict and cards."""
    return join([_verdict(report), _first_difference(report), _cards(report)])


def _verdict(report: Report) -> Markup:
    if not report.comparisons:
        words = tag(
            "p",
            text("Not verified yet: no execution was compared with the golden model."),
            class_="lead",
        )
        return tag("div", tag("h1", text(report.name)), words, class_="verdict")
    if report.changed:
        words = tag(
            "p",
            text(
                "The C in this folder is not the C that was compared with the golden model. "
                "`isobit verify` compares it."
            ),
            class_="lead",
        )
        title = tag("h1", tag("strong", text("Changed since verification")))
        return tag("div", title, words, class_="verdict different")
    differing = report.differing
    headline = tag(
        "h1",
        tag("strong", text(units.count(differing))),
        text(f" of {units.count(report.compared)} values differ"),
    )
    samples = max(c.samples for c in report.comparisons)
    plural = "" if samples == 1 else "s"
    inputs = f"{units.count(samples)} input{plural}"
    scope = f"Every value of every traced tensor, for {inputs}, against the golden model."
    return tag(
        "div",
        headline,
        _chain(report),
        tag("p", text(scope), class_="lead"),
        class_="verdict different" if differing else "verdict",
    )


def _chain(report: Report) -> Markup:
    """Golden = torch = host = cortex-m4, with a "not equal" sign where an execution differs."""
    links = [tag("li", tag("b", text("golden model")), tag("span", text("NumPy integers")))]
    for comparison in report.comparisons:
        sign, word = ("=", "equals") if comparison.equal else ("≠", "differs from")
        links.append(
            tag(
                "li",
                tag("i", text(sign), role="img", aria_label=word),
                tag("b", text(comparison.name)),
                tag("span", text(describe(comparison))),
                class_=None if comparison.equal else "unequal",
            )
        )
    return tag("ol", *links, class_="chain")


def describe(comparison: Comparison) -> str:
    """Return what ran, in a few words."""
    if comparison.emulator:
        return f"C on {comparison.emulator}"
    if comparison.compiler:
        return f"C by {comparison.compiler}"
    return "stored at deployment" if comparison.name == GOLDEN_VECTORS else "recorded trace"


def _first_difference(report: Report) -> Markup:
    different = next((c for c in report.comparisons if not c.equal), None)
    if different is None:
        return Markup("")
    first = different.first
    if first is None:
        words = text(f"{different.name}: a tensor has another shape than in the golden model.")
        return tag(
            "div",
            tag("h2", text("First difference")),
            tag("p", words),
            class_="alarm",
            role="alert",
        )
    facts = [
        ("execution", different.name),
        ("element", f"%{first.value}[{', '.join(map(str, first.index))}]"),
        ("golden model", f"{first.golden:,}"),
        (different.name, f"{first.other:,}"),
        ("in this tensor", f"{units.count(first.count)} values differ"),
        ("source", first.location),
    ]
    rows = [tag("div", tag("dt", text(k)), tag("dd", text(v))) for k, v in facts if v]
    return tag(
        "div", tag("h2", text("First difference")), tag("dl", *rows), class_="alarm", role="alert"
    )


def _cards(report: Report) -> Markup:
    estimate = report.estimate
    cards = []
    if report.accuracy is not None:
        on = f" on {report.accuracy_on}" if report.accuracy_on else ""
        value = units.accuracy(report.accuracy).removesuffix(" %")
        cards.append(_card("Accuracy", value, "%", f"classified right by the chip's integers{on}"))
    cards += [_ram(estimate), _flash(estimate)]
    if estimate.instructions is not None:
        value, unit = units.split_count(estimate.instructions)
        worst = ""
        if estimate.instructions_max and estimate.instructions_max - estimate.instructions >= 1:
            worst = f", at most {units.count(estimate.instructions_max)}"
        exact = f"{units.count(estimate.instructions)} " if unit else ""
        cards.append(_card("Instructions", value, unit, f"{exact}per inference, counted{worst}"))
    if estimate.milliseconds is not None:
        value, unit = units.split_milliseconds(estimate.milliseconds)
        clock = f"{estimate.clock_hz / 1e6:g} MHz"
        cards.append(_card("Time", value, unit, f"per inference, modelled at {clock}"))
    elif estimate.cycles is not None:
        value, unit = units.split_count(estimate.cycles)
        cards.append(
            _card("Cycles", value, unit, "per inference, modelled; this core has no fixed clock")
        )
    if estimate.macs:
        value, unit = units.split_count(estimate.macs)
        cards.append(
            _card("MACs", value, unit, "multiply-accumulates per inference, by definition")
        )
    return tag("div", *cards, class_="cards")


def _card(title: str, value: str, unit: str, words: str, meter: Markup | None = None) -> Markup:
    figure = tag("p", tag("strong", text(value)), tag("span", text(f" {unit}")), class_="value")
    rest = [meter] if meter is not None else []
    return tag(
        "section", tag("h2", text(title)), figure, *rest, tag("p", prose(words)), class_="card"
    )


def _meter(used: int, limit: int) -> Markup | None:
    """A thin bar: how much of the chip is used; `None` where the target has no limit."""
    if not limit:
        return None
    width = f"{min(used / limit, 1) * 100:.1f}%"
    return tag("div", tag("i", style=f"width:{width}"), class_="meter", aria_hidden="true")


def _of(used: int, limit: int) -> str:
    return f", {units.percent(used / limit)} of {units.short_bytes(limit)}" if limit else ""


def _ram(estimate: Estimate) -> Markup:
    ram = estimate.arena_bytes if estimate.ram_bytes is None else estimate.ram_bytes
    parts = "arena alone, not compiled"
    if estimate.ram_bytes is not None:
        stack = units.count(estimate.stack_bytes or 0)
        parts = f"arena {units.count(estimate.arena_bytes)} + stack {stack} bytes"
    value, unit = units.split_bytes(ram)
    words = f"{parts}{_of(ram, estimate.ram_limit_bytes)}"
    return _card("RAM", value, unit, words, _meter(ram, estimate.ram_limit_bytes))


def _flash(estimate: Estimate) -> Markup:
    flash = estimate.constant_bytes if estimate.flash_bytes is None else estimate.flash_bytes
    parts = "constants alone, not compiled"
    if estimate.flash_bytes is not None:
        code = estimate.flash_bytes - estimate.constant_bytes
        parts = f"constants {units.count(estimate.constant_bytes)} + code {units.count(code)} bytes"
    value, unit = units.split_bytes(flash)
    words = f"{parts}{_of(flash, estimate.flash_limit_bytes)}"
    return _card("Flash", value, unit, words, _meter(flash, estimate.flash_limit_bytes))
