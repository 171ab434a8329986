"""Batch norm's passes over a layer as C, compiled for this CPU: fewer than torch's operators take.

The C of `kernels/` is built once, by what `offer` was given, and kept; where there is no compiler,
no threads to share with torch, or the result fails its test, training runs on torch's operators.
The integers of a forward are the same either way; statistics and gradients differ in their last
bits. Statistics from here are the same for any number of threads and processes, while squares of
sums add up to less than 2^53.
"""

from __future__ import annotations

import ctypes
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import ref

import torch
import torch.distributed as dist
from torch import Tensor

from isobit.core import torch_scratch as scratch
from isobit.core.errors import IsobitError, ToolMissing
from isobit.train import native_checks

SOURCES = Path(__file__).with_name("kernels")
"""The folder of C files."""
LEVELS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3"}
"""What torch calls the vectors it uses here, and what compilers call a CPU that has them."""
FLAGS = ("-mprefer-vector-width=512", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
WEIGHT, SCALED, MEAN, INVERSE, TURN, LIFT = range(6)
"""Rows of what a backward needs of a layer: those of `norm.Gradient`, and its weight scaled by the
slope of the layer's weights.
"""
_NAN = -(1 << 31)
"""The sum of weights one of which is NaN."""
LEAST_SHARED = 1 << 15
"""Elements from which several threads are faster than one."""
Build = Callable[[Path, str, tuple[str, ...]], Path]
"""Returns a shared library of a folder of C files for a CPU, compiled with flags; raises
`IsobitError`.
"""

SLOWER = "training uses torch's operators, which is slower: isobit's kernels cannot be used"
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
    found = attempt()
    if found.unexpected:
        warnings.warn(f"{SLOWER} ({found.fault})", RuntimeWarning, stacklevel=2)
    return found.kernels


@dataclass(frozen=True, slots=True)
class Attempt:
    """The kernels, or why there are none, and whether that is a surprise."""

    kernels: Kernels | None
    fault: str = ""
    unexpected: bool = False

    @property
    def described(self) -> str:
        """For which CPU and in which threads the kernels run; "" where there are none."""
        if self.kernels is None:
            return ""
        threads = "in torch's threads" if self.kernels.has_threads else "in one thread only"
        return f"for {torch.backends.cpu.get_cpu_capability()}, {threads}"


@cache
def attempt() -> Attempt:
    """Build the kernels and try every one."""
    level = LEVELS.get(torch.backends.cpu.get_cpu_capability())
    if level is None:
        return Attempt(None, "they are for x86-64 with AVX2")
    if not _build:
        return Attempt(None, "nothing that compiles them was offered")
    try:
        found = Kernels(ctypes.CDLL(str(_build[0](SOURCES, level, FLAGS))))
    except ToolMissing:
        return Attempt(None, "the C compiler is missing")
    except (IsobitError, OSError, AttributeError) as error:  # not compiled, written, or ours
        return Attempt(None, str(error), unexpected=True)
    wrong = native_checks.first_fault(found)
    return Attempt(None, wrong, unexpected=True) if wrong else Attempt(found)


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
        self._gradient.argtypes = (p, p, p, p, n, n, n, i, i, i, p, p, d, p, p, p, p)
        functions = openmp()
        self.has_threads = functions is not None
        """Whether they run in torch's own threads; else in one."""
        self.threads: int | None = None
        """How many to use, whatever torch does."""
        if functions is not None:
            library.isobit_native_threads.argtypes = (p, p, p)
            library.isobit_native_threads(*(ctypes.cast(one, p) for one in functions))

    def _shape(self, x: Tensor) -> tuple[int, int, int]:
        size, channels = x.numel(), x.shape[-1]
        threads = self.threads
        if threads is None:
            shared = self.has_threads and size >= LEAST_SHARED
            threads = torch.get_num_threads() if shared else 1
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

    def rounded(self, w: Tensor, slope: Tensor, low: int) -> tuple[Tensor, Tensor] | None:
        """Return `clamp(round(w * slope), low, 127)`, int8, and its sums [O]; None where a weight
        is NaN, which int8 is not. w: [O,...]; slope: as many values as O.
        """
        codes = scratch.empty(w.shape, torch.int8, w.device)
        total = torch.empty(len(w), dtype=torch.int32)
        places = w.data_ptr(), slope.data_ptr(), codes.data_ptr(), total.data_ptr()
        self._round(*places, len(w), w.numel() // len(w), self._shape(w)[2], low)
        return None if int(total.min()) == _NAN else (codes, total)

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients to x, scaled by the slope of the weights, and to gamma and beta [C].
        sums, total: of this and of all processes, `count` values of a channel.
        """
        channels = x.shape[-1]
        out, room = torch.empty_like(x), torch.empty(3, channels)
        gamma, beta = torch.empty(channels), torch.empty(channels)
        given = grad.data_ptr(), _place(y), x.data_ptr(), layer.data_ptr(), layer.stride(0)
        numbers = sums.data_ptr(), total.data_ptr(), count, room.data_ptr()
        last = out.data_ptr(), gamma.data_ptr(), beta.data_ptr()
        self._gradient(*given, *self._shape(x), *inside, *numbers, *last)
        return out, gamma, beta


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
