"""pad: x surrounded by the code `value`, by default the one that stands for 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    Shape,
    TensorType,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import stored_axis
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.clamp.op import clamp_codes
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer
from isobit.ops.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PadAttrs(Attrs):
    """`pads`: (before, after) of every axis after the batch; `value`: a code, None for real 0 (the
    zero point); `real`: the real number that float graphs pad with, from which `value` is derived.
    """

    pads: tuple[tuple[int, int], ...]
    value: int | None = None
    real: float = 0.0


@dataclass(frozen=True, slots=True)
class PadInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Pad(Op[PadAttrs, PadInputs[Any]], name="pad"):
    """x: [N,...]; y: [N,...], every axis longer by its two pads; the same encoding. Source: TFLite
    `PADV2`.
    """

    takes_wide = True

    @staticmethod
    def infer(attrs: PadAttrs, types: PadInputs[TensorType]) -> Inferred:
        x = types.x
        if len(attrs.pads) != len(x.shape) - 1 or any(min(pair) < 0 for pair in attrs.pads):
            raise BadAttribute(
                where="pad",
                what="pads",
                want=f"{len(x.shape) - 1} pairs of numbers >= 0",
                got=str(attrs.pads),
                fix="One pair (before, after) for every axis after the batch.",
            )
        if attrs.value is not None and (
            is_float(x) or not x.dtype.low <= attrs.value <= x.dtype.high
        ):
            raise BadAttribute(
                where="pad",
                what="value",
                want="none in float graphs" if is_float(x) else f"a code of {x.dtype.value}",
                got=str(attrs.value),
                fix="Leave it out to pad with real zeros.",
            )
        sizes = (s + a + b for s, (a, b) in zip(x.shape[1:], attrs.pads, strict=True))
        return Inferred((x.shape[0], *sizes), x.dtype, x.encoding)

    @staticmethod
    def integer(attrs: PadAttrs, q: NodeTypes[Any], inputs: PadInputs[IntArray]) -> IntArray:
        value = q.inputs.x.zero if attrs.value is None else attrs.value
        return np.pad(inputs.x, ((0, 0), *attrs.pads), constant_values=value)

    @classmethod
    def permuted(cls, attrs: PadAttrs, q: NodeTypes[Any], perm: Shape) -> PadAttrs:
        pads = dict(zip(perm[1:], attrs.pads, strict=True))
        return replace(attrs, pads=tuple(pads[axis] for axis in sorted(pads)))

    @staticmethod
    def identity(attrs: PadAttrs, q: NodeTypes[Any]) -> str:
        return "" if any(map(any, attrs.pads)) else "pads by nothing"

    @staticmethod
    def real(attrs: PadAttrs, inputs: PadInputs[FloatArray]) -> FloatArray:
        return np.pad(inputs.x, ((0, 0), *attrs.pads), constant_values=attrs.real)

    @staticmethod
    def derive(
        attrs: PadAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[PadAttrs, Mapping[str, AnyArray]]:
        """Return the code nearest to `real`; real 0 stays the zero point."""
        if attrs.real == 0:
            return attrs, {}
        code, _ = clamp_codes(q.output, attrs.real, math.inf)
        return replace(attrs, value=code), {}

    @staticmethod
    def surrogate(attrs: PadAttrs, q: NodeTypes[Any], inputs: PadInputs[Tensor]) -> Tensor:
        from torch.nn.functional import pad

        value = 0 if attrs.value is None else attrs.value - q.inputs.x.zero
        return pad(inputs.x, [n for pair in reversed(attrs.pads) for n in pair], value=value)

    @staticmethod
    def cost(attrs: PadAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _lower(build: Any, x: Any, pads: Sequence[int], value: float | None) -> Any:
    """`pads`: torch's order, (before, after) of the last axis first."""
    rank = len(x.type.shape)
    fits = len(pads) % 2 == 0 and len(pads) // 2 < rank and min(pads, default=0) >= 0
    if not fits:
        raise build.refuse(
            "padding",
            f"at most {rank - 1} pairs of numbers >= 0, the last axis first",
            str(tuple(pads)),
            "Negative padding is a slice: use torch.split.",
        )
    if value not in (None, 0):
        raise build.refuse("value", "0", str(value), "Only zeros keep the range of the input.")
    found = [(0, 0)] * rank
    for k in range(len(pads) // 2):
        found[stored_axis(-1 - k, rank)] = (int(pads[2 * k]), int(pads[2 * k + 1]))
    if not any(map(any, found)):
        return x
    return build.node("pad", PadInputs(x.name), PadAttrs(tuple(found[1:])))


class ZeroPad2dLayer(Layer, name="ZeroPad2d"):
    """`isobit.nn.ZeroPad2d`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, module.padding, 0)


class ConstantPad2dLayer(Layer, name="ConstantPad2d"):
    """`isobit.nn.ConstantPad2d` with value 0."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, module.padding, module.value)


class PadFunction(Layer, functions=("torch.nn.functional.pad",)):
    """`torch.nn.functional.pad` in mode "constant"."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        names = ("input", "pad", "mode", "value")
        found = {**dict(zip(names, args, strict=False)), **kwargs}
        if found.get("mode", "constant") != "constant":
            raise build.refuse("mode", '"constant"', found["mode"], "Pad with zeros.")
        return _lower(build, found["input"], found["pad"], found.get("value"))


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(33)
    cases: tuple[tuple[str, tuple[int, ...], PadAttrs, Encoding], ...] = (
        ("border", (2, 4, 5, 3), PadAttrs(((1, 1), (1, 1), (0, 0))), Affine((0.05,), -7)),
        ("one side", (1, 4, 4, 5), PadAttrs(((0, 1), (2, 0), (0, 0))), Pow2((5,))),
        ("channels", (2, 4, 4, 6), PadAttrs(((0, 0), (1, 0), (1, 2))), Affine((0.05,), 9)),
        ("code", (2, 5, 5, 2), PadAttrs(((1, 1), (0, 0), (0, 0)), -77), Affine((0.1,), 4)),
        ("features", (5, 21), PadAttrs(((3, 4),)), Affine((0.1,), -20)),
        ("nothing", (3, 9), PadAttrs(((0, 0),)), Pow2((6,))),
        (
            "four axes",
            (2, 2, 3, 2, 3),
            PadAttrs(((1, 2), (2, 1), (0, 1), (1, 0))),
            Affine((0.1,), 11),
        ),
        (
            "five axes",
            (1, 2, 2, 3, 2, 3),
            PadAttrs(((1, 0), (0, 0), (2, 1), (0, 1), (0, 0))),
            Affine((0.1,), 11),
        ),
    )
    for label, shape, attrs, encoding in cases:
        x = sampling.kind((1, *shape[1:]), encoding)
        y = sampling.kind(Pad.infer(attrs, PadInputs(x)).shape, encoding)
        types = NodeTypes(PadInputs(x), (y,))
        yield Sample(label, attrs, types, PadInputs(sampling.codes(rng, shape)))
