"""`isobit new`: a project to start from."""

from __future__ import annotations

from pathlib import Path

import click

from isobit.cli.common.output import json_option, out, print_json
from isobit.core.errors import BadArgument
from isobit.core.files import write_folder

TEMPLATES = Path(__file__).parent / "templates"


def template_names() -> list[str]:
    """Every template: a folder of `templates/`."""
    return sorted(path.name for path in TEMPLATES.iterdir() if (path / "README.md").is_file())


@click.command("new")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--template", type=click.Choice(template_names()), default="cnn", show_default=True,
    help="cnn: a SPEC.py for `isobit train`; own_loop: a training loop of your own.",
)  # fmt: skip
@json_option
def command(folder: Path, template: str, as_json: bool) -> None:
    """Write a small runnable project into FOLDER, which must be new or empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadArgument(
            where=str(folder),
            what="project folder",
            want="a new or empty folder",
            got="a folder with things in it" if folder.is_dir() else "a file",
            fix="Choose another folder; nothing was written.",
        )
    files = {path.name: path.read_bytes() for path in _files(template)}
    write_folder(folder, files)
    if as_json:
        print_json({"out": str(folder), "files": list(files)})
    else:
        out().print(f"{folder}: {', '.join(files)}. Next: read its README.md", soft_wrap=True)


def _files(template: str) -> list[Path]:
    return [path for path in sorted((TEMPLATES / template).iterdir()) if path.is_file()]
