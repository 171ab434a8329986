"""clamp: y = min(max(x, low), high). ReLU, ReLU6 and Hardtanh that no producer could absorb."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute, raise_all
from isobit.core.types import Affine, AnyArray, FloatArray, IntArray, Pow2, TensorType, scale_of
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.channels import Coupled
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer
from isobit.ops.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClampAttrs(Attrs):
    """`low`, `high`: real bounds (float graphs, and an annotation afterwards); `clamp`: output
    codes.
    """

    low: float = -math.inf
    high: float = math.inf
    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, slots=True)
class ClampInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Clamp(Op[ClampAttrs, ClampInputs[Any]], name="clamp"):
    """x, y: s8 or s16, the same shape and encoding. Commutes with max_pool2d and requantisation."""

    elementwise = True
    channels = Coupled()

    @staticmethod
    def infer(attrs: ClampAttrs, types: ClampInputs[TensorType]) -> Inferred:
        low, high = (attrs.low, attrs.high) if is_float(types.x) else attrs.clamp
        if not low <= high:
            raise_all(
                [
                    BadAttribute(
                        where="clamp",
                        what="bounds",
                        want="low <= high",
                        got=f"{low}, {high}",
                        fix="Exchange the bounds.",
                    )
                ]
            )
        return Inferred(types.x.shape, types.x.dtype, types.x.encoding)

    @staticmethod
    def integer(attrs: ClampAttrs, q: NodeTypes[Any], inputs: ClampInputs[IntArray]) -> IntArray:
        return np.clip(inputs.x, *attrs.clamp)

    @staticmethod
    def identity(attrs: ClampAttrs, q: NodeTypes[Any]) -> str:
        x = q.inputs.x
        low, high = (attrs.low, attrs.high) if is_float(x) else attrs.clamp
        widest = (-math.inf, math.inf) if is_float(x) else (x.dtype.low, x.dtype.high)
        return "its bounds are those of the carrier" if (low, high) == widest else ""

    @staticmethod
    def real(attrs: ClampAttrs, inputs: ClampInputs[FloatArray]) -> FloatArray:
        return np.clip(inputs.x, attrs.low, attrs.high)

    @staticmethod
    def surrogate(attrs: ClampAttrs, q: NodeTypes[Any], inputs: ClampInputs[Tensor]) -> Tensor:
        zero = q.output.zero
        return inputs.x.clamp(attrs.clamp[0] - zero, attrs.clamp[1] - zero)

    @staticmethod
    def cost(attrs: ClampAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: ClampAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[ClampAttrs, dict[str, AnyArray]]:
        return replace(attrs, clamp=clamp_codes(q.output, attrs.low, attrs.high)), {}

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def clamp_codes(kind: TensorType, low: float, high: float) -> tuple[int, int]:
    """Return output codes for real bounds: nearest codes, ties towards +infinity, within the
    carrier.
    """
    scale = float(scale_of(kind.encoding)[0])

    def code(bound: float) -> int:
        if math.isinf(bound):
            return kind.dtype.low if bound < 0 else kind.dtype.high
        return max(
            kind.dtype.low, min(kind.dtype.high, math.floor(bound / scale + 0.5) + kind.zero)
        )

    return code(low), code(high)


def _lower(build: Any, x: Any, low: float, high: float) -> Any:
    return build.node("clamp", ClampInputs(x.name), ClampAttrs(float(low), float(high)))


_F = "torch.nn.functional"


class ReLULayer(
    Layer,
    name="ReLU",
    functions=("torch.relu", "torch.relu_", f"{_F}.relu", "Tensor.relu", "Tensor.relu_"),
):
    """`isobit.nn.ReLU`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, 0.0, math.inf)


class ReLU6Layer(Layer, name="ReLU6", functions=(f"{_F}.relu6",)):
    """`isobit.nn.ReLU6`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, 0.0, 6.0)


class HardtanhLayer(Layer, name="Hardtanh", functions=(f"{_F}.hardtanh", f"{_F}.hardtanh_")):
    """`isobit.nn.Hardtanh`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, module.min_val, module.max_val)


class ClampFunction(
    Layer,
    functions=tuple(
        f"{holder}.{name}{end}"
        for holder in ("torch", "Tensor")
        for name in ("clamp", "clip")
        for end in ("", "_")
    ),
):
    """`x.clamp(min, max)` with numbers or None; no module has both bounds optional."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = {**dict(zip(("input", "min", "max"), args, strict=False)), **kwargs}
        low, high = given.get("min"), given.get("max")
        if (low is None and high is None) or not all(
            bound is None or isinstance(bound, int | float) for bound in (low, high)
        ):
            raise build.refuse(
                "bounds of a clamp",
                "a number for min, max or both",
                f"min={_shown(low)}, max={_shown(high)}",
                "Write the bounds as numbers.",
            )
        return _lower(
            build,
            given["input"],
            -math.inf if low is None else low,
            math.inf if high is None else high,
        )


class OneSidedClampFunction(Layer, functions=("torch.clamp_min", "Tensor.clamp_min")):
    """`x.clamp_min(min)`."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        bound = args[1] if len(args) > 1 else kwargs.get("min")
        return ClampFunction.lower_function(build, (args[0], bound), {})


def _shown(bound: Any) -> str:
    return "a tensor" if hasattr(bound, "type") else str(bound)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(23)
    cases = (
        ("relu", (2, 3, 5, 7), Pow2((5,)), ClampAttrs(0.0, clamp=(0, 127))),
        (
            "relu6 with zero point",
            (3, 33),
            Affine((0.05,), -9),
            ClampAttrs(0.0, 6.0, (-9, 111)),
        ),
        ("hardtanh", (1, 4, 4, 2), Affine((0.02,), 2), ClampAttrs(-1.0, 1.0, (-48, 52))),
        ("one element", (9, 1), Pow2((4,)), ClampAttrs(-7.0, 7.0, clamp=(-112, 112))),
    )
    for label, shape, encoding, attrs in cases:
        x = sampling.kind((1, *shape[1:]), encoding)
        yield Sample(
            label,
            attrs,
            NodeTypes(ClampInputs(x), (x,)),
            ClampInputs(sampling.codes(rng, shape)),
        )
