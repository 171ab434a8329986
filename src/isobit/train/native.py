"""Batch norm's passes over a layer as C, compiled for this CPU: fewer than torch's operators take.

The C of `kernels/` is built once, by what `offer` was given, and kept; where there is no compiler,
no threads to share with torch, or the result fails its test, training runs on torch's operators.
The integers of a forward are the same either way; statistics and gradients differ in their last
bits, and statistics from here are the same for any number of threads and processes.
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
from weakref import ref

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.errors import IsobitError

SOURCES = Path(__file__).with_name("kernels")
"""The folder of C files."""
LEVELS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3"}
"""What torch calls the vectors it uses here, and what compilers call a CPU that has them."""
FLAGS = ("-mprefer-vector-width=512", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
WEIGHT, SCALED, MEAN, INVERSE, TURN, LIFT = range(6)
"""Rows of what a backward needs of a layer: those of `norm.Gradient`, and its weight scaled by the
slope of the layer's weights.
"""
LEAST_SHARED = 1 << 15
"""Elements from which several threads are faster than one."""
Build = Callable[[Path, str, tuple[str, ...]], Path]
"""Returns a shared library of a folder of C files for a CPU, compiled with flags; raises
`IsobitError`.
"""

_build: list[Build] = []
_allowed = True
_agreed: list[tuple[ref[object], bool]] = []
"""The group of processes at hand, and whether all of them have the kernels; not held, because a
group that outlives its threads aborts the process.
"""


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
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return found
    group = dist.group.WORLD
    if not (_agreed and _agreed[0][0]() is group):
        everywhere = torch.tensor(int(found is not None))
        dist.all_reduce(everywhere, dist.ReduceOp.MIN)
        _agreed[:] = [(ref(group), bool(everywhere))]
    return load() if _agreed[0][1] else None


@cache
def load() -> Kernels | None:
    """Return the kernels, built if need be; None where they cannot be, or fail their test."""
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability())
    if level is None or not _build:
        return None
    try:
        found = Kernels(ctypes.CDLL(str(_build[0](SOURCES, level, FLAGS))))
    except (IsobitError, OSError):  # no compiler, or nowhere to put what it makes
        return None
    return found if is_right(found) else None


class Kernels:
    """The C of `kernels/`: float32 tensors [N,...,C], contiguous, on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        p, n, i = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
        f, d = ctypes.c_float, ctypes.c_double
        self._moments = library.isobit_native_moments
        self._moments.argtypes = (p, n, n, i, p)
        self._codes = library.isobit_native_codes
        self._codes.argtypes = (p, p, p, p, p, n, n, i, f, f)
        self._wide_codes = library.isobit_native_wide_codes
        self._wide_codes.argtypes = self._codes.argtypes
        self._round = library.isobit_native_round
        self._round.argtypes = (p, p, p, p, n, n, i, f)
        self._real = library.isobit_native_real
        self._real.argtypes = (p, p, p, n, n, i)
        self._unpack = library.isobit_native_unpack
        self._unpack.argtypes = (p, p, n, i, f)
        self._fold = library.isobit_native_fold
        self._fold.argtypes = (p, d, p, n, n, p, p, p)
        self._gradient_sums = library.isobit_native_gradient_sums
        self._gradient_sums.argtypes = (p, p, p, p, n, n, i, i, i, p)
        self._gradient = library.isobit_native_gradient
        self._gradient.argtypes = (p, p, p, p, n, n, n, i, i, i, p, p, d, p, p, p)
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

    def moments(self, x: Tensor) -> Tensor:
        """Return the sums of x and of its squares over all but the last axis, float64 [2, C]; exact
        for integers while the second stays below 2^53.
        """
        rows, channels, threads = self._shape(x)
        sums = torch.empty(threads, 2, channels, dtype=torch.float64)
        self._moments(x.data_ptr(), rows, channels, threads, sums.data_ptr())
        return sums[0]

    def fold(self, sums: Tensor, count: int, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Return `channels.statistics_of` sums [2, C] of all processes: mean and variance, float32
        [2, C]; and what `codes` takes of `channels.fold` of them: add and mult [2, C], float32
        where that is enough, else float64. gains: `channels.Gains`, float64 [7, C].
        """
        channels = sums.shape[1]
        statistics, single = torch.empty(2, 2, channels).unbind()
        line = torch.empty(2, channels, dtype=torch.float64)
        given = sums.data_ptr(), count, gains.data_ptr(), gains.stride(0), channels
        found = statistics.data_ptr(), line.data_ptr(), single.data_ptr()
        return statistics, single if self._fold(*given, *found) else line

    def rounded(self, w: Tensor, slope: Tensor, low: int) -> tuple[Tensor, Tensor]:
        """Return `clamp(round(w * slope), low, 127)`, int8, and its sums [O]; w: [O,...]; slope: as
        many values as O.
        """
        codes = scratch.empty(w.shape, torch.int8, w.device)
        total = torch.empty(len(w), dtype=torch.int32)
        places = w.data_ptr(), slope.data_ptr(), codes.data_ptr(), total.data_ptr()
        self._round(*places, len(w), w.numel() // len(w), self._shape(w)[2], low)
        return codes, total

    def real(self, codes: Tensor, back: Tensor) -> Tensor:
        """Return codes [O,...] * back [O]."""
        w = scratch.empty(codes.shape, torch.float32, codes.device)
        places = codes.data_ptr(), back.data_ptr(), w.data_ptr()
        self._real(*places, len(w), w.numel() // len(w), self._shape(w)[2])
        return w

    def codes(
        self, x: Tensor, add: Tensor, mult: Tensor, low: int, high: int
    ) -> tuple[Tensor, Packed]:
        """Return `clamp(floor(x * mult + add), low, high)`, the multiply-add rounded once, and the
        same packed. add, mult: [C], both float32 or both float64; high - low: at most 255.
        """
        y = scratch.empty(x.shape, x.dtype, x.device)
        packed = scratch.empty(x.shape, torch.uint8, x.device)
        given = x.data_ptr(), add.data_ptr(), mult.data_ptr(), y.data_ptr(), packed.data_ptr()
        kernel = self._codes if add.dtype is torch.float32 else self._wide_codes
        kernel(*given, *self._shape(x), low, high)
        return y, Packed(packed, low)

    def unpack(self, packed: Packed) -> Tensor:
        """Return packed codes, float32."""
        y = scratch.empty(packed.bytes.shape, torch.float32, packed.bytes.device)
        rows, channels, threads = self._shape(y)
        places = packed.bytes.data_ptr(), y.data_ptr()
        self._unpack(*places, rows * channels, threads, packed.low)
        return y

    def gradient_sums(
        self, grad: Tensor, y: Tensor | None, x: Tensor, layer: Tensor, inside: tuple[int, int]
    ) -> Tensor:
        """Return the sums of a gradient and of it times (x - mean), float64 [2, C], where y, the
        bytes of packed codes, is strictly between two, or everywhere without y. layer:
        `norm_layer.Call.rows`.
        """
        rows, channels, threads = self._shape(x)
        sums = torch.empty(threads, 2, channels, dtype=torch.float64)
        given = grad.data_ptr(), _place(y), x.data_ptr(), layer[MEAN].data_ptr()
        self._gradient_sums(*given, rows, channels, threads, *inside, sums.data_ptr())
        return sums[0]

    def gradient(
        self,
        grad: Tensor,
        y: Tensor | None,
        x: Tensor,
        layer: Tensor,
        inside: tuple[int, int],
        sums: Tensor,
        total: Tensor,
        count: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients to x, scaled by the slope of the weights, and to gamma and beta [2,
        C]. sums, total: of this and of all processes, `count` values of a channel.
        """
        out = torch.empty_like(x)
        room = torch.empty(5, x.shape[-1])
        given = grad.data_ptr(), _place(y), x.data_ptr(), layer.data_ptr(), layer.stride(0)
        last = out.data_ptr(), room[3].data_ptr()
        numbers = sums.data_ptr(), total.data_ptr(), count, room.data_ptr()
        self._gradient(*given, *self._shape(x), *inside, *numbers, *last)
        return out, room[3:]


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
        wanted = np.clip(np.floor(x * mult + add), *ends)
        for line in ((offset, factor), (torch.from_numpy(add), torch.from_numpy(mult))):
            codes, packed = found.codes(acc, *line, *ends)
            if not np.array_equal(codes, wanted):
                return False
        if not np.array_equal(found.unpack(packed), wanted):
            return False
        w = torch.from_numpy(rng.standard_normal((channels, rows)).astype(np.float32) * 70)
        slope = torch.from_numpy(rng.standard_normal(channels).astype(np.float32))
        rounded, total = found.rounded(w, slope, -127)
        own = (w * slope[:, None]).round().clamp(-127, 127)
        if not (torch.equal(rounded.float(), own) and torch.equal(total.float(), own.sum(1))):
            return False
        if not torch.equal(found.real(rounded, slope), own * slope[:, None]):
            return False
        if not np.array_equal(found.moments(acc), np.array([x.sum(0), np.square(x).sum(0)])):
            return False
        grad = rng.standard_normal(x.shape).astype(np.float32)
        layer = rng.standard_normal((6, channels)).astype(np.float32)
        layer[INVERSE] *= 2.0**-20  # of values that deviate so much
        _, scaled, mean, inverse, turn, lift = layer.astype(np.float64)
        for y in (packed.bytes, None):
            given = torch.from_numpy(grad), y, acc, torch.from_numpy(layer), (0, ends[1] - ends[0])
            sums = found.gradient_sums(*given)
            out, parameters = found.gradient(*given, sums, sums, rows)
            inner = grad * (1.0 if y is None else (wanted > ends[0]) & (wanted < ends[1]))
            away = x - mean
            exact = np.array([inner.sum(0), (inner * away).sum(0)])
            size = np.array([np.abs(inner).sum(0), np.abs(inner * away).sum(0)]) + 1e-30
            along = away * exact[1] / rows * inverse**2
            wanted_out = (inner - exact[0] / rows - along) * inverse * scaled
            room = (np.abs(inner) + size[0] / rows + np.abs(along)) * np.abs(inverse * scaled)
            room += np.abs(away * size[1] / rows * inverse**3 * scaled)
            wanted_own = np.array([exact[1] * inverse * turn, exact[0] * lift])
            room_own = np.array([size[1] * np.abs(inverse * turn), size[0] * np.abs(lift)])
            # Sums and products in float32: a few roundings of 2^-24 each.
            if (
                np.any(np.abs(sums.numpy() - exact) > 1e-6 * size)
                or np.any(np.abs(out.numpy() - wanted_out) > 4e-6 * room)
                or np.any(np.abs(parameters.numpy() - wanted_own) > 4e-6 * room_own)
            ):
                return False
    return True
