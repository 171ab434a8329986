"""docs/passes.md lists every pass, in running order, as the pass itself says it."""

from __future__ import annotations

from pages import DOCS

from isobit.passes.base import load_passes


def test_the_table_is_fresh() -> None:
    rows = ["| pass | preserves | graphs | runs | what it does |", "|---|---|---|---|---|"]
    for one in load_passes().values():
        if not one.__module__.startswith("isobit.passes."):  # a wheel's own
            continue
        stages = ", ".join(sorted(stage.value for stage in one.stages))
        runs = "always" if one.default else "on request"
        rows.append(f"| `{one.name}` | {one.claim.value} | {stages} | {runs} | {one.summary()} |")
    page = (DOCS / "passes.md").read_text(encoding="utf-8")
    assert "\n".join(rows) + "\n" in page, "docs/passes.md wants:\n" + "\n".join(rows)
