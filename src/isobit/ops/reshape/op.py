"""reshape: the same codes in the same order under another shape; the batch axis stays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute
from isobit.core.types import Affine, FloatArray, IntArray, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, Layer, NodeTypes, Op, Sample

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReshapeAttrs(Attrs):
    """`shape`: the new dimensions after the batch axis."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class ReshapeInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Reshape(Op[ReshapeAttrs, ReshapeInputs[Any]], name="reshape"):
    """x: [N,...]; y: [N,*shape], the same encoding. Costs nothing: the planner gives both one
    buffer.
    """

    elementwise = True
    view = True

    @staticmethod
    def infer(attrs: ReshapeAttrs, types: ReshapeInputs[TensorType]) -> Inferred:
        x = types.x
        if math.prod(attrs.shape) != math.prod(x.shape[1:]):
            raise BadAttribute(
                where="reshape",
                what="elements of the new shape",
                want=str(math.prod(x.shape[1:])),
                got=f"{math.prod(attrs.shape)} {list(attrs.shape)}",
                fix=f"The input is {list(x.shape[1:])}.",
            )
        return Inferred((x.shape[0], *attrs.shape), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: ReshapeAttrs, q: NodeTypes[Any], inputs: ReshapeInputs[IntArray]
    ) -> IntArray:
        return inputs.x.reshape(-1, *attrs.shape)

    @staticmethod
    def identity(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> str:
        return "has the shape already" if q.inputs.x.shape == q.output.shape else ""

    @staticmethod
    def real(attrs: ReshapeAttrs, inputs: ReshapeInputs[FloatArray]) -> FloatArray:
        return inputs.x.reshape(-1, *attrs.shape)

    @staticmethod
    def surrogate(attrs: ReshapeAttrs, q: NodeTypes[Any], inputs: ReshapeInputs[Tensor]) -> Tensor:
        return inputs.x.reshape(-1, *attrs.shape)

    @staticmethod
    def cost(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost()

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(24)
        for label, shape, new in (
            ("flatten", (2, 3, 4, 5), (60,)),
            ("to image", (1, 24), (2, 3, 4)),
            ("squeeze", (3, 1, 1, 7), (7,)),
        ):
            x = sampling.kind((1, *shape[1:]), Affine((0.1,), -4))
            types = NodeTypes(ReshapeInputs(x), (x.with_shape((1, *new)),))
            yield Sample(label, ReshapeAttrs(new), types, ReshapeInputs(sampling.codes(rng, shape)))


class FlattenLayer(Layer, name="Flatten", functions=("torch.flatten", "Tensor.flatten")):
    """`isobit.nn.Flatten`, in torch's feature order: the builder permutes the weights that read
    it.
    """

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if (module.start_dim, module.end_dim) not in ((1, -1), (1, len(x.type.shape) - 1)):
            raise build.refuse(
                "flatten dimensions",
                "start_dim=1, end_dim=-1",
                f"start_dim={module.start_dim}, end_dim={module.end_dim}",
                "Flatten everything after the batch.",
            )
        flat = build.node(
            "reshape", ReshapeInputs(x.name), ReshapeAttrs((math.prod(x.type.shape[1:]),))
        )
        return build.flattened(flat, x)
