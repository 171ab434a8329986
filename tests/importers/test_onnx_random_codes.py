"""Random QDQ networks against their definition in exact rationals: no code differs, or a note of
the import says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

from isobit.importers.onnx import read
from isobit.passes.base import chosen, run_passes
from isobit.run.golden import run_golden

from . import onnx_exact
from .onnx_cases.base import info, ints, serialised
from .test_onnx_ops import perms_of

COUNTS = {"quick": 60, "full": 1000}
STEPS = 4
SAMPLES = 2
LARGEST = 300
STARTS = ((1, 3, 4, 3), (1, 4, 5), (1, 12), (1, 4, 3, 3), (1, 6, 2, 2))
ROUNDED = ("Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "ReduceMean", "ReduceSum")
"""Operators that a Relu or Clip without a QuantizeLinear before it becomes a part of."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Coded:
    """A tensor of codes in the file."""

    name: str
    shape: Shape
    scale: np.float32
    zero: int
    dtype: str


class Network:
    """A network in the making; `nodes` between DequantizeLinear and QuantizeLinear."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = ("int8", "uint8")[seed % 2]
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: list[Coded] = []
        self.count = 0
        self.x = self.coded("x_q", STARTS[int(self.rng.integers(len(STARTS)))])
        self.nodes.append(self.rounding("x", self.x))
        makers: list[Callable[[Coded], None]] = [
            getattr(self, name) for name in dir(self) if name.startswith("make_")
        ]
        tries = 0
        while len(self.values) < STEPS + 1 and tries < 40:
            tries += 1
            place = int(len(self.values) * math.sqrt(self.rng.random()))
            makers[int(self.rng.integers(len(makers)))](self.values[place])

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def constant(self, data: Any) -> str:
        name = self.name("c")
        self.constants[name] = np.asarray(data)
        return name

    def scale(self) -> np.float32:
        powers = self.rng.random() < 0.3
        exponent = self.rng.uniform(-7, 1)
        return np.float32(2.0 ** (round(exponent) if powers else exponent))

    def coded(
        self, name: str, shape: Shape, scale: np.float32 | None = None, zero: int | None = None
    ) -> Coded:
        low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        middle = (low + high + 1) // 2
        own = self.pick(middle, low, high, *self.rng.integers(low, high + 1, 4))
        found = Coded(
            name,
            shape,
            self.scale() if scale is None else scale,
            int(own if zero is None else zero),
            self.dtype,
        )
        self.constants[f"{name}_s"] = np.asarray(found.scale)
        self.constants[f"{name}_z"] = np.asarray(found.zero, self.dtype)
        self.values.append(found)
        return found

    def rounding(self, real: str, to: Coded) -> Any:
        return helper.make_node("QuantizeLinear", [real, f"{to.name}_s", f"{to.name}_z"], [to.name])

    def real(self, value: Coded) -> str:
        """Return a DequantizeLinear of a value, one of its own each time."""
        name = self.name("r")
        given = [value.name, f"{value.name}_s", f"{value.name}_z"]
        self.nodes.append(helper.make_node("DequantizeLinear", given, [name]))
        return name

    def stored(self, shape: Shape, axis: int | None = None, *, wide: bool = True) -> str:
        """Return a DequantizeLinear of stored codes, of one scale or one per index of an axis."""
        dtype = self.pick("int8", "uint8") if wide else "int8"
        limits = np.iinfo(dtype)
        codes = self.rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
        count = 1 if axis is None else shape[axis]
        scale = np.asarray([self.scale() / 16 for _ in range(count)], np.float32)
        zero = np.full(count, 0 if dtype == "int8" else int(self.pick(128, 121, 3, 0, 255)), dtype)
        numbers = [scale, zero] if axis is not None else [scale[0], zero[0]]
        name = self.name("w")
        given = [self.constant(codes), *map(self.constant, numbers)]
        options = {} if axis is None else {"axis": axis}
        self.nodes.append(helper.make_node("DequantizeLinear", given, [name], **options))
        self.weight_scale = scale
        return name

    def bias(self, x: Coded, count: int) -> str:
        """Return a DequantizeLinear of int32 codes at the product of scales."""
        scale = np.asarray(x.scale * self.weight_scale, np.float32)
        codes = self.rng.integers(-3000, 3001, count).astype(np.int32)
        name, zero = self.name("b"), np.zeros(scale.shape, np.int32)
        numbers = [scale, zero] if scale.size > 1 else [scale[0], zero[0]]
        given = [self.constant(codes), *map(self.constant, numbers)]
        options = {"axis": 0} if scale.size > 1 else {}
        self.nodes.append(helper.make_node("DequantizeLinear", given, [name], **options))
        return name

    def emit(
        self,
        code: str,
        inputs: list[str],
        shape: Shape,
        spread: float,
        like: Coded | None = None,
        **options: Any,
    ) -> None:
        """Add an operator and its QuantizeLinear; `spread`: about how large the result is."""
        name = self.name("y")
        self.nodes.append(helper.make_node(code, inputs, [name], **options))
        if code in ROUNDED and self.rng.random() < 0.4:
            after = self.name("a")
            kind = self.pick("Relu", "Clip")
            bounds = [self.constant(np.float32(v)) for v in (-spread / 4, spread / 3)]
            given = [name, *(bounds if kind == "Clip" else [])]
            self.nodes.append(helper.make_node(kind, given, [after]))
            name = after
        scale = np.float32(spread / 100 * 2.0 ** self.rng.uniform(-1, 1)) if spread else None
        if like is not None and self.rng.random() < 0.7:
            scale, zero = like.scale, like.zero
            y = self.coded(self.name("q"), shape, scale, zero)
        else:
            y = self.coded(self.name("q"), shape, scale)
        self.nodes.append(self.rounding(name, y))

    def make_conv(self, x: Coded) -> None:
        if len(x.shape) not in (3, 4):
            return
        rank, channels = len(x.shape) - 2, x.shape[1]
        group = self.pick(*[g for g in range(1, channels + 1) if channels % g == 0])
        outputs = group * int(self.rng.integers(1, 3))
        kernel = [int(k) for k in self.rng.integers(1, 3, rank)]
        pads = [int(p) for p in self.rng.integers(0, 2, 2 * rank)]
        strides = [int(s) for s in self.rng.integers(1, 3, rank)]
        dilations = [int(s) for s in self.rng.integers(1, 3, rank)]
        size = [
            (n + pads[i] + pads[rank + i] - (k - 1) * d - 1) // s + 1
            for i, (n, k, d, s) in enumerate(
                zip(x.shape[2:], kernel, dilations, strides, strict=True)
            )
        ]
        if min(size) < 1:
            return
        axis = self.pick(None, 0)
        w = self.stored((outputs, channels // group, *kernel), axis)
        spread = (
            60
            * 60
            * float(x.scale * self.weight_scale.mean())
            * math.sqrt(channels // group * math.prod(kernel))
        )
        given = [self.real(x), w, *([self.bias(x, outputs)] if self.rng.random() < 0.6 else [])]
        options = {"group": group, "pads": pads, "strides": strides, "dilations": dilations}
        self.emit("Conv", given, (1, outputs, *size), spread, **options)

    def make_gemm(self, x: Coded) -> None:
        if len(x.shape) != 2:
            return
        outputs, flip = int(self.rng.integers(1, 5)), int(self.rng.integers(2))
        shape = (outputs, x.shape[1]) if flip else (x.shape[1], outputs)
        w = self.stored(shape, self.pick(None, 0 if flip else 1))
        spread = 3600 * float(x.scale * self.weight_scale.mean()) * math.sqrt(x.shape[1])
        given = [self.real(x), w, *([self.bias(x, outputs)] if self.rng.random() < 0.6 else [])]
        self.emit("Gemm", given, (1, outputs), spread, transB=flip)

    def make_matmul(self, x: Coded) -> None:
        if len(x.shape) not in (2, 3):
            return
        outputs = int(self.rng.integers(1, 5))
        w = self.stored((x.shape[-1], outputs), self.pick(None, 1))
        spread = 3600 * float(x.scale * self.weight_scale.mean()) * math.sqrt(x.shape[-1])
        self.emit("MatMul", [self.real(x), w], (*x.shape[:-1], outputs), spread)

    def make_pair(self, x: Coded) -> None:
        code = self.pick("Add", "Sub", "Mul", "Max", "Min")
        other = self.pick(*[v for v in self.values if v.shape == x.shape])
        same = self.real(x)
        given = [same, same if self.rng.random() < 0.2 else self.real(other)]
        size = max(float(x.scale), float(other.scale)) * 100
        spread = size if code != "Mul" else 60 * 60 * float(x.scale * other.scale)
        self.emit(code, given, x.shape, spread)

    def make_stored(self, x: Coded) -> None:
        code = self.pick("Add", "Sub", "Mul", "Mul")
        own = self.pick(x.shape, (x.shape[1], *(1,) * (len(x.shape) - 2)), (1,))
        form = int(self.rng.integers(3))
        if form == 0:
            other = self.stored(own)
        elif form == 1:
            other = self.constant(self.rng.normal(size=own).astype(np.float32))
        else:
            other = self.constant(np.float32(self.pick(0.5, -2.0, 3.0, 0.3)))
        given = [self.real(x), other]
        if code != "Sub" and self.rng.random() < 0.4:
            given.reverse()
        spread = float(x.scale) * 100
        self.emit(code, given, x.shape, spread)

    def make_function(self, x: Coded) -> None:
        code, options = self.pick(
            ("Abs", {}), ("Neg", {}), ("LeakyRelu", {"alpha": 0.25}), ("Relu", {}), ("Ceil", {}),
            ("Identity", {}), ("Floor", {}), ("Round", {}), ("LeakyRelu", {"alpha": 0.3}),
        )  # fmt: skip
        self.emit(code, [self.real(x)], x.shape, float(x.scale) * 120, x, **options)

    def make_mean(self, x: Coded) -> None:
        axis = int(self.rng.integers(1, len(x.shape)))
        shape = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
        spread = float(x.scale) * 120
        if self.rng.random() < 0.3:
            axes = self.constant(ints(axis))
            self.emit("ReduceSum", [self.real(x), axes], shape, spread * x.shape[axis])
        elif len(x.shape) == 4 and self.rng.random() < 0.5:
            self.emit("GlobalAveragePool", [self.real(x)], (1, x.shape[1], 1, 1), spread, x)
        else:
            self.emit("ReduceMean", [self.real(x)], shape, spread, x, axes=[axis], keepdims=1)

    def make_concat(self, x: Coded) -> None:
        others = [v for v in self.values if v.shape == x.shape]
        names = [self.real(x), self.real(self.pick(*others))]
        axis = int(self.rng.integers(1, len(x.shape)))
        shape = tuple(2 * n if a == axis else n for a, n in enumerate(x.shape))
        if math.prod(shape) <= LARGEST:
            self.emit("Concat", names, shape, float(x.scale) * 120, x, axis=axis)

    def make_move(self, x: Coded) -> None:
        if self.rng.random() < 0.5:
            perm = [0, *(1 + self.rng.permutation(len(x.shape) - 1)).tolist()]
            shape = tuple(x.shape[a] for a in perm)
            self.emit("Transpose", [self.real(x)], shape, float(x.scale) * 100, x, perm=perm)
        else:
            shape = (1, math.prod(x.shape))
            given = [self.real(x), self.constant(ints(*shape))]
            self.emit("Reshape", given, shape, float(x.scale) * 100, x)

    def blob(self, outputs: list[Coded]) -> bytes:
        last = [helper.make_node(
            "DequantizeLinear", [v.name, f"{v.name}_s", f"{v.name}_z"], [f"{v.name}_out"]
        ) for v in outputs]  # fmt: skip
        given = [info("x", self.x.shape)]
        results = [info(f"{v.name}_out", v.shape) for v in outputs]
        return serialised([*self.nodes, *last], given, results, self.constants)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        count = COUNTS[metafunc.config.getoption("--scale")]
        metafunc.parametrize("seed", range(count))


def test_codes_of_a_random_network_are_those_of_the_definition(seed: int, tmp_path: Path) -> None:
    net = Network(seed)
    outputs = net.values[1:]
    if not outputs:
        return
    blob = net.blob(outputs)
    path = tmp_path / "net.onnx"
    path.write_bytes(blob)
    imported = read(path)
    passed, _ = run_passes(imported.graph, chosen())
    perms = perms_of(imported)
    info_of = np.iinfo(net.dtype)
    shift = 128 if net.dtype == "uint8" else 0
    # A value behind one that may differ may differ more, and no note says how much.
    certain = all(note.kind != "lsb" for note in imported.notes)
    lossy = {note.value: note.lsb for note in imported.notes if note.kind == "lsb"}
    for _ in range(SAMPLES):
        codes = net.rng.integers(info_of.min, info_of.max + 1, net.x.shape)
        real = (codes.astype(object) - net.x.zero) * onnx_exact.fractions(np.asarray(net.x.scale))
        exact = onnx_exact.evaluate(blob, {"x": real})
        for graph in (imported.graph, passed):
            (value,) = graph.inputs
            given = (codes - shift).astype(np.int8)
            if value.name in perms:
                given = given.transpose(perms[value.name])
            ours = run_golden(graph, given.reshape(value.type.shape))
            for output, name in zip(outputs, graph.outputs, strict=True):
                got = ours[name].astype(np.int64)
                if name in perms:
                    got = got.transpose(np.argsort(perms[name]))
                want = exact[output.name]
                gap = np.abs(got.reshape(want.shape) + shift - want)
                if certain:
                    assert gap.max() == 0, f"{output}: {gap.max()}"
                elif not lossy.keys() - {name}:
                    assert gap.max() <= lossy[name], f"{output}: {gap.max()}"
