"""PT2E graphs, which torchao's `convert_pt2e` makes, in the words of ONNX's QDQ form.

Both say: codes, made real by a dequantisation, an operator of reals, made codes again by a
quantisation. So `isobit.importers.onnx_codes` reads both. Here `quantized_decomposed` operators
get ONNX's names, and two differences are levelled:

1. torch quantises behind a chain of views, ONNX's tools before it. A quantisation commutes with
   operators that only move values, and with a maximum, because rounding is monotone.
2. Quantisers leave some values real: X86InductorQuantizer the result of the last layer, and a
   convolution before an addition or a hard-swish, the weights of a transposed convolution. Such a
   value gets int8 codes for the range that it has on the example inputs; where torch quantises it
   for another reader, those codes. `torch_bounds` proves how far results can be from torch's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isobit.core.errors import Unsupported
from isobit.core.types import AnyArray
from isobit.importers.onnx_file import FileModel, FileNode, FileValue
from isobit.ops.clamp.from_aten import bounds

QUANTISED = "quantized_decomposed."
FULL = {"int8": (-128, 127), "uint8": (0, 255)}
ACTIVATIONS = frozenset(
    {"relu.default", "relu6.default", "hardtanh.default", "clamp.default"}
    | {"clamp_min.default", "clamp_max.default"}
)
MOVING = frozenset(
    {"view.default", "unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims"}
    | {"_unsafe_view.default", "clone.default", "alias.default", "detach.default"}
    | {"permute.default", "transpose.int", "t.default", "cat.default"}
    | {"stack.default", "slice.Tensor", "select.int", "flip.default", "index.Tensor"}
    | {"max_pool1d.default", "max_pool2d.default", "adaptive_max_pool2d.default"}
    | {"amax.default", "amin.default", "maximum.default", "minimum.default"}
    | {"pixel_shuffle.default", "pixel_unshuffle.default", "channel_shuffle.default"}
    | {"expand.default", "repeat.default", "upsample_nearest2d.vec", "pad.default"}
    | {"constant_pad_nd.default", "reflection_pad2d.default"}
)
"""Their results are values of their operands."""
PRESERVING = MOVING | {"Relu", "Clip", "split.Tensor", "split_with_sizes.default", "unbind.int"}
"""Without a quantisation of their own, results keep that of the first operand."""
WEIGHTED = ("conv1d.", "conv2d.", "conv_transpose1d.", "conv_transpose2d.", "linear.")
"""How the names of operators begin whose second operand are weights."""
REAL = ".real"
"""Ends the name of what codes stand for."""
FUSES = frozenset(
    {"conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding"}
    | {"conv_transpose1d.default", "conv_transpose2d.input", "linear.default", "addmm.default"}
    | {"mm.default", "matmul.default", "add.Tensor", "sub.Tensor", "mul.Tensor"}
    | {"avg_pool2d.default", "adaptive_avg_pool2d.default", "mean.dim", "sum.dim_IntList"}
)
"""Their result is rounded to codes, so that the bounds of an activation are code bounds."""


@dataclass(frozen=True, slots=True)
class Island:
    """A value that torch leaves real between two operators; here it has codes."""

    codes: str
    """Their name."""
    text: str


def as_qdq(
    model: FileModel, ranges: Mapping[str, tuple[float, float]]
) -> tuple[FileModel, list[Island]]:
    """Return a PT2E graph in QDQ form, and the values that needed codes of their own.

    ranges: smallest and largest value of what the network computes, by name.
    """
    nodes = [_renamed(model, node) for node in model.nodes]
    model = replace(model, nodes=nodes, problems=list(model.problems))
    _quantise_before_moves(model)
    model, islands = _Islands(model, ranges).run()
    ordered = [replace(node, position=position) for position, node in enumerate(model.nodes)]
    return replace(model, nodes=ordered, coded=True), islands


def coding(low: float, high: float) -> tuple[float, int]:
    """Return scale and zero point of int8 codes for a range and 0.

    >>> coding(0.0, 255 / 256)
    (0.00390625, -128)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255)) or 1.0
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def _is(node: FileNode, start: str) -> bool:
    return node.code.startswith(QUANTISED + start)


def _renamed(model: FileModel, node: FileNode) -> FileNode:
    if node.code in ACTIVATIONS:
        return _activation(model, node)
    static = ("per_tensor.", "per_channel.")
    if any(_is(node, f"quantize_{kind}") for kind in static):
        _require_full_range(model, node)
        return _border(model, node, "QuantizeLinear")
    if any(_is(node, f"dequantize_{kind}") for kind in static):
        return _border(model, node, "DequantizeLinear")
    return node


def _activation(model: FileModel, node: FileNode) -> FileNode:
    low, high = bounds(node.code, node.options)
    if node.code == "relu.default":
        return replace(node, code="Relu", options={})
    names = (f"{node.outputs[0]}.low", f"{node.outputs[0]}.high")
    model.constants.update(zip(names, (np.asarray(low), np.asarray(high)), strict=True))
    return replace(node, code="Clip", inputs=(node.inputs[0], *names), options={})


def _border(model: FileModel, node: FileNode, code: str) -> FileNode:
    """Return a quantisation whose scale and zero point are stored tensors."""
    inputs, dtype = node.inputs, str(node.options["dtype"]).removeprefix("torch.")
    if len(inputs) == 1:
        names = (f"{node.outputs[0]}.scale", f"{node.outputs[0]}.zero")
        model.constants[names[0]] = np.asarray(node.options["scale"], np.float32)
        model.constants[names[1]] = np.asarray(node.options["zero_point"])
        inputs = (inputs[0], *names)
    if inputs[2] in model.constants:
        name = f"{node.outputs[0]}.zero_{dtype}"
        model.constants[name] = model.constants[inputs[2]].astype(dtype)
        inputs = (*inputs[:2], name)
    return replace(node, code=code, inputs=inputs, options={"axis": node.options.get("axis", 0)})


def _require_full_range(model: FileModel, node: FileNode) -> None:
    """Remember a refusal of codes that are bounded more narrowly than their type."""
    found = (node.options["quant_min"], node.options["quant_max"])
    dtype = str(node.options["dtype"]).removeprefix("torch.")
    if found != FULL.get(dtype):
        model.problems.append(
            Unsupported(
                where=node.where,
                what="codes",
                want="int8 -128..127 or uint8 0..255",
                got=f"{dtype} {found[0]}..{found[1]}",
                fix="Quantise activations to all codes of int8 or uint8: reduce_range=False.",
            )
        )


def _pair(model: FileModel, name: str, *numbers: AnyArray) -> tuple[FileNode, FileNode]:
    """Return a quantisation and a dequantisation of a real tensor."""
    names = (f"{name}.scale_before", f"{name}.zero_before")
    model.constants.update(zip(names, numbers, strict=True))
    codes, back = f"{name}.codes", f"{name}{REAL}"
    shape = model.values[name].shape
    model.values[codes] = FileValue(numbers[1].dtype.name, shape)
    model.values[back] = FileValue("float32", shape)
    producer = next((n for n in model.nodes if name in n.outputs), model.nodes[0])
    quantize = replace(
        producer, code="QuantizeLinear", inputs=(name, *names), outputs=(codes,), options={}
    )
    dequantize = replace(
        producer, code="DequantizeLinear", inputs=(codes, *names), outputs=(back,), options={}
    )
    return quantize, dequantize


def _quantise_before_moves(model: FileModel) -> None:
    """Quantise what a moving operator reads as what it writes, from the end to the beginning.

    O(nodes) for every operator that is passed.
    """
    nodes = model.nodes
    at = len(nodes) - 1
    while at >= 0:
        readers = _readers(nodes)
        numbers = _quantised_as(model, nodes[at], readers)
        if numbers:
            producer = {name: n for n in nodes for name in n.outputs}
            node = nodes[at]
            before: list[FileNode] = []
            for name in dict.fromkeys(node.inputs):
                if _may_be_coded(model, name, producer.get(name)) and len(readers[name]) == 1:
                    pair = _pair(model, name, *numbers)
                    real = pair[1].outputs[0]
                    inputs = tuple(real if own == name else own for own in node.inputs)
                    node, before = replace(node, inputs=inputs), [*before, *pair]
            nodes[at : at + 1] = [*before, node]
        at -= 1


def _readers(nodes: Sequence[FileNode]) -> dict[str, list[FileNode]]:
    found: dict[str, list[FileNode]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            found.setdefault(name, []).append(node)
    return found


def _quantised_as(
    model: FileModel, node: FileNode, readers: Mapping[str, list[FileNode]]
) -> list[AnyArray]:
    """Return scale and zero point of a moved value that is only quantised, and in one way; else
    nothing.
    """
    behind = [reader for name in node.outputs for reader in readers.get(name, [])]
    alone = all(r.code == "QuantizeLinear" for r in behind)
    if node.code not in MOVING or not behind or not alone or set(node.outputs) & set(model.outputs):
        return []
    ways = [[model.constants.get(name) for name in r.inputs[1:]] for r in behind]
    found = [n for n in ways[0] if n is not None]
    same = all(
        n is not None and first is not None and np.array_equal(n, first)
        for way in ways
        for n, first in zip(way, ways[0], strict=True)
    )
    return found if same and len(found) == len(ways[0]) else []


def _may_be_coded(model: FileModel, name: str, producer: FileNode | None) -> bool:
    """Whether a value is real, computed or an input, and nobody sees it from outside."""
    if name in model.outputs:
        return False
    if producer is None:
        return name in model.inputs
    return producer.code != "DequantizeLinear"


class _Islands:
    """Quantises what is left real, in the order of the nodes. O(nodes)."""

    def __init__(self, model: FileModel, ranges: Mapping[str, tuple[float, float]]) -> None:
        self.model, self.ranges = model, ranges
        self.readers = _readers(model.nodes)
        self.nodes: list[FileNode] = []
        self.instead: dict[str, str] = {}
        """Real value -> what its readers read now."""
        self.outputs: dict[str, str] = {}
        self.islands: list[Island] = []
        self.bounded: set[str] = set()
        """Results of activations that the operator before them computes."""

    def run(self) -> tuple[FileModel, list[Island]]:
        """Return the model without real values between operators."""
        for name in self.model.inputs:
            if self.is_read_as_real(name):
                self.quantise(name, self.model.nodes[0])
        for node in self.model.nodes:
            if node.code.startswith(WEIGHTED):
                self.quantise_weights(node)
            if node.code != "QuantizeLinear":
                inputs = tuple(self.instead.get(name, name) for name in node.inputs)
                node = replace(node, inputs=inputs)
            self.nodes.append(node)
            for name in node.outputs:
                if self.needs_codes(node, name):
                    self.quantise(name, node)
        outputs = tuple(self.outputs.get(name, name) for name in self.model.outputs)
        return replace(self.model, nodes=self.nodes, outputs=outputs), self.islands

    def quantise_weights(self, node: FileNode) -> None:
        """Give weights that torch leaves real symmetric codes, one scale for every output."""
        name = node.inputs[1]
        data = self.model.constants.get(name)
        if data is None or data.dtype.kind != "f" or name in self.instead or not data.size:
            return
        axis = int(node.code.startswith("conv_transpose"))
        others = tuple(k for k in range(data.ndim) if k != axis)
        sizes = np.abs(data).max(axis=others)
        scale = np.where(sizes > 0, sizes / 127, 1.0).astype(np.float32)
        shape = [-1 if k == axis else 1 for k in range(data.ndim)]
        steps = scale.astype(np.float64).reshape(shape)
        names = (f"{name}.codes", f"{name}.scale_before", f"{name}.zero_before")
        codes = np.clip(np.rint(data / steps), -127, 127).astype(np.int8)
        numbers = (codes, scale, np.zeros(1, np.int8))
        self.model.constants.update(zip(names, numbers, strict=True))
        self.model.values[f"{name}{REAL}"] = FileValue("float32", data.shape)
        self.instead[name] = f"{name}{REAL}"
        self.nodes.append(
            replace(
                node,
                code="DequantizeLinear",
                inputs=names,
                outputs=(f"{name}{REAL}",),
                options={"axis": axis},
            )
        )
        text = f'"{name}": weights that are real in torch; codes with a step of max|w| / 127'
        self.islands.append(Island(names[0], text))

    def is_read_as_real(self, name: str) -> bool:
        """Whether more than quantisations reads a value."""
        real = name in self.model.values and self.model.values[name].dtype == "float32"
        others = [r for r in self.readers.get(name, []) if r.code != "QuantizeLinear"]
        return real and (bool(others) or name in self.model.outputs)

    def needs_codes(self, node: FileNode, name: str) -> bool:
        """Whether a result is a value that the chip would have to keep as a real."""
        if node.code == "DequantizeLinear" or not self.is_read_as_real(name):
            return False
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and name not in self.model.outputs
        if node.code in FUSES and alone and readers[0].code in ("Relu", "Clip"):
            self.bounded.add(readers[0].outputs[0])
            return False
        keeps = node.code in PRESERVING and node.code != "Clip"
        return name in self.bounded or not keeps

    def quantise(self, name: str, producer: FileNode) -> None:
        """Append a quantisation and a dequantisation; what comes later reads the latter."""
        own = [r for r in self.readers.get(name, []) if r.code == "QuantizeLinear"]
        if own:
            numbers = [self.model.constants.get(n) for n in own[0].inputs[1:]]
            text = "it is read before its quantisation in torch, behind it here"
        else:
            low, high = self.ranges.get(name, (0.0, 0.0))
            if producer.code.split(".")[0] in PROBABILITIES:
                low, high = 0.0, 255 / 256
            scale, zero = coding(low, high)
            numbers = [np.asarray(scale, np.float32), np.asarray(zero, np.int8)]
            text = f"it is real in torch; codes of step {scale:.6g} for {low:.6g}..{high:.6g}"
        found = [n for n in numbers if n is not None]
        if len(found) != 2:  # a scale found at run time, which is refused where it is read
            return
        quantize, dequantize = _pair(self.model, name, *found)
        self.nodes += [quantize, dequantize]
        self.instead[name] = dequantize.outputs[0]
        self.outputs[name] = quantize.outputs[0]
        self.islands.append(Island(quantize.outputs[0], f'"{name}": {text}'))


PROBABILITIES = ("softmax", "sigmoid", "hardsigmoid")
"""Their results are in 0..1, whatever the examples."""
