"""What a case is, and short ways to write one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_builder import Operator, Tensor, build

LIMITS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One file of one operator."""

    label: str
    blob: bytes
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    """Shape and dtype of every input of the file."""
    runtime: str = "tflm"
    """Whose arithmetic the file is held to."""

    def feeds(self, samples: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield random inputs that only depend on the case; the first are the extreme codes."""
        rng = np.random.default_rng(zlib.crc32(self.label.encode()))
        for index in range(samples):
            yield tuple(_feed(rng, shape, dtype, index) for shape, dtype in self.inputs)


def _feed(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, index: int) -> np.ndarray:
    if dtype == "float32":
        return (rng.normal(size=shape) * 3).astype(np.float32)
    low, high = LIMITS[dtype]
    if index < 2:
        return np.full(shape, (low, high)[index], dtype=dtype)
    if index == 2:  # neighbours differ most
        codes = np.where(np.arange(int(np.prod(shape))) % 2, low, high)
        return codes.reshape(shape).astype(dtype)
    return rng.integers(low, high + 1, size=shape).astype(dtype)


Cases = Callable[[str], Iterator[Case]]


def cases(*codes: str) -> Callable[[Cases], Cases]:
    """Mark a generator of cases; it is called once with each builtin name."""

    def mark(make: Cases) -> Cases:
        make.codes = tuple((code, make) for code in codes)  # type: ignore[attr-defined]
        return make

    return mark


def activation(
    name: str,
    shape: Sequence[int],
    scale: float = 0.05,
    zero: int = 0,
    dtype: str = "int8",
) -> Tensor:
    """A tensor computed at run time; floats have no scale."""
    if dtype == "float32":
        return Tensor(name=name, shape=tuple(shape), dtype=dtype)
    return Tensor(name=name, shape=tuple(shape), dtype=dtype, scale=(scale,), zero_point=(zero,))


def constant(
    name: str,
    data: Any,
    dtype: str = "int32",
    scale: Sequence[float] = (),
    zero: Sequence[int] = (),
    axis: int = 0,
) -> Tensor:
    """A tensor stored in the file."""
    array = np.asarray(data, dtype=dtype)
    zeros = tuple(zero) or (0,) * len(scale)
    return Tensor.constant(
        name, array, scale=tuple(scale), zero_point=zeros if scale else (), axis=axis
    )


def single(
    code: str,
    label: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor],
    options: str = "",
    values: Mapping[str, Any] | None = None,
    *,
    version: int = 1,
    runtime: str = "tflm",
) -> Case:
    """One operator over `inputs` (constants among them) and `outputs`."""
    present = list({t.name: t for t in inputs if t is not None}.values())
    fed = [t for t in present if t.data is None and not t.variable]
    operator = Operator(
        code=code,
        inputs=tuple(None if t is None else t.name for t in inputs),
        outputs=tuple(t.name for t in outputs),
        options=options,
        values=values or {},
        version=version,
    )
    blob = build(
        tensors=[*present, *outputs],
        operators=[operator],
        inputs=[t.name for t in fed],
        outputs=[t.name for t in outputs],
    )
    return Case(
        label=label, blob=blob, inputs=tuple((t.shape, t.dtype) for t in fed), runtime=runtime
    )
