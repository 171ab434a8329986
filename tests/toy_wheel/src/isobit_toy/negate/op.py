"""negate: y = -x. In codes: y = clamp(2 * Z - x), because Z - y = x - Z."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.types import Affine, FloatArray, IntArray, Pow2, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NegateAttrs(Attrs):
    """No options."""


@dataclass(frozen=True, slots=True)
class NegateInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Negate(Op[NegateAttrs, NegateInputs[Any]], name="negate"):
    """x, y: s8, the same shape and encoding. What has no opposite code saturates."""

    elementwise = True

    @staticmethod
    def infer(attrs: NegateAttrs, types: NegateInputs[TensorType]) -> Inferred:
        return Inferred(types.x.shape, types.x.dtype, types.x.encoding)

    @staticmethod
    def integer(attrs: NegateAttrs, q: NodeTypes[Any], inputs: NegateInputs[IntArray]) -> IntArray:
        return np.clip(2 * q.output.zero - inputs.x, q.output.dtype.low, q.output.dtype.high)

    @staticmethod
    def real(attrs: NegateAttrs, inputs: NegateInputs[FloatArray]) -> FloatArray:
        return -inputs.x

    @staticmethod
    def surrogate(attrs: NegateAttrs, q: NodeTypes[Any], inputs: NegateInputs[Tensor]) -> Tensor:
        # Carriers are x - Z: integers below 2^8, exact in float32. torch knows clamp's derivative.
        low, high = q.output.dtype.low - q.output.zero, q.output.dtype.high - q.output.zero
        return (-inputs.x).clamp(low, high)

    @staticmethod
    def cost(attrs: NegateAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(7)
        for label, shape, encoding in (
            ("pow2", (2, 3, 5, 7), Pow2((5,))),
            ("zero point", (3, 33), Affine((0.05,), -9)),
            ("one element", (9, 1), Affine((0.02,), 2)),
        ):
            x = sampling.kind((1, *shape[1:]), encoding)
            codes = NegateInputs(sampling.codes(rng, shape))
            yield Sample(label, NegateAttrs(), NodeTypes(NegateInputs(x), (x,)), codes)


class NegateLayer(Layer, name="Negate", functions=("torch.neg", "operator.neg", "Tensor.neg")):
    """`isobit.nn.Negate`, and `-x` in `forward`."""

    @classmethod
    def module_class(cls) -> Any:
        from isobit_toy.negate.torch_module import Negate as Module

        return Module

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return build.node("negate", NegateInputs(x.name), NegateAttrs())
