"""dynamic_linear: linear whose output step is a power of two that every run finds from its sums.

y = half_up(t * 2^-s) with the least s for which the largest t fits 8 bits, t = b[o] + sum x * w in
the coarser unit of both; its exponent is the second output (docs/numerics.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from isobit.ir.graph import Attrs
from isobit.ops.base import Sample
from isobit.ops.dynamic import DynamicInputs, DynamicOp
from isobit.ops.dynamic_samples import layer_samples
from isobit.ops.layer import Layer
from isobit.ops.linear.op import Linear, LinearAttrs


@dataclass(frozen=True, slots=True)
class DynamicLinearAttrs(Attrs):
    """`product`, `bias`: exponents of a product of codes (at an exponent 0 of x, where it has one)
    and of the bias.
    """

    product: int = 0
    bias: int = 0


class DynamicLinear(DynamicOp[DynamicLinearAttrs], name="dynamic_linear"):
    """x: s8 [N,I] in a power-of-two step, or with an exponent e: s16 [N,1]; w: s8 [O,I]; b: s32
    [O]; y: s8 [N,O] and its exponent s16 [N,1].
    """

    plain = Linear

    @staticmethod
    def plain_attrs(attrs: DynamicLinearAttrs) -> LinearAttrs:
        return LinearAttrs()

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(50)
        cases = (
            ("ten classes", (6, 35), (10, 35)),
            ("one input, no bias", (12, 1), (3, 1)),
            ("wide", (6, 300), (4, 300)),
            ("odd", (6, 17), (7, 17)),
        )
        for label, x, w in cases:
            yield from layer_samples(DynamicLinear, rng, label, x, w, DynamicLinearAttrs())


class DynamicLinearLayer(Layer, name="DynamicLinear"):
    """`isobit.nn.DynamicLinear`: `Linear` whose output range every run finds; scheme `pow2`."""

    @classmethod
    def module_class(cls) -> Any:
        from isobit.ops.dynamic_linear.torch_module import DynamicLinear as Module

        return Module

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        exponent = build.exponent(x)
        w = build.features("weight", x)
        b = None if module.bias is None else build.parameter("bias")
        inputs = DynamicInputs(x.name, w, b, e=exponent)
        codes, _ = build.node("dynamic_linear", inputs, DynamicLinearAttrs())
        return codes
