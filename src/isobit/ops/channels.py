"""What an operator does to channels, so that dead and constant ones can be found and removed.

The channels of a value are the entries of its last axis. A rule answers, for one node of an integer
graph: between which codes each output channel lies when the input channels lie between given codes;
which input and output channels only make sense together; whether an input channel may be left out;
and what the node looks like afterwards. An operator names its rule in `Op.channels`; one without a
rule keeps all its channels.

Bounds are exact integers per channel, both ends included. Interval analysis: Moore 1966; the
argument that requantisation is monotone is in docs/numerics.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.types import AnyArray, IntArray

if TYPE_CHECKING:
    from isobit.ops.base import NodeTypes

Bounds = tuple[IntArray, IntArray]
"""Smallest and largest code of every channel."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Output channel `output` and channel `channel` of activation input `index` go together."""

    index: int
    channel: int
    output: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What leaves a node. Constant input channels have their code in `codes`."""

    inputs: tuple[IntArray, ...]
    """Kept channels of every activation input."""
    output: IntArray
    """Kept channels of the output."""
    codes: Mapping[int, int]
    """Removed channels of the first input that are constant, with their code."""


class ChannelRule(ABC):
    """How one kind of operator treats channels. Stateless."""

    def obstacle(self, attrs: Any, q: NodeTypes[Any]) -> str:
        """Return why this node keeps all its channels, "" where the rule applies."""
        return ""

    @abstractmethod
    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        """Return the bounds of the output."""

    def ties(self, attrs: Any, q: NodeTypes[Any]) -> Iterator[Tie]:
        """Yield what cannot be removed apart; nothing for operators that mix all channels."""
        yield from ()

    def may_drop(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, channel: int, code: int | None
    ) -> str:
        """Return "" where input channel `channel`, with the constant `code` if it has one, may be
        left out, else the reason. Asked of operators that mix channels.
        """
        return "the operator reads every channel"

    @abstractmethod
    def without(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, removal: Removal
    ) -> tuple[Any, Mapping[str, AnyArray]]:
        """Return the attributes and the constants that change, by field."""


def full(dtype: Any, channels: int) -> Bounds:
    """The bounds of a value of which nothing is known."""
    low, high = int(dtype.low), int(dtype.high)
    return np.full(channels, low, dtype=np.int64), np.full(channels, high, dtype=np.int64)


class Mixing(ChannelRule):
    """conv2d (one group) and linear: every output channel reads every input channel."""

    def obstacle(self, attrs: Any, q: NodeTypes[Any]) -> str:
        return "" if getattr(attrs, "groups", 1) == 1 else "a convolution with groups"

    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        low, high = _centred(inputs[0], q, padded=self.is_padded(attrs))
        weights = consts.w.astype(np.int64) - q.inputs.w.zero
        taps = weights.reshape(weights.shape[0], -1, weights.shape[-1])
        up = np.maximum(taps, 0).sum(axis=1)
        down = np.minimum(taps, 0).sum(axis=1)
        return _finished(attrs, q, consts, up @ low + down @ high, up @ high + down @ low)

    def is_padded(self, attrs: Any) -> bool:
        """Whether some tap may fall on padding, which is code Zx."""
        return any(getattr(attrs, "pad", ()))

    def may_drop(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, channel: int, code: int | None
    ) -> str:
        if not (consts.w[..., channel] != q.inputs.w.zero).any():
            return ""
        if code is None:
            return "its consumer has weights for it"
        if code != q.inputs.x.zero and self.is_padded(attrs):
            return f"it is {code}, its consumer pads with {q.inputs.x.zero}"
        return ""

    def without(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, removal: Removal
    ) -> tuple[Any, Mapping[str, AnyArray]]:
        weights = consts.w.astype(np.int64) - q.inputs.w.zero
        added = np.zeros(weights.shape[0], dtype=np.int64)
        for channel, code in removal.codes.items():
            column = weights[..., channel].reshape(weights.shape[0], -1).sum(axis=1)
            added += column * (code - q.inputs.x.zero)
        changed = dict(_per_channel(consts, removal.output))
        changed["w"] = consts.w[removal.output][..., removal.inputs[0]]
        if consts.b is not None or added.any():
            bias = added if consts.b is None else consts.b.astype(np.int64) + added
            changed["b"] = bias[removal.output]
        return attrs, changed


class Depthwise(ChannelRule):
    """depthwise_conv2d: output channel o reads input channel o // multiplier."""

    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        low, high = _centred(inputs[0], q, padded=any(attrs.pad))
        weights = consts.w.astype(np.int64) - q.inputs.w.zero
        times = weights.shape[2] // low.size
        low, high = np.repeat(low, times), np.repeat(high, times)
        up = np.maximum(weights, 0).sum(axis=(0, 1))
        down = np.minimum(weights, 0).sum(axis=(0, 1))
        return _finished(attrs, q, consts, up * low + down * high, up * high + down * low)

    def ties(self, attrs: Any, q: NodeTypes[Any]) -> Iterator[Tie]:
        times = q.output.shape[3] // q.inputs.x.shape[3]
        for output in range(q.output.shape[3]):
            yield Tie(0, output // times, output)

    def without(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, removal: Removal
    ) -> tuple[Any, Mapping[str, AnyArray]]:
        changed = dict(_per_channel(consts, removal.output))
        changed["w"] = consts.w[..., removal.output]
        if consts.b is not None:
            changed["b"] = consts.b[removal.output]
        return attrs, changed


class Coupled(ChannelRule):
    """Output channel c depends on channel c of every input alone, and never turns back while one of
    them grows: pools, clamps, requantisation, sums, products.

    So the ends of the output are reached at ends of the inputs, and the operator's own definition
    finds them.
    """

    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        found = []
        for sides in np.ndindex(*(2,) * len(inputs)):
            ends = [pair[side] for pair, side in zip(inputs, sides, strict=True)]
            result = op.integer(attrs, q, _filled(op, q, consts, ends))
            found.append(np.asarray(result).reshape(-1, q.output.shape[-1]))
        every = np.concatenate(found)
        return every.min(axis=0), every.max(axis=0)

    def ties(self, attrs: Any, q: NodeTypes[Any]) -> Iterator[Tie]:
        count = q.output.shape[-1]
        for index, kind in enumerate(_activation_types(q)):
            for channel in range(count):
                yield Tie(index, channel if kind.shape[-1] == count else 0, channel)

    def without(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, removal: Removal
    ) -> tuple[Any, Mapping[str, AnyArray]]:
        return attrs, {}


class Table(Coupled):
    """lut: any function of one code."""

    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        (low, high), table = inputs[0], consts.table.astype(np.int64)
        spans = [table[a + 128 : b + 129] for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        return np.asarray([s.min() for s in spans]), np.asarray([s.max() for s in spans])


class Joined(ChannelRule):
    """concat: along the channels they are lined up, along another axis they go together."""

    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        lows, highs = zip(*inputs, strict=True)
        if attrs.axis == len(q.output.shape) - 1:
            return np.concatenate(lows), np.concatenate(highs)
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def ties(self, attrs: Any, q: NodeTypes[Any]) -> Iterator[Tie]:
        offset = 0
        for index, kind in enumerate(q.inputs.xs):
            for channel in range(kind.shape[-1]):
                yield Tie(index, channel, offset + channel)
            if attrs.axis == len(q.output.shape) - 1:
                offset += kind.shape[-1]

    def without(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, removal: Removal
    ) -> tuple[Any, Mapping[str, AnyArray]]:
        return attrs, {}


class Viewed(ChannelRule):
    """reshape: element e is in channel e mod C before and e mod C' after; C divides C' or C' C."""

    def bounds(
        self, op: Any, attrs: Any, q: NodeTypes[Any], consts: Any, inputs: tuple[Bounds, ...]
    ) -> Bounds:
        (low, high), before, after = inputs[0], q.inputs.x.shape[-1], q.output.shape[-1]
        if after % before == 0:
            return np.tile(low, after // before), np.tile(high, after // before)
        if before % after == 0:
            return low.reshape(-1, after).min(axis=0), high.reshape(-1, after).max(axis=0)
        return full(q.output.dtype, after)

    def ties(self, attrs: Any, q: NodeTypes[Any]) -> Iterator[Tie]:
        before, after = q.inputs.x.shape[-1], q.output.shape[-1]
        if before % after and after % before:  # channels mix: all of them go together
            yield from (Tie(0, channel, 0) for channel in range(before))
            yield from (Tie(0, 0, channel) for channel in range(after))
            return
        for element in range(max(before, after)):
            yield Tie(0, element % before, element % after)

    def without(
        self, attrs: Any, q: NodeTypes[Any], consts: Any, removal: Removal
    ) -> tuple[Any, Mapping[str, AnyArray]]:
        return replace(attrs, shape=(*attrs.shape[:-1], removal.output.size)), {}


def _activation_types(q: NodeTypes[Any]) -> list[Any]:
    """The types of the activation inputs: those that come before the keyword-only constants."""
    found: list[Any] = []
    for item in fields(q.inputs):
        kind = getattr(q.inputs, item.name)
        if not item.kw_only and kind is not None:
            found.extend(kind if isinstance(kind, tuple) else (kind,))
    return found


def _filled(op: Any, q: NodeTypes[Any], consts: Any, ends: list[IntArray]) -> Any:
    """Return the operator's inputs with every activation constant per channel."""
    rest = iter(ends)
    values: dict[str, Any] = {}
    for item in fields(q.inputs):
        kind = getattr(q.inputs, item.name)
        if kind is None:
            values[item.name] = None
        elif item.name in op.constants:
            values[item.name] = getattr(consts, item.name).astype(np.int64)
        else:
            values[item.name] = np.broadcast_to(next(rest), kind.shape)
    return type(q.inputs)(**values)


def _centred(bounds: Bounds, q: NodeTypes[Any], *, padded: bool) -> Bounds:
    """Return the bounds of x - Zx; a tap on padding is 0."""
    low, high = bounds[0] - q.inputs.x.zero, bounds[1] - q.inputs.x.zero
    return (np.minimum(low, 0), np.maximum(high, 0)) if padded else (low, high)


def _finished(attrs: Any, q: NodeTypes[Any], consts: Any, low: IntArray, high: IntArray) -> Bounds:
    """Requantise the ends of the sums: the map is monotone."""
    from isobit.ops.weighted import finish

    ends = (
        finish(acc[None], consts, attrs.clamp, attrs.round, q.output.zero)[0] for acc in (low, high)
    )
    first, last = ends
    return first, last


def _per_channel(consts: Any, kept: IntArray) -> Iterator[tuple[str, AnyArray]]:
    """Yield multipliers and shifts that have an entry per output channel."""
    for name in ("mult", "shift"):
        data = getattr(consts, name)
        if data is not None and data.size > 1:
            yield name, data[kept]
