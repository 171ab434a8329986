"""Random networks that remember: chains of stateful operators with others between them."""

from __future__ import annotations

import math

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, Encoding, Raw, TensorType
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Graph, Stage, Value
from isobit.ops.base import NodeTypes
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.lstm.op import LstmAttrs, LstmInputs, node_factors
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.schemes import Scheme
from isobit.ops.svdf.op import Svdf, SvdfAttrs, SvdfInputs

RUNS = 5


class Chain:
    """A graph whose latest value is a vector [1,n] of int8 codes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([31, seed])
        self.build = GraphBuilder(f"states{seed}", Stage.INT)
        kind = TensorType((1, self.integer(3, 24)), DType.S8, self.encoding())
        self.value = self.build.input(self.build.fresh("x"), kind)
        self.memories: list[str] = []

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def encoding(self) -> Affine:
        return Affine((float(self.rng.uniform(0.01, 0.06)),), self.integer(-40, 40))

    @property
    def kind(self) -> TensorType:
        return self.build.type_of(self.value)

    def const(self, name: str, data: np.ndarray, dtype: DType, encoding: Encoding) -> str:
        return self.build.const(name, TensorType((), dtype, encoding), data)

    def raw(self, name: str, data: np.ndarray) -> str:
        return self.const(name, np.asarray(data).astype(np.int64), DType.S32, Raw())

    def state(self, name: str, kind: TensorType) -> tuple[str, Value]:
        """A state that starts from zero or from a constant, and what it becomes."""
        after = Value(self.build.fresh(name), kind)
        reset = ""
        if self.rng.random() < 0.5:
            codes = self.rng.normal(0, kind.dtype.high / 6, size=kind.shape)
            codes = np.clip(np.rint(codes), kind.dtype.low, kind.dtype.high)
            reset = self.build.const(f"{name}_reset", kind, codes.astype(kind.dtype.numpy))
        own = self.build.fresh(f"{name}_before")
        self.build.state(own, kind, next=after.name, reset=reset)
        self.memories.append(after.name)
        return own, after

    def view(self, shape: tuple[int, ...]) -> None:
        """Look at the latest value in another shape."""
        value = Value(self.build.fresh("view"), self.kind.with_shape((1, *shape)))
        inputs = ReshapeInputs(self.value)
        self.value = self.build.node("reshape", inputs, ReshapeAttrs(shape), value)

    def clamp(self) -> None:
        ends = (self.integer(-120, -40), self.integer(40, 120))
        value = Value(self.build.fresh("clamp"), self.kind)
        step, zero = self.kind.encoding.scale[0], self.kind.zero
        attrs = ClampAttrs(*((end - zero) * step for end in ends), ends)
        self.value = self.build.node("clamp", ClampInputs(self.value), attrs, value)

    def svdf(self) -> None:
        size, rank, memory = self.kind.shape[1], self.integer(1, 3), self.integer(2, 6)
        units, kind = self.integer(1, 9), self.rng.choice([DType.S8, DType.S16])
        filters, limit = units * rank, 127 if kind is DType.S8 else 4000
        spread = self.kind.encoding.scale[0] * 74 * 0.01 * 74 * np.sqrt(size)
        es = Affine((float(spread * 3 / kind.high),), 0)
        et = Affine((float(1 / (limit * np.sqrt(memory * rank))),), 0)
        ey = Affine((float(spread / 70),), self.integer(-30, 30))
        w, t = self.rng.integers(-127, 128, (filters, size)), self.rng.integers
        times = t(-limit, limit + 1, (filters, memory))
        state, after = self.state("memory", TensorType((1, filters, memory), kind, es))
        attrs = SvdfAttrs(rank, feature_clamp=(kind.low, kind.high))
        bias = self.rng.normal(size=units) * spread / 3 / (es.scale[0] * et.scale[0])
        inputs = SvdfInputs(
            *(self.value, state),
            self.const("w", w, DType.S8, Affine((0.01,), 0)),
            self.const("t", times, kind, et),
            self.raw("b", np.rint(bias)) if self.rng.random() < 0.7 else None,
        )
        value = Value(self.build.fresh("svdf"), TensorType((1, units), DType.S8, ey))
        q = NodeTypes(self.types(inputs), (value.type, after.type))
        _, numbers = Svdf.derive(attrs, q, Scheme.AFFINE, None)
        factors = {name: self.raw(name, data) for name, data in numbers.items()}
        inputs = SvdfInputs(inputs.x, state, inputs.w, inputs.t, inputs.b, **factors)
        self.value = self.build.node("svdf", inputs, attrs, value, after)

    def lstm(self) -> None:
        count, major = self.kind.shape[1], bool(self.rng.random() < 0.5)
        rows = int(self.rng.choice([n for n in range(1, 4) if count % n == 0]))
        steps = int(
            self.rng.choice([n for n in range(1, count // rows + 1) if count // rows % n == 0])
        )
        size, cells = count // rows // steps, self.integer(1, 6)
        frac, h = self.integer(10, 14), self.encoding()
        h = Affine((2.0**-7,), h.zero)
        ends = (-32768, 32767) if self.rng.random() < 0.5 else (-(1 << frac), 1 << frac)
        attrs = LstmAttrs(major, 1.0 if ends[1] < 32767 else math.inf, ends, frac)
        scale = self.kind.encoding.scale[0]
        wide = self.rng.uniform(0.8, 1.6, 4) / (scale * 74 * 74 * np.sqrt(size))
        back = self.rng.uniform(0.8, 1.6, 4) / (h.scale[0] * 74 * 74 * np.sqrt(cells))
        lead = (steps, rows) if major else (rows, steps)
        self.view((*lead, size))
        hidden, after_h = self.state("hidden", TensorType((1, rows, cells), DType.S8, h))
        cell = TensorType((1, rows, cells), DType.S16, Affine((2.0**-frac,), 0))
        memory, after_c = self.state("cell", cell)
        ew, er = (Affine(tuple(np.repeat(s, cells).tolist()), 0, 0) for s in (wide, back))
        bias = self.rng.normal(size=4 * cells) / (scale * np.repeat(wide, cells))
        inputs = LstmInputs(
            *(self.value, hidden, memory),
            self.const("w", self.rng.integers(-127, 128, (4 * cells, size)), DType.S8, ew),
            self.const("r", self.rng.integers(-127, 128, (4 * cells, cells)), DType.S8, er),
            self.raw("b", np.rint(bias)),
        )
        value = Value(self.build.fresh("lstm"), TensorType((1, *lead, cells), DType.S8, h))
        q = NodeTypes(self.types(inputs), (value.type, after_h.type, after_c.type))
        numbers = node_factors(attrs, q)
        factors = {name: self.raw(name, data) for name, data in numbers.items()}
        given = (inputs.x, hidden, memory, inputs.w, inputs.r, inputs.b)
        inputs = LstmInputs(*given, **factors)
        self.value = self.build.node("lstm", inputs, attrs, value, after_h, after_c)
        self.view((value.type.elements,))

    def types(self, inputs: SvdfInputs[str] | LstmInputs[str]) -> object:
        """The types of the operands."""
        from isobit.ir.graph import map_inputs

        return map_inputs(inputs, self.build.type_of)


def draw(seed: int) -> Graph:
    """Return the network of a seed: two to four stateful or clamping layers; perhaps a state is an
    output too.
    """
    chain = Chain(seed)
    layers = [chain.svdf, chain.lstm] if seed % 2 else [chain.lstm, chain.svdf]
    layers += [chain.clamp] if chain.rng.random() < 0.5 else [chain.svdf]
    for layer in layers[: chain.integer(1, 3)]:
        layer()
    chain.build.output(chain.value)
    if chain.rng.random() < 0.4:
        chain.build.output(chain.memories[0])
    return chain.build.graph()
