"""Types of an ONNX graph, node by node, and nodes that are constants.

Shapes are inferred by `onnx.shape_inference`, from the types and the constants a node reads;
constants are computed by `onnx.reference`, in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from isobit.core.errors import IsobitError, Unsupported
from isobit.core.types import AnyArray, Shape
from isobit.importers.onnx_names import MICROSOFT, QLINEAR, RANDOM, operands

MOST_ELEMENTS = 1 << 24
"""Of one tensor; no microcontroller has room for more."""


class Types:
    """What is known of every tensor so far."""

    def __init__(self, onnx: Any, model: Any, where: str, opset: int, *, coded: bool) -> None:
        """opset: the one whose operators are read. coded: whether weights stay codes."""
        self.onnx, self.model, self.where = onnx, model, where
        self.opset, self.coded = opset, coded
        self.types: dict[str, Any] = {}
        self.constants: dict[str, AnyArray] = {}
        self.protos: dict[str, Any] = {}
        self.problems: list[IsobitError] = []
        self.failed: set[str] = set()

    def refuse(self, what: str, want: str, got: str, fix: str) -> None:
        """Remember a refusal of the whole model."""
        self.problems.append(Unsupported(where=self.where, what=what, want=want, got=got, fix=fix))

    def folded(self, node: Any) -> bool:
        """Compute a node from constants, if all it reads is known; say whether that was done."""
        kept = self.coded and node.op_type == "DequantizeLinear"  # weights stay codes
        if node.domain not in ("", "ai.onnx") or node.op_type in RANDOM or kept:
            return False
        if node.op_type in ("Shape", "Size") and node.input[0] not in self.constants:
            shape = self.shape(node.input[0])
            if shape is None:
                return False
            start, end = (_attribute(node, name, None) for name in ("start", "end"))
            size = np.asarray(math.prod(shape), np.int64)
            found = size if node.op_type == "Size" else np.asarray(shape[start:end], np.int64)
            self.constants[node.output[0]] = found
            return True
        if any(name and name not in self.constants for name in node.input):
            return False
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            return False
        if not self.is_small(node):
            return False
        feeds = {name: self.constants[name] for name in node.input if name}
        results = self.evaluated(node, feeds)
        if results is None:
            return False
        for name, array in zip(node.output, results, strict=False):
            if name:
                self.constants[name] = np.asarray(array)
        return True

    def is_small(self, node: Any) -> bool:
        """Whether constants computed by a node would have a size that a network can have."""
        self.infer(node)
        shapes = [self.shape(name) for name in node.output if name and name in self.types]
        sizes = [math.prod(shape) for shape in shapes if shape is not None]
        if max(sizes, default=0) <= MOST_ELEMENTS:
            return True
        self.failed.update(node.output)
        self.refuse(
            f'constant "{node.output[0]}"',
            f"at most {MOST_ELEMENTS:,} elements",
            f"{max(sizes):,}",
            "No microcontroller has room for more.",
        )
        return False

    def evaluated(self, node: Any, feeds: Mapping[str, AnyArray]) -> list[AnyArray] | None:
        """Return what ONNX's reference implementation computes, `None` where it has none."""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            arrays = [feeds[name] if name else None for name in node.input]
            options = {a.name: plain_option(self.onnx, a) for a in node.attribute}
            if "block_size" not in options and all(a is None or _plain(a) for a in arrays):
                return [_coded(node.op_type, options, *arrays)]
            self.failed.update(node.output)
            self.refuse(
                f'constant "{node.output[0]}"',
                "codes of 8, 16 or 32 bits, without blocks",
                f"blocks, or {', '.join(a.dtype.name for a in arrays if a is not None)}",
                "Quantise weights to int8.",
            )
            return None
        helper = self.onnx.helper
        from onnx.reference import ReferenceEvaluator

        kinds = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in feeds.items()
        ]
        results = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "constant", kinds, results)
        model = helper.make_model(graph, opset_imports=list(self.model.opset_import))
        try:
            return list(ReferenceEvaluator(model).run(None, dict(feeds)))
        except Exception as error:  # every operator raises its own
            self.failed.update(node.output)
            self.refuse(
                f'constant "{node.output[0]}"',
                f"{node.op_type} of constants that can be computed",
                f"{type(error).__name__}",
                "Fold constants when you export.",
            )
            return None

    def infer(self, node: Any) -> None:
        """Infer the types of a node's outputs from the types and constants it reads."""
        if node.domain == MICROSOFT and node.op_type in QLINEAR:
            self.infer_coded(node)
            return
        if node.domain not in ("", "ai.onnx"):
            return
        shape_inference, defs = _inference()
        try:
            schema = defs.get_schema(node.op_type, self.opset, "")
        except Exception:  # unknown operators are refused by name later
            return
        types = {name: self.type(name) for name in node.input if name}
        if any(kind is None for kind in types.values()):
            return
        data = {
            name: self.proto(name)
            for name in node.input
            if name in self.constants and self.constants[name].size <= 4096
        }
        try:
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                types,
                data,
                opset_imports=list(self.model.opset_import),
                ir_version=self.model.ir_version,
            )
        except Exception as error:  # InferenceError, with the checker's text
            text = str(error).strip().splitlines()[-1]
            self.failed.update(node.output)
            self.refuse(
                f'{node.op_type} "{node.output[0]}"', "shapes that agree", text, "Export it again."
            )
            return
        if node.op_type == "GroupNormalization":  # a function, which inference leaves open
            found[node.output[0]].CopyFrom(types[node.input[0]])
        if node.op_type in ("MaxPool", "AveragePool"):
            self.drop_windows(node, found[node.output[0]])
        self.types.update(found)

    def drop_windows(self, node: Any, kind: Any) -> None:
        """Take away the last window of `ceil_mode` where it would start behind the input, as the
        specification says since opset 22 and runtimes always did.
        """
        options = {a.name: plain_option(self.onnx, a) for a in node.attribute}
        x = self.shape(node.input[0])
        if not options.get("ceil_mode", 0) or x is None:
            return
        rank = len(x) - 2
        strides = options.get("strides", (1,) * rank)
        pads = options.get("pads", (0,) * (2 * rank))
        for axis, dim in enumerate(kind.tensor_type.shape.dim[2:]):
            if (dim.dim_value - 1) * strides[axis] >= x[2 + axis] + pads[axis]:
                dim.dim_value -= 1

    def infer_coded(self, node: Any) -> None:
        """Infer the type of an operator on codes as that of the float operator it stands for."""
        helper, elements = self.onnx.helper, self.onnx.TensorProto
        names = operands(node.op_type, tuple(node.input))
        shapes = [self.shape(name) for name in names]
        if any(shape is None for shape in shapes):
            return
        known = self.schema_attributes(QLINEAR[node.op_type][0])
        twin = helper.make_node(QLINEAR[node.op_type][0], list(names), list(node.output))
        twin.attribute.extend(a for a in node.attribute if a.name in known)
        kept = {name: self.types[name] for name in names}
        data = {name: self.constants.pop(name) for name in names if name in self.constants}
        for name, shape in zip(names, shapes, strict=True):
            self.types[name] = helper.make_tensor_type_proto(elements.FLOAT, shape)
        self.infer(twin)
        self.types.update(kept)
        self.constants.update(data)
        for name in node.output:
            if name in self.types:
                kind = kept[names[0]].tensor_type.elem_type
                self.types[name].tensor_type.elem_type = kind

    def schema_attributes(self, code: str) -> set[str]:
        """Return the options that an operator knows."""
        return set(_inference()[1].get_schema(code, self.opset, "").attributes)

    def type(self, name: str) -> Any:
        """Return the type of a value, `None` where it is not known."""
        if name in self.constants and name not in self.types:
            array = self.constants[name]
            helper = self.onnx.helper
            self.types[name] = helper.make_tensor_type_proto(
                helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
        return self.types.get(name)

    def proto(self, name: str) -> Any:
        """Return a constant as ONNX's own message."""
        if name not in self.protos:
            self.protos[name] = self.onnx.numpy_helper.from_array(self.constants[name], name)
        return self.protos[name]

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a value, `None` where it is not known."""
        kind = self.type(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(d.dim_value for d in dims) if all(_is_fixed(d) for d in dims) else None


def array_of(onnx: Any, tensor: Any) -> AnyArray:
    """Return a constant, its sizes held against the bytes that are there; raises ValueError."""
    if math.prod(tensor.dims) > MOST_ELEMENTS or any(size < 0 for size in tensor.dims):
        raise ValueError(f'constant "{tensor.name}" of shape {list(tensor.dims)}')
    found = np.asarray(onnx.numpy_helper.to_array(tensor))
    if found.shape != tuple(tensor.dims):
        raise ValueError(f'constant "{tensor.name}" of {found.size} elements')
    return found


def plain_option(onnx: Any, attribute: Any) -> Any:
    """Return an attribute as plain Python or NumPy; subgraphs stay what they are."""
    value = onnx.helper.get_attribute_value(attribute)
    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return array_of(onnx, value)
    if attribute.type == kinds.STRING:
        return value.decode("utf-8", "replace")
    if attribute.type == kinds.STRINGS:
        return tuple(item.decode("utf-8", "replace") for item in value)
    if attribute.type in (kinds.FLOATS, kinds.INTS):
        return tuple(value)
    return value


def _coded(code: str, options: Mapping[str, Any], x: Any, scale: Any, zero: Any = None) -> AnyArray:
    """Return codes of reals or reals of codes, in float32; `onnx.reference` lacks old versions."""
    axis = int(options.get("axis", 1))
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[axis] = -1
    factor = scale.reshape(shape).astype(np.float32)
    wide = 0 if zero is None else zero.reshape(shape).astype(np.int64)
    if code == "DequantizeLinear":
        found: AnyArray = (x.astype(np.int64) - wide).astype(np.float32) * factor
        return found
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    limits = np.iinfo(kind)
    codes: AnyArray = np.clip(np.rint(x / factor) + wide, limits.min, limits.max).astype(kind)
    return codes


def _plain(array: AnyArray) -> bool:
    """Whether NumPy knows the element type itself."""
    return array.dtype.kind in "iuf" and array.dtype.itemsize <= 8


def _is_fixed(dim: Any) -> bool:
    return bool(dim.HasField("dim_value"))


def _inference() -> tuple[Any, Any]:
    import onnx.defs
    import onnx.shape_inference

    return onnx.shape_inference, onnx.defs


def _attribute(node: Any, name: str, default: int | None) -> int | None:
    return next((a.i for a in node.attribute if a.name == name), default)
