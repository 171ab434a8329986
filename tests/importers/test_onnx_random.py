"""Random float networks of operators that disagree about axes, against onnxruntime: whatever order
values are stored in, the reals stay the same, and every transposition has its note.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper

from isobit.importers.onnx import read

from .onnx_cases.base import info, ints, serialised
from .test_onnx_nets import theirs, transposes
from .test_onnx_ops import ours_of

COUNTS = {"quick": 60, "full": 1500}
STEPS = 14
LARGEST = 2000
TOLERANCE = 1e-4
"""Relative to the largest value: float64 here, float32 there, through up to 14 operators."""

Shape = tuple[int, ...]


class Network:
    """A network in the making: named values with their shapes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        shape = [(1, 3, 6, 4), (1, 4, 5), (1, 24), (1, 2, 3, 4, 2), (6, 4)][seed % 5]
        self.shapes: dict[str, Shape] = {"x": shape}
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        makers: list[Callable[[str], None]] = [
            self.relu, self.add, self.gate, self.transpose, self.transpose, self.reshape,
            self.reshape, self.conv, self.conv, self.pool, self.concat, self.cut, self.pad,
            self.mean, self.softmax, self.matmul, self.gemm, self.norm, self.split,
        ]  # fmt: skip
        while len(self.nodes) < STEPS:
            # Later values more often, so that networks are deep.
            names = list(self.shapes)
            place = int(len(names) * math.sqrt(self.rng.random()))
            makers[int(self.rng.integers(len(makers)))](names[place])

    def emit(self, code: str, inputs: list[str], shape: Shape, **options: Any) -> None:
        if math.prod(shape) > LARGEST:
            return
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(code, inputs, [name], **options))
        self.shapes[name] = shape

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        data = np.asarray(array)
        self.constants[name] = data if data.dtype.kind == "i" else data.astype(np.float32)
        return name

    def axis(self, shape: Shape) -> int:
        return int(self.rng.integers(len(shape)))

    def relu(self, x: str) -> None:
        self.emit("Relu", [x], self.shapes[x])

    def add(self, x: str) -> None:
        same = [name for name, shape in self.shapes.items() if shape == self.shapes[x]]
        self.emit("Add", [x, same[int(self.rng.integers(len(same)))]], self.shapes[x])

    def gate(self, x: str) -> None:
        shape = self.shapes[x]
        kept = self.rng.random(len(shape)) < 0.5
        own = tuple(size if keep else 1 for size, keep in zip(shape, kept, strict=True))
        self.emit("Mul", [x, self.constant(self.rng.normal(size=own))], shape)

    def transpose(self, x: str) -> None:
        shape = self.shapes[x]
        perm = self.rng.permutation(len(shape)).tolist()
        if self.rng.random() < 0.6 and shape[0] == 1:
            perm = [0, *(axis for axis in perm if axis)]
        self.emit("Transpose", [x], tuple(shape[axis] for axis in perm), perm=perm)

    def reshape(self, x: str) -> None:
        count, sizes = math.prod(self.shapes[x]), []
        while count > 1 and len(sizes) < 3:
            divisors = [d for d in range(1, count + 1) if count % d == 0]
            sizes.append(divisors[int(self.rng.integers(len(divisors)))])
            count //= sizes[-1]
        shape = (1, *sizes, count) if self.rng.random() < 0.8 else (*sizes, count)
        self.emit("Reshape", [x, self.constant(ints(*shape))], shape)

    def image(self, x: str) -> Shape | None:
        shape = self.shapes[x]
        return shape if len(shape) == 4 and shape[0] == 1 else None

    def conv(self, x: str) -> None:
        shape = self.image(x)
        if shape is None:
            return
        channels, depthwise = shape[1], self.rng.random() < 0.3
        outputs = channels if depthwise else int(self.rng.integers(1, 5))
        taps = 1 if depthwise else channels
        weights = self.rng.normal(size=(outputs, taps, 3, 3)) / math.sqrt(9 * taps)
        options = {"group": channels if depthwise else 1, "pads": [1, 1, 1, 1]}
        result = (1, outputs, *shape[2:])
        self.emit("Conv", [x, self.constant(weights)], result, **options)

    def pool(self, x: str) -> None:
        shape = self.image(x)
        if shape is not None and min(shape[2:]) >= 2:
            code = ("MaxPool", "AveragePool")[int(self.rng.integers(2))]
            result = (1, shape[1], shape[2] - 1, shape[3] - 1)
            self.emit(code, [x], result, kernel_shape=[2, 2])

    def concat(self, x: str) -> None:
        shape = list(self.shapes[x])
        same = [name for name, other in self.shapes.items() if list(other) == shape]
        axis = self.axis(tuple(shape))
        shape[axis] *= 2
        other = same[int(self.rng.integers(len(same)))]
        self.emit("Concat", [x, other], tuple(shape), axis=axis)

    def cut(self, x: str) -> None:
        shape = list(self.shapes[x])
        axis = self.axis(tuple(shape))
        start, step = int(self.rng.integers(shape[axis])), (1, 2)[int(self.rng.integers(2))]
        end = shape[axis]
        shape[axis] = len(range(start, end, step))
        bounds = [self.constant(ints(n)) for n in (start, end, axis, step)]
        self.emit("Slice", [x, *bounds], tuple(shape))

    def pad(self, x: str) -> None:
        shape = self.shapes[x]
        pads = self.rng.integers(0, 2, 2 * len(shape))
        result = tuple(size + int(pads[i] + pads[i + len(shape)]) for i, size in enumerate(shape))
        self.emit("Pad", [x, self.constant(pads.astype(np.int64))], result)

    def mean(self, x: str) -> None:
        shape = self.shapes[x]
        axis, keep = self.axis(shape), int(self.rng.integers(2))
        rest = tuple(1 if i == axis else size for i, size in enumerate(shape))
        if not keep and len(shape) > 1:
            rest = (*shape[:axis], *shape[axis + 1 :])
        keep = 1 if len(shape) == 1 else keep
        code = ("ReduceMean", "ReduceMax")[int(self.rng.integers(2))]
        self.emit(code, [x], rest, axes=[axis], keepdims=keep)

    def softmax(self, x: str) -> None:
        self.emit("Softmax", [x], self.shapes[x], axis=self.axis(self.shapes[x]))

    def matmul(self, x: str) -> None:
        shape, outputs = self.shapes[x], int(self.rng.integers(1, 6))
        if len(shape) < 2:
            return
        if self.rng.random() < 0.3:
            weights = self.rng.normal(size=(outputs, shape[-2])) / math.sqrt(shape[-2])
            result = (*shape[:-2], outputs, shape[-1])
            self.emit("MatMul", [self.constant(weights), x], result)
            return
        weights = self.rng.normal(size=(shape[-1], outputs)) / math.sqrt(shape[-1])
        self.emit("MatMul", [x, self.constant(weights)], (*shape[:-1], outputs))

    def gemm(self, x: str) -> None:
        shape, outputs = self.shapes[x], int(self.rng.integers(1, 9))
        if len(shape) == 2:
            weights = self.rng.normal(size=(outputs, shape[1])) / math.sqrt(shape[1])
            bias = self.constant(self.rng.normal(size=outputs))
            names = [x, self.constant(weights), bias]
            self.emit("Gemm", names, (shape[0], outputs), transB=1)

    def norm(self, x: str) -> None:
        shape = self.shapes[x]
        if len(shape) > 1 and shape[0] == 1:
            numbers = [self.constant(self.rng.normal(size=shape[1])) for _ in range(3)]
            numbers.append(self.constant(self.rng.uniform(0.5, 2.0, size=shape[1])))
            self.emit("BatchNormalization", [x, *numbers], shape)

    def split(self, x: str) -> None:
        shape = self.shapes[x]
        axis = self.axis(shape)
        if shape[axis] < 2:
            return
        first = int(self.rng.integers(1, shape[axis]))
        sizes = (first, shape[axis] - first)
        names = [f"v{len(self.nodes)}", f"v{len(self.nodes)}b"]
        cut = self.constant(ints(*sizes))
        self.nodes.append(helper.make_node("Split", [x, cut], names, axis=axis))
        for name, size in zip(names, sizes, strict=True):
            self.shapes[name] = (*shape[:axis], size, *shape[axis + 1 :])

    def blob(self, output: str) -> bytes:
        given = [info("x", self.shapes["x"])]
        return serialised(self.nodes, given, [info(output, None)], self.constants)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        count = COUNTS[metafunc.config.getoption("--scale")]
        metafunc.parametrize("seed", range(count))


def test_a_random_network_computes_the_same_reals(seed: int, tmp_path: Path) -> None:
    net = Network(seed)
    path = tmp_path / "net.onnx"
    path.write_bytes(net.blob(list(net.shapes)[-1]))
    imported = read(path)
    transposes(imported)
    x = net.rng.normal(size=net.shapes["x"]).astype(np.float32)
    want = theirs(path, x)
    (got,) = ours_of(imported, (x,))
    largest = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=TOLERANCE * largest)
