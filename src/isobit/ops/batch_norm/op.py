"""batch_norm: y = gamma * (x - mean) / sqrt(var + eps) + beta, per channel (Ioffe and Szegedy
2015). Float graphs only.

On the chip it does not exist: it folds into the multipliers and bias (`affine`) or the weights
(`pow2`) of the convolution or linear layer before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from isobit.core.errors import BadShape, raise_all
from isobit.core.types import FloatArray, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.layer import Layer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchNormAttrs(Attrs):
    """`eps` as in the formula; `momentum` is the weight of a new batch in the running
    statistics.
    """

    eps: float = 1e-5
    momentum: float = 0.1


@dataclass(frozen=True, slots=True)
class BatchNormInputs(Inputs[T]):
    """x: [N,...,C]; gamma, beta, mean, var: [C]."""

    x: T
    gamma: T
    beta: T
    mean: T
    var: T


class BatchNorm(Op[BatchNormAttrs, BatchNormInputs[Any]], name="batch_norm"):
    """x, y: real [N,...,C]. No kernel: a batch norm that follows nothing it can fold into is
    refused.
    """

    constants = ("gamma", "beta", "mean", "var")

    @staticmethod
    def infer(attrs: BatchNormAttrs, types: BatchNormInputs[TensorType]) -> Inferred:
        x = types.x
        wrong = [
            k.shape
            for k in (types.gamma, types.beta, types.mean, types.var)
            if k.shape != x.shape[-1:]
        ]
        if wrong:
            raise_all(
                [
                    BadShape(
                        where="batch_norm",
                        what="channels",
                        want=f"[{x.shape[-1]}]",
                        got=str(list(wrong[0])),
                        fix=f"Set num_features={x.shape[-1]}.",
                    )
                ]
            )
        return Inferred(x.shape, x.dtype, x.encoding)

    @staticmethod
    def real(attrs: BatchNormAttrs, inputs: BatchNormInputs[FloatArray]) -> FloatArray:
        scale = inputs.gamma / np.sqrt(inputs.var + attrs.eps)
        return (inputs.x - inputs.mean) * scale + inputs.beta

    @staticmethod
    def cost(attrs: BatchNormAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        yield from ()


def _lower(build: Any, module: Any, x: Any, rank: int) -> Any:
    if len(x.type.shape) != rank:
        raise build.refuse(
            "input",
            "an image [N, C, H, W]" if rank == 4 else "features [N, C]",
            f"shape {list(x.type.shape)}",
            "Use nn.BatchNorm2d for images and nn.BatchNorm1d for features.",
        )
    if not module.track_running_stats:
        raise build.refuse(
            "track_running_stats",
            "True",
            "False",
            "The chip needs statistics that do not depend on the batch.",
        )
    if module.momentum is None:
        raise build.refuse("momentum", "a number", "None", "Use e.g. momentum=0.1.")
    channels = module.num_features
    one, nothing = np.ones(channels), np.zeros(channels)
    gamma = build.parameter("weight") if module.affine else build.constant("gamma", one)
    beta = build.parameter("bias") if module.affine else build.constant("beta", nothing)
    inputs = BatchNormInputs(
        x.name, gamma, beta, build.parameter("running_mean"), build.parameter("running_var")
    )
    return build.node("batch_norm", inputs, BatchNormAttrs(module.eps, module.momentum))


class BatchNorm2dLayer(Layer, name="BatchNorm2d"):
    """`isobit.nn.BatchNorm2d`, after a convolution."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, module, x, 4)


class BatchNorm1dLayer(Layer, name="BatchNorm1d"):
    """`isobit.nn.BatchNorm1d`, after a linear layer."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, module, x, 2)
