"""Which device a recipe's training takes."""

from __future__ import annotations

import torch

from isobit.core.errors import BadArgument, NotExact
from isobit.train.selftest import require_exact


def choose_device(accelerator: str) -> torch.device:
    """Return the device of "cpu", "cuda" or "auto": CUDA where there is a device that passes the
    exactness test.

    Raises `BadArgument` for "cuda" without one, `NotExact` for one that does not pass.
    """
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    if accelerator == "cpu":
        return cpu
    if not torch.cuda.is_available():
        if accelerator == "auto":
            return cpu
        raise BadArgument(
            where="run.accelerator",
            what="device",
            want="a CUDA device",
            got="none that torch can use",
            fix='Write "auto" or "cpu", or install a torch for this device.',
        )
    try:
        require_exact(cuda)
    except NotExact:
        if accelerator == "auto":
            return cpu
        raise
    return cuda
