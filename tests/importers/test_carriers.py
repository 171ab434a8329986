"""Whole networks of uint8 and of int16x8: every tensor equals the runtime's, on every core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.api.deployment import write_bundle
from isobit.api.importing import import_model
from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.importers.base import Imported
from isobit.importers.tflite import read
from isobit.run.golden import run_golden
from isobit.targets import load as load_target
from tflite_builder import Operator, Tensor, build

from .cases.base import activation, constant
from .litert import Litert
from .tflm import Wheel

SAMPLES = 6
IMAGE = (1, 8, 9, 3)
CONV = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
POOL = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2, "Padding": 1}


class Net:
    """A file in the making: activations of one carrier, their scales chosen by hand."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.rng = dtype, np.random.default_rng(11)
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []

    def value(self, name: str, shape: tuple[int, ...], scale: float, zero: int = 0) -> str:
        self.tensors.append(activation(name, shape, scale, zero, self.dtype))
        return name

    def const(self, name: str, data: Any, dtype: str, scale: float = 0.0, zero: int = 0) -> str:
        scales = [scale] if scale else []
        self.tensors.append(constant(name, data, dtype, scales, [zero] * len(scales)))
        return name

    def weights(self, name: str, shape: tuple[int, ...], scale: float, zero: int) -> str:
        if self.dtype == "uint8":
            data = self.rng.integers(0, 256, size=shape)
            return self.const(name, data, "uint8", scale, zero)
        return self.const(name, self.rng.integers(-127, 128, size=shape), "int8", scale)

    def bias(self, name: str, size: int, limit: int, scale: float) -> str:
        data = self.rng.integers(-limit, limit, size=size)
        return self.const(name, data, "int32" if self.dtype == "uint8" else "int64", scale)

    def add(
        self, code: str, inputs: list[str], output: str, options: str = "", **values: Any
    ) -> None:
        table = f"{options}Options" if options else ""
        self.operators.append(
            Operator(
                code=code, inputs=tuple(inputs), outputs=(output,), options=table, values=values
            )
        )

    def blob(self, output: str) -> bytes:
        return build(tensors=self.tensors, operators=self.operators, inputs=["x"], outputs=[output])


def uint8_net() -> bytes:
    """Two branches of different scales, joined; weights that fit int8 and such that do not."""
    net = Net("uint8")
    x = net.value("x", IMAGE, 0.02, 128)
    w, b = net.weights("w1", (6, 3, 3, 3), 0.01, 120), net.bias("b1", 6, 4000, 0.0002)
    first = net.value("first", (1, 8, 9, 6), 0.05, 10)
    net.add("CONV_2D", [x, w, b], first, "Conv2D", **CONV, FusedActivationFunction=1)
    w, b = net.weights("w2", (1, 3, 3, 6), 0.01, 255), net.bias("b2", 6, 4000, 0.0005)
    second = net.value("second", (1, 8, 9, 6), 0.3, 140)
    options = "DepthwiseConv2D"
    net.add("DEPTHWISE_CONV_2D", [first, w, b], second, options, **CONV, DepthMultiplier=1)
    total = net.value("total", (1, 8, 9, 6), 0.3, 133)
    net.add("ADD", [first, second], total, "Add")
    gate = net.value("gate", (1, 8, 9, 6), 1 / 256, 0)
    net.add("LOGISTIC", [second], gate)
    gated = net.value("gated", (1, 8, 9, 6), 0.25, 120)
    net.add("MUL", [total, gate], gated, "Mul")
    small, mean = (
        net.value("small", (1, 4, 4, 6), 0.3, 140),
        net.value("m", (1, 4, 4, 6), 0.25, 120),
    )
    net.add("MAX_POOL_2D", [second], small, "Pool2D", **POOL)
    net.add("AVERAGE_POOL_2D", [gated], mean, "Pool2D", **POOL)
    both = net.value("both", (1, 4, 4, 12), 0.28, 128)
    net.add("CONCATENATION", [small, mean], both, "Concatenation", Axis=3)
    shape, flat = net.const("shape", (1, 192), "int32"), net.value("flat", (1, 192), 0.28, 128)
    net.add("RESHAPE", [both, shape], flat, "Reshape")
    w, b = net.weights("w3", (10, 192), 0.01, 128), net.bias("b3", 10, 20000, 0.0028)
    logits = net.value("logits", (1, 10), 3.5, 99)
    net.add("FULLY_CONNECTED", [flat, w, b], logits, "FullyConnected")
    y = net.value("y", (1, 10), 1 / 256, 0)
    net.add("SOFTMAX", [logits], y, "Softmax", Beta=0.02)
    return net.blob(y)


def int16_net() -> bytes:
    """Sums of 64 bits, a gate, a softmax."""
    net = Net("int16")
    x = net.value("x", IMAGE, 0.0001)
    w, b = net.weights("w1", (6, 3, 3, 3), 0.01, 0), net.bias("b1", 6, 1 << 20, 1e-6)
    first = net.value("first", (1, 8, 9, 6), 0.0003)
    net.add("CONV_2D", [x, w, b], first, "Conv2D", **CONV)
    w, b = net.weights("w2", (1, 3, 3, 6), 0.01, 0), net.bias("b2", 6, 1 << 20, 3e-6)
    second = net.value("second", (1, 8, 9, 6), 0.0006)
    options = "DepthwiseConv2D"
    net.add("DEPTHWISE_CONV_2D", [first, w, b], second, options, **CONV, DepthMultiplier=1)
    total = net.value("total", (1, 8, 9, 6), 0.0007)
    net.add("ADD", [first, second], total, "Add", FusedActivationFunction=1)
    gate, bent = net.value("gate", (1, 8, 9, 6), 2**-15), net.value("bent", (1, 8, 9, 6), 2**-15)
    net.add("LOGISTIC", [second], gate)
    net.add("TANH", [total], bent)
    gated = net.value("gated", (1, 8, 9, 6), 3e-5)
    net.add("MUL", [bent, gate], gated, "Mul")
    slope = net.value("slope", (1, 8, 9, 6), 3e-5)
    net.add("LEAKY_RELU", [gated], slope, "LeakyRelu", Alpha=0.2)
    mean = net.value("mean", (1, 4, 4, 6), 3e-5)
    net.add("AVERAGE_POOL_2D", [slope], mean, "Pool2D", **POOL)
    pads = net.const("pads", [[0, 0], [1, 0], [0, 1], [0, 0]], "int32")
    padded = net.value("padded", (1, 5, 5, 6), 3e-5)
    net.add("PAD", [mean, pads], padded, "Pad")
    shape, flat = net.const("shape", (1, 150), "int32"), net.value("flat", (1, 150), 3e-5)
    net.add("RESHAPE", [padded, shape], flat, "Reshape")
    w, b = net.weights("w3", (10, 150), 0.01, 0), net.bias("b3", 10, 1 << 20, 3e-7)
    logits = net.value("logits", (1, 10), 0.0002)
    net.add("FULLY_CONNECTED", [flat, w, b], logits, "FullyConnected")
    y = net.value("y", (1, 10), 2**-15)
    net.add("SOFTMAX", [logits], y, "Softmax", Beta=1.0)
    return net.blob(y)


def samples(dtype: str) -> AnyArray:
    ends = np.iinfo(dtype)
    rng = np.random.default_rng(5)
    return rng.integers(ends.min, ends.max + 1, size=(SAMPLES, *IMAGE[1:])).astype(dtype)


NETS: dict[str, Callable[[], bytes]] = {"uint8": uint8_net, "int16": int16_net}


def imported(dtype: str, folder: Path) -> Imported:
    path = folder / f"{dtype}.tflite"
    path.write_bytes(NETS[dtype]())
    return read(path, name=dtype)


def theirs(dtype: str, x: AnyArray) -> dict[str, AnyArray]:
    """Return every tensor that the runtime computes, samples stacked, by name in the file."""
    found: dict[str, list[AnyArray]] = {}
    blob = NETS[dtype]()
    litert = Litert(blob, keeps_all=True) if dtype == "uint8" else None
    wheel = None if litert else Wheel(blob)
    for sample in x:
        if wheel is not None:
            wheel.run(sample)
        for name, tensor in wheel.tensors() if litert is None else litert.run(sample):
            found.setdefault(name, []).append(tensor[0])
    return {name: np.stack(arrays) for name, arrays in found.items() if len(arrays) == len(x)}


@pytest.mark.data("tflite-micro", "litert")
@pytest.mark.parametrize("dtype", NETS)
def test_every_tensor_is_the_runtimes(dtype: str, tmp_path: Path) -> None:
    """uint8 inside a network is int8: the codes are less by 128, and so says the type."""
    found, x = imported(dtype, tmp_path), samples(dtype)
    ours, reference = run_golden(found.graph, x), theirs(dtype, x)
    kinds = found.graph.type_map()
    assert {label for label in found.names.values() if label != "x"} <= set(reference)
    compared = 0
    for value, label in found.names.items():
        if label == "x":
            continue
        codes = ours[value].astype(np.int64)
        if dtype == "uint8" and kinds[value].dtype is DType.S8:
            codes = codes + 128
        assert np.array_equal(codes, reference[label].reshape(codes.shape)), label
        compared += 1
    assert compared >= 11
    spread = ours[found.graph.outputs[0]]
    assert np.unique(spread).size > 8, "a softmax that says nothing would hide a fault"


@pytest.mark.parametrize("dtype", NETS)
def test_borders_have_the_files_codes(dtype: str, tmp_path: Path) -> None:
    graph = imported(dtype, tmp_path).graph
    carrier = {"uint8": DType.U8, "int16": DType.S16}[dtype]
    kinds = graph.type_map()
    assert [kinds[n].dtype for n in (graph.inputs[0].name, *graph.outputs)] == [carrier] * 2
    inside = {v.type.dtype for node in graph.nodes for v in node.outputs} - {carrier}
    assert inside == ({DType.S8} if dtype == "uint8" else set())


@pytest.mark.data("tflite-micro", "litert")
@pytest.mark.parametrize("dtype", NETS)
def test_rewritten_network_computes_the_same(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / f"{dtype}.tflite"
    path.write_bytes(NETS[dtype]())
    graph, x = import_model(path).graph, samples(dtype)
    (output,) = graph.outputs
    wanted = theirs(dtype, x)["y"]
    assert np.array_equal(run_golden(graph, x)[output], wanted)


def test_float_borders_of_int16(tmp_path: Path) -> None:
    """What converters write by default: float32 in and out, int16 between."""
    net = Net("int16")
    net.tensors.append(activation("x", IMAGE, dtype="float32"))
    codes = net.value("codes", IMAGE, 0.0001)
    net.add("QUANTIZE", ["x"], codes, "Quantize")
    w, b = net.weights("w1", (6, 3, 3, 3), 0.01, 0), net.bias("b1", 6, 1 << 20, 1e-6)
    first = net.value("first", (1, 8, 9, 6), 0.0003)
    net.add("CONV_2D", [codes, w, b], first, "Conv2D", **CONV)
    net.tensors.append(activation("y", (1, 8, 9, 6), dtype="float32"))
    net.add("DEQUANTIZE", [first], "y", "Dequantize")
    blob, path = net.blob("y"), tmp_path / "floats.tflite"
    path.write_bytes(blob)
    graph = read(path).graph
    x = np.random.default_rng(2).normal(size=(2, *IMAGE[1:])).astype(np.float32) * 2
    wheel, wanted = Wheel(blob), []
    for sample in x:
        wheel.run(sample)
        wanted.append(wheel.output()[0])
    assert np.array_equal(run_golden(graph, x)["y"], np.stack(wanted))
    bundle = write_bundle(graph, load_target("nucleo-l4r5zi"), tmp_path / "b", inputs=x)
    for comparison in bundle.verify(x, on=list(CORES)):
        assert comparison.differing == 0, comparison


CORES = ("host", "cortex-m4", "cortex-m0plus", "rv32imc")


@pytest.mark.parametrize("dtype", NETS)
def test_deployed_on_every_core(dtype: str, tmp_path: Path) -> None:
    graph, x = imported(dtype, tmp_path).graph, samples(dtype)
    bundle = write_bundle(graph, load_target("nucleo-l4r5zi"), tmp_path / "b", inputs=x[:2])
    for comparison in bundle.verify(x[:2], on=list(CORES)):
        assert comparison.differing == 0, comparison
        assert comparison.compared > 0
