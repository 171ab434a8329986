"""Reads damaged files in forked children with limits; prints one line of JSON for each.

    python -m importers.damaged_child GROUP AMOUNT

A process of its own, because the one that runs the tests holds threads, which do not survive a
fork. A child that dies takes one file with it: the next child goes on after that file.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from dataclasses import fields
from pathlib import Path

from importers import damage
from isobit import targets
from isobit.api.importing import import_model, survey_file
from isobit.api.provenance import read_story
from isobit.core.errors import BadPlan, IsobitError, Problem, TargetProblem
from isobit.ir.graph import Graph, Stage
from isobit.ir.store import Stored, parse_store, read_store, to_bytes
from isobit.ops.check import check
from isobit.ops.registry import load_ops
from isobit.plan.plan import make_plan

MOST_BYTES = 2_000_000_000
MOST_SECONDS = 10
"""Of processor time: a machine that does other things meanwhile must not decide a verdict. Ten
times as much of wall-clock time ends what waits forever.
"""


def outcome(name: str, seed: int, folder: Path) -> dict[str, str]:
    """Return {"valid": ""}, {"code": E...} or {"fault": traceback} for one file."""
    path = folder / f"damaged{damage.suffix(name)}"
    path.write_bytes(damage.damaged(name, seed))
    try:
        try:
            taken(path)
        except BadPlan:
            raise
        except IsobitError as error:
            for problem in error.problems:
                require_complete(problem)
            return {"code": error.problems[0].code}
    except Exception:  # the point of this program: anything else is a fault
        return {"fault": traceback.format_exc(limit=-6)}
    return {"valid": ""}


def taken(path: Path) -> None:
    """Read a file; what can be read must be a legal network that can be written again."""
    if path.suffix == ".isobit":
        read_story(path)
        graphs = dict(read_store(path, load_ops().signature).graphs)
    else:
        require_survey(path)
        model = import_model(path)
        graphs = {"one": model.graph}
        json.dumps(model.names)
    for graph in graphs.values():
        check(graph)
        require_round_trip(graph)
        plan(graph)


def require_round_trip(graph: Graph) -> None:
    """What was read can be written and read again."""
    try:
        stored = parse_store(to_bytes(Stored({"one": graph})), "memory", load_ops().signature)
    except IsobitError as error:
        raise AssertionError("a network that was read cannot be written and read") from error
    assert stored.graphs["one"] == graph


def require_survey(path: Path) -> None:
    """`isobit import --dry-run` sees every file that `isobit import` sees."""
    for problem in survey_file(path).problems:
        require_complete(problem)


def plan(graph: Graph) -> None:
    """Plan what the chip would run; it may lack kernels or memory."""
    if graph.stage is Stage.INT:
        try:
            make_plan(graph, targets.load("cortex-m4"))
        except BadPlan:
            raise
        except TargetProblem:
            return


def require_complete(problem: Problem) -> None:
    """An error says everything it can."""
    empty = [item.name for item in fields(problem) if not getattr(problem, item.name)]
    assert not empty, f"{problem}: nothing in {', '.join(empty)}"


def limited() -> None:
    """Limit this process to what it has and 2 GB more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


def child(files: list[tuple[str, int]], first: int, pipe: int, folder: Path) -> None:
    """Write a number before a file and its outcome after it."""
    limited()
    warnings.simplefilter("error")  # numpy warns where a NaN becomes an integer
    with os.fdopen(pipe, "w", buffering=1) as stream:
        for index in range(first, len(files)):
            print(index, file=stream)
            signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, 10 * MOST_SECONDS)
            print(json.dumps(outcome(*files[index], folder)), file=stream)


def main() -> None:
    group, amount = sys.argv[1], int(sys.argv[2])
    files = list(damage.drawn(group, amount))
    for name in sorted({name for name, _ in files}):
        damage.original(name)  # read once, before the forks
    load_ops()
    at = 0
    with tempfile.TemporaryDirectory() as folder:
        while at < len(files):
            ours, theirs = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(ours)
                try:
                    child(files, at, theirs, Path(folder))
                except BaseException:
                    traceback.print_exc()  # a fault of the mutations, not of what is tested
                finally:
                    os._exit(0)
            os.close(theirs)
            with os.fdopen(ours) as stream:
                lines = stream.read().splitlines()
            _, status = os.waitpid(pid, 0)
            for text in lines[1::2]:
                show(files[at], json.loads(text))
                at += 1
            if at < len(files):
                number = os.waitstatus_to_exitcode(status)
                kind = signal.Signals(-number).name if number < 0 else f"exit {number}"
                show(files[at], {"fault": f"the process died: {kind}"})
                at += 1


def show(file: tuple[str, int], found: dict[str, str]) -> None:
    print(json.dumps({"name": file[0], "seed": file[1], **found}), flush=True)


if __name__ == "__main__":
    main()
