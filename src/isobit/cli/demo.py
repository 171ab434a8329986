"""`isobit demo`: the whole way, offline, in about a minute."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from isobit.api.reporting import bundle_report, record_training
from isobit.cli.common.output import err, json_option, out, print_json
from isobit.cli.common.progress import training_progress
from isobit.core.errors import ToolMissing
from isobit.core.files import write_atomic
from isobit.report.html import render_html


@click.command("demo")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("build/digits"),
    show_default=True,
)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(folder: Path, seed: int, as_json: bool) -> None:
    """Compose a network, size it untrained, train it, deploy it, prove it equal: digits,
    offline.
    """
    try:
        from isobit.api.demo import run_demo
    except ModuleNotFoundError as error:
        raise ToolMissing(
            where="isobit demo",
            what=f"package {error.name}",
            want="installed",
            got="not installed",
            fix="pip install 'isobit[all]'",
        ) from error
    console = out()
    quiet = as_json

    def say(text: str) -> None:
        if not quiet:
            err().print(f"- {text}")

    with training_progress() as progress:
        found = run_demo(
            folder,
            seed=seed,
            say=say,
            estimated=lambda e: None if quiet else console.print(f"\n{e}\n", soft_wrap=True),
            progress=progress,
        )
    record_training(
        found.bundle,
        history=[asdict(e) for e in found.history],
        confusion=found.confusion,
        classes=found.classes,
        accuracy=found.accuracy,
        accuracy_on=f"{found.images} held-out digits",
    )
    report = folder / "report.html"
    write_atomic(report, render_html(bundle_report(found.bundle)))
    sizes = found.bundle.manifest["sizes"]
    if as_json:
        print_json(
            {
                "accuracy": found.accuracy,
                "images": found.images,
                "agreeing": found.agreeing,
                "compared": found.compared,
                "differing": found.differing,
                "sizes": sizes,
                "out": str(folder),
                "report": str(report),
            }
        )
        return
    console.print(f"accuracy      {found.accuracy:.2%} on {found.images} held-out digits")
    console.print(
        f"same class    {found.agreeing} of {found.images} in torch and in the deployed C"
    )
    console.print(
        f"differing     {found.differing} of {found.compared:,} values, all tensors, "
        f"{len(found.comparisons)} executions"
    )
    console.print(f"RAM           {sizes['ram_bytes']:,} bytes")
    console.print(f"flash         {sizes['flash_bytes']:,} bytes")
    console.print(
        f"instructions  {sizes['instructions']:,.0f} per inference on {found.bundle.target.title}"
    )
    console.print(f"C project     {folder}", soft_wrap=True)
    console.print(f"report        {report}", soft_wrap=True)
