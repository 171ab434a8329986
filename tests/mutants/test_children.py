"""A fault that loops forever leaves no process behind (`tools/mutation/children.py`)."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from isobit.run.child import run_child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are listed from /proc")
ENDLESS = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))\nwhile True: pass"
TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("mutation.children")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def written(place: Path) -> int:
    for _ in range(1000):
        if place.is_file() and place.read_text():
            return int(place.read_text())
        time.sleep(0.01)
    raise AssertionError("the endless program did not start")


def ends(process: int) -> bool:
    for _ in range(1500):
        if not alive(process):
            return True
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    return False


def test_what_the_child_says_comes_back(children: ModuleType) -> None:
    assert children.ask(lambda: "sound", 20.0) == "sound"
    assert children.ask(lambda: str(1 // 0), 20.0).startswith("ZeroDivisionError")
    assert children.ask(lambda: os._exit(3), 20.0) == "the child died"


def test_a_program_in_a_session_of_its_own_ends_with_the_child(
    children: ModuleType, tmp_path: Path
) -> None:
    place = tmp_path / "pid"
    command = (sys.executable, "-c", ENDLESS, str(place))
    assert children.ask(lambda: str(run_child(command, timeout_s=300.0)), 2.0) == children.TIMEOUT
    assert ends(written(place))


def test_a_program_that_left_the_tree_ends_with_its_processor_time(
    children: ModuleType, tmp_path: Path
) -> None:
    place = tmp_path / "pid"

    def leave() -> str:
        subprocess.Popen((sys.executable, "-c", ENDLESS, str(place)), start_new_session=True)
        written(place)
        return "left"

    assert children.ask(leave, 1.0) in ("left", children.TIMEOUT)
    assert ends(written(place))
