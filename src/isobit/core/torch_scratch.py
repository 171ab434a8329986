"""Memory of large CPU tensors, used again once nobody holds them.

The C library gives the large blocks of a training step back to the system and fetches them again in
the next; fresh pages cost several times what the arithmetic on them does (bench/train_step.py). A
tensor from here is an ordinary one: its memory is only taken again when the last tensor, view or
saved gradient operand that shares it is gone. Other devices have caching allocators of their own.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

LEAST_BYTES = 1 << 18
"""Smaller blocks stay in the C library's own free lists."""
LONGEST_IDLE = 4096
"""Requests after which blocks of a size that nobody asked for are given back."""
_lock = threading.Lock()
_blocks: dict[int, list[torch.UntypedStorage]] = {}
_asked: dict[int, int] = {}
"""The number of the last request, by size."""
_clock = count()
_holders = getattr(torch._C, "_storage_Use_Count", None)
"""How many tensors and Python objects share a storage; torch has no public name for it."""


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised contiguous tensor."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < LEAST_BYTES or _holders is None:
        return torch.empty(shape, dtype=dtype, device=device)
    with _lock:
        now = _asked[size] = next(_clock)
        for block in _blocks.setdefault(size, []):
            if _holders(block._cdata) == 1:
                return _tensor(block, shape, dtype)
        for other in [s for s, last in _asked.items() if now - last > LONGEST_IDLE]:
            del _asked[other], _blocks[other]
        result = torch.empty(shape, dtype=dtype)
        _blocks[size].append(result.untyped_storage())
        return result


def _tensor(block: torch.UntypedStorage, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return torch.empty(0, dtype=dtype).set_(block, 0, shape, strides[::-1])


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialised tensor of the shape, device and dense memory order of `x`."""
    size = x.numel() * (dtype or x.dtype).itemsize
    if size < LEAST_BYTES or x.device.type != "cpu":
        return torch.empty_like(x, dtype=dtype)
    if x.is_contiguous():
        return empty(x.shape, dtype or x.dtype, x.device)
    strides = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: (-strides[axis], axis))
    found = empty(tuple(x.shape[axis] for axis in order), dtype or x.dtype, x.device)
    return found.permute([order.index(axis) for axis in range(x.dim())])


def release() -> None:
    """Give back all memory that nobody holds."""
    with _lock:
        _blocks.clear()
        _asked.clear()


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""
LARGEST_HEAP_BLOCK = 32 << 20
"""The most that glibc takes for M_MMAP_THRESHOLD."""


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed for the next step; return whether it was asked.

    torch's own tensors, convolutions' gradients above all, then stop costing fresh pages in every
    step. It holds for the whole process, so only what trains asks for it; where the user has set
    glibc's variables, or the library is another one, nothing is done. Source: mallopt(3).
    """
    set_by_user = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}
    if sys.platform != "linux" or set_by_user.intersection(os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    large = ctypes.c_int(2**31 - 1)
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK) and mallopt(M_TRIM_THRESHOLD, large))
