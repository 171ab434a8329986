"""lstm: a sequence through input, forget, cell and output gates. Per step t, for gate k:

a[k,u] = sat16(sat16(R_k(b[k,u] + sum_i w[k,u,i] * (x[t,i] - Zx)))
             + sat16(R_4+k(sum_j r[k,u,j] * (h[j] - Zh))))
i, f, o = sigmoid(a),  g = tanh(a)
c[u]   = cell_clamp(sat16(R_8(f*c[u])) + sat16(R_9(i*g)))
h[u]   = sat8(Zh + R_10(tanh(c[u]) * o)),  y[t] = h
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

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
    Shape,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.clamps import clamp_problems
from isobit.ops.lstm import gates
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import accumulator_bound, exact_matmul, overflow_problems

T = TypeVar("T")

GATES = 4
"""In the order of the rows of `w`, `r` and `b`: input, forget, cell, output."""
FACTORS = 2 * GATES + 3
"""Of x and of h for every gate; of forget * cell, input * cell gate, output * tanh(cell)."""
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
    """x: activation; h, c: states; w: weights of x [4U,I]; r: weights of h [4U,U]; b: bias [4U]
    s32, at the scale of x times w; mult, shift: s32 [11], absent in float graphs.
    """

    x: T
    h: T
    c: T
    w: T
    r: T
    b: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class Lstm(Op[LstmAttrs, LstmInputs[Any]], name="lstm"):
    """x: s8 [N,B,T,I], or [N,T,B,I] where `time_major`; h: s8 [N,B,U]; c: s16 [N,B,U]; y: s8
    [N,B,T,U] or [N,T,B,U], with the encoding of h. All factors round as `tflite_double`.

    A run continues where the one before ended; rows B are independent. No peepholes, projection or
    layer normalisation. Source: docs/numerics.md; Hochreiter and Schmidhuber 1997; TFLite
    `UNIDIRECTIONAL_SEQUENCE_LSTM` (TFLM `kernels/lstm_eval.h`).
    """

    constants = ("w", "r", "b", "mult", "shift")
    encoding_rule = EncodingRule.FIXED
    updates: ClassVar[Mapping[str, int]] = {"h": 1, "c": 2}

    @staticmethod
    def infer(
        attrs: LstmAttrs, types: LstmInputs[TensorType]
    ) -> tuple[Inferred, Inferred, Inferred]:
        x, h, c = types.x, types.h, types.c
        raise_all(_shape_problems(attrs, types))
        if not is_float(x):
            raise_all(_type_problems(attrs, types))
        return (
            Inferred((*x.shape[:-1], h.shape[-1]), x.dtype, h.encoding),
            Inferred(h.shape, h.dtype, h.encoding),
            Inferred(c.shape, c.dtype, c.encoding),
        )

    @staticmethod
    def integer(
        attrs: LstmAttrs, q: NodeTypes[Any], inputs: LstmInputs[IntArray]
    ) -> tuple[IntArray, IntArray, IntArray]:
        h, c, zero, steps = inputs.h, inputs.c, q.inputs.h.zero, []

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
        h, c, steps = inputs.h, inputs.c, []
        for x in _steps(attrs, inputs.x):
            i, f, g, o = _by_gate(x @ inputs.w.T + inputs.b + h @ inputs.r.T)
            i, f, o = (0.5 + 0.5 * np.tanh(0.5 * gate) for gate in (i, f, o))
            c = np.clip(f * c + i * np.tanh(g), -attrs.cell_clip, attrs.cell_clip)
            h = o * np.tanh(c)
            steps.append(h)
        return np.stack(steps, axis=1 if attrs.time_major else 2), h, c

    @staticmethod
    def cost(attrs: LstmAttrs, q: NodeTypes[Any]) -> Cost:
        x, w, r = q.inputs.x, q.inputs.w, q.inputs.r
        steps = x.elements // x.shape[-1]
        return Cost(
            macs=steps * (w.elements + r.elements),
            reads=x.elements + q.inputs.h.elements + q.inputs.c.elements + w.elements + r.elements,
            writes=sum(kind.elements for kind in q.outputs),
        )

    @staticmethod
    def fixed_encoding(
        attrs: LstmAttrs, inputs: LstmInputs[TensorType], scheme: Scheme
    ) -> Encoding:
        return inputs.h.encoding

    @staticmethod
    def derive(
        attrs: LstmAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[LstmAttrs, Mapping[str, AnyArray]]:
        """Return the eleven factors; each gate's rows of `w` and of `r` have one scale."""
        size = q.inputs.h.shape[-1]

        def of_gates(kind: TensorType) -> list[float]:
            rows = np.broadcast_to(scale_of(kind.encoding), GATES * size)
            return [float(rows[k * size]) for k in range(GATES)]

        pairs = factors(
            q.inputs.x.encoding.scale[0],
            q.inputs.h.encoding.scale[0],
            attrs.cell_frac,
            of_gates(q.inputs.w),
            of_gates(q.inputs.r),
        )
        return attrs, {
            "mult": np.asarray([m for m, _ in pairs], dtype=np.int32),
            "shift": np.asarray([s for _, s in pairs], dtype=np.int32),
        }

    @classmethod
    def prove(
        cls, attrs: LstmAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that every sum and product fits int32, for any input and any state."""
        rule = Rounding.TFLITE_DOUBLE
        size = q.inputs.h.shape[-1]
        product = np.full(3, 2**30, dtype=np.int64)
        bounds = (
            accumulator_bound(q.inputs.x, consts.w, consts.b, 0),
            accumulator_bound(q.inputs.h, consts.r, None, 0),
        )
        found: list[IsobitError] = []
        for part, bound in enumerate(bounds):
            own = slice(part * GATES, (part + 1) * GATES)
            mult, shift = (np.repeat(a[own], size) for a in (consts.mult, consts.shift))
            found += overflow_problems(where, bound, mult, shift, rule)
        last = slice(2 * GATES, FACTORS)
        found += overflow_problems(where, product, consts.mult[last], consts.shift[last], rule)
        return found

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(72)
        for label, rows, steps, sizes, attrs in _CASES:
            yield _sample(rng, label, (rows, steps), sizes, attrs)


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


def _steps(attrs: LstmAttrs, x: AnyArray) -> Iterator[Any]:
    """Yield x of every step [N,B,I]."""
    axis = 1 if attrs.time_major else 2
    for t in range(x.shape[axis]):
        yield x[:, t] if attrs.time_major else x[:, :, t]


def _by_gate(sums: AnyArray) -> list[Any]:
    """Split [N,B,4U] by gates."""
    return np.split(sums, GATES, axis=-1)


def _shape_problems(attrs: LstmAttrs, types: LstmInputs[TensorType]) -> list[IsobitError]:
    x, h = types.x.shape, types.h.shape
    shapes = [types.x, types.h, types.c, types.w, types.r, types.b]
    got = ", ".join(str(list(kind.shape)) for kind in shapes)
    found: list[IsobitError] = []
    good = len(x) == 4 and len(h) == 3
    if good:
        rows, size = x[2 if attrs.time_major else 1], h[2]
        wanted = ((x[0], rows, size), (GATES * size, x[3]), (GATES * size, size), (GATES * size,))
        good = (h, types.w.shape, types.r.shape, types.b.shape) == wanted and types.c.shape == h
    if not good:
        order = "[N,T,B,I]" if attrs.time_major else "[N,B,T,I]"
        found.append(
            BadShape(
                where="lstm",
                what="shapes of x, h, c, w, r and b",
                want=f"{order}, [N,B,U], [N,B,U], [4U,I], [4U,U] and [4U]",
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
    found = clamp_problems("lstm", types.c, attrs.cell_clamp)
    carriers = tuple(kind.dtype for kind in (types.x, types.h, types.c, types.w, types.r))
    wanted = (DType.S8, DType.S8, DType.S16, DType.S8, DType.S8)
    zeros = (types.c.zero, types.w.zero, types.r.zero)
    if carriers != wanted or any(zeros):
        found.append(
            BadShape(
                where="lstm",
                what="types of x, h, c, w, r",
                want="s8, s8, s16, s8, s8; zero points of c, w and r 0",
                got=f"{', '.join(d.value for d in carriers)}; {zeros}",
                fix="Convert the model again, to int8.",
            )
        )
    scale = scale_of(types.c.encoding)
    if not FRACS[0] <= attrs.cell_frac <= FRACS[1] or float(scale[0]) != 2.0**-attrs.cell_frac:
        found.append(
            BadAttribute(
                where="lstm",
                what="cell_frac",
                want=f"{FRACS[0]}..{FRACS[1]}, the scale of c being 2^-cell_frac",
                got=f"{attrs.cell_frac}, scale {float(scale[0])!r}",
                fix="Convert the model again: runtimes want a power of two.",
            )
        )
    return found


_CASES: tuple[tuple[str, int, int, tuple[int, int], LstmAttrs], ...] = (
    ("one step", 1, 1, (5, 6), LstmAttrs()),
    ("one step, clip", 1, 1, (7, 8), LstmAttrs(False, 1.5, (-6144, 6144), 12)),
    ("one step, rows", 3, 1, (4, 5), LstmAttrs(cell_frac=11)),
    ("sequence", 1, 5, (4, 3), LstmAttrs()),
    ("sequence, clip", 1, 4, (3, 5), LstmAttrs(False, 0.25, (-1024, 1024), 12)),
    ("rows", 2, 3, (5, 4), LstmAttrs(cell_frac=13)),
    ("rows, time first", 3, 4, (3, 4), LstmAttrs(True, cell_frac=14)),
    ("one cell", 1, 9, (2, 1), LstmAttrs(cell_frac=11)),
    ("another step of h", 2, 2, (4, 3), LstmAttrs()),
    ("gates beyond their ends", 2, 2, (9, 9), LstmAttrs()),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    extent: tuple[int, int],
    sizes: tuple[int, int],
    attrs: LstmAttrs,
) -> Sample[Any]:
    (rows, steps), (inputs, size), batch = extent, sizes, 3
    ex, eh = Affine((0.02,), -9), Affine((0.0055 if "step of h" in label else 2.0**-7,), 4)
    ec = Affine((2.0**-attrs.cell_frac,), 0)
    # Sums of about 1.2 in both parts: gates open and close without saturating.
    part = 3.0 if "beyond" in label else 1.2
    wide = [part / (0.02 * 74 * 74 * np.sqrt(inputs)) * f for f in (0.9, 1.0, 1.3, 0.8)]
    back = [part / (eh.scale[0] * 74 * 74 * np.sqrt(size)) * f for f in (1.1, 0.7, 1.0, 0.9)]
    ew, er = (Affine(tuple(np.repeat(s, size).tolist()), 0, 0) for s in (wide, back))
    lead = (steps, rows) if attrs.time_major else (rows, steps)
    limit = int(min(3.0 * 2**attrs.cell_frac, 30000))
    pairs = factors(ex.scale[0], eh.scale[0], attrs.cell_frac, wide, back)
    spread = np.repeat(0.5 / (0.02 * np.asarray(wide)), size)
    arrays: LstmInputs[Any] = LstmInputs(
        x=sampling.codes(rng, (batch, *lead, inputs)),
        h=sampling.codes(rng, (batch, rows, size)),
        c=sampling.codes(rng, (batch, rows, size), -limit, limit),
        w=sampling.codes(rng, (GATES * size, inputs), -127, 127),
        r=sampling.codes(rng, (GATES * size, size), -127, 127),
        b=np.rint(rng.normal(size=GATES * size) * spread).astype(np.int64),
        mult=np.asarray([m for m, _ in pairs], dtype=np.int64),
        shift=np.asarray([s for _, s in pairs], dtype=np.int64),
    )
    h = sampling.kind((1, rows, size), eh)
    c = sampling.kind((1, rows, size), ec, DType.S16)
    types: LstmInputs[TensorType] = LstmInputs(
        x=sampling.kind((1, *lead, inputs), ex),
        h=h,
        c=c,
        w=sampling.kind((GATES * size, inputs), ew),
        r=sampling.kind((GATES * size, size), er),
        b=sampling.raw32(GATES * size),
        mult=sampling.raw32(FACTORS),
        shift=sampling.raw32(FACTORS),
    )
    y: Shape = (1, *lead, size)
    return Sample(label, attrs, NodeTypes(types, (sampling.kind(y, eh), h, c)), arrays)
