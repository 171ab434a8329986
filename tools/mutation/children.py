"""Children that end with everything they have started.

A fault may make a compiled program loop forever, and what runs it (`isobit.run.child`) gives it a
session of its own, so that no signal to the group of the child that asked reaches it. Three things
hold whatever happens: `ask` kills the whole tree of processes below its child; a limit of processor
time, inherited by all of them, ends whatever has left the tree; and a child dies with its parent,
so that nothing outlives a run that is killed itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
SAID_BYTES = 4000
TIMEOUT = "timeout"


def ask(question: Callable[[], str], timeout_s: float) -> str:
    """Return what `question` says in a forked child, "timeout" if it does not end in time, or "the
    child died"; what it raises is said as well.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        contain(timeout_s)
        try:
            said = question()
        except BaseException as error:  # whatever a fault breaks has been seen
            said = f"{type(error).__name__}: {str(error)[:140]}"
            if os.environ.get("ISOBIT_MUTANTS_TRACE"):
                traceback.print_exc()
        os.write(writer, said.encode()[:SAID_BYTES])
        os._exit(0)
    os.close(writer)
    try:
        deadline = time.monotonic() + timeout_s
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                kill_tree(child)
                os.waitpid(child, 0)
                return TIMEOUT
            time.sleep(0.01)
        os.set_blocking(reader, False)  # a process that is left may hold the other end
        with contextlib.suppress(BlockingIOError):
            blob = os.read(reader, SAID_BYTES)
            return blob.decode(errors="replace") if blob else "the child died"
        return "the child died"
    except BaseException:  # an interrupt
        kill_tree(child)
        raise
    finally:
        os.close(reader)


def contain(seconds: float) -> None:
    """Limit the processor time of this process, and of each that it starts, to `seconds`; let it
    die with its parent (Linux). Also a `preexec_fn`.
    """
    limit = int(seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def contained(seconds: float) -> Callable[[], None]:
    """Return `contain` for `subprocess`."""
    return partial(contain, seconds)


def kill_tree(root: int) -> None:
    """Kill a process and all that descend from it, in whatever group or session they are.

    Each is stopped before its children are listed, so that no new one can appear.
    """
    waiting, found = [root], []
    while waiting:
        process = waiting.pop()
        found.append(process)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
        waiting += _children(process)
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    """Return the processes that a process has started, as far as /proc tells; the limit of
    processor time ends them elsewhere.
    """
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (name) state parent ...; the name may hold spaces and parentheses.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found
