"""An ONNX file as plain data: values, constants, nodes. Nothing here knows what operators compute.

Needs the PyPI package `onnx`. What happens to the file on the way, in this order:

1. Functions are inlined; an opset below 13 becomes 13 through `onnx.version_converter`.
2. The batch, the first axis where it is dynamic, becomes 1; other dynamic axes are refused.
3. Nodes whose inputs are all known become constants, computed by `onnx.reference` in NumPy; so do
   `Shape` and `Size` of values whose shape is known. Shapes are inferred node by node on the way,
   so that chains such as Shape, Gather, Concat, Reshape disappear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isobit.core.errors import (
    FileDamaged,
    IsobitError,
    ToolMissing,
    Unsupported,
)
from isobit.core.types import AnyArray, Shape
from isobit.importers.onnx_names import INTEGER, QLINEAR
from isobit.importers.onnx_sound import faults
from isobit.importers.onnx_types import Types, array_of, plain_option
from isobit.ir.graph import Location

OLDEST, OPSET = 7, 13
"""The oldest opset that is read, and the one that older ones than it are converted to."""


UNKNOWN = Location()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNode:
    """An operator; "" is an input left out. `domain` is "" for ONNX's own."""

    position: int
    code: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any]
    location: Location = UNKNOWN
    """The line of the user's program, of formats that remember it."""

    @property
    def where(self) -> str:
        """How errors name it."""
        label = self.outputs[0] if self.outputs else self.name
        return f'operator {self.position} {self.code} "{label}"'


@dataclass(frozen=True, slots=True)
class FileValue:
    """A tensor: NumPy's name of its element type, and its shape."""

    dtype: str
    shape: Shape


@dataclass(slots=True, kw_only=True)
class FileModel:
    """The graph after constants were folded."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: dict[str, FileValue]
    """Every tensor whose type is known."""
    constants: dict[str, AnyArray]
    nodes: list[FileNode]
    opset: int
    """Of the file, before conversion."""
    counts: dict[str, int]
    """Operators as the file has them."""
    coded: bool
    """Whether activations are codes: a quantised model."""
    absorbed: dict[str, str] = field(default_factory=dict)
    """Tensor that is not computed by itself -> the one that is computed instead of it."""
    problems: list[IsobitError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    """Tensors that the problems are about: what reads them cannot be judged."""


def require_onnx() -> Any:
    """Return the module `onnx`; raises `ToolMissing`."""
    try:
        import onnx
    except ImportError as error:
        raise ToolMissing(
            where="ONNX import",
            what="package onnx",
            want="it installed",
            got="nothing",
            fix="pip install 'isobit[onnx]'",
        ) from error
    return onnx


def parse(blob: bytes, where: str, folder: Path) -> FileModel:
    """Return the content of an ONNX file. Raises `FileDamaged` and `ToolMissing`; what cannot be
    imported is in `problems`.

    folder: where external data lies.
    """
    onnx = require_onnx()
    try:
        model = onnx.load_model_from_string(blob)
    except Exception as error:  # protobuf's DecodeError has a different base in every version
        raise _damaged(where, f"{len(blob)} bytes that do not parse") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        parts = f"{len(model.graph.node)} nodes, {len(model.graph.output)} outputs"
        raise _damaged(where, f"{parts}, {len(model.opset_import)} opsets")
    found = list(faults(onnx, model))
    if found:
        raise _damaged(where, "; ".join(found[:5]))
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:  # OSError, or whatever onnx's C++ path checks raise
        raise _damaged(where, f"external data that cannot be read: {error}") from error
    try:
        return _Reader(onnx, model, where).read()
    except (ValueError, TypeError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise _damaged(where, f"contents that contradict each other: {error}") from error


def _damaged(where: str, got: str) -> FileDamaged:
    return FileDamaged(
        where=where,
        what="ONNX model",
        want="a complete ModelProto",
        got=got,
        fix="Copy or export it again.",
    )


class _Reader:
    def __init__(self, onnx: Any, model: Any, where: str) -> None:
        self.onnx, self.where = onnx, where
        self.opset = _opset(model)
        self.counts: dict[str, int] = {}
        for node in model.graph.node:
            self.counts[node.op_type] = self.counts.get(node.op_type, 0) + 1
        self.coded = _is_coded(model)
        self.model = self.prepared(model)
        self.graph = self.model.graph
        read = max(self.opset, OPSET)
        self.known = Types(onnx, self.model, where, read, coded=self.coded)

    def prepared(self, model: Any) -> Any:
        """Return the model with functions inlined, in an opset from 13 on."""
        if model.functions:
            import onnx.inliner

            model = onnx.inliner.inline_local_functions(model)
        if self.opset >= OPSET:
            return model
        refusal: str | None = None
        if self.opset < OLDEST:
            refusal = f"opset {self.opset}"
        else:
            import onnx.version_converter

            try:
                converted = onnx.version_converter.convert_version(model, OPSET)
            except Exception as error:  # the C++ converter raises what it likes
                refusal = f"opset {self.opset}: {str(error).strip().splitlines()[-1]}"
            else:
                return self.resized(_padded(converted))
        raise Unsupported(
            where=self.where,
            what="opset",
            want=f"{OLDEST} or newer, convertible to {OPSET} by onnx.version_converter",
            got=refusal,
            fix="Export the model again with a newer opset.",
        )

    def resized(self, model: Any) -> Any:
        """Say what Upsample, and Resize before opset 11, meant: the converter leaves the options
        that came with 11 at defaults of another meaning.
        """
        if self.opset >= 11:
            return model
        for node in model.graph.node:
            if node.op_type != "Resize":
                continue
            known = {a.name for a in node.attribute}
            old = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            for name, value in old.items():
                if name not in known:
                    node.attribute.append(self.onnx.helper.make_attribute(name, value))
        return model

    def read(self) -> FileModel:
        """Return the plain model."""
        for tensor in self.graph.initializer:
            self.known.constants[tensor.name] = array_of(self.onnx, tensor)
        if self.graph.sparse_initializer:
            self.known.refuse("sparse constants", "dense ones", "sparse", "Store weights densely.")
        inputs = []
        for value in self.graph.input:
            if value.name not in self.known.constants:
                inputs.append(value.name)
                self.known.types[value.name] = self.pinned(value)
        known = set(inputs) | set(self.known.constants) | {""}
        nodes = []
        for position, node in enumerate(self.graph.node):
            missing = [name for name in node.input if name not in known]
            if missing:
                raise ValueError(f"{node.op_type} reads {missing[0]}, which nothing computes")
            known.update(node.output)
            found = self.node(position, node)
            if found is not None:
                nodes.append(found)
        outputs = tuple(value.name for value in self.graph.output)
        if not set(outputs) <= known:
            raise ValueError("an output that nothing computes")
        return FileModel(
            inputs=tuple(inputs),
            outputs=outputs,
            values=self.values(),
            constants=self.known.constants,
            nodes=nodes,
            opset=self.opset,
            counts=self.counts,
            coded=self.coded,
            problems=self.known.problems,
            failed=self.known.failed,
        )

    def pinned(self, value: Any) -> Any:
        """Return the type of an input with a batch of 1 where that is dynamic."""
        kind = self.onnx.TypeProto()
        kind.CopyFrom(value.type)
        if not kind.HasField("tensor_type"):
            self.known.refuse("input", "a tensor", f'"{value.name}"', "Export tensors only.")
            return kind
        dims = kind.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if dim.dim_value > 0:
                continue
            if axis == 0:
                dim.dim_value = 1
                continue
            self.known.refuse(
                f'input "{value.name}"',
                "fixed sizes but for the batch",
                f'axis {axis} is "{dim.dim_param or "unknown"}"',
                "Export with a fixed input shape; only axis 0 is set to 1 here.",
            )
            dim.dim_value = 1
        return kind

    def node(self, position: int, node: Any) -> FileNode | None:
        """Return a node as plain data; `None` for one that became constants."""
        plain = FileNode(
            position=position,
            code=node.op_type,
            domain="" if node.domain == "ai.onnx" else node.domain,
            name=node.name,
            inputs=tuple(node.input),
            outputs=tuple(name for name in node.output if name),
            options={a.name: plain_option(self.onnx, a) for a in node.attribute} | _written(node),
        )
        if self.known.folded(node):
            return None
        self.known.infer(node)
        return plain

    def values(self) -> dict[str, FileValue]:
        """Return every tensor whose type is known."""
        found = {}
        for name in self.known.types:
            shape = self.known.shape(name)
            number = self.known.types[name].tensor_type.elem_type
            if shape is not None and number:
                dtype = self.onnx.helper.tensor_dtype_to_np_dtype(number)
                found[name] = FileValue(np.dtype(dtype).name, shape)
        return found


def _is_coded(model: Any) -> bool:
    """Whether an activation is quantised; weights alone are turned back into reals."""
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            stored.update(node.output)
        flowing = node.op_type == "QuantizeLinear" and node.input[0] not in stored
        if flowing or node.op_type in QLINEAR or node.op_type in INTEGER:
            return True
    return False


def _padded(model: Any) -> Any:
    """Drop the option `value` of Pad, an input since opset 11: the converter leaves it behind where
    the mode has no use for it.
    """
    for node in model.graph.node:
        if node.op_type == "Pad":
            kept = [a for a in node.attribute if a.name != "value"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return model


def _opset(model: Any) -> int:
    """Return the version of ONNX's own operators."""
    found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(found, default=OPSET)


def _written(node: Any) -> dict[str, tuple[int, ...]]:
    """Return as an option which outputs are meant where one before them is left out."""
    present = tuple(index for index, name in enumerate(node.output) if name)
    return {} if present == tuple(range(len(present))) else {"written": present}
