"""Child processes that cannot outlive us: one place for pipes, time limits and interrupts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that has ended. `code` is negative for a signal; None: killed at the time limit."""

    code: int | None
    stdout: bytes
    stderr: bytes

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.code is None:
            return "still running at the time limit"
        if self.code >= 0:
            return f"exit code {self.code}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-self.code).name}"
        return f"killed by signal {-self.code}"


def run_child(
    command: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Run `command` to its end; after `timeout_s` or on an interrupt kill it with all it started.

    Raises `OSError` if it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C", **(env or {})},
        cwd=cwd,
        # Its own group, so that the compilers and emulators it starts can be killed with it.
        start_new_session=os.name == "posix",
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        return Finished(code=process.returncode, stdout=stdout, stderr=stderr)
    except subprocess.TimeoutExpired:
        _kill(process)
        stdout, stderr = process.communicate()
        return Finished(code=None, stdout=stdout, stderr=stderr)
    finally:
        if process.poll() is None:  # an interrupt: nobody will read the pipes any more
            _kill(process)
            process.communicate()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
