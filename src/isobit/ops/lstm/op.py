"""lstm: a sequence through input, forget, cell and output gates. Per step t, for gate k:

a[k,u] = sat16(sat16(R_k(b[k,u] + sum_i w[k,u,i] * (x[t,i] - Zx)))
             + sat16(R_4+k(sum_j r[k,u,j] * (h[j] - Zh))))
i, f, o = sigmoid(a),  g = tanh(a)
c[u]   = cell_clamp(sat16(R_8(f*c[u])) + sat16(R_9(i*g)))
h[u]   = sat8(Zh + R_10(tanh(c[u]) * o)),  y[t] = h

Without states a run is a sequence of its own: h = Zh and c = 0 before its first step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import schemes
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.clamps import clamp_problems
from isobit.ops.lstm import gates
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import accumulator_bound, exact_matmul, overflow_problems

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

GATES = 4
"""In the order of the rows of `w`, `r` and `b`: input, forget, cell, output."""
FACTORS = 2 * GATES + 3
"""Of x and of h for every gate; of forget * cell, input * cell gate, output * tanh(cell)."""
MOST_BIAS = 2.0**22
"""Of a calibrated bias in steps of x times w, where its weights are next to nothing."""
FRACS = (-2, 24)
"""Of the cell state: within them the argument of tanh fits 32 bits."""


@dataclass(frozen=True, slots=True)
class LstmAttrs(Attrs):
    """`time_major`: whether steps or rows come first in x and y. `cell_clip`: the largest |c| of
    float graphs, `cell_clamp` the bounds in codes. The scale of c is 2^-cell_frac.
    """

    time_major: bool = False
    cell_clip: float = math.inf
    cell_clamp: tuple[int, int] = (-32768, 32767)
    cell_frac: int = 12


@dataclass(frozen=True, slots=True)
class LstmInputs(Inputs[T]):
    """x: activation; h, c: states, or both absent: then every run starts from zero; w: weights of x
    [4U,I]; r: weights of h [4U,U]; b: bias [4U] s32, at the scale of x times w; mult, shift: s32
    [11], absent in float graphs.
    """

    x: T
    h: T | None
    c: T | None
    w: T
    r: T
    b: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class Lstm(Op[LstmAttrs, LstmInputs[Any]], name="lstm"):
    """x: s8 [N,B,T,I], or [N,T,B,I] where `time_major`; h: s8 [N,B,U]; c: s16 [N,B,U]; y: s8
    [N,B,T,U] or [N,T,B,U], with the encoding of h. All factors round as `tflite_double`.

    With states a run continues where the one before ended; without, samples are independent. So are
    rows B. Calibrated: y in its observed range, one scale for each gate's weights, the cell in the
    finest power of two that holds it; the weights stay while the rest of a network trains. No
    peepholes, projection or layer normalisation.

    Source: docs/numerics.md; Hochreiter and Schmidhuber 1997; TFLite
    `UNIDIRECTIONAL_SEQUENCE_LSTM` (TFLM `kernels/lstm_eval.h`).
    """

    constants = ("w", "r", "b", "mult", "shift")
    encoding_rule = EncodingRule.FREE
    updates: ClassVar[Mapping[str, int]] = {"h": 1, "c": 2}

    @staticmethod
    def infer(
        attrs: LstmAttrs, types: LstmInputs[TensorType]
    ) -> tuple[Inferred, Inferred, Inferred]:
        x, h, c = types.x, types.h, types.c
        raise_all(_shape_problems(attrs, types))
        if not is_float(x):
            raise_all(_type_problems(attrs, types))
        rows, size = x.shape[2 if attrs.time_major else 1], types.r.shape[1]
        y, state = (*x.shape[:-1], size), (x.shape[0], rows, size)
        if h is not None and c is not None:
            return (
                Inferred(y, x.dtype, h.encoding),
                Inferred(state, h.dtype, h.encoding),
                Inferred(state, c.dtype, c.encoding),
            )
        cell = x.dtype if is_float(x) else DType.S16
        return Inferred(y, x.dtype), Inferred(state, x.dtype), Inferred(state, cell)

    @staticmethod
    def integer(
        attrs: LstmAttrs, q: NodeTypes[Any], inputs: LstmInputs[IntArray]
    ) -> tuple[IntArray, IntArray, IntArray]:
        zero, steps = q.outputs[1].zero, []
        h, c = before(attrs, inputs, zero)

        def factor(k: int, values: IntArray, low: int = -32768, high: int = 32767) -> IntArray:
            assert inputs.mult is not None and inputs.shift is not None
            scaled = fixed.tflite_double(values, inputs.mult[k], inputs.shift[k])
            return fixed.saturate(scaled, low, high)

        for x in _steps(attrs, inputs.x):
            fresh = _by_gate(exact_matmul(x - q.inputs.x.zero, inputs.w.T) + inputs.b)
            kept = _by_gate(exact_matmul(h - zero, inputs.r.T))
            sums = [factor(k, fresh[k]) + factor(GATES + k, kept[k]) for k in range(GATES)]
            i, f, g, o = (fixed.saturate(total, -32768, 32767) for total in sums)
            i, f, o, g = *map(gates.sigmoid, (i, f, o)), gates.tanh(g, gates.GATE_FRAC)
            c = fixed.saturate(factor(8, f * c) + factor(9, i * g), *attrs.cell_clamp)
            top = gates.tanh(c, attrs.cell_frac) * o
            h = factor(10, top, -(2**31), 2**31 - 1) + zero
            h = fixed.saturate(h, -128, 127)
            steps.append(h)
        return np.stack(steps, axis=1 if attrs.time_major else 2), h, c

    @staticmethod
    def real(
        attrs: LstmAttrs, inputs: LstmInputs[FloatArray]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        h, c = before(attrs, inputs, 0)
        steps = []
        for x in _steps(attrs, inputs.x):
            i, f, g, o = _by_gate(x @ inputs.w.T + inputs.b + h @ inputs.r.T)
            i, f, o = (0.5 + 0.5 * np.tanh(0.5 * gate) for gate in (i, f, o))
            c = np.clip(f * c + i * np.tanh(g), -attrs.cell_clip, attrs.cell_clip)
            h = o * np.tanh(c)
            steps.append(h)
        return np.stack(steps, axis=1 if attrs.time_major else 2), h, c

    @staticmethod
    def surrogate(
        attrs: LstmAttrs, q: NodeTypes[Any], inputs: LstmInputs[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        from isobit.ops.lstm.torch_cell import surrogate

        return surrogate(attrs, q, inputs)

    @staticmethod
    def estimate(attrs: LstmAttrs, q: NodeTypes[Any], inputs: LstmInputs[Tensor]) -> Tensor:
        """Return y from real weights; the states start from zero."""
        from isobit.ops.lstm.torch_cell import real

        scale = float(scale_of(q.inputs.x.encoding)[0])
        return real(attrs, replace(inputs, x=inputs.x * scale))[0]

    @staticmethod
    def cost(attrs: LstmAttrs, q: NodeTypes[Any]) -> Cost:
        x, w, r = q.inputs.x, q.inputs.w, q.inputs.r
        steps = x.elements // x.shape[-1]
        states = sum(kind.elements for kind in (q.inputs.h, q.inputs.c) if kind is not None)
        return Cost(
            macs=steps * (w.elements + r.elements),
            reads=x.elements + states + w.elements + r.elements,
            writes=sum(kind.elements for kind in q.outputs),
        )

    @staticmethod
    def observed(attrs: LstmAttrs, largest: Sequence[float]) -> LstmAttrs:
        """Return the finest scale that holds the cell, at most the clip, in 16 bits."""
        most = min(largest[2], attrs.cell_clip)
        frac = math.floor(math.log2(32767.0 / most)) if most > 0 else FRACS[1]
        return replace(attrs, cell_frac=min(max(frac, FRACS[0]), FRACS[1]))

    @staticmethod
    def output_codes(
        attrs: LstmAttrs, encoding: Encoding, count: int
    ) -> tuple[tuple[DType, Encoding], ...]:
        frac = attrs.cell_frac
        cell = Pow2((frac,)) if isinstance(encoding, Pow2) else Affine((2.0**-frac,), 0)
        return (DType.S8, encoding), (DType.S8, encoding), (DType.S16, cell)

    @staticmethod
    def constant_codes(
        attrs: LstmAttrs, inputs: LstmInputs[TensorType], scheme: Scheme, consts: Any
    ) -> Mapping[str, tuple[DType, Encoding]]:
        """Return one scale for each gate's rows of `w` and of `r`, and that of x times w for b."""
        x = inputs.x.encoding
        step = float(scale_of(x)[0])
        # A bias without weights beside it would leave int32 at the scale of nothing.
        least = np.abs(consts.b) / (step * MOST_BIAS)
        w = weight_codes(scheme, x, np.maximum(np.abs(consts.w).max(axis=1), least))
        scale = tuple((step * scale_of(w)).tolist())
        return {
            "w": (DType.S8, w),
            "r": (DType.S8, weight_codes(scheme, x, np.abs(consts.r).max(axis=1))),
            "b": (DType.S32, Affine(scale, 0, 0 if len(scale) > 1 else None)),
        }

    @staticmethod
    def derive(
        attrs: LstmAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[LstmAttrs, Mapping[str, AnyArray]]:
        """Return the eleven factors, the codes of weights and bias, and the clip in codes."""
        scale = np.broadcast_to(scale_of(q.inputs.w.encoding), consts.b.shape)
        b = consts.b / (float(scale_of(q.inputs.x.encoding)[0]) * scale)
        found: dict[str, AnyArray] = {
            "w": _codes(consts.w, q.inputs.w),
            "r": _codes(consts.r, q.inputs.r),
            "b": np.clip(np.rint(b), -(2**29), 2**29).astype(np.int32),
        }
        most = min(attrs.cell_clip * 2.0**attrs.cell_frac, 32768.0)
        clamp = (-int(most), int(most)) if most < 32768 else (-32768, 32767)
        return replace(attrs, cell_clamp=clamp), {**found, **node_factors(attrs, q)}

    @classmethod
    def prove(
        cls, attrs: LstmAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that every sum and product fits int32, for any input and any state, and that the
        results have the encodings of the states, given or not.
        """
        found = _result_problems(attrs, q, where)
        rule = Rounding.TFLITE_DOUBLE
        size = q.inputs.r.shape[-1]
        product = np.full(3, 2**30, dtype=np.int64)
        bounds = (
            accumulator_bound(q.inputs.x, consts.w, consts.b, 0),
            accumulator_bound(q.outputs[1], consts.r, None, 0),
        )
        for part, bound in enumerate(bounds):
            own = slice(part * GATES, (part + 1) * GATES)
            mult, shift = (np.repeat(a[own], size) for a in (consts.mult, consts.shift))
            found += overflow_problems(where, bound, mult, shift, rule)
        last = slice(2 * GATES, FACTORS)
        found += overflow_problems(where, product, consts.mult[last], consts.shift[last], rule)
        return found

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        from isobit.ops.lstm.samples import samples

        return samples()


def factors(
    x: float, h: float, cell_frac: int, w: list[float], r: list[float]
) -> list[tuple[int, int]]:
    """Return (mult, shift) of the eleven factors from the scales of x, h, and each gate's weights,
    computed in float64 as TFLM does.
    """
    gate, unit, cell = 2.0**-gates.GATE_FRAC, 2.0**-gates.UNIT_FRAC, 2.0**-cell_frac
    reals = [x * scale / gate for scale in w] + [h * scale / gate for scale in r]
    reals += [unit * cell / cell, unit * unit / cell, unit * unit / h]
    return [fixed.multiplier_q31(min(real, 2.0**31 - 1)) for real in reals]


def node_factors(attrs: LstmAttrs, q: NodeTypes[Any]) -> dict[str, AnyArray]:
    """Return `mult` and `shift` of a node; each gate's rows of `w` and of `r` have one scale."""
    size = q.inputs.r.shape[-1]

    def of_gates(kind: TensorType) -> list[float]:
        rows = np.broadcast_to(scale_of(kind.encoding), GATES * size)
        return [float(rows[k * size]) for k in range(GATES)]

    pairs = factors(
        float(scale_of(q.inputs.x.encoding)[0]),
        float(scale_of(q.outputs[1].encoding)[0]),
        attrs.cell_frac,
        of_gates(q.inputs.w),
        of_gates(q.inputs.r),
    )
    return {
        "mult": np.asarray([m for m, _ in pairs], dtype=np.int32),
        "shift": np.asarray([s for _, s in pairs], dtype=np.int32),
    }


def weight_codes(scheme: Scheme, x: Encoding, largest: FloatArray) -> Encoding:
    """Return the encoding of stacked weights whose rows have the largest magnitudes `largest`
    [4U]: one step for each gate.
    """
    by_gate = largest.reshape(GATES, -1).max(axis=1)
    return schemes.weights(scheme, np.repeat(by_gate, largest.size // GATES), x, None)


def _codes(reals: FloatArray, kind: TensorType) -> AnyArray:
    """Return weights as codes, one step for each row."""
    codes: AnyArray = np.clip(np.rint(reals / scale_of(kind.encoding).reshape(-1, 1)), -127, 127)
    return codes.astype(np.int8)


def before(attrs: LstmAttrs, inputs: LstmInputs[Any], zero: int) -> tuple[Any, Any]:
    """Return the states before the first step: those given, else the codes of zero, as NumPy
    arrays.
    """
    if inputs.h is not None and inputs.c is not None:
        return inputs.h, inputs.c
    x = inputs.x
    shape = (x.shape[0], x.shape[2 if attrs.time_major else 1], inputs.r.shape[1])
    return np.full(shape, zero, dtype=x.dtype), np.zeros(shape, dtype=x.dtype)


def _steps(attrs: LstmAttrs, x: AnyArray) -> Iterator[Any]:
    """Yield x of every step [N,B,I]."""
    axis = 1 if attrs.time_major else 2
    for t in range(x.shape[axis]):
        yield x[:, t] if attrs.time_major else x[:, :, t]


def _by_gate(sums: AnyArray) -> list[Any]:
    """Split [N,B,4U] by gates."""
    return np.split(sums, GATES, axis=-1)


def _shape_problems(attrs: LstmAttrs, types: LstmInputs[TensorType]) -> list[IsobitError]:
    x, r = types.x.shape, types.r.shape
    shapes = [types.x, types.h, types.c, types.w, types.r, types.b]
    got = ", ".join("none" if kind is None else str(list(kind.shape)) for kind in shapes)
    found: list[IsobitError] = []
    good = len(x) == 4 and len(r) == 2
    if good:
        state = (x[0], x[2 if attrs.time_major else 1], r[1])
        wanted = ((GATES * r[1], x[3]), (GATES * r[1], r[1]), (GATES * r[1],))
        good = (types.w.shape, r, types.b.shape) == wanted
        states = {None if kind is None else kind.shape for kind in (types.h, types.c)}
        good = good and states in ({state}, {None})
    if not good:
        order = "[N,T,B,I]" if attrs.time_major else "[N,B,T,I]"
        found.append(
            BadShape(
                where="lstm",
                what="shapes of x, h, c, w, r and b",
                want=f"{order}, [N,B,U] twice or neither, [4U,I], [4U,U] and [4U]",
                got=got,
                fix="Convert or export the model again.",
            )
        )
    for name in ("mult", "shift"):
        kind = getattr(types, name)
        if kind is not None and kind.shape != (FACTORS,):
            found.append(
                BadShape(
                    where="lstm",
                    what=f"{name} shape",
                    want=f"[{FACTORS}]",
                    got=str(list(kind.shape)),
                    fix="Convert or export the model again.",
                )
            )
    return found


def _type_problems(attrs: LstmAttrs, types: LstmInputs[TensorType]) -> list[IsobitError]:
    kinds = [types.x, types.w, types.r]
    wanted = [DType.S8, DType.S8, DType.S8]
    found: list[IsobitError] = []
    if types.h is not None and types.c is not None:
        kinds += [types.h, types.c]
        wanted += [DType.S8, DType.S16]
        found += _cell_problems("lstm", attrs, types.c)
    zeros = [kind.zero for kind in (types.w, types.r)]
    if [kind.dtype for kind in kinds] != wanted or any(zeros):
        found.append(
            BadShape(
                where="lstm",
                what="types of x, w, r, h, c",
                want="s8, s8, s8, s8, s16; zero points of c, w and r 0",
                got=f"{', '.join(kind.dtype.value for kind in kinds)}; {zeros}",
                fix="Convert the model again, to int8.",
            )
        )
    return found


def _cell_problems(where: str, attrs: LstmAttrs, cell: TensorType) -> list[IsobitError]:
    """Say what is wrong with the encoding of a cell state."""
    if not cell.dtype.is_integer:
        return []  # refused with the types
    found = clamp_problems(where, cell, attrs.cell_clamp)
    scale = float(scale_of(cell.encoding)[0])
    good = FRACS[0] <= attrs.cell_frac <= FRACS[1] and scale == 2.0**-attrs.cell_frac
    if not good or cell.zero:
        found.append(
            BadAttribute(
                where=where,
                what="cell_frac",
                want=f"{FRACS[0]}..{FRACS[1]}, the scale of c being 2^-cell_frac, zero point 0",
                got=f"{attrs.cell_frac}, scale {scale!r}, zero point {cell.zero}",
                fix="Convert the model again: runtimes want a power of two.",
            )
        )
    return found


def _result_problems(attrs: LstmAttrs, q: NodeTypes[Any], where: str) -> list[IsobitError]:
    y, h, c = q.outputs
    found = _cell_problems(where, attrs, c)
    if y.encoding != h.encoding:
        found.append(
            BadShape(
                where=where,
                what="encodings of the sequence and of the hidden state",
                want="the same",
                got=f"{y.encoding} and {h.encoding}",
                fix="Convert or export the model again.",
            )
        )
    return found
