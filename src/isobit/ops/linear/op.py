"""linear: y[n,o] = clamp(Zy + R(b[o] + sum (x[n,i] - Zx) * w[o,i]))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadShape, IsobitError, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import FloatArray, IntArray, TensorType
from isobit.ir.graph import Attrs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Sample
from isobit.ops.channels import Mixing
from isobit.ops.layer import Layer
from isobit.ops.weighted import (
    WeightedInputs,
    WeightedOp,
    exact_matmul,
    finish,
    weight_problems,
    weighted_cost,
)
from isobit.ops.weighted_samples import others

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LinearAttrs(Attrs):
    """`clamp` is in output codes; `dtype`: the carrier of y where it is not that of x."""

    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP
    dtype: DType | None = None


class Linear(WeightedOp[LinearAttrs], name="linear"):
    """x: s8 [N,I]; w: s8 [O,I]; b: s32 [O]; y: s8 [N,O]. Source: docs/numerics.md; TFLite
    `FULLY_CONNECTED`.
    """

    takes_wide = True
    channels = Mixing()

    @staticmethod
    def infer(attrs: LinearAttrs, types: WeightedInputs[TensorType]) -> Inferred:
        x, w = types.x.shape, types.w.shape
        errors: list[IsobitError] = []
        if len(x) != 2 or len(w) != 2:
            errors.append(
                BadShape(
                    where="linear",
                    what="ranks of input and weights",
                    want="2 (N, I) and 2 (O, I)",
                    got=f"{list(x)} and {list(w)}",
                    fix="Put a Flatten before the linear layer.",
                )
            )
        elif x[1] != w[1]:
            errors.append(
                BadShape(
                    where="linear",
                    what="input features",
                    want=str(w[1]),
                    got=str(x[1]),
                    fix=f"Set in_features={x[1]}.",
                )
            )
        errors.extend(weight_problems("linear", types, w[0], attrs.clamp, attrs.dtype))
        raise_all(errors)
        return Inferred((x[0], w[0]), attrs.dtype or types.x.dtype)

    @staticmethod
    def integer(
        attrs: LinearAttrs, q: NodeTypes[Any], inputs: WeightedInputs[IntArray]
    ) -> IntArray:
        centred = inputs.x - q.inputs.x.zero
        acc = exact_matmul(centred, (inputs.w - q.inputs.w.zero).T)
        return finish(acc, inputs, attrs.clamp, attrs.round, q.output.zero)

    @staticmethod
    def real(attrs: LinearAttrs, inputs: WeightedInputs[FloatArray]) -> FloatArray:
        result: FloatArray = inputs.x @ inputs.w.T
        return result if inputs.b is None else result + inputs.b

    @staticmethod
    def combine(attrs: LinearAttrs, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        from torch.nn.functional import linear

        return linear(x, w, b)

    @staticmethod
    def cost(attrs: LinearAttrs, q: NodeTypes[Any]) -> Cost:
        return weighted_cost(q, q.inputs.w.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(21)
        cases = (
            ("one input", 4, 1, 3, (-128, 127)),
            ("word-aligned", 3, 32, 8, (-128, 127)),
            ("odd", 3, 35, 7, (-128, 127)),
            ("one output", 12, 17, 1, (-128, 127)),
            ("relu clamp", 3, 64, 10, (0, 127)),
            ("wide", 3, 300, 4, (-100, 90)),
            ("3 in, 2 out", 6, 3, 2, (-128, 127)),
            ("4 in, 5 out", 3, 4, 5, (-128, 127)),
            ("6 in, 4 out", 3, 6, 4, (-128, 127)),
            ("12 in, 6 out", 3, 12, 6, (-128, 127)),
            ("no bias", 60, 9, 4, (-128, 127)),
            ("no bias, 8 in, 7 out", 240, 8, 7, (-128, 127)),
        )
        found = [
            _sample(rng, label, (n, i, o), clamp, rule)
            for label, n, i, o, clamp in cases
            for rule in (None, Rounding.HALF_UP, Rounding.TFLITE_DOUBLE)
        ]
        yield from found
        yield from others(rng, found)


class LinearLayer(Layer, name="Linear"):
    """`isobit.nn.Linear`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        b = None if module.bias is None else build.parameter("bias")
        w = build.features("weight", x)
        return build.node("linear", WeightedInputs(x.name, w, b), LinearAttrs())


def _sample(
    rng: sampling.Rng,
    label: str,
    size: tuple[int, int, int],
    clamp: tuple[int, int],
    rule: Rounding | None,
) -> Sample[Any]:
    n, i, o = size
    ex, ew, ey = sampling.encodings(rule, rng)
    spread = float(np.sqrt(i)) * 74 * 30
    channels = o if rule else 1
    mult, shift = sampling.numbers(rng, spread, channels, rule)
    arrays: WeightedInputs[Any] = WeightedInputs(
        x=sampling.codes(rng, (n, i)),
        w=np.clip(np.rint(rng.normal(0, 30, size=(o, i))), -127, 127).astype(np.int64),
        b=None if "no bias" in label else sampling.codes(rng, (o,), -int(spread), int(spread)),
        mult=mult,
        shift=shift,
    )
    types: WeightedInputs[TensorType] = WeightedInputs(
        x=sampling.kind((1, i), ex),
        w=sampling.kind((o, i), ew),
        b=None if arrays.b is None else sampling.raw32(o),
        mult=None if mult is None else sampling.raw32(channels),
        shift=sampling.raw32(channels),
    )
    attrs = LinearAttrs(clamp, rule or Rounding.HALF_UP)
    label = f"{label}/{'shift' if rule is None else rule.value}"
    return Sample(label, attrs, NodeTypes(types, (sampling.kind((1, o), ey),)), arrays)
