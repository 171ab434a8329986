"""`isobit report`: one HTML page about a deployed network."""

from __future__ import annotations

from pathlib import Path

import click

from isobit.api.reporting import bundle_report
from isobit.cli.common.output import json_option, out, print_json
from isobit.cli.common.subject import read_bundle
from isobit.core.files import write_atomic
from isobit.report.html import render_html
from isobit.report.terminal import print_report


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out", "page", type=click.Path(path_type=Path), help="F.html; FOLDER/report.html by default."
)
@json_option
def command(folder: Path, page: Path | None, as_json: bool) -> None:
    """Show sizes, layers and verification of a deployed FOLDER, and write them as one HTML file."""
    report = bundle_report(read_bundle(folder))
    place = page or folder / "report.html"
    write_atomic(place, render_html(report))
    if as_json:
        print_json({k: v for k, v in report.to_json().items() if k != "schema"})
        return
    print_report(report, out())
    out().print(f"report: {place}", soft_wrap=True)
