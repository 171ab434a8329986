"""Batch norm's passes over a layer as C, compiled for this CPU: fewer than torch's operators take.

`native.c` is built once, by what `offer` was given, and kept; where there is no compiler, no
threads to share with torch, or the result fails its test, training runs on torch's operators. The
integers of a forward are the same either way; statistics and gradients differ in their last bits,
and from here they are the same for any number of threads and processes.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.errors import IsobitError
from isobit.core.types import AnyArray, FloatArray

SOURCE = Path(__file__).with_name("native.c")
LEVELS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3"}
"""What torch calls the vectors it uses here, and what compilers call a CPU that has them."""
FLAGS = ("-mprefer-vector-width=512", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
LEAST_SHARED = 1 << 15
"""Elements from which several threads are faster than one."""
Build = Callable[[Path, str, tuple[str, ...]], Path]
"""Returns a shared library of a C file for a CPU, compiled with flags; raises `IsobitError`."""

_build: list[Build] = []
_allowed = True
_agreed: dict[int, bool] = {}
"""Whether all processes of a group have the kernels, by the group's identity."""


def offer(build: Build) -> None:
    """Say how C is compiled: what trains cannot, it knows no compilers."""
    _build[:] = [build]


def allow(allowed: bool) -> None:
    """Allow (the default) or forbid compiled kernels."""
    global _allowed
    _allowed = allowed


def kernels(device: torch.device) -> Kernels | None:
    """Return the kernels for training on a device, if it is the CPU and there are any: in all
    processes that share a batch, or in none. All of them call this at the same time.
    """
    if not _allowed or not _build or device.type != "cpu":
        return None
    found = load()
    if found is not None and torch.get_num_threads() > 1 and not found.has_threads:
        found = None
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        group = id(dist.group.WORLD)
        if group not in _agreed:
            everywhere = torch.tensor(int(found is not None))
            dist.all_reduce(everywhere, dist.ReduceOp.MIN)
            _agreed[group] = bool(everywhere)
        if not _agreed[group]:
            return None
    return found


@cache
def load() -> Kernels | None:
    """Return the kernels, built if need be; None where they cannot be, or fail their test."""
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability())
    if level is None or not _build:
        return None
    try:
        found = Kernels(ctypes.CDLL(str(_build[0](SOURCE, level, FLAGS))))
    except (IsobitError, OSError):  # no compiler, or nowhere to put what it makes
        return None
    return found if is_right(found) else None


class Kernels:
    """`native.c`: float32 tensors [N,...,C], contiguous, on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        p, n, i, f = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_float
        self._moments = library.isobit_native_moments
        self._moments.argtypes = (p, n, n, i, p)
        self._codes = library.isobit_native_codes
        self._codes.argtypes = (p, p, p, p, p, n, n, i, f, f)
        self._unpack = library.isobit_native_unpack
        self._unpack.argtypes = (p, p, n, i, f)
        self._gradient_sums = library.isobit_native_gradient_sums
        self._gradient_sums.argtypes = (p, p, p, p, n, n, i, i, i, p)
        self._gradient = library.isobit_native_gradient
        self._gradient.argtypes = (p, p, p, p, n, n, i, i, i, p, p)
        functions = openmp()
        self.has_threads = functions is not None
        """Whether they run in torch's own threads; else in one."""
        if functions is not None:
            library.isobit_native_threads.argtypes = (p, p, p)
            library.isobit_native_threads(*(ctypes.cast(one, p) for one in functions))

    def _shape(self, x: Tensor) -> tuple[int, int, int]:
        size, channels = x.numel(), x.shape[-1]
        threads = torch.get_num_threads() if self.has_threads and size >= LEAST_SHARED else 1
        return size // channels, channels, threads

    def moments(self, x: Tensor) -> FloatArray:
        """Return the sums of x and of its squares over all but the last axis, [2, C]; exact for
        integers while the second stays below 2^53.
        """
        rows, channels, threads = self._shape(x)
        sums = np.empty((threads, 2, channels))
        self._moments(x.data_ptr(), rows, channels, threads, sums.ctypes.data)
        first: FloatArray = sums[0]
        return first

    def codes(
        self, x: Tensor, add: Tensor, mult: Tensor, low: int, high: int
    ) -> tuple[Tensor, Packed]:
        """Return `clamp(floor(x * mult + add), low, high)`, the multiply-add rounded once, and the
        same packed. add, mult: [C]; high - low: at most 255.
        """
        y = scratch.empty(x.shape, x.dtype, x.device)
        packed = scratch.empty(x.shape, torch.uint8, x.device)
        given = x.data_ptr(), add.data_ptr(), mult.data_ptr(), y.data_ptr(), packed.data_ptr()
        self._codes(*given, *self._shape(x), low, high)
        return y, Packed(packed, low)

    def unpack(self, packed: Packed) -> Tensor:
        """Return packed codes, float32."""
        y = scratch.empty(packed.bytes.shape, torch.float32, packed.bytes.device)
        rows, channels, threads = self._shape(y)
        places = packed.bytes.data_ptr(), y.data_ptr()
        self._unpack(*places, rows * channels, threads, packed.low)
        return y

    def gradient_sums(
        self, grad: Tensor, y: Tensor | None, x: Tensor, mean: Tensor, inside: tuple[int, int]
    ) -> FloatArray:
        """Return the sums of a gradient and of it times (x - mean), [2, C], where y, the bytes of
        packed codes, is strictly between two, or everywhere without y.
        """
        rows, channels, threads = self._shape(x)
        sums = np.empty((threads, 2, channels))
        given = grad.data_ptr(), _place(y), x.data_ptr(), mean.data_ptr()
        self._gradient_sums(*given, rows, channels, threads, *inside, sums.ctypes.data)
        first: FloatArray = sums[0]
        return first

    def gradient(
        self,
        grad: Tensor,
        y: Tensor | None,
        x: Tensor,
        mean: Tensor,
        inside: tuple[int, int],
        factors: AnyArray,
    ) -> Tensor:
        """Return `(grad - base - (x - mean) * along) * scale`, grad as in `gradient_sums`. factors:
        base, along, scale: float32 [3, C].
        """
        out = torch.empty_like(x)
        given = grad.data_ptr(), _place(y), x.data_ptr(), mean.data_ptr()
        self._gradient(*given, *self._shape(x), *inside, factors.ctypes.data, out.data_ptr())
        return out


@dataclass(frozen=True, slots=True)
class Packed:
    """Codes in bytes, a quarter of what a backward would have to keep: uint8, code - low."""

    bytes: Tensor
    low: int


def _place(y: Tensor | None) -> int | None:
    return None if y is None else y.data_ptr()


def openmp() -> tuple[Any, Any, Any] | None:
    """Return libgomp's functions for work in parallel, from the library that torch's threads come
    from; None where it is not known.
    """
    if sys.platform != "linux":
        return None
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    found = set(re.findall(r"/\S*/lib(?:gomp|omp|iomp5)[\w.-]*\.so[\w.]*", mapped))
    own = {path for path in found if Path(path).parent == Path(torch.__file__).parent / "lib"}
    if len(own or found) != 1:
        return None
    (path,) = own or found
    library = ctypes.CDLL(path)
    try:
        return library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
    except AttributeError:
        return None


def is_right(found: Kernels) -> bool:
    """Whether the kernels compute what they should: codes and sums exactly, gradients nearly, for
    whole vectors, what is left over, and several threads.
    """
    rng, ends = np.random.default_rng(0), (-100, 127)
    for rows, channels in ((1, 1), (5, 3), (40, 16), (7, 33), (900, 50)):
        x = rng.integers(-(1 << 20), 1 << 20, (rows, channels)).astype(np.float64)
        mult = rng.integers(1 << 4, 1 << 12, channels) * 2.0**-16
        add = np.floor(-x[0] * mult) + rng.integers(0, 1 << 16, channels) * 2.0**-16
        add = np.clip(np.floor(add * 16) / 16, -(2.0**18), 2.0**18)
        acc, offset, factor = (torch.from_numpy(a.astype(np.float32)) for a in (x, add, mult))
        wanted = np.clip(np.floor(x * mult + add), -100, 127)
        codes, packed = found.codes(acc, offset, factor, *ends)
        sums = found.moments(acc)
        if not (np.array_equal(codes, wanted) and np.array_equal(found.unpack(packed), wanted)):
            return False
        if not np.array_equal(sums, np.array([x.sum(0), np.square(x).sum(0)])):
            return False
        grad, mean = rng.standard_normal(x.shape), rng.standard_normal(channels)
        upstream, centre = (torch.from_numpy(a.astype(np.float32)) for a in (grad, mean))
        factors = rng.standard_normal((3, channels)).astype(np.float32)
        base, along, scale = factors.astype(np.float64)
        for y in (packed.bytes, None):
            inside = grad if y is None else grad * ((wanted > -100) & (wanted < 127))
            given = upstream, y, acc, centre, (0, ends[1] - ends[0])
            sums, out = found.gradient_sums(*given), found.gradient(*given, factors).numpy()
            away = x - mean
            exact = np.array([inside.sum(0), (inside * away).sum(0)])
            size = np.array([np.abs(inside).sum(0), np.abs(inside * away).sum(0)]) + 1e-30
            # float32 inputs and products: a few roundings of 2^-24 each.
            if np.any(np.abs(sums - exact) > 1e-6 * size):
                return False
            terms = np.abs(inside) + np.abs(base) + np.abs(away * along)
            if np.any(np.abs(out - (inside - base - away * along) * scale) > 1e-6 * terms * 8):
                return False
    return True
