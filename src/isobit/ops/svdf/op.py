"""svdf: every filter f remembers its last M features and weights them in time.

z[f]       = feature_clamp(R0(sum_i w[f,i] * (x[i] - Zx)))
next[f]    = (s[f,1], .., s[f,M-1], z[f])
y[u]       = clamp(Zy + R1(b[u] + sum_f sum_m t[f,m] * next[f,m])),  f in u*rank..u*rank+rank-1
"""

from __future__ import annotations

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
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import accumulator_bound, exact_matmul, overflow_problems

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SvdfAttrs(Attrs):
    """`rank`: filters that are summed to one unit; `clamp` is in output codes, `feature_clamp` in
    codes of the state.
    """

    rank: int = 1
    clamp: tuple[int, int] = (-128, 127)
    feature_clamp: tuple[int, int] = (-32768, 32767)


@dataclass(frozen=True, slots=True)
class SvdfInputs(Inputs[T]):
    """x: activation; state: the last M features of every filter, oldest first; w: feature weights
    [F,I]; t: time weights [F,M]; b: bias [U] s32 or absent; mult, shift: s32 [2], of R0 and R1,
    absent in float graphs.
    """

    x: T
    state: T
    w: T
    t: T
    b: T | None = None
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class Svdf(Op[SvdfAttrs, SvdfInputs[Any]], name="svdf"):
    """x: s8 [N,..,I]; state: s8 or s16 [N,..,F,M], zero point 0; w: s8 [F,I]; t [F,M]: of the
    state's carrier; y: s8 [N,..,F/rank]. Both factors round as `tflite_double`.

    Source: docs/numerics.md; Nakkiran et al. 2015, "Compressing Deep Neural Networks using a
    Rank-Constrained Topology"; TFLite `SVDF` (`EvalIntegerSvdfReference`).
    """

    constants = ("w", "t", "b", "mult", "shift")
    encoding_rule = EncodingRule.FREE
    updates: ClassVar[Mapping[str, int]] = {"state": 1}

    @staticmethod
    def infer(attrs: SvdfAttrs, types: SvdfInputs[TensorType]) -> tuple[Inferred, Inferred]:
        x, state, w, t = types.x, types.state, types.w.shape, types.t.shape
        wanted = (*x.shape[:-1], *t)
        consistent = len(x.shape) >= 2 and len(w) == len(t) == 2 and w == (t[0], x.shape[-1])
        if not consistent or state.shape != wanted:
            raise BadShape(
                where="svdf",
                what="shapes of x, state, w and t",
                want="[N,..,I], [N,..,F,M], [F,I] and [F,M]",
                got=", ".join(str(list(s)) for s in (x.shape, state.shape, w, t)),
                fix="Convert or export the model again.",
            )
        errors = [*_attribute_problems(attrs, w[0]), *_type_problems(types)]
        if not is_float(x):
            errors += clamp_problems("svdf", x, attrs.clamp)
            errors += clamp_problems("svdf", state, attrs.feature_clamp)
        units = w[0] // max(attrs.rank, 1)
        for name, size in (("b", units), ("mult", 2), ("shift", 2)):
            kind = getattr(types, name)
            if kind is not None and kind.shape != (size,):
                errors.append(
                    BadShape(
                        where="svdf",
                        what=f"{name} shape",
                        want=f"[{size}]",
                        got=str(list(kind.shape)),
                        fix="A bias has one entry per unit, mult and shift have two.",
                    )
                )
        raise_all(errors)
        return (
            Inferred((*x.shape[:-1], units), x.dtype),
            Inferred(state.shape, state.dtype, state.encoding),
        )

    @staticmethod
    def integer(
        attrs: SvdfAttrs, q: NodeTypes[Any], inputs: SvdfInputs[IntArray]
    ) -> tuple[IntArray, IntArray]:
        assert inputs.mult is not None and inputs.shift is not None
        sums = exact_matmul(inputs.x - q.inputs.x.zero, inputs.w.T)
        newest = fixed.tflite_double(sums, inputs.mult[0], inputs.shift[0])
        after = _shifted(inputs.state, fixed.saturate(newest, *attrs.feature_clamp))
        acc = _in_time(attrs, after, inputs)
        scaled = fixed.tflite_double(acc, inputs.mult[1], inputs.shift[1])
        return fixed.saturate(scaled + q.outputs[0].zero, *attrs.clamp), after

    @staticmethod
    def real(attrs: SvdfAttrs, inputs: SvdfInputs[FloatArray]) -> tuple[FloatArray, FloatArray]:
        after = _shifted(inputs.state, inputs.x @ inputs.w.T)
        return _in_time(attrs, after, inputs), after

    @staticmethod
    def cost(attrs: SvdfAttrs, q: NodeTypes[Any]) -> Cost:
        x, state, w, t = q.inputs.x, q.inputs.state, q.inputs.w, q.inputs.t
        rows = state.elements // t.elements
        return Cost(
            macs=rows * (w.elements + t.elements),
            reads=x.elements + state.elements + w.elements + t.elements,
            writes=sum(kind.elements for kind in q.outputs),
        )

    @staticmethod
    def derive(
        attrs: SvdfAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[SvdfAttrs, Mapping[str, AnyArray]]:
        """Return the factors `Sx*Sw/Ss` and `Ss*St/Sy`."""
        state = scale_of(q.inputs.state.encoding)
        first = scale_of(q.inputs.x.encoding) * scale_of(q.inputs.w.encoding) / state
        second = state * scale_of(q.inputs.t.encoding) / scale_of(q.outputs[0].encoding)
        pairs = [fixed.multiplier_q31(float(real)) for real in (*first, *second)]
        return attrs, {
            "mult": np.asarray([m for m, _ in pairs], dtype=np.int32),
            "shift": np.asarray([s for _, s in pairs], dtype=np.int32),
        }

    @classmethod
    def prove(
        cls, attrs: SvdfAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that both sums fit int32, for any input and any state."""
        features = accumulator_bound(q.inputs.x, consts.w, None, 0)
        filters = accumulator_bound(q.inputs.state, consts.t, None, 0)
        units = filters.reshape(-1, attrs.rank).sum(axis=1)
        if consts.b is not None:
            units = units + np.abs(consts.b.astype(np.int64))
        rule = Rounding.TFLITE_DOUBLE
        return [
            *overflow_problems(where, features, consts.mult[:1], consts.shift[:1], rule),
            *overflow_problems(where, units, consts.mult[1:], consts.shift[1:], rule),
        ]

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(71)
        for label, lead, sizes, rank, kind, clamp in _CASES:
            attrs = SvdfAttrs(rank, clamp, (kind.low, kind.high))
            yield _sample(rng, f"{label}/{kind.value}", lead, sizes, attrs, kind)


def _attribute_problems(attrs: SvdfAttrs, filters: int) -> list[IsobitError]:
    if attrs.rank >= 1 and filters % attrs.rank == 0:
        return []
    return [
        BadAttribute(
            where="svdf",
            what="rank",
            want=f"a divisor of the {filters} filters",
            got=str(attrs.rank),
            fix="Convert the model again.",
        )
    ]


def _type_problems(types: SvdfInputs[TensorType]) -> list[IsobitError]:
    """Codes of the state mean multiples of its step: its zero point is 0."""
    state, t = types.state, types.t
    if is_float(types.x):
        return []
    carriers = (state.dtype, t.dtype)
    same = carriers in ((DType.S8, DType.S8), (DType.S16, DType.S16))
    if same and state.zero == t.zero == types.w.zero == 0:
        return []
    return [
        BadShape(
            where="svdf",
            what="types of state and time weights",
            want="both s8 or both s16, zero points of these and of the weights 0",
            got=f"{state.dtype.value} {state.encoding} and {t.dtype.value} {t.encoding}",
            fix="Convert the model again; converters quantise both symmetrically.",
        )
    ]


def _shifted(state: AnyArray, newest: AnyArray) -> AnyArray:
    """Return the state without its oldest features and with the newest ones."""
    result: AnyArray = np.concatenate([state[..., 1:], newest[..., np.newaxis]], axis=-1)
    return result


def _in_time(attrs: SvdfAttrs, state: AnyArray, inputs: SvdfInputs[Any]) -> Any:
    """Return [N,..,U]: features weighted in time, `rank` filters summed, and the bias."""
    filters = (state * inputs.t).sum(axis=-1)
    units = filters.reshape(*filters.shape[:-1], -1, attrs.rank).sum(axis=-1)
    return units if inputs.b is None else units + inputs.b


_CASES: tuple[tuple[str, Shape, tuple[int, int, int], int, DType, tuple[int, int]], ...] = (
    ("rank 1", (3,), (5, 6, 4), 1, DType.S16, (-128, 127)),
    ("rank 2", (3,), (7, 10, 5), 2, DType.S16, (-128, 127)),
    ("rank 3, clamp", (4,), (9, 9, 3), 3, DType.S16, (-60, 127)),
    ("no memory", (5,), (6, 8, 1), 2, DType.S16, (-128, 127)),
    ("rows", (2, 3), (4, 6, 3), 2, DType.S16, (-128, 127)),
    ("no bias", (3,), (8, 4, 6), 1, DType.S16, (-128, 127)),
    ("one unit", (12,), (5, 4, 7), 4, DType.S16, (-128, 127)),
    ("rank 1", (3,), (6, 5, 4), 1, DType.S8, (-128, 127)),
    ("rank 2", (4,), (5, 6, 3), 2, DType.S8, (-128, 127)),
    ("features beyond the ends", (4,), (5, 6, 3), 2, DType.S16, (-128, 127)),
    ("features beyond the ends", (4,), (5, 6, 3), 2, DType.S8, (-128, 127)),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    lead: Shape,
    sizes: tuple[int, int, int],
    attrs: SvdfAttrs,
    kind: DType,
) -> Sample[Any]:
    features, filters, memory = sizes
    units = filters // attrs.rank
    wide = kind is DType.S16
    ex, ew = Affine((0.05,), -7), Affine((0.01,), 0)
    et, limit = (Affine((2.0**-13,), 0), 4000) if wide else (Affine((0.01,), 0), 127)
    spread = 3.7 * 0.75 * np.sqrt(features)  # of a feature: inputs of 3.7, weights of 0.75
    widths = 0.8 if "beyond" in label else 4  # of features in the range of the state
    es, steps = Affine((float(spread * widths / kind.high),), 0), kind.high / 4
    sums = np.sqrt(memory * attrs.rank) * steps * limit / np.sqrt(3)
    ey = Affine((float(es.scale[0] * et.scale[0] * sums / 40),), 5)
    reals = (
        ex.scale[0] * ew.scale[0] / es.scale[0],
        es.scale[0] * et.scale[0] / ey.scale[0],
    )
    pairs = [fixed.multiplier_q31(float(real)) for real in reals]
    arrays: SvdfInputs[Any] = SvdfInputs(
        x=sampling.codes(rng, (*lead, features)),
        state=np.clip(
            np.rint(rng.normal(0, steps, (*lead, filters, memory))), kind.low, kind.high
        ).astype(np.int64),
        w=sampling.codes(rng, (filters, features), -127, 127),
        t=sampling.codes(rng, (filters, memory), -limit, limit),
        b=None if "no bias" in label else sampling.codes(rng, (units,), -int(sums), int(sums)),
        mult=np.asarray([m for m, _ in pairs], dtype=np.int64),
        shift=np.asarray([s for _, s in pairs], dtype=np.int64),
    )
    one = (1, *lead[1:])
    state = sampling.kind((*one, filters, memory), es, kind)
    types: SvdfInputs[TensorType] = SvdfInputs(
        x=sampling.kind((*one, features), ex),
        state=state,
        w=sampling.kind((filters, features), ew),
        t=sampling.kind((filters, memory), et, kind),
        b=None if arrays.b is None else sampling.raw32(units),
        mult=sampling.raw32(2),
        shift=sampling.raw32(2),
    )
    return Sample(label, attrs, NodeTypes(types, (sampling.kind((*one, units), ey), state)), arrays)
