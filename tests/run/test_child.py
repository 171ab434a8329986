"""Child processes: their endings, their time limit, an interrupt of ours."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from isobit.run.child import run_child


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_child_gets_input_and_returns_everything() -> None:
    text = (
        "import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.stderr.write('e'); sys.exit(3)"
    )
    done = run_child(python(text), stdin=b"abc", timeout_s=30)
    assert (done.code, done.stdout, done.stderr) == (3, b"cba", b"e")
    assert done.ending == "exit code 3"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_child_is_killed_with_its_own_children() -> None:
    # The grandchild holds the pipe: without killing it the call would last its 60 seconds.
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    text = f"import subprocess, sys; subprocess.run({sleeper})"
    start = time.monotonic()
    done = run_child(python(text), timeout_s=1.0)
    assert done.code is None
    assert done.ending == "still running at the time limit"
    assert time.monotonic() - start < 30


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_child_names_the_signal() -> None:
    done = run_child(python("import os; os.kill(os.getpid(), 11)"), timeout_s=30)
    assert done.ending == "killed by SIGSEGV"


def test_child_dies_with_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen.communicate

    def interrupted(self: subprocess.Popen[bytes], *args: object, **kwargs: object) -> object:
        if not started:
            started.append(self)
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_child(python("import time; time.sleep(60)"), timeout_s=60)
    assert started[0].poll() is not None
