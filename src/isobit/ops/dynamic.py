"""Dynamic output quantisation: the step of a tensor is a power of two that every run finds from the
tensor's own values (docs/numerics.md).

Such a tensor is two values: codes s8, of an encoding `Pow2((0,), dynamic=True)`, and an exponent
s16 of one element; the real number is `code * 2^exponent`. A layer that makes one keeps all its
sums as int32 until the largest is known, which costs four bytes of scratch per output element.

What reads the codes must not need the step (`passes`), or read the exponent too: another dynamic
layer. Everything else is refused (`dynamic_problems`). Source: KANJI, dynamic output quantisation;
block floating point.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import (
    BadAttribute,
    BadShape,
    IsobitError,
    NoKernel,
    Overflow,
    raise_all,
)
from isobit.core.types import (
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    Raw,
    TensorType,
)
from isobit.ir.graph import Attrs, Graph, Node, operands
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op
from isobit.ops.clamp.op import ClampAttrs
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedInputs, WeightedOp, accumulator_bound

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

ENCODING = Pow2((0,), dynamic=True)
"""Of every dynamic tensor: its codes count steps of 2^exponent."""
FINER_BIAS = 12
"""How many bits finer than its weights' step the bias of a layer with a dynamic input is: far below
what 8-bit codes of its sums resolve, and 29 bits of it are 512 times the largest weight.
"""
MOST_SUM = 1 << 30
"""Sums and biases stay below it, so that rounding terms fit int32."""
MOST_SHIFT = 62
LEAST_EXPONENT, MOST_EXPONENT = DType.S16.low, DType.S16.high
CODE_BITS = 7
"""Magnitude bits of a code."""


@dataclass(frozen=True, slots=True)
class DynamicInputs(WeightedInputs[T]):
    """x: activation; w: weights; b: bias [C] s32 or absent; e: the exponent of x [N,1] s16, absent
    where x has a fixed encoding. Never a mult or shift.
    """

    e: T | None = field(default=None, kw_only=True)


class DynamicAttrs(Protocol):
    """What the attributes of a dynamic layer have: the exponents of a product (where x is dynamic,
    at an exponent of 0) and of a unit of the bias.
    """

    @property
    def product(self) -> int:
        """Of products of codes of x and w."""

    @property
    def bias(self) -> int:
        """Of the bias; unused without one."""


A = TypeVar("A", bound=Attrs)


class DynamicOp(WeightedOp[A]):
    """Base of the operators whose output step is found at run time: sums of products, their unit
    brought to the coarser of products and bias, then to 8 bits by the largest magnitude.
    """

    inputs_type = DynamicInputs
    encoding_rule = EncodingRule.FIXED
    absorbs_clamp = False
    plain: ClassVar[type[WeightedOp[Any]]]
    """The operator of the same sums and a fixed encoding."""

    @staticmethod
    @abstractmethod
    def plain_attrs(attrs: Any) -> Any:
        """Return the attributes of `plain` for the same sums."""

    @classmethod
    def _plain(cls, inputs: DynamicInputs[T]) -> WeightedInputs[T]:
        return WeightedInputs(inputs.x, inputs.w, inputs.b)

    @classmethod
    def infer(  # type: ignore[override]  # a family with inputs of its own
        cls, attrs: A, types: DynamicInputs[TensorType]
    ) -> tuple[Inferred, Inferred]:
        """Return codes of the shape that `plain` gives, and one exponent an example."""
        sums = cls.plain.infer(cls.plain_attrs(attrs), cls._plain(types))
        assert isinstance(sums, Inferred)
        x, batch = types.x, sums.shape[0]
        raise_all(list(_exponent_problems(cls.name, attrs, types)))
        if not x.dtype.is_integer:
            return Inferred(sums.shape, x.dtype), Inferred((batch, 1), x.dtype)
        return (
            Inferred(sums.shape, DType.S8, ENCODING),
            Inferred((batch, 1), DType.S16, Raw()),
        )

    @classmethod
    def integer(  # type: ignore[override]  # as infer
        cls, attrs: A, q: NodeTypes[Any], inputs: DynamicInputs[IntArray]
    ) -> tuple[IntArray, IntArray]:
        """Return codes and exponents."""
        # Sums of int8 products are exact in float64 (`exact_matmul`).
        reals = WeightedInputs(inputs.x.astype(np.float64), inputs.w.astype(np.float64))
        found: AnyArray = np.asarray(cls.plain.real(cls.plain_attrs(attrs), reals))
        return quantized(attrs, found.astype(np.int64), inputs.b, inputs.e)  # type: ignore[arg-type]  # attrs have both

    @classmethod
    def real(  # type: ignore[override]  # as infer
        cls, attrs: A, inputs: DynamicInputs[FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the reals that `plain` gives, with exponents of 0."""
        y = np.asarray(cls.plain.real(cls.plain_attrs(attrs), cls._plain(inputs)))
        return y, np.zeros((len(y), 1))

    @classmethod
    def combine(cls, attrs: A, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        """The linear map of `plain`."""
        return cls.plain.combine(cls.plain_attrs(attrs), x, w, b)

    @classmethod
    def surrogate(  # type: ignore[override]  # as infer
        cls, attrs: A, q: NodeTypes[Any], inputs: DynamicInputs[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return codes and exponents. The gradient takes the exponent for a constant."""
        from isobit.ops import torch_dynamic

        sums = cls.combine(attrs, inputs.x.double(), inputs.w.double(), None)
        options: Any = attrs
        return torch_dynamic.quantized(sums, inputs.b, inputs.e, options.product, options.bias)

    @classmethod
    def cost(cls, attrs: A, q: NodeTypes[Any]) -> Cost:
        """That of `plain`, and the exponents."""
        single = NodeTypes(cls._plain(q.inputs), q.outputs[:1])
        found = cls.plain.cost(cls.plain_attrs(attrs), single)
        more = 0 if q.inputs.e is None else q.inputs.e.elements
        return replace(found, reads=found.reads + more, writes=found.writes + 1)

    @staticmethod
    def output_codes(
        attrs: A, encoding: Encoding, count: int
    ) -> tuple[tuple[DType, Encoding], ...]:
        """Return codes s8 and an exponent s16."""
        return (DType.S8, encoding), (DType.S16, Raw())

    @classmethod
    def fixed_encoding(cls, attrs: Any, inputs: Any, scheme: Scheme) -> Encoding:
        """Return `ENCODING`; `BadAttribute` where steps are no powers of two."""
        if scheme is Scheme.POW2 and isinstance(inputs.x.encoding, Pow2):
            return ENCODING
        raise BadAttribute(
            where=cls.name,
            what="encoding of its input",
            want='a power-of-two step, as scheme="pow2" gives',
            got=f"{inputs.x.encoding}, scheme {scheme.value}",
            fix='Use scheme="pow2": steps found at run time are powers of two.',
        )

    @staticmethod
    def derive(
        attrs: A, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[A, Mapping[str, AnyArray]]:
        """Return the exponents of products and bias."""
        x, w, b = q.inputs.x.encoding, q.inputs.w.encoding, q.inputs.b
        product = -w.frac[0] - (0 if x.dynamic else x.frac[0])
        bias = 0 if b is None else -b.encoding.frac[0]
        options: Any = attrs
        changed: A = replace(options, product=product, bias=bias)
        return changed, {}

    @classmethod
    def prove(cls, attrs: A, q: NodeTypes[Any], consts: Any, where: str) -> Sequence[IsobitError]:
        """Prove from the actual weights that sum and bias stay below 2^30 in magnitude."""
        bound = accumulator_bound(q.inputs.x, consts.w, consts.b, cls.channel_axis)
        worst = int(bound.max())
        if worst < MOST_SUM:
            return ()
        return [
            Overflow(
                where=where,
                what="largest possible sum",
                want="below 2^30",
                got=str(worst),
                fix="Use fewer input channels, smaller weights or a smaller bias.",
            )
        ]


def _exponent_problems(
    where: str, attrs: Any, types: DynamicInputs[TensorType]
) -> Iterator[IsobitError]:
    x, e = types.x, types.e
    if types.mult is not None or types.shift is not None:
        yield BadShape(
            where=where,
            what="mult, shift",
            want="none: the shift is found at run time",
            got="a constant",
            fix="Remove it.",
        )
    if e is not None and (e.shape != (x.shape[0], 1) or e.dtype not in (DType.S16, x.dtype)):
        yield BadShape(
            where=where,
            what="exponent of x",
            want=f"s16[{x.shape[0]},1]",
            got=f"{e.dtype.value}{list(e.shape)}",
            fix="It is the second output of the layer that x comes from.",
        )
    if x.dtype.is_integer:
        encodings = [k.encoding for k in (x, types.w, types.b) if k is not None]
        if not all(isinstance(k, Pow2 | Raw) for k in encodings) or len(types.w.shape) < 2:
            yield BadShape(
                where=where,
                what="encodings",
                want="power-of-two steps",
                got=", ".join(str(k) for k in encodings),
                fix='Use scheme="pow2".',
            )
        elif is_dynamic(x) is (e is None):
            yield BadShape(
                where=where,
                what="exponent of x",
                want="one" if e is None else "none: its step is fixed",
                got="none" if e is None else "one",
                fix="Codes and exponent of a dynamic layer go together.",
            )
    for name, exponent in (("product", attrs.product), ("bias", attrs.bias)):
        if not LEAST_EXPONENT <= exponent <= MOST_EXPONENT:
            yield BadAttribute(
                where=where,
                what=name,
                want=f"{LEAST_EXPONENT}..{MOST_EXPONENT}",
                got=str(exponent),
                fix="The file is damaged; export the model again.",
            )


def is_dynamic(kind: TensorType) -> bool:
    """Whether a tensor's step is known only at run time."""
    return isinstance(kind.encoding, Pow2) and kind.encoding.dynamic


def quantized(
    attrs: DynamicAttrs, sums: IntArray, b: IntArray | None, e: IntArray | None
) -> tuple[IntArray, IntArray]:
    """Return codes [N,...] and exponents [N,1] for exact sums of products [N,...]."""
    samples, ones = len(sums), [1] * (sums.ndim - 1)
    unit: IntArray = np.full(samples, attrs.product, dtype=np.int64)
    unit = unit + (0 if e is None else e.reshape(-1))
    total = sums
    if b is not None:
        more = unit - attrs.bias
        right = np.minimum(np.maximum(-more, 0), MOST_SHIFT).reshape(-1, *ones)
        left = np.minimum(np.maximum(more, 0), MOST_SHIFT).reshape(-1, *ones)
        total = fixed.half_up(sums, 1, right) + fixed.half_up(b, 1, left)
        unit = np.maximum(unit, attrs.bias)
    magnitudes = np.where(total < 0, -1 - total, total).reshape(samples, -1).max(axis=1)
    bits = np.asarray([int(m).bit_length() for m in magnitudes], dtype=np.int64)
    shift = np.maximum(bits - CODE_BITS, 0)
    codes = fixed.half_up(total, 1, shift.reshape(-1, *ones))
    found: IntArray = np.clip(unit + shift, LEAST_EXPONENT, MOST_EXPONENT).reshape(-1, 1)
    return fixed.saturate(codes, -128, 127), found


def passes(node: Node) -> bool:
    """Whether a node's output has the step of its input, whatever that is, and its codes are right
    without knowing it: what moves, selects or averages codes, a ReLU, and what will be folded.
    """
    if node.op == "clamp":  # a ReLU: 0 is the code of 0 in any step
        assert isinstance(node.attrs, ClampAttrs)
        attrs = node.attrs
        is_relu = attrs.clamp == (0, 127) if node.output.type.dtype.is_integer else attrs.low == 0
        return is_relu and attrs.high == math.inf
    if node.op in ("avg_pool2d", "global_avg_pool"):
        narrowed: Any = node.attrs  # by the ReLU behind it, which it may have absorbed
        return narrowed.clamp in ((-128, 127), (0, 127))
    # A batch norm becomes part of the layer before it, or is refused there (`train/steps`).
    return node.op in ("reshape", "transpose", "max_pool2d", "batch_norm")


class Registered(Protocol):
    """The part of a registry that is needed here."""

    def op(self, name: str) -> type[Op[Any, Any]]:
        """Return an operator."""


def exponents_of(nodes: Iterable[Node], registry: Registered) -> dict[str, str]:
    """Return by the name of every dynamic value the name of its exponent."""
    found: dict[str, str] = {}
    for node in nodes:
        inputs: Any = node.inputs
        if issubclass(registry.op(node.op), DynamicOp):
            codes, exponent = node.outputs
            found[codes.name] = exponent.name
        elif passes(node) and inputs.x in found:
            found[node.output.name] = found[inputs.x]
    return found


def exponents(graph: Graph, registry: Registered) -> dict[str, str]:
    """`exponents_of` a graph."""
    return exponents_of(graph.nodes, registry)


def dynamic_problems(graph: Graph, registry: Registered) -> list[IsobitError]:
    """Refuse readers of dynamic values that would need their step, and exponents of other values
    than the codes beside them.
    """
    found = exponents(graph, registry)
    given = {v.name for v in graph.inputs if is_dynamic(v.type)}
    kinds = set(found.values())
    errors: list[IsobitError] = []
    for node in graph.nodes:
        inputs: Any = node.inputs
        layer = issubclass(registry.op(node.op), DynamicOp)
        own = inputs.e if layer else None
        read = {
            name
            for name in operands(node.inputs)
            if name in found or name in given or name in kinds
        }
        if layer:
            if inputs.x not in given and own != found.get(inputs.x):
                want = found.get(inputs.x)
                errors.append(
                    _refused(
                        node,
                        "exponent of its input",
                        f"%{want}" if want else "none: its step is fixed",
                        f"%{own}" if own else "none",
                        "Export the model again.",
                    )
                )
            read -= {inputs.x, own}
        elif passes(node):
            read -= {inputs.x} & (set(found) | given)
        errors.extend(
            _refused(
                node,
                f"step of %{name}",
                "a fixed one",
                "an exponent" if name in kinds else "one that every run finds",
                "Dynamic layers may be followed by a batch norm, dynamic layers, ReLU, MaxPool2d, "
                "AvgPool2d and Flatten; make the layer before this one a plain one.",
            )
            for name in sorted(read)
        )
    return errors


def _refused(node: Node, what: str, want: str, got: str, fix: str) -> NoKernel:
    place = f" ({node.location})" if str(node.location) else ""
    where = f'{node.op} "{node.outputs[0].name}"{place}'
    return NoKernel(where=where, what=what, want=want, got=got, fix=fix)
