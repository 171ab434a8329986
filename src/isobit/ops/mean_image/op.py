"""mean_image: y = clamp(Zy + half_up((x - mean[h,w,c]) * 2^left, right)); pixels to int8, less the
mean of each pixel over the training set.

Source: KANJI's Table 3 ("mean image"): the stored image of means costs one byte per pixel in flash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadShape, BadWeights, IsobitError, raise_all
from isobit.core.types import Affine, AnyArray, Pow2, Raw, TensorType
from isobit.ops import sampling
from isobit.ops.base import Inferred, NodeTypes, Sample
from isobit.ops.layer import Layer
from isobit.ops.standardize.op import (
    Standardize,
    StandardizeAttrs,
    StandardizeInputs,
    shift_problems,
)


class MeanImage(Standardize, name="mean_image"):
    """x: u8 [N,...] with scale 1 (raw pixels); mean: s32 of x's shape without the batch, 0..255; y:
    s8, the shape of x.

    Everything but the shape of `mean` is `standardize`. Real meaning: `(x - mean) * 2^-log2_scale`.
    """

    @staticmethod
    def infer(attrs: StandardizeAttrs, types: StandardizeInputs[TensorType]) -> Inferred:
        x, mean = types.x, types.mean
        errors: list[IsobitError] = []
        if mean.shape != x.shape[1:]:
            errors.append(
                BadShape(
                    where="mean_image",
                    what="mean shape",
                    want=str(list(x.shape[1:])),
                    got=str(list(mean.shape)),
                    fix="One mean per pixel; `standardize` has one per channel.",
                )
            )
        raise_all([*errors, *shift_problems("mean_image", attrs)])
        return Inferred(x.shape, DType.S8 if x.dtype is DType.U8 else x.dtype)

    @classmethod
    def prove(
        cls,
        attrs: StandardizeAttrs,
        q: NodeTypes[Any],
        consts: StandardizeInputs[AnyArray],
        where: str,
    ) -> Sequence[IsobitError]:
        """Prove that means fit the byte that each is stored in."""
        low, high = int(consts.mean.min()), int(consts.mean.max())
        if low >= 0 and high <= DType.U8.high:
            return ()
        return [
            BadWeights(
                where=where,
                what="means",
                want="0..255, as pixels are",
                got=f"{low}..{high}",
                fix="Take them from raw pixels: mean_image.adapt(images).",
            )
        ]

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(47)
        cases = (
            ("pow2, shift right", (2, 5, 4, 3), Pow2((6,)), StandardizeAttrs(0, 1)),
            ("affine, lossless", (3, 4, 4, 1), Affine((1.0,), -5), StandardizeAttrs()),
            ("left", (3, 2, 3, 2), Pow2((3,)), StandardizeAttrs(2, 1)),
            ("vector, wide shift", (4, 9), Affine((4.0,), 5), StandardizeAttrs(0, 2)),
            ("saturated", (3, 30), Pow2((1,)), StandardizeAttrs(2, 0, (-90, 101))),
        )
        for label, shape, encoding, attrs in cases:
            x = sampling.kind((1, *shape[1:]), Affine((1.0,), 0), DType.U8)
            mean = rng.integers(0, 256, size=shape[1:])
            mean.flat[:2] = 0, 255
            types: StandardizeInputs[TensorType] = StandardizeInputs(
                x, TensorType(shape[1:], DType.S32, Raw())
            )
            # Near the means, so that few results saturate; the ends of both ranges are in there.
            spread = {"left": 40, "saturated": 35}.get(label, 90)
            codes = np.clip(mean + sampling.codes(rng, shape, -spread, spread), 0, 255)
            yield Sample(
                label,
                attrs,
                NodeTypes(types, (sampling.kind((1, *shape[1:]), encoding),)),
                StandardizeInputs(codes, mean),
            )


class MeanImageLayer(Layer, name="MeanImage"):
    """`isobit.nn.MeanImage()`: the mean image and the scale come from the first training
    batches.
    """

    @classmethod
    def module_class(cls) -> Any:
        from isobit.ops.mean_image.torch_module import MeanImage as Module

        return Module

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        shape = x.type.shape[1:]
        module.materialize(math.prod(shape))
        build.observe_with(module)
        inputs = StandardizeInputs(
            x.name,
            build.parameter("mean", final=shape),
            log2_scale=build.parameter("log2_scale"),
        )
        return build.node("mean_image", inputs, StandardizeAttrs())
