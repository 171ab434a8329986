"""Encodings and derived constants, decided step by step in graph order from frozen ranges.

`NumberBuilder` is the one place where a range becomes an encoding; training and export read its
`Numbers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from isobit.core.dtypes import DType
from isobit.core.errors import BadShape, BadWeights, raise_all
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    Pow2,
    Raw,
    Shape,
    TensorType,
    scale_of,
)
from isobit.ir.graph import map_inputs
from isobit.ops import schemes
from isobit.ops.base import EncodingRule, NodeTypes
from isobit.ops.clamp.op import clamp_codes
from isobit.ops.dynamic import FINER_BIAS
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train.builder import Traced
from isobit.train.steps import Step
from isobit.train.ties import Ties

Kept = TypeVar("Kept")
_PIXELS = TensorType((), DType.U8, Affine((1.0,), 0))


class InputDType(Enum):
    """What codes the network input has, where it is not raw pixels."""

    INT8 = "int8"
    INT16 = "int16"
    """For inputs whose values differ in size too much for one step of 8 bits; what reads them
    computes int8."""

    @property
    def carrier(self) -> DType:
        """The dtype of the codes."""
        return DType.S16 if self is InputDType.INT16 else DType.S8


@dataclass
class Numbers:
    """What follows from the frozen ranges: types by value and constant name; attributes and
    constants by step.
    """

    types: dict[str, TensorType] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    finest: dict[str, int] = field(default_factory=dict)
    """`pow2`: the frac that steps with a shared encoding settled on, by the name of the first of
    them.
    """
    settled: bool = False
    """No type changes any more, so what follows from them is kept."""
    _kept: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False, compare=False)

    def around(self, step: Step) -> NodeTypes[Any]:
        """Return the types around a step."""
        return self.keep("around", step.name, lambda: self._around(step))

    def _around(self, step: Step) -> NodeTypes[Any]:
        inputs: Any = map_inputs(step.inputs, lambda name: self.types[name])
        if step.norm is not None:  # which gives every layer a bias
            inputs = replace(inputs, b=self.types[bias_of(step)])
        soft = (math.isinf(step.low), math.isinf(step.high))
        return NodeTypes(inputs, tuple(self.types[v.name] for v in step.outputs), soft)

    def step_of(self, name: str) -> float:
        """Return the one step of a value's codes."""
        return self.keep("step", name, lambda: float(scale_of(self.types[name].encoding)[0]))

    def inverse(self, name: str, device: torch.device, shape: Shape = (-1,)) -> Tensor:
        """Return 1 / step of a value or constant, float32 [C] or [1] in a shape that holds it."""

        def make() -> Tensor:
            found = 1.0 / scale_of(self.types[name].encoding)
            with torch.inference_mode(False):  # kept, and gradients need it afterwards
                return torch.as_tensor(found, device=device).float().reshape(shape)

        return self.keep("inverse", name, make)

    def one(self, device: torch.device) -> Tensor:
        """Return the factor [1] that changes nothing."""
        return self.keep("one", "", lambda: torch.ones(1, device=device))

    def sum_step(self, step: Step) -> FloatArray:
        """Return `Sx * Sw[c]`, the step of a weighted step's sums, [C] or [1]."""

        def make() -> FloatArray:
            inputs = self.around(step).inputs
            return scale_of(inputs.x.encoding) * scale_of(inputs.w.encoding)

        return self.keep("sums", step.name, make)

    def keep(self, what: str, name: str, make: Callable[[], Kept]) -> Kept:
        """Return what `make` returns, the first one once types are settled."""
        if not self.settled:
            return make()
        if (what, name) not in self._kept:
            self._kept[what, name] = make()
        found: Kept = self._kept[what, name]
        return found

    def selection(self, pool: Step) -> Callable[[Tensor], Tensor]:
        """Return what a step that selects (`Op.selects`) does to the sums of the step before it."""
        attrs, q = self.attrs[pool.name], self.around(pool)

        def select(sums: Tensor) -> Tensor:
            selected = pool.op.surrogate(attrs, q, map_inputs(pool.inputs, lambda _: sums))
            assert isinstance(selected, Tensor)
            return selected

        return select


class RangeSource(Protocol):
    """What a builder asks the twin for."""

    traced: Traced
    scheme: Scheme
    takes_pixels: bool
    stored: tuple[str, ...]
    ties: Ties
    input_dtype: InputDType

    def has_range(self, name: str) -> bool:
        """Whether the range of a value was ever set."""

    def frozen_range(self, name: str) -> tuple[float, float]:
        """Return the range in force of a value, real units."""

    def frozen_largest(self, step: Step) -> FloatArray:
        """Return the largest weight magnitude per output channel, as it will be quantised."""

    def parameter(self, const: str) -> Tensor:
        """Return a float constant's current value."""

    @property
    def device(self) -> torch.device:
        """Where constants live."""


COARSEST = -40
"""A frac below which no shared encoding is sought: ranges give -16 at least."""


def decide_all(source: RangeSource, steps: Sequence[Step]) -> Numbers:
    """Return the numbers of a whole network.

    In `pow2` a member of a tie may need a coarser step than the members before it were given, so
    that its shift is not negative. Then everything is decided again with that as the limit. Limits
    only fall, so this ends; below `COARSEST` nothing is left to represent. Raises `BadWeights`
    there.
    """
    finest: dict[str, int] = {}
    while True:
        build = NumberBuilder(source, finest)
        build.input()
        for step in steps:
            build.decide(step)
        if build.numbers.finest == finest:
            return replace(build.numbers, settled=True)
        finest = build.numbers.finest
        if min(finest.values(), default=0) < COARSEST:
            raise BadWeights(
                where=source.traced.graph.name,
                what="weights between two values that share an encoding",
                want="magnitudes up to 127",
                got="larger ones: no power-of-two step suits both their input and their output",
                fix='Normalise the layers between concatenations, or use scheme="affine".',
            )


class NumberBuilder:
    """Decides encodings step by step; `numbers` grows with every call. `finest`: what
    `Numbers.finest` starts from.
    """

    def __init__(self, source: RangeSource, finest: Mapping[str, int] | None = None) -> None:
        self.source = source
        self.numbers = Numbers(finest=dict(finest or {}))
        self.float_types = source.traced.graph.type_map()

    def input(self) -> None:
        """Decide the network input: raw pixels (u8, scale 1), or s8 or s16 in the observed range;
        and constants in an activation's place: s8 in their own range.
        """
        (value,) = self.source.traced.graph.inputs
        for name in self.source.stored:
            data = self.source.parameter(name).detach()
            own = schemes.activation(self.source.scheme, float(data.min()), float(data.max()))
            self.numbers.types[name] = TensorType(tuple(data.shape), DType.S8, own)
        if self.source.takes_pixels:
            self.numbers.types[value.name] = _PIXELS.with_shape(value.type.shape)
            return
        carrier = self.source.input_dtype.carrier
        choose = schemes.wide_activation if carrier is DType.S16 else schemes.activation
        encoding = choose(self.source.scheme, *self.source.frozen_range(value.name))
        self.numbers.types[value.name] = TensorType(value.type.shape, carrier, encoding)

    def prepare(self, step: Step) -> NodeTypes[Any]:
        """Return the types of a step whose output is still open: its constants' encodings are
        provisional.
        """
        self._constant_types(step, None)
        self.numbers.derived[step.name] = {}
        inputs = map_inputs(step.inputs, lambda name: self.numbers.types[name])
        return NodeTypes(inputs, ())

    def decide(self, step: Step) -> None:
        """Fix the step's output encoding, its constants' encodings and everything derived from
        them.
        """
        source, types = self.source, self.numbers.types
        consts = map_inputs(step.inputs, self._float_constant)
        self._constant_types(step, None)
        encoding = self._output_encoding(step, consts)
        kinds = step.op.output_codes(step.attrs, encoding, len(step.outputs))
        for value, (carrier, own) in zip(step.outputs, kinds, strict=True):
            moved = types[step.activations[0]].dtype if keeps_carrier(step) else carrier
            types[value.name] = TensorType(value.type.shape, moved, own)
        self._constant_types(step, encoding)
        q = self.numbers.around(step)
        attrs: Any
        attrs, derived = step.op.derive(step.attrs, q, source.scheme, consts)
        if step.op.absorbs_clamp:
            attrs = replace(attrs, clamp=clamp_codes(q.output, step.low, step.high))
        self.numbers.attrs[step.name] = attrs
        self.numbers.derived[step.name] = self._tensors(step, derived)

    def _output_encoding(self, step: Step, consts: Any) -> Encoding:
        source, types = self.source, self.numbers.types
        inputs = map_inputs(step.inputs, types.get)
        rule = step.op.rule(step.attrs)
        if rule is EncodingRule.FREE:
            self._require_powers(step)
            low, high = self._range(step)
            encoding = step.op.choose_encoding(step.attrs, inputs, source.scheme, consts, low, high)
            return self._shared(step, encoding)
        if rule is EncodingRule.FIXED:
            return step.op.fixed_encoding(step.attrs, inputs, source.scheme)
        return types[step.activations[0]].encoding

    def _require_powers(self, step: Step) -> None:
        """Refuse, in `pow2`, arithmetic on codes whose step is no power of two or whose zero point
        is not 0.
        """
        if self.source.scheme is not Scheme.POW2 or step.op.takes_any_encoding:
            return
        raise_all(
            [
                BadShape(
                    where=f'{step.op.name} "{step.name}" ({step.location})',
                    what=f"encoding of %{name} in scheme pow2",
                    want="a power-of-two step and zero point 0",
                    got=str(kind.encoding),
                    fix='Use scheme="affine"; a softmax, for one, has the same encoding in both.',
                )
                for name in step.activations
                if (kind := self.numbers.types[name]).dtype is DType.S8
                and not isinstance(kind.encoding, Pow2)
            ]
        )

    def _range(self, step: Step) -> tuple[float, float]:
        """Return the range in force, real units: of all that share the step's encoding, as far as
        it is known.
        """
        source = self.source
        members = source.ties.get(step.name, (step,))
        known = [s for s in members if source.has_range(s.name)]
        ranges = [(s, *source.frozen_range(s.name)) for s in known or members]
        return (
            min(max(low, s.low) for s, low, _ in ranges),
            max(min(high, s.high) for s, _, high in ranges),
        )

    def _shared(self, step: Step, encoding: Encoding) -> Encoding:
        """Bring the step of a shared `pow2` encoding to what every member can produce."""
        if step.name not in self.source.ties or not isinstance(encoding, Pow2):
            return encoding
        leader = self.source.ties[step.name][0].name
        frac = min(encoding.frac[0], self.numbers.finest.get(leader, encoding.frac[0]))
        self.numbers.finest[leader] = frac
        return Pow2((frac,))

    def _tensors(self, step: Step, derived: Mapping[str, AnyArray]) -> dict[str, Tensor]:
        found = {}
        for name, array in derived.items():
            found[name] = torch.as_tensor(np.asarray(array), device=self.source.device)
            carrier = DType.S8 if np.asarray(array).dtype == np.int8 else DType.S32
            kind = TensorType(np.shape(array), carrier, Raw())
            self.numbers.types.setdefault(f"{step.name}.{name}", kind)
        return found

    def _float_constant(self, name: str) -> AnyArray | None:
        if name not in self.source.traced.graph.const_map():
            return None
        value: AnyArray = self.source.parameter(name).detach().cpu().double().numpy()
        return value

    def _constant_types(self, step: Step, output: Encoding | None) -> None:
        """Types of a step's constants; integers without a scale but for weights and bias."""
        types: Any = self.numbers.types
        for item in step.op.constants:
            name = getattr(step.inputs, item)
            if name is not None:
                types[name] = TensorType(self.float_types[name].shape, DType.S32, Raw())
        if not issubclass(step.op, WeightedOp):
            around = map_inputs(step.inputs, types.get)
            consts = map_inputs(step.inputs, self._float_constant)
            found = step.op.constant_codes(step.attrs, around, self.source.scheme, consts)
            for item, (carrier, own) in found.items():
                name = getattr(step.inputs, item)
                types[name] = TensorType(self.float_types[name].shape, carrier, own)
            return
        inputs: Any = step.inputs
        encoding = self._weight_encoding(step, output)
        if isinstance(encoding, Affine):
            encoding = replace(encoding, axis=step.op.channel_axis)
        kind = self.float_types[inputs.w]
        types[inputs.w] = TensorType(kind.shape, DType.S8, encoding)
        if inputs.b is not None or step.norm is not None:
            name = bias_of(step)
            shape = (kind.shape[step.op.channel_axis],)
            types[name] = TensorType(shape, DType.S32, product(types[inputs.x].encoding, encoding))

    def _weight_encoding(self, step: Step, output: Encoding | None) -> Encoding:
        """Weights before their output is known, or under a batch norm in `affine`, keep their own
        steps.
        """
        scheme = self.source.scheme
        largest = self.source.frozen_largest(step)
        x = self.numbers.types[step.activations[0]].encoding
        on_grid = output is not None and step.norm is None
        return schemes.weights(scheme, largest, x, output if on_grid else None)


def keeps_carrier(step: Step) -> bool:
    """Whether a step moves codes of 8 or 16 bits alike."""
    return step.op.takes_wide and step.op.rule(step.attrs) is EncodingRule.SAME


def bias_of(step: Step) -> str:
    """Return the name of a weighted step's bias: its own, or the one that its batch norm makes."""
    inputs: Any = step.inputs
    return inputs.b or f"{step.name}.b"


def product(x: Encoding, w: Encoding) -> Encoding:
    """Return the encoding of a bias: step `Sx * Sw[c]`, or where Sx is dynamic a fine one of its
    own.
    """
    if isinstance(x, Pow2) and isinstance(w, Pow2):
        return Pow2((w.frac[0] + (FINER_BIAS if x.dynamic else x.frac[0]),))
    scale = scale_of(x) * scale_of(w)
    return Affine(tuple(float(s) for s in scale), 0, 0 if scale.size > 1 else None)
