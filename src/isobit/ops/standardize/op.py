"""standardize: y = clamp(Zy + half_up((x - mean[c]) * 2^left, right)); pixels to int8, independent
of the input.

Source: KANJI's Table 3 ("batch-norm-like"): an integer mean and a power-of-two scale, so that the
chip subtracts and shifts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

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
    Raw,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.layer import Layer
from isobit.ops.schemes import Scheme, pixel_step

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StandardizeAttrs(Attrs):
    """In codes: shift left by `left`, then a rounding right shift."""

    left: int = 0
    right: int = 0
    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, slots=True)
class StandardizeInputs(Inputs[T]):
    """x: u8 [N,...,C]; mean: s32 [C] or [1]; log2_scale: [1], float graphs only."""

    x: T
    mean: T
    log2_scale: T | None = field(default=None, kw_only=True)


class Standardize(Op[StandardizeAttrs, StandardizeInputs[Any]], name="standardize"):
    """x: u8 [N,...,C] with scale 1 (raw pixels); mean: s32 [C] or [1]; y: s8, the same shape.

    Real meaning: `(x - mean) * 2^-log2_scale`.
    """

    constants = ("mean", "log2_scale")
    float_constants = ("log2_scale",)
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    elementwise = True
    takes_pixels = True

    @staticmethod
    def infer(attrs: StandardizeAttrs, types: StandardizeInputs[TensorType]) -> Inferred:
        x, mean = types.x, types.mean
        errors: list[IsobitError] = []
        if mean.shape not in ((1,), (x.shape[-1],)):
            errors.append(
                BadShape(
                    where="standardize",
                    what="mean shape",
                    want=f"[1] or [{x.shape[-1]}]",
                    got=str(list(mean.shape)),
                    fix="One mean per channel, or one for all.",
                )
            )
        raise_all([*errors, *shift_problems("standardize", attrs)])
        return Inferred(x.shape, DType.S8 if x.dtype is DType.U8 else x.dtype)

    @staticmethod
    def integer(
        attrs: StandardizeAttrs, q: NodeTypes[Any], inputs: StandardizeInputs[IntArray]
    ) -> IntArray:
        acc = (inputs.x - inputs.mean) << attrs.left
        return fixed.saturate(fixed.half_up(acc, 1, attrs.right) + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: StandardizeAttrs, inputs: StandardizeInputs[FloatArray]) -> FloatArray:
        assert inputs.log2_scale is not None
        return (inputs.x - inputs.mean) * np.exp2(-inputs.log2_scale)

    @staticmethod
    def surrogate(
        attrs: StandardizeAttrs, q: NodeTypes[Any], inputs: StandardizeInputs[Tensor]
    ) -> Tensor:
        from isobit.core import fixed_torch as ft

        acc = (inputs.x - inputs.mean) * 2.0 ** (attrs.left - attrs.right)
        zero = q.output.zero
        return ft.floor_clamp(acc + 0.5, attrs.clamp[0] - zero, attrs.clamp[1] - zero)

    @staticmethod
    def estimate(
        attrs: StandardizeAttrs, q: NodeTypes[Any], inputs: StandardizeInputs[Tensor]
    ) -> Tensor:
        assert inputs.log2_scale is not None
        return (inputs.x - inputs.mean) * (-inputs.log2_scale).exp2()

    @staticmethod
    def cost(attrs: StandardizeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements + q.inputs.mean.elements, writes=q.output.elements)

    @classmethod
    def choose_encoding(
        cls,
        attrs: StandardizeAttrs,
        inputs: StandardizeInputs[TensorType],
        scheme: Scheme,
        consts: StandardizeInputs[AnyArray],
        low: float,
        high: float,
    ) -> Encoding:
        assert consts.log2_scale is not None
        return pixel_step(scheme, low, high, int(consts.log2_scale[0]))

    @staticmethod
    def derive(
        attrs: StandardizeAttrs,
        q: NodeTypes[Any],
        scheme: Scheme,
        consts: StandardizeInputs[AnyArray],
    ) -> tuple[StandardizeAttrs, Mapping[str, AnyArray]]:
        """One pixel level is 2^-log2_scale; over the output step that must be a power of two."""
        assert consts.log2_scale is not None
        ratio = 2.0 ** -float(consts.log2_scale[0]) / float(scale_of(q.output.encoding)[0])
        exponent = round(float(np.log2(ratio)))
        if 2.0**exponent != ratio:
            raise BadAttribute(
                where="standardize",
                what="output step",
                want="a power of two",
                got=str(scale_of(q.output.encoding)[0]),
                fix="Standardize needs an output encoding with a power-of-two scale.",
            )
        return replace(attrs, left=max(exponent, 0), right=max(-exponent, 0)), {}

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(25)
        cases = (
            (
                "pow2, shift right",
                (2, 5, 4, 3),
                Pow2((6,)),
                (120, 110, 131),
                StandardizeAttrs(0, 1),
            ),
            ("affine, lossless", (2, 4, 4, 1), Affine((1.0,), -95), (33,), StandardizeAttrs()),
            ("left", (3, 2, 2, 2), Pow2((3,)), (90,), StandardizeAttrs(2, 1)),
            ("vector, wide shift", (4, 9), Affine((4.0,), 5), (128,), StandardizeAttrs(0, 2)),
            ("saturated", (3, 30), Pow2((1,)), (120,), StandardizeAttrs(2, 0, (-90, 101))),
        )
        for label, shape, encoding, mean, attrs in cases:
            x = sampling.kind((1, *shape[1:]), Affine((1.0,), 0), DType.U8)
            kind = TensorType((len(mean),), DType.S32, Raw())
            types: StandardizeInputs[TensorType] = StandardizeInputs(x, kind)
            low, high = {"left": (60, 120), "saturated": (60, 180)}.get(label, (0, 255))
            yield Sample(
                label,
                attrs,
                NodeTypes(types, (sampling.kind((1, *shape[1:]), encoding),)),
                StandardizeInputs(sampling.codes(rng, shape, low, high), np.asarray(mean)),
            )


def shift_problems(where: str, attrs: StandardizeAttrs) -> list[IsobitError]:
    """Return what is wrong with the shifts."""
    if 0 <= attrs.left <= 16 and 0 <= attrs.right <= 16:
        return []
    return [
        BadAttribute(
            where=where,
            what="shifts",
            want="0..16",
            got=f"left={attrs.left}, right={attrs.right}",
            fix="Scale the input by a smaller power of two.",
        )
    ]


class StandardizeLayer(Layer, name="Standardize"):
    """`isobit.nn.Standardize()`: the mean and scale come from the first training batches."""

    @classmethod
    def module_class(cls) -> Any:
        from isobit.ops.standardize.torch_module import Standardize as Module

        return Module

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        module.materialize(x.type.shape[-1])
        build.observe_with(module)
        inputs = StandardizeInputs(
            x.name, build.parameter("mean"), log2_scale=build.parameter("log2_scale")
        )
        return build.node("standardize", inputs, StandardizeAttrs())
