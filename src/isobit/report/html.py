"""The page: one HTML file that asks nothing of the network, with equal bytes for equal reports.

Every string of the report passes `svg.text`. The page's policy allows its own style and the one
script whose hash it names, so that even a name that slipped through could not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isobit.report import headline, tables, units
from isobit.report.graph_svg import graph_style
from isobit.report.pictures import confusion, flash, instructions, memory, network, training
from isobit.report.report import Report
from isobit.report.svg import Markup, join, prose, tag, text

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading, a sentence or two that say how to read what follows, and the picture or table."""

    id_: str
    title: str
    lead: Callable[[Report], str]
    draw: Callable[[Report], str]


def render_html(report: Report) -> str:
    """Return the whole page. Sections without data are left out."""
    drawn = [(section, section.draw(report)) for section in _SECTIONS]
    shown = [(section, markup) for section, markup in drawn if markup]
    body = [
        _top(report),
        tag(
            "main",
            Markup(headline.draw(report)),
            _notes(report),
            tag(
                "nav",
                *(tag("a", text(s.title), href=f"#{s.id_}") for s, _ in shown),
                aria_label="Sections",
            ),
            *(_section(section, Markup(markup), report) for section, markup in shown),
        ),
        _footer(report),
        tag("div", id="tip", role="status", hidden="hidden"),
    ]
    lines = [
        Markup('<!doctype html>\n<html lang="en">'),
        _head(report),
        Markup("<body>"),
        *body,
        _script(),
        Markup("</body>\n</html>\n"),
    ]
    return join(lines, "\n")


def _head(report: Report) -> Markup:
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    style = graph_style() + (_HERE / "page.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", text(f"{report.name} on {report.target}: isobit report")),
        Markup(f"<style>\n{style}</style>"),
    )


def _script() -> Markup:
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return Markup(f"<script>{script}</script>")


def _top(report: Report) -> Markup:
    names = tag("p", tag("b", text(report.name)), text(" on "), tag("b", text(report.target_title)))
    return tag("header", tag("p", text("isobit report"), class_="brand"), names)


def _notes(report: Report) -> Markup:
    if not report.notes:
        return Markup("")
    items = [tag("li", text(note)) for note in report.notes]
    return tag("aside", tag("h2", text("Please note")), tag("ul", *items), class_="notes")


def _section(section: _Section, markup: Markup, report: Report) -> Markup:
    lead = section.lead(report)
    return tag(
        "section",
        tag("h2", text(section.title)),
        tag("p", prose(lead), class_="lead") if lead else Markup(""),
        tag("div", markup, class_=f"content {section.id_}"),
        id=section.id_,
        class_="part",
    )


def _footer(report: Report) -> Markup:
    estimate = report.estimate
    facts = [("isobit", report.isobit), ("target", f"{report.target} ({report.target_title})")]
    facts += [("compiler", estimate.compiler)] if estimate.compiler else []
    facts += report.hashes
    facts += [(f"C for {c.name}", c.content_hash) for c in report.comparisons if c.content_hash]
    rows = [tag("div", tag("dt", text(k)), tag("dd", text(v))) for k, v in facts]
    words = [
        "Exact: bytes are read from the plan and the compiled program; instructions are counted "
        "while the compiled program runs on an emulated core. KB = 1000 bytes. Flash leaves out "
        "the board's start-up code."
    ]
    if estimate.cycles is not None:
        words.append(
            f"Modelled: cycles and time follow the instruction timing of the core "
            f"({estimate.cycle_model}) with zero wait states. Stalls of flash, bus and caches are "
            "not in them; measure on the board before relying on them."
        )
    return tag("footer", tag("dl", *rows), *(tag("p", text(w)) for w in words))


def _network_lead(report: Report) -> str:
    views = sum(step.is_view for step in report.steps)
    words = "of them is a view: it renames" if views == 1 else "of them are views: they rename"
    tail = f" {views} {words} bytes, no code runs." if views else ""
    order = f"{len(report.steps)} nodes in the order they run."
    return f"{order} Shapes are height×width×channels, without the batch.{tail}"


def _memory_lead(report: Report) -> str:
    arena, peak = units.count(report.estimate.arena_bytes), report.peak_index
    return (
        "Each rectangle is a buffer: as wide as it lives, as high as it is large, at its address. "
        f"The arena takes {arena} bytes, decided at node {peak}. Where a name has no room, the "
        "number of the node that writes the buffer stands for it."
    )


def _flash_lead(report: Report) -> str:
    sharing = [step for step in report.steps if step.cost.shares_code_with]
    lead = "Bytes per layer: weights and tables, and the kernel compiled for its geometry."
    if sharing:
        lead += " Layers of one geometry share one copy of the code, booked on the first."
    return lead


def _instructions_lead(report: Report) -> str:
    heaviest = max(report.steps, key=lambda s: s.cost.instructions or 0)
    share = (heaviest.cost.instructions or 0) / (report.estimate.instructions or 1)
    return (
        f"Counted per layer for one inference. Node {heaviest.index} takes {units.percent(share)}."
    )


def _training_lead(report: Report) -> str:
    count, floats, seconds = len(report.epochs), report.float_epochs, report.seconds
    plural = "" if count == 1 else "s"
    length = f"{count} epoch{plural}" + ("" if seconds is None else f" in {seconds:,.0f} s")
    last, best = report.epochs[-1], report.best
    found = f"{units.accuracy(last.val_accuracy)} at the end"
    if count - (0 if floats == count else floats) > 1:
        found += f", best {units.accuracy(best.val_accuracy)} in epoch {best.epoch}"
    if floats == count:
        return f"{length} of the float network, validated in float: {found}."
    which = "The first epoch trains" if floats == 1 else f"The first {floats} train"
    before = f" {which} the float network." if floats else ""
    return f"{length}.{before} Validation runs the chip's integers: {found}."


def _confusion_lead(report: Report) -> str:
    table = report.confusion
    assert table is not None, "drawn from it"
    lead = f"{units.count(table.right)} of {units.count(table.total)} examples right."
    lead += " Rows are the true class, columns the network's answer"
    last = ", the last column the share of the row that is right."
    return lead + (last if len(table.classes) <= confusion.LABELLED_MOST else ".")


def _verification_lead(report: Report) -> str:
    return "Each execution computes the network on its own; the tolerance between any two is 0."


def _layers_lead(report: Report) -> str:
    lead = (
        "The row with the mark is the peak of the arena. Live RAM is what of it is in use while "
        "the node runs; bytes that two buffers share count once."
    )
    if any(step.tensor for step in report.steps):
        lead += " Below a layer's name stands the tensor of the imported file that it computes, "
        lead += "where it has another name."
    return lead


def _imported_lead(report: Report) -> str:
    origin = report.origin
    assert origin is not None, "drawn from it"
    facts = dict(origin.facts)
    file = facts.pop("file", facts.pop("module", "the source"))
    known = ", ".join(f"{key} {value}" for key, value in facts.items() if key != "sha256")
    here = sum(bool(fate.value) for fate in origin.fates)
    if here == len(origin.fates):
        return f"{file} ({known}). Something stands here for each of its {here} values."
    return (
        f"{file} ({known}). Something stands here for {here} of its {len(origin.fates)} values; "
        "what became of the others is said beside them."
    )


_SECTIONS = (
    _Section("verification", "Verification", _verification_lead, tables.verification),
    _Section("network", "Network", _network_lead, network.draw),
    _Section("memory", "RAM over time", _memory_lead, memory.draw),
    _Section("flash", "Flash by layer", _flash_lead, flash.draw),
    _Section("instructions", "Instructions by layer", _instructions_lead, instructions.draw),
    _Section("training", "Training", _training_lead, training.draw),
    _Section("confusion", "Confusion matrix", _confusion_lead, confusion.draw),
    _Section("layers", "Layers", _layers_lead, tables.layers),
    _Section("imported", "Imported file", _imported_lead, tables.imported),
)
