"""dequantize: int8 to float32, y = table[x + 128]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadShape
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    Pow2,
    Real,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.schemes import Scheme

T = TypeVar("T")

ENTRIES = 256


@dataclass(frozen=True, slots=True)
class DequantizeAttrs(Attrs):
    """None."""


@dataclass(frozen=True, slots=True)
class DequantizeInputs(Inputs[T]):
    """x: s8 or s16, any shape; table: f32 [256] for the codes -128..127, or of s16 scale: f32 [1];
    both absent in float graphs.
    """

    x: T
    table: T | None = field(default=None, kw_only=True)
    scale: T | None = field(default=None, kw_only=True)


class Dequantize(Op[DequantizeAttrs, DequantizeInputs[Any]], name="dequantize"):
    """x: s8, or s16 of zero point 0; y: f32, the same shape: the float32 nearest to
    `Sx * (x - Zx)`.
    """

    constants = ("table", "scale")
    encoding_rule = EncodingRule.FIXED
    elementwise = True

    @staticmethod
    def fixed_encoding(attrs: DequantizeAttrs, inputs: Any, scheme: Scheme) -> Encoding:
        return Real()

    @staticmethod
    def infer(attrs: DequantizeAttrs, types: DequantizeInputs[TensorType]) -> Inferred:
        table = types.table
        if table is not None and (table.shape, table.dtype) != ((ENTRIES,), DType.F32):
            raise BadShape(
                where="dequantize",
                what="table",
                want=f"f32[{ENTRIES}]",
                got=f"{table.dtype.value}{list(table.shape)}",
                fix="One float for every code of int8.",
            )
        wide = types.x.dtype is DType.S16
        if (wide and types.x.zero) or wide is not (types.scale is not None):
            raise BadShape(
                where="dequantize",
                what="constants",
                want="a scale for s16 of zero point 0, a table for s8",
                got=f"{types.x.dtype.value}, {'a' if types.scale is not None else 'no'} scale",
                fix="Import the model again.",
            )
        dtype = types.x.dtype if is_float(types.x) else DType.F32
        return Inferred(types.x.shape, dtype, Real())

    @staticmethod
    def integer(
        attrs: DequantizeAttrs, q: NodeTypes[Any], inputs: DequantizeInputs[AnyArray]
    ) -> AnyArray:
        """Return float32 values: table entries, looked up and never computed with."""
        if inputs.scale is not None:
            # The product fits float64, so it is rounded once.
            wide: AnyArray = (inputs.x * float(inputs.scale[0])).astype(np.float32)
            return wide
        assert inputs.table is not None
        result: AnyArray = inputs.table.astype(np.float32)[inputs.x + 128]
        return result

    @staticmethod
    def real(attrs: DequantizeAttrs, inputs: DequantizeInputs[FloatArray]) -> FloatArray:
        return inputs.x

    @staticmethod
    def cost(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> Cost:
        entries = ENTRIES if q.inputs.scale is None else 1
        return Cost(reads=q.inputs.x.elements + entries, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: DequantizeAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[DequantizeAttrs, Mapping[str, AnyArray]]:
        if q.inputs.x.dtype is DType.S16:
            scale = float(scale_of(q.inputs.x.encoding)[0])
            return attrs, {"scale": np.asarray([scale], dtype=np.float32)}
        return attrs, {"table": table_of(q.inputs.x)}

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(38)
        cases: tuple[tuple[str, tuple[int, ...], Encoding], ...] = (
            ("affine", (2, 3, 4, 5), Affine((0.037,), -9)),
            ("pow2", (3, 33), Pow2((7,))),
            ("one element", (9, 1), Affine((123.4,), 90)),
        )
        for label, shape, encoding in cases:
            x = sampling.kind((1, *shape[1:]), encoding)
            y = TensorType((1, *shape[1:]), DType.F32, Real())
            types = NodeTypes(
                DequantizeInputs(x, table=TensorType((ENTRIES,), DType.F32, Real())), (y,)
            )
            inputs = DequantizeInputs(sampling.codes(rng, shape), table=table_of(x))
            yield Sample(label, DequantizeAttrs(), types, inputs)
        for label, shape, step in (
            ("a scale", (2, 3, 4, 5), 0.000313),
            ("a power of two", (3, 33), 2.0**-13),
            ("a scale of all ones", (40, 3), float(np.nextafter(np.float32(2.0), np.float32(0.0)))),
            ("ties", (40, 3), float(np.nextafter(np.float32(2.0), np.float32(4.0)))),
        ):
            x = sampling.kind((1, *shape[1:]), Affine((float(np.float32(step)),), 0), DType.S16)
            y = TensorType((1, *shape[1:]), DType.F32, Real())
            one = TensorType((1,), DType.F32, Real())
            codes = sampling.codes(rng, shape, DType.S16.low, DType.S16.high)
            codes.flat[:4] = (0, 1, DType.S16.low, DType.S16.high)
            if label == "ties":  # 3 * (2^23 + 1) has 25 bits, and half a unit is left
                codes = np.arange(-60, 60).reshape(shape)
            wide = DequantizeInputs(codes, scale=np.asarray([step], dtype=np.float32))
            types = NodeTypes(DequantizeInputs(x, scale=one), (y,))
            yield Sample(f"{label}, int16", DequantizeAttrs(), types, wide)


def table_of(x: TensorType) -> AnyArray:
    """Return the float32 nearest to `Sx * (q - Zx)` for q = -128..127, each rounded once."""
    scale = Fraction(float(scale_of(x.encoding)[0]))
    return np.asarray([nearest_float32(scale * (q - x.zero)) for q in range(-128, 128)], np.float32)


def nearest_float32(value: Fraction) -> float:
    """Round to 24 significant bits, ties to even, in one step (through float64 would be two)."""
    if value == 0:
        return 0.0
    exponent = max(value.numerator.bit_length() - value.denominator.bit_length() - 24, -149)
    scaled = abs(value) / Fraction(2) ** exponent
    while scaled >= 1 << 24:
        exponent, scaled = exponent + 1, scaled / 2
    magnitude = float(round(scaled)) * 2.0**exponent
    return magnitude if value > 0 else -magnitude
