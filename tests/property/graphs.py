"""Random integer graphs that every later stage must agree on.

A graph grows node by node, and every node is computed by `Op.integer` on a small batch as soon as
it exists. So a requantising node sees how far its sums really spread and draws a multiplier that
fills the code range: outputs are neither constant nor saturated, and a wrong low bit shows. What an
operator's own rules refuse is drawn again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError
from isobit.core.types import Affine, Encoding, Pow2, Raw, Real, TensorType
from isobit.ir.graph import Const, Graph, Inputs, Node, Stage, Value, map_inputs, operands
from isobit.ops.base import NodeTypes
from isobit.ops.check import check
from isobit.ops.dynamic import is_dynamic
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme

BATCH = 6
"""Samples that a graph is drawn on, and run on in every test."""
LARGEST = 700
"""Elements of any value: the scalar oracle has to stay quick."""


class Refused(Exception):  # a draw to repeat, not a failure
    """A draw that an operator's rules do not allow; another one is drawn."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph, the inputs it was drawn on, and what `Op.integer` made of them, by value name."""

    seed: int
    scheme: Scheme
    graph: Graph
    x: np.ndarray
    values: dict[str, np.ndarray]
    rules: tuple[str, ...]
    """Rounding rules used, "shift" for a requantisation without multiplier."""
    saturation: tuple[float, ...]
    """Per requantising node: the share of its results at an end of its clamp."""


@dataclass(slots=True)
class Draft:
    """A graph in the making."""

    rng: np.random.Generator
    scheme: Scheme
    values: dict[str, TensorType]
    codes: dict[str, np.ndarray]
    consts: dict[str, Const]
    nodes: list[Node]
    rules: list[str]
    saturation: list[float]

    def integer(self, low: int, high: int) -> int:
        """Uniform in `[low, high]`."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Any) -> Any:
        options = list(options)
        if not options:
            raise Refused
        return options[self.integer(0, len(options) - 1)]

    def size(self) -> int:
        """A dimension, mostly odd."""
        return int(self.choose((1, 3, 3, 5, 5, 7, 7, 9, 2, 4, 6)))

    def names(self, accept: Callable[[TensorType], bool]) -> list[str]:
        """The values that the rule accepts. Never one whose step is found at run time, or its
        exponent: hardly an operator takes those.
        """
        return [
            name
            for name, kind in self.values.items()
            if accept(kind) and not is_dynamic(kind) and not isinstance(kind.encoding, Raw)
        ]

    def value(self, accept: Callable[[TensorType], bool] = lambda kind: True) -> str:
        """A value that the rule accepts: usually the latest, else any, which makes branches."""
        names = self.names(accept)
        if not names:
            raise Refused
        return names[-1] if self.chance(0.6) else str(self.choose(names))

    def codes8(self, rank: int = 0) -> str:
        """An int8 value, of `rank` axes where given."""
        return self.value(lambda t: t.dtype is DType.S8 and rank in (0, len(t.shape)))

    def encoding(self) -> Encoding:
        """An activation's encoding in the graph's scheme."""
        if self.scheme is Scheme.POW2:
            return Pow2((self.integer(3, 7),))
        return Affine((float(self.rng.uniform(0.01, 0.06)),), self.integer(-60, 60))

    def weights(self, shape: tuple[int, ...], axis: int) -> str:
        encoding: Encoding = Pow2((7,))
        if self.scheme is Scheme.AFFINE:
            encoding = Affine(
                tuple(self.rng.uniform(0.005, 0.02, size=shape[axis]).tolist()), 0, axis
            )
        return self.const(self.rng.integers(-127, 128, size=shape), DType.S8, encoding)

    def const(
        self, data: np.ndarray, dtype: DType = DType.S32, encoding: Encoding | None = None
    ) -> str:
        data = np.asarray(data)
        name = f"k{len(self.consts)}"
        kind = TensorType(data.shape, dtype, Raw() if encoding is None else encoding)
        self.consts[name] = Const(name, kind, data)
        return name

    def clamp(self, y: Encoding) -> tuple[int, int]:
        """None, a ReLU, or two bounds."""
        style = self.rng.random()
        if style < 0.7:
            return (-128, 127)
        if style < 0.85:
            return (getattr(y, "zero", 0), 127)
        return (self.integer(-120, -60), self.integer(60, 120))

    def kind(self, name: str) -> TensorType:
        return self.values[name] if name in self.values else self.consts[name].type

    def array(self, name: str) -> np.ndarray:
        found = self.codes[name] if name in self.codes else self.consts[name].data
        return found if found.dtype.kind == "f" else found.astype(np.int64)

    def evaluate(self, op: str, inputs: Inputs[str], attrs: Any, outputs: Any) -> Any:
        q = NodeTypes(map_inputs(inputs, self.kind), outputs)
        return load_ops().op(op).integer(attrs, q, map_inputs(inputs, self.array))

    def emit(
        self, op: str, inputs: Inputs[str], attrs: Any, encoding: Encoding | None = None
    ) -> tuple[str, ...]:
        """Append a node and compute it; `Refused` where the operator's rules say no."""
        definition = load_ops().op(op)
        types = map_inputs(inputs, self.kind)
        try:
            inferred = definition.outputs_of(attrs, types)
        except IsobitError as error:
            raise Refused from error
        kinds = []
        for one in inferred:
            chosen = one.encoding if one.encoding is not None else encoding
            assert chosen is not None, f"{op} leaves its encoding open"
            kinds.append(TensorType(one.shape, one.dtype, chosen))
        if max(math.prod(k.shape) for k in kinds) > LARGEST:
            raise Refused
        q = NodeTypes(types, tuple(kinds))
        data = replace(
            inputs,
            **{
                field: None if field not in definition.constants else self.consts[name].data
                for field in type(inputs).__dataclass_fields__
                if (name := getattr(inputs, field)) is not None
            },
        )
        if definition.prove(attrs, q, data, op):
            raise Refused
        if not kernel_legal(op, attrs, q):
            raise Refused
        results = self.evaluate(op, inputs, attrs, tuple(kinds))
        results = results if isinstance(results, tuple) else (results,)
        names = []
        for kind, result in zip(kinds, results, strict=True):
            name = f"v{len(self.values)}"
            narrow = result.astype(kind.dtype.numpy)
            assert np.array_equal(narrow, result, equal_nan=narrow.dtype.kind == "f")
            self.values[name], self.codes[name] = kind, narrow
            names.append(name)
        outputs = tuple(Value(n, k) for n, k in zip(names, kinds, strict=True))
        self.nodes.append(Node(op, inputs, attrs, outputs))
        return tuple(names)

    def requantised(
        self,
        op: str,
        inputs: Inputs[str],
        attrs: Any,
        *,
        channels: int = 1,
        encoding: Encoding | None = None,
    ) -> str:
        """Emit a node with `mult` and `shift` that spread its sums over the codes.

        The sums are the node's own: what `integer` gives with multiplier 1, shift 0 and no clamp.
        """
        from isobit.core.fixed import Rounding

        inferred = load_ops().op(op).outputs_of
        zero = self.const(np.zeros(1, dtype=np.int64))
        plain = replace(inputs, mult=None, shift=zero)
        wide = replace(attrs, clamp=(-(2**40), 2**40), round=Rounding.HALF_UP)
        try:
            (shape,) = inferred(attrs, map_inputs(plain, self.kind))
        except IsobitError as error:
            raise Refused from error
        if math.prod(shape.shape) > LARGEST:
            raise Refused
        raw = TensorType(shape.shape, DType.S8, Pow2((0,)))
        sums = np.abs(self.evaluate(op, plain, wide, (raw,))).astype(np.float64)
        rule = self.rule()
        per_channel = channels > 1 and self.chance(0.6)
        axes = tuple(range(sums.ndim - 1)) if per_channel else None
        spread = np.maximum(np.quantile(sums, 0.97, axis=axes).reshape(-1), 1.0)
        mult, shift = self.numbers(spread, rule)
        encoding = self.encoding() if encoding is None else encoding
        attrs = replace(attrs, clamp=self.clamp(encoding), round=rule or Rounding.HALF_UP)
        final = replace(
            inputs, mult=None if mult is None else self.const(mult), shift=self.const(shift)
        )
        (name,) = self.emit(op, final, attrs, encoding)
        self.note(name, attrs.clamp, rule.value if rule else "shift")
        return name

    def rule(self) -> Any:
        """A rounding rule; None: a shift without multiplier."""
        from isobit.core.fixed import Rounding

        if self.scheme is Scheme.POW2:
            return None
        return self.choose((None, *[Rounding.HALF_UP] * 4, *[Rounding.TFLITE_DOUBLE] * 4))

    def numbers(self, spread: np.ndarray, rule: Any) -> tuple[np.ndarray | None, np.ndarray]:
        """`mult` and `shift` that bring `spread` to 60..125 codes."""
        from isobit.core.fixed import Rounding, multiplier_half_up, multiplier_q31

        real = self.rng.uniform(60.0, 125.0, size=spread.shape) / spread
        if rule is None:
            return None, np.maximum(np.ceil(-np.log2(real)), 0).astype(np.int64)
        if rule is Rounding.TFLITE_DOUBLE:
            found = [multiplier_q31(float(r)) for r in real]
        else:
            bits = self.choose((7, 15, 24, 30))
            found = [multiplier_half_up(min(float(r), 2.0**bits / 2), bits) for r in real]
        return np.asarray([m for m, _ in found]), np.asarray([s for _, s in found])

    def note(self, name: str, clamp: tuple[int, int], rule: str) -> None:
        """Remember a requantising node for the statistics."""
        codes = self.codes[name]
        self.rules.append(rule)
        self.saturation.append(float(np.mean((codes == clamp[0]) | (codes == clamp[1]))))


def kernel_legal(op: str, attrs: Any, q: NodeTypes[Any]) -> bool:
    """Whether a portable kernel takes this node; views need none."""
    registry = load_ops()
    portable = (kernel for kernel in registry.kernels[op] if not kernel.features)
    return registry.op(op).view or any(not kernel.when(attrs, q) for kernel in portable)


@lru_cache(maxsize=1024)
def draw(seed: int) -> Drawn:
    """Return the graph of a seed: 4 to 14 nodes, perhaps `dequantize`; one to three outputs."""
    from .recipes import FLOATS, MIDDLE, PIXELS, RECIPES

    rng = np.random.default_rng([20, seed])
    scheme = (Scheme.POW2, Scheme.AFFINE)[seed % 2]
    draft = Draft(rng, scheme, {}, {}, {}, [], [], [])
    _source(draft)
    wanted = draft.integer(4, 14)
    if draft.values["x"].dtype is not DType.S8:
        if draft.chance(0.3):
            _attempt(draft, [RECIPES[name] for name in ("reshape", "transpose", "concat", "split")])
        raw = PIXELS if draft.values["x"].dtype is DType.U8 else FLOATS
        _attempt(draft, [RECIPES[name] for name in raw])
    while len(draft.nodes) < wanted:
        _attempt(draft, [RECIPES[name] for name in MIDDLE])
    if draft.chance(0.15):
        _attempt(draft, [RECIPES["dequantize"]])
    graph = _finished(draft, seed)
    check(graph)
    x = draft.codes["x"]
    return Drawn(seed, scheme, graph, x, draft.codes, tuple(draft.rules), tuple(draft.saturation))


def _source(draft: Draft) -> None:
    """The graph's input: int8 codes, uint8 pixels or floats; an image or a vector."""
    dtype = draft.choose((DType.S8, DType.S8, DType.S8, DType.U8, DType.F32))
    shape: tuple[int, ...] = (1, draft.size(), draft.size(), draft.integer(1, 7))
    if draft.chance(0.15):
        shape = (1, draft.integer(3, 40))
    batch = (BATCH, *shape[1:])
    if dtype is DType.F32:
        encoding: Encoding = Real()
        data = (draft.rng.normal(size=batch) * 2.0).astype(np.float32)
        data.flat[:: max(7, data.size // 9)] = np.inf
    else:
        encoding = Affine((1.0,), 0) if dtype is DType.U8 else draft.encoding()
        data = draft.rng.integers(dtype.low, dtype.high + 1, size=batch).astype(dtype.numpy)
    draft.values["x"], draft.codes["x"] = TensorType(shape, dtype, encoding), data


def _attempt(draft: Draft, recipes: list[Callable[[Draft], None]]) -> None:
    """Let one of the recipes add its node or nodes."""
    for _ in range(400):
        nodes, values, noted = len(draft.nodes), len(draft.values), len(draft.rules)
        try:
            draft.choose(recipes)(draft)
            return
        except Refused:
            # A recipe may have added a helper node before its last draw was refused.
            del draft.nodes[nodes:], draft.rules[noted:], draft.saturation[noted:]
            for name in list(draft.values)[values:]:
                del draft.values[name], draft.codes[name]
    raise AssertionError("400 draws were refused")


def _finished(draft: Draft, seed: int) -> Graph:
    read = Counter(name for node in draft.nodes for name in operands(node.inputs))
    last = draft.nodes[-1].outputs[0].name
    dangling = [n for n in draft.values if n not in read and n not in ("x", last)]
    # Some results stay unread on purpose: a network may have them, and the planner must place them.
    outputs = (last, *(name for name in dangling[:2] if draft.chance(0.5)))
    return Graph(
        name=f"g{seed}",
        stage=Stage.INT,
        inputs=(Value("x", draft.values["x"]),),
        consts=tuple(c for c in draft.consts.values() if c.name in read),
        nodes=tuple(draft.nodes),
        outputs=outputs,
    )
