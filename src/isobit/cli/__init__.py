"""The command `isobit`: one file per verb, found by a scan and imported only when used."""

from __future__ import annotations

import difflib
import importlib
import keyword
import pkgutil
import sys
from typing import Any

import click

from isobit import __version__
from isobit.cli.common.output import fail, fail_usage
from isobit.core.errors import IsobitError


class Verbs(click.Group):
    """A click group whose commands are the modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        modules = (m for m in pkgutil.iter_modules(__path__) if not m.ispkg)
        return sorted(m.name.rstrip("_") for m in modules if m.name != "__main__")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        file = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = importlib.import_module(f"isobit.cli.{file}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean `{near[0]}`?" if near else " `isobit --help` lists the commands."
            raise click.UsageError(f"isobit has no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="isobit")
def _root() -> None:
    """Same bits, from training to chip: neural networks for microcontrollers.

    Every command takes --json for one machine-readable object. Exit codes: 0 ok, 1 failed, 2 usage.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; returns never, exits with 0, 1, 2, or 130 when interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        _root.main(args=words, prog_name="isobit", standalone_mode=False)
    except IsobitError as error:
        fail(error, as_json="--json" in words)
    except click.ClickException as error:
        if "--json" in words:
            fail_usage(error)
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(0)
