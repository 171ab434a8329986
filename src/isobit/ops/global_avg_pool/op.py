"""global_avg_pool: y[n,0,0,c] = clamp(D(sum of x[n,:,:,c], H*W))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadShape, IsobitError, raise_all
from isobit.core.fixed import Average
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.channels import Coupled
from isobit.ops.clamps import clamp_problems
from isobit.ops.layer import Layer
from isobit.ops.pooling import mean_carriers, mean_codes, overflow_problems, sum_carrier
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GlobalAvgPoolAttrs(Attrs):
    """`clamp` is in codes."""

    clamp: tuple[int, int] = (-128, 127)
    round: Average = Average.AWAY


@dataclass(frozen=True, slots=True)
class GlobalAvgPoolInputs(Inputs[T]):
    """x: [N,H,W,C]."""

    x: T


class GlobalAvgPool(Op[GlobalAvgPoolAttrs, GlobalAvgPoolInputs[Any]], name="global_avg_pool"):
    """x: s8 [N,H,W,C]; y: s8 [N,1,1,C], the same encoding.

    Source: docs/numerics.md; ONNX `GlobalAveragePool`.
    """

    absorbs_clamp = True
    channels = Coupled()

    @staticmethod
    def infer(attrs: GlobalAvgPoolAttrs, types: GlobalAvgPoolInputs[TensorType]) -> Inferred:
        x = types.x
        errors: list[IsobitError] = clamp_problems("global_avg_pool", x, attrs.clamp)
        if len(x.shape) != 4:
            errors.append(
                BadShape(
                    where="global_avg_pool",
                    what="input rank",
                    want="4 (N, H, W, C)",
                    got=f"{len(x.shape)} {list(x.shape)}",
                    fix="Pool before Flatten.",
                )
            )
        raise_all(errors)
        return Inferred((x.shape[0], 1, 1, x.shape[3]), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any], inputs: GlobalAvgPoolInputs[IntArray]
    ) -> IntArray:
        sums: IntArray = (inputs.x - q.inputs.x.zero).sum(axis=(1, 2), keepdims=True)
        return mean_codes(sums, _count(q.inputs.x), q.output, attrs.clamp, attrs.round)

    @staticmethod
    def real(attrs: GlobalAvgPoolAttrs, inputs: GlobalAvgPoolInputs[FloatArray]) -> FloatArray:
        result: FloatArray = inputs.x.mean(axis=(1, 2), keepdims=True)
        return result

    @staticmethod
    def surrogate(
        attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any], inputs: GlobalAvgPoolInputs[Tensor]
    ) -> Tensor:
        count = _count(q.inputs.x)
        sums = inputs.x.to(sum_carrier(int(count), q.inputs.x)).sum((1, 2), keepdim=True)
        return mean_carriers(sums, count, q.output, attrs.clamp, attrs.round)

    @staticmethod
    def cost(attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @classmethod
    def prove(
        cls, attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove from the image's size that no sum leaves int32."""
        return overflow_problems(where, int(_count(q.inputs.x)), q.inputs.x)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(27)
        zero, shifted = Pow2((5,)), Affine((0.1,), -11)
        cases: tuple[tuple[str, tuple[int, ...], Encoding, GlobalAvgPoolAttrs], ...] = (
            ("4x3", (40, 4, 3, 6), zero, GlobalAvgPoolAttrs()),
            ("4x3 with zero point", (40, 4, 3, 5), shifted, GlobalAvgPoolAttrs()),
            ("2x2, trunc", (40, 2, 2, 7), shifted, GlobalAvgPoolAttrs(round=Average.TRUNC)),
            ("7x7, clamp", (20, 7, 7, 9), zero, GlobalAvgPoolAttrs((-60, 50))),
            ("one pixel", (9, 1, 1, 8), shifted, GlobalAvgPoolAttrs()),
            ("25x40", (30, 25, 40, 3), zero, GlobalAvgPoolAttrs()),
            ("two pixels, low codes", (20, 1, 2, 6), zero, GlobalAvgPoolAttrs()),
            ("64x65, just below", (10, 64, 65, 1), zero, GlobalAvgPoolAttrs()),
            ("4x3, half up", (40, 4, 3, 6), shifted, GlobalAvgPoolAttrs(round=Average.HALF_UP)),
            (
                "64x65, half up, just below",
                (10, 64, 65, 1),
                zero,
                GlobalAvgPoolAttrs(round=Average.HALF_UP),
            ),
            ("2x2, half up", (40, 2, 2, 7), shifted, GlobalAvgPoolAttrs(round=Average.HALF_UP)),
        )
        for label, shape, encoding, attrs in cases:
            x = sampling.kind((1, *shape[1:]), encoding)
            types = NodeTypes(GlobalAvgPoolInputs(x), (x.with_shape((1, 1, 1, shape[3])),))
            # Means of uniform codes are all near 0: each channel of each sample has its own offset.
            offset = rng.integers(-90, 91, size=(shape[0], 1, 1, shape[3]))
            codes = np.clip(offset + sampling.codes(rng, shape) // 2, -128, 127)
            if "low codes" in label:
                codes = sampling.codes(rng, shape, -128, -115)
            if "just below" in label:  # k + 4159/4160 with its rounding term, never k + 1
                lowest = -127 + np.arange(10)[:, None]
                codes = (lowest - (np.arange(4160) < 2079)).reshape(shape)
            yield Sample(label, attrs, types, GlobalAvgPoolInputs(codes))


def _count(x: TensorType) -> IntArray:
    return np.asarray(x.shape[1] * x.shape[2], dtype=np.int64)


class MeanFunction(Layer, functions=("torch.mean", "Tensor.mean")):
    """`x.mean((2, 3))` of an image, with or without `keepdim`."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = {**dict(zip(("input", "dim", "keepdim"), args, strict=False)), **kwargs}
        x, dims, keep = given.pop("input"), given.pop("dim", None), given.pop("keepdim", False)
        axes = sorted(d % 4 for d in dims) if isinstance(dims, tuple | list) else None
        if len(x.type.shape) != 4 or axes != [2, 3] or any(v is not None for v in given.values()):
            raise build.refuse(
                "mean",
                "the mean of an image over dim=(2, 3)",
                f"dim={dims} of a value of rank {len(x.type.shape)}",
                "Take the mean over height and width.",
            )
        pooled = build.node("global_avg_pool", GlobalAvgPoolInputs(x.name), GlobalAvgPoolAttrs())
        if keep:
            return pooled
        return build.node(
            "reshape", ReshapeInputs(pooled.name), ReshapeAttrs(pooled.type.shape[3:])
        )
