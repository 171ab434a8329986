"""lut: y = table[x + 128]; sigmoid, tanh, hard-swish, GELU and every other function of one code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

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
    Shape,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.channels import Table
from isobit.ops.layer import Layer
from isobit.ops.lut.functions import EXACT, Parameters, table
from isobit.ops.lut.reals import float64, smooth
from isobit.ops.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

ENTRIES = 256
FIXED: dict[str, dict[Scheme, Encoding]] = {
    "sigmoid": {Scheme.AFFINE: Affine((1 / 256,), -128), Scheme.POW2: Pow2((7,))},
    "hardsigmoid": {Scheme.AFFINE: Affine((1 / 256,), -128), Scheme.POW2: Pow2((7,))},
    "tanh": {Scheme.AFFINE: Affine((1 / 128,), 0), Scheme.POW2: Pow2((7,))},
}
"""Bounded functions have one encoding, as in TFLite; the others take the range of what flows."""


@dataclass(frozen=True, slots=True)
class LutAttrs(Attrs):
    """`function`: a name of `EXACT`, or "" for a table that stands for itself (imported); the rest
    as in torch.
    """

    function: str
    negative_slope: float = 0.01
    alpha: float = 1.0
    beta: float = 1.0
    threshold: float = 20.0

    def parameters(self) -> Parameters:
        """The function's parameters."""
        return Parameters(
            negative_slope=self.negative_slope,
            alpha=self.alpha,
            beta=self.beta,
            threshold=self.threshold,
        )


@dataclass(frozen=True, slots=True)
class LutInputs(Inputs[T]):
    """x: any shape; table: s8 [256], absent in float graphs."""

    x: T
    table: T | None = field(default=None, kw_only=True)


class Lut(Op[LutAttrs, LutInputs[Any]], name="lut"):
    """x, y: s8, the same shape; table: s8 [256] in the order of the codes -128..127."""

    constants = ("table",)
    takes_any_encoding = True
    encoding_rule = EncodingRule.FREE
    elementwise = True
    channels = Table()

    @classmethod
    def rule(cls, attrs: LutAttrs) -> EncodingRule:
        return EncodingRule.FIXED if attrs.function in FIXED else EncodingRule.FREE

    @staticmethod
    def fixed_encoding(attrs: LutAttrs, inputs: Any, scheme: Scheme) -> Encoding:
        return FIXED[attrs.function][scheme]

    @staticmethod
    def infer(attrs: LutAttrs, types: LutInputs[TensorType]) -> Inferred:
        errors: list[IsobitError] = []
        named = attrs.function in EXACT
        if not named and (attrs.function or is_float(types.x)):
            errors.append(
                BadAttribute(
                    where="lut",
                    what="function",
                    want=", ".join(EXACT),
                    got=repr(attrs.function),
                    fix="Use one of these; an integer graph may hold a table without a name.",
                )
            )
        numbers = attrs.parameters()
        for field_ in fields(numbers):
            value = getattr(numbers, field_.name)
            if not math.isfinite(value):
                errors.append(
                    BadAttribute(
                        where="lut",
                        what=field_.name,
                        want="a finite number",
                        got=str(value),
                        fix="A table needs a value of the function everywhere.",
                    )
                )
        if attrs.function == "celu" and attrs.alpha <= 0:
            errors.append(
                BadAttribute(
                    where="lut",
                    what="alpha",
                    want="> 0",
                    got=str(attrs.alpha),
                    fix="CELU divides by it.",
                )
            )
        if attrs.beta <= 0:
            errors.append(
                BadAttribute(
                    where="lut",
                    what="beta",
                    want="> 0",
                    got=str(attrs.beta),
                    fix="Softplus divides by it.",
                )
            )
        if types.table is not None and types.table.shape != (ENTRIES,):
            errors.append(
                BadShape(
                    where="lut",
                    what="table",
                    want=f"[{ENTRIES}]",
                    got=str(list(types.table.shape)),
                    fix="One entry for every code of int8.",
                )
            )
        raise_all(errors)
        return Inferred(types.x.shape, types.x.dtype)

    @classmethod
    def permuted(cls, attrs: LutAttrs, q: NodeTypes[Any], perm: Shape) -> LutAttrs:
        return attrs  # one table serves every element

    @staticmethod
    def integer(attrs: LutAttrs, q: NodeTypes[Any], inputs: LutInputs[IntArray]) -> IntArray:
        assert inputs.table is not None
        result: IntArray = inputs.table.astype(np.int64)[inputs.x + 128]
        return result

    @staticmethod
    def real(attrs: LutAttrs, inputs: LutInputs[FloatArray]) -> FloatArray:
        """The function in float64, as libm computes it on this machine: tables never come from
        here.
        """
        return float64(attrs, inputs.x)

    @staticmethod
    def surrogate(attrs: LutAttrs, q: NodeTypes[Any], inputs: LutInputs[Tensor]) -> Tensor:
        from isobit.core import fixed_torch as ft

        assert inputs.table is not None
        x = inputs.x
        # Before values that share an encoding know each other's ranges, the first pass of a
        # calibration may bring codes beyond it here; what it sees behind them is forgotten.
        index = (x.detach().long() + (q.inputs.x.zero + 128)).clamp(0, len(inputs.table) - 1)
        exact = inputs.table.to(x.dtype)[index] - q.output.zero
        if not attrs.function or not x.requires_grad:
            return exact
        step = float(scale_of(q.inputs.x.encoding)[0])
        real = smooth(attrs, x * step)
        return ft.straight_through(exact, real / float(scale_of(q.output.encoding)[0]))

    @staticmethod
    def estimate(attrs: LutAttrs, q: NodeTypes[Any], inputs: LutInputs[Tensor]) -> Tensor:
        return smooth(attrs, inputs.x * float(scale_of(q.inputs.x.encoding)[0]))

    @staticmethod
    def cost(attrs: LutAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements + ENTRIES, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: LutAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[LutAttrs, Mapping[str, AnyArray]]:
        return attrs, {"table": table_of(attrs, q.inputs.x, q.output)}

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(35)
        wide, free = Affine((0.05,), -9), Affine((0.047,), -70)
        cases: tuple[tuple[tuple[int, ...], LutAttrs, Encoding, Encoding], ...] = (
            ((2, 3, 5, 7), LutAttrs("sigmoid"), Affine((0.04,), 3), Affine((1 / 256,), -128)),
            ((2, 40), LutAttrs("sigmoid"), Pow2((5,)), Pow2((7,))),
            ((2, 40), LutAttrs("tanh"), Affine((0.02,), 5), Affine((1 / 128,), 0)),
            ((2, 40), LutAttrs("tanh"), Pow2((6,)), Pow2((7,))),
            ((1, 4, 4, 5), LutAttrs("hardswish"), wide, free),
            ((2, 40), LutAttrs("hardsigmoid"), Affine((0.025,), 1), Affine((1 / 256,), -128)),
            ((2, 40), LutAttrs("silu"), Pow2((4,)), Pow2((4,))),
            ((2, 40), LutAttrs("gelu"), wide, free),
            ((2, 40), LutAttrs("gelu_tanh"), wide, free),
            ((2, 40), LutAttrs("elu", alpha=0.5), wide, free),
            ((2, 40), LutAttrs("leaky_relu", negative_slope=0.125), wide, Affine((0.03,), -91)),
            ((2, 40), LutAttrs("softplus", beta=2.0), wide, Affine((0.03,), -120)),
            ((2, 40), LutAttrs("exp"), Affine((0.02,), 60), Affine((0.016,), -128)),
            ((2, 40), LutAttrs("celu", alpha=2.0), wide, Affine((0.04,), -70)),
            ((2, 40), LutAttrs("selu"), wide, free),
            ((2, 40), LutAttrs("mish"), Pow2((4,)), Pow2((4,))),
            ((2, 40), LutAttrs("softsign"), wide, Affine((1 / 128,), 0)),
        )
        for shape, attrs, ex, ey in cases:
            x = sampling.kind((1, *shape[1:]), ex)
            y = sampling.kind((1, *shape[1:]), ey)
            entries = table_of(attrs, x, y).astype(np.int64)
            types = NodeTypes(LutInputs(x, table=TensorType((ENTRIES,), DType.S8, Raw())), (y,))
            scheme = "pow2" if isinstance(ey, Pow2) else "affine"
            inputs = LutInputs(sampling.codes(rng, shape), table=entries)
            yield Sample(f"{attrs.function}/{scheme}", attrs, types, inputs)


def table_of(attrs: LutAttrs, x: TensorType, y: TensorType) -> AnyArray:
    """Return the table, s8 [256], for these encodings."""
    sx, sy = float(scale_of(x.encoding)[0]), float(scale_of(y.encoding)[0])
    entries = _table(attrs.function, attrs.parameters(), (sx, x.zero), (sy, y.zero))
    return np.asarray(entries, dtype=np.int8)


_table = lru_cache(maxsize=256)(table)
"""Training asks for the same table at every step between two updates of the ranges."""


def _lower(build: Any, x: Any, attrs: LutAttrs) -> Any:
    return build.node("lut", LutInputs(x.name), attrs)


_F = "torch.nn.functional"


class _Named(Layer):
    """A layer without options: one function of a real number, by its name in `LutAttrs`."""

    function: ClassVar[str] = ""

    @classmethod
    def lower(cls, build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, LutAttrs(cls.function))


class SigmoidLayer(
    _Named,
    name="Sigmoid",
    functions=(
        "torch.sigmoid",
        "torch.sigmoid_",
        f"{_F}.sigmoid",
        "Tensor.sigmoid",
        "Tensor.sigmoid_",
    ),
):
    """`isobit.nn.Sigmoid`."""

    function = "sigmoid"


class TanhLayer(
    _Named,
    name="Tanh",
    functions=("torch.tanh", "torch.tanh_", f"{_F}.tanh", "Tensor.tanh", "Tensor.tanh_"),
):
    """`isobit.nn.Tanh`."""

    function = "tanh"


class HardsigmoidLayer(_Named, name="Hardsigmoid", functions=(f"{_F}.hardsigmoid",)):
    """`isobit.nn.Hardsigmoid`."""

    function = "hardsigmoid"


class HardswishLayer(_Named, name="Hardswish", functions=(f"{_F}.hardswish",)):
    """`isobit.nn.Hardswish`."""

    function = "hardswish"


class SiLULayer(_Named, name="SiLU", functions=(f"{_F}.silu",)):
    """`isobit.nn.SiLU` (swish)."""

    function = "silu"


class GELULayer(Layer, name="GELU", functions=(f"{_F}.gelu",)):
    """`isobit.nn.GELU`, exact or with `approximate="tanh"`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        exact = module.approximate == "none"
        return _lower(build, x, LutAttrs("gelu" if exact else "gelu_tanh"))


class ELULayer(Layer, name="ELU", functions=(f"{_F}.elu", f"{_F}.elu_")):
    """`isobit.nn.ELU`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, LutAttrs("elu", alpha=float(module.alpha)))


class CELULayer(Layer, name="CELU", functions=("torch.celu", f"{_F}.celu")):
    """`isobit.nn.CELU`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, LutAttrs("celu", alpha=float(module.alpha)))


class SELULayer(_Named, name="SELU", functions=("torch.selu", f"{_F}.selu")):
    """`isobit.nn.SELU`."""

    function = "selu"


class MishLayer(_Named, name="Mish", functions=(f"{_F}.mish",)):
    """`isobit.nn.Mish`."""

    function = "mish"


class SoftsignLayer(_Named, name="Softsign", functions=(f"{_F}.softsign",)):
    """`isobit.nn.Softsign`."""

    function = "softsign"


class LeakyReLULayer(Layer, name="LeakyReLU", functions=(f"{_F}.leaky_relu", f"{_F}.leaky_relu_")):
    """`isobit.nn.LeakyReLU`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, LutAttrs("leaky_relu", negative_slope=float(module.negative_slope)))


class SoftplusLayer(Layer, name="Softplus", functions=(f"{_F}.softplus",)):
    """`isobit.nn.Softplus`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        attrs = LutAttrs("softplus", beta=float(module.beta), threshold=float(module.threshold))
        return _lower(build, x, attrs)


class ExpFunction(Layer, functions=("torch.exp", "Tensor.exp")):
    """`torch.exp(x)`; no module has this meaning."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return _lower(build, args[0], LutAttrs("exp"))
