"""What import and calibration say of the network they wrote: its needs, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from isobit import targets
from isobit.core.errors import IsobitError
from isobit.ir.graph import Graph, Stage
from isobit.run.estimate import Estimate, estimate

Needs = Estimate | IsobitError | None


def needs_of(graph: Graph) -> Needs:
    """Return what integers need on their target before anything is compiled, or why the target
    cannot have them; `None` for reals.
    """
    if graph.stage is Stage.FLOAT:
        return None
    try:
        return estimate(graph, targets.load(graph.target), compile=False)
    except IsobitError as error:  # written all the same: another target may have them
        return error


def need_lines(graph: Graph, needs: Needs) -> Iterator[str]:
    """Yield what to print of `needs_of`."""
    if isinstance(needs, Estimate):
        yield (
            f"  on {graph.target}: {needs.arena_bytes:,} bytes of RAM for tensors, "
            f"{needs.constant_bytes:,} of flash for constants; stack and code come on top"
        )
        for problem in (p for error in needs.problems() for p in error.problems):
            yield f"  does not fit: {problem.what}: {problem.got}. {problem.fix}"
    elif needs is not None:
        yield from (f"  not on {graph.target}: {problem}" for problem in needs.problems)
    else:
        constants = sum(const.data.nbytes for const in graph.consts)
        yield f"  {constants:,} bytes of constants as float64; int8 codes need an eighth"


def next_lines(commands: Mapping[str, str]) -> Iterator[str]:
    """Yield commands to type next, each with what it is for."""
    wide = max(map(len, commands))
    yield "Next:"
    yield from (f"  {words:<{wide}}  {why}" for words, why in commands.items())
