"""A sample as a float graph's numbers: what the codes stand for, and codes whose constants follow
from it.

Samples carry multipliers of their own choice, which need not belong to the encodings beside them.
`derive` gives the constants that do; everything else keeps the sample's codes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, AnyArray, FloatArray, Pow2, TensorType, scale_of
from isobit.ir.graph import operands
from isobit.ops.base import NodeTypes, Op, Sample, Scheme
from isobit.ops.dynamic import DynamicOp
from isobit.ops.weighted import WeightedOp

from . import cases


@dataclass(frozen=True, slots=True)
class RealCase:
    """`attrs`, `codes`: the integer node that `derive` makes. `reals`: the float node's inputs."""

    attrs: Any
    codes: Any
    reals: Any


def real_case(op: type[Op[Any, Any]], sample: Sample[Any]) -> RealCase | None:
    """Return the float twin of a sample; `None` where the sample has no float meaning."""
    q, attrs = sample.types, sample.attrs
    if op.name == "pad" and attrs.value is not None:
        return None  # a code of its own, not a real number
    if op.name in IMPORTED_INT16 and q.output.dtype is DType.S16:
        return None  # native multipliers are made for int8; tables of a runtime have its errors
    if op.name == "lstm" and q.inputs.x.elements > q.inputs.x.shape[-1] * q.outputs[1].shape[1]:
        return None  # from the second step on, the hidden state is a rounded one
    if op.name == "svdf" and "beyond" in sample.label:
        return None  # features are cut at the ends of the state's codes, real ones are not
    dynamic = sample.inputs.e if issubclass(op, DynamicOp) else None
    if dynamic is not None and np.abs(dynamic).max() > MOST_EXPONENT:
        return None  # no float64 has such steps
    reals = {
        item.name: _decoded(getattr(q.inputs, item.name), getattr(sample.inputs, item.name))
        for item in dataclasses.fields(sample.inputs)
    }
    if issubclass(op, DynamicOp):
        if sample.inputs.e is not None:
            reals["x"] = in_steps(sample.inputs.e, reals["x"])
    elif issubclass(op, WeightedOp):
        reals |= {"mult": None, "shift": None}
        if sample.inputs.b is not None:  # a bias is stored at Sx * Sw
            reals["b"] = (
                sample.inputs.b * scale_of(q.inputs.x.encoding) * scale_of(q.inputs.w.encoding)
            )
    if op.name == "svdf" and sample.inputs.b is not None:  # at the scale of the sum in time
        reals["b"] = (
            sample.inputs.b * scale_of(q.inputs.state.encoding) * scale_of(q.inputs.t.encoding)
        )
    if op.name == "lstm":
        reals["b"] = sample.inputs.b * scale_of(q.inputs.x.encoding) * scale_of(q.inputs.w.encoding)
    if op.name in (
        "standardize",
        "mean_image",
    ):  # the sample has the shifts, the float node has their meaning
        step = float(scale_of(q.output.encoding)[0])
        reals["log2_scale"] = np.asarray([attrs.right - attrs.left - np.log2(step)])
    given = dataclasses.replace(sample.inputs, **reals)
    consts = dataclasses.replace(given, **dict.fromkeys(cases.activation_fields(op)))
    if isinstance(getattr(attrs, "round", None), Rounding):  # derived multipliers are native ones
        attrs = dataclasses.replace(attrs, round=Rounding.HALF_UP)
    attrs, derived = op.derive(attrs, q, scheme_of(q), consts)
    codes = dataclasses.replace(
        sample.inputs,
        **{name: np.asarray(data, dtype=_working(data)) for name, data in derived.items()},
    )
    if issubclass(op, WeightedOp) and not issubclass(op, DynamicOp) and "mult" not in derived:
        codes = dataclasses.replace(codes, mult=None)
    return RealCase(attrs, codes, given)


def in_steps(exponents: AnyArray, values: AnyArray) -> FloatArray:
    """`values * 2^exponent` of every example."""
    power = np.exp2(exponents.astype(np.float64)).reshape(-1, *[1] * (values.ndim - 1))
    found: FloatArray = values * power
    return found


MOST_EXPONENT = 900
"""Of a dynamic sample with real numbers: codes times a power of two beyond it leave float64."""
IMPORTED_INT16 = ("add", "mul", "prelu", "reduce_sum", "softmax")


def scheme_of(q: NodeTypes[Any]) -> Scheme:
    """The number system whose encodings a sample has."""
    kinds: list[TensorType] = [*operands(q.inputs), *q.outputs]
    activations = [k for k in kinds if isinstance(k.encoding, Affine | Pow2)]
    return Scheme.POW2 if all(isinstance(k.encoding, Pow2) for k in activations) else Scheme.AFFINE


def _decoded(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(map(to_real, kind, value))
    return to_real(kind, np.asarray(value))


def to_real(type_: TensorType, codes: AnyArray) -> FloatArray:
    """De-quantise: `scale * (q - zero)` in float64, the scale along its axis."""
    scale = scale_of(type_.encoding)
    axis = type_.encoding.axis if isinstance(type_.encoding, Affine | Pow2) else None
    if axis is not None and scale.size > 1:
        scale = scale.reshape([-1 if i == axis else 1 for i in range(len(type_.shape))])
    centred: FloatArray = codes.astype(np.float64) - type_.zero
    return centred * scale


def _working(data: Any) -> type:
    return np.int64 if np.asarray(data).dtype.kind in "iu" else np.float64


def limits(attrs: Any, kind: TensorType) -> tuple[float, float]:
    """The real numbers at the ends of the output's codes (narrowed by the `clamp` attribute)."""
    low, high = getattr(attrs, "clamp", (kind.dtype.low, kind.dtype.high))
    ends = to_real(dataclasses.replace(kind, shape=(2,)), np.asarray([low, high]))
    return float(ends[0]), float(ends[1])


EXACT = 0.0
ROUNDED = 0.5
DEFAULT = 0.52
BOUNDS: dict[str, float] = {
    # Steps of the output by which an operator may be off.
    # Codes are moved or selected, never computed.
    "reshape": EXACT,
    "transpose": EXACT,
    "concat": EXACT,
    "split": EXACT,
    "pad": EXACT,
    "mirror_pad": EXACT,
    "strided_slice": EXACT,
    "max_pool2d": EXACT,
    "maximum": EXACT,
    "reduce_max": EXACT,
    "resize_nearest": EXACT,
    # Rounded once from exact integers: half a step. A bound of `clamp` is itself rounded to a code.
    "clamp": ROUNDED,
    "standardize": ROUNDED,
    "mean_image": ROUNDED,
    # Root and reciprocal are each off by less than 2^-29 of themselves: 2^-20 of 255 steps.
    "per_image_standardize": ROUNDED + 2.0**-20,
    # Sum and bias each by half a unit of the coarser, which the step is a power of two of; rounding
    # up to 128 is cut.
    "dynamic_conv2d": 1.0,
    "dynamic_depthwise_conv2d": 1.0,
    "dynamic_linear": 1.0,
    # Tables are computed from reals and rounded once.
    "lut": ROUNDED,
    # Averages round the mean of codes, `trunc` by almost a step.
    "avg_pool2d": 1.0,
    "global_avg_pool": 1.0,
    # exp and 1/sum in fixed point: the result before rounding is off by less than 2^-12 = 1/16
    # step.
    "softmax": 0.57,
    # The step between outputs is rounded to 2^-10 pixel: with at most 10 outputs an axis, the last
    # position is off by 10 * 2^-11, and neighbours differ by up to 255 codes; two axes.
    "resize_bilinear": 3.0,
    # A feature is rounded twice, by at most 0.75 steps of the state; a full-scale time weight makes
    # 1.3 steps of the output of it where the state is s8, beside the 0.75 of the output itself.
    "svdf": 2.05,
    # One step. A gate's sum is off by 1.5 of 2^-12, so sigmoid by 5 of 2^-15 and tanh by 14, their
    # interpolation included; a cell below 4 by 4 * 5 / 8 + 14 / 8 + 5 / 8 and twice 0.75 of 2^-12:
    # at most 6.4 of its steps where they are 2^-12, and less than 2 of the hidden state's.
    "lstm": 6.4,
    # TFLite's table of 256 entries: an argument in units of 1/12288 (1.4 steps of tanh), a factor
    # of 15 bits (0.9), interpolation and two roundings.
    "lut_interpolated": 4.0,
    # Where the sum of squares is large, the result is rounded twice: 0.5 and half of that.
    "l2_normalization": 0.75,
}
