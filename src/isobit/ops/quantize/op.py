"""quantize: float32 to int8, `clamp(Zy + round_half_away(x * k * 2^-e))`, in integer arithmetic.

Imported networks divide in float32, which rounds before the rounding to a code. That is monotone,
so the smallest float of every code says all of it: `thresholds`.
"""

from __future__ import annotations

import math
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
    Pow2,
    Real,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.schemes import Scheme

T = TypeVar("T")

STEPS = 255
"""Thresholds between 256 codes."""
BEYOND = 1 << 16
"""A magnitude that saturates with every zero point, and leaves room in int32."""


@dataclass(frozen=True, slots=True)
class QuantizeAttrs(Attrs):
    """`clamp` is in output codes."""

    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, slots=True)
class QuantizeInputs(Inputs[T]):
    """x: f32, any shape; mult: s32 [1], k in 0..2^31-1; shift: s32 [1], e; or instead of both
    thresholds: f32 [255], in any order; or, to int16, divisor: f32 [1]. All absent in float graphs.
    """

    x: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)
    thresholds: T | None = field(default=None, kw_only=True)
    divisor: T | None = field(default=None, kw_only=True)


class Quantize(Op[QuantizeAttrs, QuantizeInputs[Any]], name="quantize"):
    """x: f32; y: s8, or with a divisor s16 of zero point 0; the same shape. A float is read as
    `(-1)^s * m * 2^t`, m < 2^24; NaN is 0, infinity saturates.
    """

    constants = ("mult", "shift", "thresholds", "divisor")
    encoding_rule = EncodingRule.FREE
    elementwise = True

    @staticmethod
    def infer(attrs: QuantizeAttrs, types: QuantizeInputs[TensorType]) -> Inferred:
        errors: list[IsobitError] = []
        if types.x.dtype not in (DType.F32, DType.F64):
            errors.append(
                BadShape(
                    where="quantize",
                    what="input dtype",
                    want="f32",
                    got=types.x.dtype.value,
                    fix="Codes become other codes with requantize.",
                )
            )
        dtype = DType.S8 if types.divisor is None else DType.S16
        if not dtype.low <= attrs.clamp[0] <= attrs.clamp[1] <= dtype.high:
            errors.append(
                BadAttribute(
                    where="quantize",
                    what="clamp",
                    want=f"{dtype.low} <= low <= high <= {dtype.high}",
                    got=str(attrs.clamp),
                    fix="Clamps are output codes.",
                )
            )
        errors.extend(_wrong_constants(types))
        raise_all(errors)
        # A float graph has no constants: there the operator passes its input on.
        integer = (types.mult, types.thresholds, types.divisor)
        is_float = all(kind is None for kind in integer)
        return Inferred(types.x.shape, types.x.dtype if is_float else dtype)

    @staticmethod
    def integer(
        attrs: QuantizeAttrs, q: NodeTypes[Any], inputs: QuantizeInputs[AnyArray]
    ) -> IntArray:
        """`inputs.x` holds float32 values; only their bits are used."""
        if inputs.divisor is not None:
            return _divided(inputs.x, inputs.divisor, attrs.clamp)
        if inputs.thresholds is not None:
            # Of finite floats and infinities, comparing the reals is comparing the ordered bits.
            real = np.where(np.isnan(inputs.x), np.float32(0), inputs.x.astype(np.float32))
            steps = np.sort(inputs.thresholds.astype(np.float32))
            reached: IntArray = np.searchsorted(steps, real, side="right").astype(np.int64)
            return fixed.saturate(reached - 128, *attrs.clamp)
        assert inputs.mult is not None and inputs.shift is not None
        bits = np.ascontiguousarray(inputs.x, dtype=np.float32).view(np.uint32).astype(np.int64)
        exponent, fraction = bits >> 23 & 0xFF, bits & 0x7FFFFF
        m = fraction + np.where(exponent > 0, 1 << 23, 0)
        n = np.int64(inputs.shift[0]) + 150 - np.maximum(exponent, 1)
        right, left = np.clip(n, 0, 62), np.clip(-n, 0, 16)
        half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
        rounded = np.minimum((m * np.int64(inputs.mult[0]) + half) >> right, BEYOND)
        magnitude = np.minimum(rounded << left, BEYOND)
        magnitude = np.where(exponent == 0xFF, np.where(fraction == 0, BEYOND, 0), magnitude)
        signed = np.where(bits >> 31 == 1, -magnitude, magnitude)
        return fixed.saturate(signed + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: QuantizeAttrs, inputs: QuantizeInputs[FloatArray]) -> FloatArray:
        return inputs.x

    @staticmethod
    def cost(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: QuantizeAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[QuantizeAttrs, Mapping[str, AnyArray]]:
        """`1/Sy = k * 2^-e` with k the Q31 mantissa: exactly 2^30 for a power of two."""
        if q.output.dtype is DType.S16:
            scale = float(scale_of(q.output.encoding)[0])
            return attrs, {"divisor": np.asarray([scale], dtype=np.float32)}
        mantissa, exponent = math.frexp(1.0 / float(scale_of(q.output.encoding)[0]))
        # Rounding up to 2^31 would need a mantissa within 2^-32 of 1; the largest k is as near.
        mult = min(math.floor(mantissa * 2.0**31 + 0.5), fixed.INT32_MAX)
        return attrs, {
            "mult": np.asarray([mult], dtype=np.int32),
            "shift": np.asarray([31 - exponent], dtype=np.int32),
        }

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(37)
        cases: tuple[tuple[str, tuple[int, ...], Encoding, float, tuple[int, int]], ...] = (
            ("affine", (2, 3, 4, 5), Affine((0.037,), -9), 2.0, (-128, 127)),
            ("pow2, ties", (3, 33), Pow2((4,)), 4.0, (-128, 127)),
            ("clamp", (2, 40), Affine((0.05,), 3), 2.0, (-100, 90)),
            ("large values", (2, 40), Affine((3.0e30,), 5), 1.0e32, (-128, 127)),
            ("tiny values", (2, 40), Affine((1.0e-38,), 1), 5.0e-37, (-128, 127)),
            ("NaN, infinities, zeros, subnormal", (2, 24), Affine((1.5,), -4), 60.0, (-128, 127)),
        )
        for label, shape, encoding, spread, clamp in cases:
            values = (rng.normal(0, 1, size=shape) * spread).astype(np.float32)
            if "ties" in label:
                values = (np.rint(values * 32) / 32).astype(np.float32)
            if "NaN" in label:
                special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3.4e38]
                values[:, : len(special)] = special
            x = TensorType((1, *shape[1:]), DType.F32, Real())
            y = sampling.kind((1, *shape[1:]), encoding)
            inputs: QuantizeInputs[TensorType] = QuantizeInputs(
                x, mult=sampling.raw32(1), shift=sampling.raw32(1)
            )
            types = NodeTypes(inputs, (y,))
            attrs = QuantizeAttrs(clamp)
            _, derived = Quantize.derive(attrs, types, Scheme.AFFINE, None)
            numbers = {name: array.astype(np.int64) for name, array in derived.items()}
            yield Sample(label, attrs, types, QuantizeInputs(values, **numbers))
            steps = thresholds(float(scale_of(encoding)[0]), y.zero)
            kind = TensorType((STEPS,), DType.F32, Real())
            types = NodeTypes(QuantizeInputs(x, thresholds=kind), (y,))
            inputs_by_steps = QuantizeInputs(values, thresholds=steps)
            yield Sample(f"{label}/thresholds", attrs, types, inputs_by_steps)
        yield from _wide_samples(rng)


def _divided(x: AnyArray, divisor: AnyArray, clamp: tuple[int, int]) -> IntArray:
    """TFLite's rule: the quotient rounded to float32, then to an integer, ties away from zero."""
    with np.errstate(over="ignore", under="ignore"):
        quotient = (np.asarray(x, np.float32) / np.float32(divisor[0])).astype(np.float64)
    quotient = np.clip(np.nan_to_num(quotient, nan=0.0), -BEYOND, BEYOND)
    away = np.sign(quotient) * np.floor(np.abs(quotient) + 0.5)
    return fixed.saturate(away.astype(np.int64), *clamp)


def _wide_samples(rng: sampling.Rng) -> Iterator[Sample[Any]]:
    """To int16, many values next to ties."""
    for label, shape, scale in (
        ("a scale", (2, 3, 4, 5), 0.000313),
        ("a power of two", (3, 40), 2.0**-12),
        ("a large scale", (2, 60), 3.0e20),
        ("special values", (2, 40), 0.7),
    ):
        step = np.float32(scale)
        codes = rng.integers(-30000, 30001, size=shape) + rng.choice([0.0, 0.5, 0.5, 0.25], shape)
        values = (codes * float(step)).astype(np.float32)
        towards = np.where(rng.random(shape) < 0.5, np.float32(np.inf), np.float32(-np.inf))
        values = np.where(rng.random(shape) < 0.5, np.nextafter(values, towards), values)
        if "special" in label:
            special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3.4e38, 22937.3, -22937.6]
            values[:, : len(special)] = special
            values[:, -2:] = (3e-5, -3e-12)  # far below half a step, but no subnormal numbers
        x = TensorType((1, *shape[1:]), DType.F32, Real())
        y = sampling.kind((1, *shape[1:]), Affine((float(step),), 0), DType.S16)
        types = NodeTypes(QuantizeInputs(x, divisor=TensorType((1,), DType.F32, Real())), (y,))
        attrs = QuantizeAttrs((DType.S16.low, DType.S16.high))
        inputs = QuantizeInputs(values.astype(np.float32), divisor=np.asarray([step]))
        yield Sample(f"{label}, int16", attrs, types, inputs)


def _wrong_constants(types: QuantizeInputs[TensorType]) -> list[IsobitError]:
    """Check that a node has one way to quantise, and the shape of thresholds."""
    errors: list[IsobitError] = []
    ways = [kind for kind in (types.thresholds, types.mult, types.divisor) if kind is not None]
    if len(ways) > 1:
        errors.append(
            BadAttribute(
                where="quantize",
                what="constants",
                want="mult and shift, or thresholds, or a divisor",
                got="two of these",
                fix="Export or import the model again.",
            )
        )
    if types.divisor is not None and types.divisor.shape != (1,):
        errors.append(
            BadShape(
                where="quantize",
                what="divisor",
                want="f32[1]",
                got=f"{types.divisor.dtype.value}{list(types.divisor.shape)}",
                fix="One scale serves the whole tensor.",
            )
        )
    kind = types.thresholds
    if kind is not None and (kind.shape, kind.dtype) != ((STEPS,), DType.F32):
        errors.append(
            BadShape(
                where="quantize",
                what="thresholds",
                want=f"f32[{STEPS}]",
                got=f"{kind.dtype.value}{list(kind.shape)}",
                fix="One float for every code of int8 but the lowest.",
            )
        )
    return errors


LARGEST_FINITE = 0x7F7FFFFF
"""The bits of the largest float32."""


def thresholds(scale: float, zero: int) -> AnyArray:
    """Return the smallest float32 of every code -127..127 by TFLite's rule, f32 [255].

    The rule: `clamp(Z + round_half_away(x / S))`, the quotient rounded to float32 (TFLite
    `reference/quantize.h`, AffineQuantize). It never falls when x rises, so 32 halvings of the
    ordered bits of all floats find each. A code that no finite float reaches has +infinity.
    """
    codes = np.arange(-127, 128, dtype=np.int64)
    low = np.full(STEPS, -LARGEST_FINITE - 1, dtype=np.int64)  # not reached, or -infinity
    high = np.full(STEPS, LARGEST_FINITE + 1, dtype=np.int64)  # reached, or +infinity
    while np.any(high - low > 1):
        middle = (low + high) >> 1
        reached = _affine_quantize(_float_of(middle), scale, zero) >= codes
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return _float_of(high)


def _float_of(ordered: IntArray) -> AnyArray:
    """Return the float32 values of ordered integers: magnitude bits, with the sign."""
    bits = np.abs(ordered).astype(np.uint32) | np.where(ordered < 0, np.uint32(1 << 31), 0)
    result: AnyArray = bits.astype(np.uint32).view(np.float32)
    return result


def _affine_quantize(x: AnyArray, scale: float, zero: int) -> IntArray:
    with np.errstate(over="ignore", under="ignore"):
        quotient = (x / np.float32(scale)).astype(np.float64)
    away = np.sign(quotient) * np.floor(np.abs(np.clip(quotient, -512, 512)) + 0.5)
    result: IntArray = away.astype(np.int64) + zero
    return result
