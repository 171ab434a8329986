"""What every call that runs a bundle checks before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from isobit import targets
from isobit.core.arguments import Arguments
from isobit.run.estimate import COMPILERS


def check_run(
    where: str,
    on: Sequence[str],
    *,
    compiler: str = "",
    progress: object = None,
    **flags: bool,
) -> None:
    """Refuse wrong arguments of a run, every unknown target among them, before anything runs."""
    given = Arguments(where)
    if given.instance("on", on, list | tuple, "names of targets, e.g. ('host', 'cortex-m4')"):
        for name in on:
            if given.text("on", name, fix="`isobit targets` lists the names."):
                with given.collect():
                    targets.load(name)
    given.choice("compiler", compiler, ("", *COMPILERS))
    given.function("progress", progress)
    for flag, value in flags.items():
        given.flag(flag, value)
    given.check()
