"""lut_interpolated: sigmoid and tanh of int16 codes, from a table of 256 entries (TFLite)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Raw,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.lut_interpolated.table import LARGEST_MULT, parameters, table
from isobit.ops.requantize.op import factor_problems
from isobit.ops.schemes import Scheme

T = TypeVar("T")

OUTPUT = Affine((2.0**-15,), 0)
ENTRIES = 256
BITS = {"sigmoid": 9, "tanh": 8}
"""Of the argument between two entries: tanh(x) = 2 * sigmoid(2 * x) - 1."""


@dataclass(frozen=True, slots=True)
class LutInterpolatedAttrs(Attrs):
    """`function`: "sigmoid" or "tanh"."""

    function: str


@dataclass(frozen=True, slots=True)
class LutInterpolatedInputs(Inputs[T]):
    """x: any shape; table: s16 [256], entries of a sigmoid in units of 2^-16 less 2^15; mult,
    shift: s32 [1], `half_up`. Float graphs have x alone.
    """

    x: T
    table: T | None = field(default=None, kw_only=True)
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class LutInterpolated(
    Op[LutInterpolatedAttrs, LutInterpolatedInputs[Any]], name="lut_interpolated"
):
    """x, y: s16, zero point 0, the same shape; y has scale 2^-15.

    Source: docs/numerics.md; TensorFlow Lite `reference/integer_ops/logistic.h`, `tanh.h`.
    """

    constants = ("table", "mult", "shift")
    takes_any_encoding = True
    encoding_rule = EncodingRule.FIXED
    elementwise = True

    @staticmethod
    def fixed_encoding(attrs: LutInterpolatedAttrs, inputs: Any, scheme: Scheme) -> Encoding:
        return OUTPUT

    @staticmethod
    def infer(attrs: LutInterpolatedAttrs, types: LutInterpolatedInputs[TensorType]) -> Inferred:
        x = types.x
        errors: list[IsobitError] = factor_problems("lut_interpolated", types.mult, types.shift)
        if attrs.function not in BITS:
            errors.append(
                BadAttribute(
                    where="lut_interpolated",
                    what="function",
                    want=" or ".join(BITS),
                    got=repr(attrs.function),
                    fix="Other functions are tables of int8: `lut`.",
                )
            )
        if not is_float(x) and (x.dtype is not DType.S16 or x.zero):
            errors.append(
                BadAttribute(
                    where="lut_interpolated",
                    what="input",
                    want="s16 with zero point 0",
                    got=f"{x.dtype.value} with {x.zero}",
                    fix="Of int8, `lut` has every code in its table.",
                )
            )
        if types.table is not None and types.table.shape != (ENTRIES,):
            errors.append(
                BadShape(
                    where="lut_interpolated",
                    what="table",
                    want=f"[{ENTRIES}]",
                    got=str(list(types.table.shape)),
                    fix="Import the model again.",
                )
            )
        raise_all(errors)
        return Inferred(x.shape, x.dtype)

    @staticmethod
    def integer(
        attrs: LutInterpolatedAttrs, q: NodeTypes[Any], inputs: LutInterpolatedInputs[IntArray]
    ) -> IntArray:
        assert inputs.table is not None and inputs.mult is not None and inputs.shift is not None
        argument = fixed.half_up(inputs.x, inputs.mult, inputs.shift)
        bits = BITS[attrs.function]
        size = np.abs(argument)
        index, rest = np.minimum(size >> bits, ENTRIES - 2), size & ((1 << bits) - 1)
        first, second = inputs.table[index] + (1 << 15), inputs.table[index + 1] + (1 << 15)
        value = (first << bits) + rest * (second - first)
        # From entry 255 on the function is at its end: 2 - 2^-15, in steps of a sigmoid's 2^-16.
        top = (1 << 16) - (2 if attrs.function == "sigmoid" else 1)
        value = np.where(size >> bits >= ENTRIES - 1, top << bits, value)
        if attrs.function == "sigmoid":  # 1 - v below 0; then half the steps, rounded
            value = np.where(argument >= 0, value, (1 << 25) - 1 - value)
            return (value + (1 << 9)) >> 10
        centred = value - (1 << 23)
        return (np.where(argument >= 0, centred, -1 - centred) + (1 << 7)) >> 8

    @staticmethod
    def real(attrs: LutInterpolatedAttrs, inputs: LutInterpolatedInputs[FloatArray]) -> FloatArray:
        half = np.tanh(inputs.x * (0.5 if attrs.function == "sigmoid" else 1.0))
        result: FloatArray = half / 2 + 0.5 if attrs.function == "sigmoid" else half
        return result

    @staticmethod
    def cost(attrs: LutInterpolatedAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: LutInterpolatedAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[LutInterpolatedAttrs, Mapping[str, AnyArray]]:
        """Return the runtime's table and the factor of the input's scale."""
        mult, shift = parameters(attrs.function, float(scale_of(q.inputs.x.encoding)[0]))
        return attrs, {
            "table": table().astype(np.int16),
            "mult": np.asarray([mult], dtype=np.int32),
            "shift": np.asarray([shift], dtype=np.int32),
        }

    @classmethod
    def prove(
        cls, attrs: LutInterpolatedAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that arguments and what is interpolated fit int32."""
        mult, shift = int(consts.mult[0]), int(consts.shift[0])
        rising = bool(np.all(np.diff(consts.table.astype(np.int64)) >= 0))
        if 0 <= mult <= LARGEST_MULT and 0 <= shift <= 31 and rising and consts.table[0] >= 0:
            return []
        return [
            BadAttribute(
                where=where,
                what="mult, shift, table",
                want=f"0..{LARGEST_MULT}, 0..31, rising from 0 on",
                got=f"{mult}, {shift}, {'' if rising else 'not '}rising from {consts.table[0]}",
                fix="Import the model again.",
            )
        ]

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(57)
        for label, shape, scale in _CASES:
            for function in BITS:
                x = sampling.kind((1, *shape[1:]), Affine((scale,), 0), DType.S16)
                y = sampling.kind((1, *shape[1:]), OUTPUT, DType.S16)
                attrs = LutInterpolatedAttrs(function)
                plain = NodeTypes(LutInterpolatedInputs(x), (y,))
                _, found = LutInterpolated.derive(attrs, plain, Scheme.AFFINE, None)
                one = sampling.raw32(1)
                kinds: LutInterpolatedInputs[TensorType] = LutInterpolatedInputs(
                    x, table=TensorType((ENTRIES,), DType.S16, Raw()), mult=one, shift=one
                )
                arrays: LutInterpolatedInputs[Any] = LutInterpolatedInputs(
                    sampling.codes(rng, shape, DType.S16.low, DType.S16.high),
                    **{name: array.astype(np.int64) for name, array in found.items()},
                )
                yield Sample(f"{function}, {label}", attrs, NodeTypes(kinds, (y,)), arrays)


_CASES: tuple[tuple[str, tuple[int, ...], float], ...] = (
    ("step 2^-12", (3, 4, 5, 6), 2.0**-12),
    ("step 2^-11", (2, 77), 2.0**-11),
    ("a fine step", (3, 33), 3.1e-5),
    ("mostly between the ends", (4, 60), 1.7e-4),
)
