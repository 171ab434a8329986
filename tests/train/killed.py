"""Runs that are killed at random moments and resumed: a program, which `test_resume` starts.

The processes that train are forks of one that has loaded torch and never computed with it, so that
a kill costs no import. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import lightning_fabric  # noqa: F401  # what `fit` imports late is loaded before the forks, too
import torch

import isobit
from isobit.train.checkpoint import LAST, NEXT, PREVIOUS
from isobit.train.selftest import require_exact

from .runs import OPTIONS, TRAIN, VAL, build, digest

KILLS = 5
TRIES = 30


def train(scheme: str, folder: Path, result: Path) -> None:
    """Train in this process, from the folder's checkpoint where it has one."""
    torch.set_num_threads(1)
    resume = folder if any((folder / name).exists() for name in (NEXT, LAST, PREVIOUS)) else None
    model = build(scheme, seed=0 if resume is None else 99)
    isobit.fit(model, TRAIN, VAL, **OPTIONS, out=folder, resume=resume, checkpoint_every=1)
    result.write_text(digest(model))


def child(scheme: str, folder: Path, result: Path) -> int:
    """Train in a fork; return its process id."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            train(scheme, folder, result)
            status = 0
        finally:
            os._exit(status)
    return process


def main(scheme: str, place: Path, seed: int) -> None:
    torch.set_num_threads(1)
    require_exact(torch.device("cpu"))  # once, not in every fork
    began = time.monotonic()
    _, status = os.waitpid(child(scheme, place / "whole", place / "whole.txt"), 0)
    seconds = time.monotonic() - began
    moments, killed, latest = random.Random(seed), 0, 0.6
    for _ in range(TRIES):
        process = child(scheme, place / "run", place / "run.txt")
        time.sleep(moments.uniform(0.1, latest) * seconds)
        os.kill(process, signal.SIGKILL)
        _, ended = os.waitpid(process, 0)
        killed += os.WIFSIGNALED(ended)
        if killed == KILLS:
            break
        if not os.WIFSIGNALED(ended):  # it was faster than the whole run: once more, sooner
            shutil.rmtree(place / "run")
            killed, latest = 0, max(0.15, latest * 0.7)
    (place / "run.txt").unlink(missing_ok=True)
    _, resumed = os.waitpid(child(scheme, place / "run", place / "run.txt"), 0)
    found = {
        "statuses": [status, resumed],
        "killed": killed,
        "whole": (place / "whole.txt").read_text(),
        "resumed": (place / "run.txt").read_text(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
