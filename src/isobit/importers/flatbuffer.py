"""A TFLite file as plain data: tensors, operators, options. Nothing here knows what they mean.

The schema is the PyPI package `tflite`. A file may be damaged anywhere, so every length is held
against the size of the file before it is used, and whatever the FlatBuffer reader raises becomes
one `FileDamaged`.
"""

from __future__ import annotations

import importlib.util
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from isobit.core.errors import FileDamaged, FileMissing, ToolMissing
from isobit.core.types import AnyArray, Shape

LARGEST_ELEMENTS = (1 << 31) - 1
"""Of one tensor: the runtimes count in 32 bits."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """`scale` and `zero_point` have no, one, or one entry per index of `axis`."""

    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatTensor:
    """A tensor; `dtype` is the schema's name, e.g. INT8. `data` is `None` for activations."""

    name: str
    shape: Shape
    dtype: str
    quantization: Quantization
    data: AnyArray | None
    is_variable: bool
    is_dynamic: bool = False
    """Whether the size of an axis is open; `shape` then has a 1 there, or what followed from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatOperator:
    """An operator; inputs and outputs index tensors, -1 is an input left out."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Mapping[str, Any]
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatModel:
    """The main subgraph."""

    tensors: tuple[FlatTensor, ...]
    operators: tuple[FlatOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int


NUMPY: dict[str, Any] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT32": np.int32,
    "UINT32": np.uint32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""Element types whose constants are read as arrays; others are kept without data."""


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; raises `FileMissing`."""
    if not path.is_file():
        raise FileMissing(
            where=str(path),
            what="model file",
            want="an existing file",
            got="a folder" if path.is_dir() else "nothing",
            fix="Check the path.",
        )
    return path.read_bytes()


def parse(blob: bytes, where: str) -> FlatModel:
    """Return the content of a TFLite file. Raises `FileDamaged`, and `ToolMissing` without the
    package `tflite`.
    """
    if importlib.util.find_spec("tflite") is None:
        raise ToolMissing(
            where=where,
            what="package tflite",
            want="installed: it is the schema of TFLite files",
            got="not installed",
            fix="pip install tflite",
        )

    def damaged(got: str) -> FileDamaged:
        return FileDamaged(
            where=where,
            what="TFLite model",
            want="a complete FlatBuffer with the identifier TFL3",
            got=got,
            fix="Copy or convert it again.",
        )

    if len(blob) < 16 or blob[4:8] != b"TFL3":
        raise damaged(f"{len(blob)} bytes without it")
    try:
        return _Reader(blob).model()
    except _Damaged as error:
        raise damaged(str(error)) from error
    except (
        struct.error,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise damaged(f"{len(blob)} bytes that do not parse ({type(error).__name__})") from error


class _Damaged(Exception):  # caught above, where the file's name is known
    """Something that no writer would write."""


@cache
def _names(table: str) -> Mapping[int, str]:
    """Return the members of an enumeration of the schema by value."""
    import tflite

    members = vars(getattr(tflite, table)).items()
    return {value: name for name, value in members if isinstance(value, int)}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class _Reader:
    def __init__(self, blob: bytes) -> None:
        import tflite

        self._blob = blob
        self._model = tflite.Model.GetRootAs(blob, 0)

    def count(self, length: int, bytes_each: int = 4) -> int:
        if not 0 <= length * bytes_each <= len(self._blob):
            raise _Damaged(f"a vector of {length} entries in a file of {len(self._blob)} bytes")
        return length

    def model(self) -> FlatModel:
        subgraphs = self.count(self._model.SubgraphsLength())
        if subgraphs < 1:
            raise _Damaged("no subgraph")
        graph = self._model.Subgraphs(0)
        codes = [self._code(i) for i in range(self.count(self._model.OperatorCodesLength()))]
        tensors = tuple(
            self._tensor(graph.Tensors(i)) for i in range(self.count(graph.TensorsLength()))
        )
        operators = tuple(
            self._operator(graph.Operators(i), codes, len(tensors))
            for i in range(self.count(graph.OperatorsLength()))
        )
        inputs = self._indices(graph, "Inputs", len(tensors))
        outputs = self._indices(graph, "Outputs", len(tensors))
        if not inputs or not outputs or min(*inputs, *outputs) < 0:
            raise _Damaged(f"inputs {inputs} and outputs {outputs}")
        return FlatModel(
            tensors=tensors,
            operators=operators,
            inputs=inputs,
            outputs=outputs,
            subgraphs=subgraphs,
        )

    def _code(self, index: int) -> tuple[str, int]:
        entry = self._model.OperatorCodes(index)
        code = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        name = _names("BuiltinOperator").get(code, f"builtin {code}")
        if name != "CUSTOM":
            return name, entry.Version()
        custom = entry.CustomCode()
        return f"CUSTOM {_text(custom) if custom else ''}".strip(), entry.Version()

    def _vector(self, table: Any, name: str, dtype: Any) -> AnyArray:
        """Return a vector of numbers, empty where it is absent."""
        self.count(getattr(table, f"{name}Length")(), np.dtype(dtype).itemsize)
        found = getattr(table, f"{name}AsNumpy")()
        return np.zeros(0, dtype) if isinstance(found, int) else np.asarray(found)

    def _indices(self, table: Any, name: str, limit: int) -> tuple[int, ...]:
        found = tuple(self._vector(table, name, np.int32).tolist())
        for index in found:
            if not -1 <= index < limit:
                raise _Damaged(f"tensor {index} of {limit}")
        return found

    def _tensor(self, tensor: Any) -> FlatTensor:
        shape = tuple(self._vector(tensor, "Shape", np.int32).tolist())
        # A dynamic dimension is -1 in the signature and 1 in the shape; some write it in both.
        shape = tuple(1 if size == -1 else size for size in shape)
        elements = math.prod(shape)
        if any(size < 0 for size in shape) or elements > LARGEST_ELEMENTS:
            raise _Damaged(f"a tensor of shape {list(shape)}")
        dtype = _names("TensorType").get(tensor.Type(), f"type {tensor.Type()}")
        name = tensor.Name()
        return FlatTensor(
            name=_text(name) if name else "",
            shape=shape,
            dtype=dtype,
            quantization=self._quantization(tensor.Quantization()),
            data=self._data(tensor.Buffer(), dtype, shape),
            is_variable=bool(tensor.IsVariable()),
            is_dynamic=-1 in self._vector(tensor, "ShapeSignature", np.int32).tolist(),
        )

    def _quantization(self, table: Any) -> Quantization:
        if table is None:
            return Quantization()
        return Quantization(
            scale=tuple(float(s) for s in self._vector(table, "Scale", np.float32)),
            zero_point=tuple(int(z) for z in self._vector(table, "ZeroPoint", np.int64)),
            axis=int(table.QuantizedDimension()),
        )

    def _data(self, index: int, dtype: str, shape: Shape) -> AnyArray | None:
        if not 0 <= index < self.count(self._model.BuffersLength()):
            raise _Damaged(f"buffer {index} of {self._model.BuffersLength()}")
        buffer = self._model.Buffers(index)
        raw = self._vector(buffer, "Data", np.uint8)
        if raw.size == 0 and buffer.Size():
            start, size = buffer.Offset(), buffer.Size()
            if start + size > len(self._blob):
                raise _Damaged(f"buffer {index} ends behind the file")
            raw = np.frombuffer(self._blob, np.uint8, size, start)
        if index == 0 or dtype not in NUMPY or (raw.size == 0 and math.prod(shape) > 0):
            return None
        kind = np.dtype(NUMPY[dtype])
        if raw.size != math.prod(shape) * kind.itemsize:
            raise _Damaged(f"{raw.size} bytes for {dtype}{list(shape)}")
        return np.frombuffer(raw.tobytes(), kind.newbyteorder("<")).astype(kind).reshape(shape)

    def _operator(self, operator: Any, codes: list[tuple[str, int]], tensors: int) -> FlatOperator:
        if operator.OpcodeIndex() >= len(codes):
            raise _Damaged(f"operator code {operator.OpcodeIndex()} of {len(codes)}")
        code, version = codes[operator.OpcodeIndex()]
        return FlatOperator(
            code=code,
            inputs=self._indices(operator, "Inputs", tensors),
            outputs=self._indices(operator, "Outputs", tensors),
            intermediates=self._indices(operator, "Intermediates", tensors),
            options=dict(self._options(operator)),
            version=version,
        )

    def _options(self, operator: Any) -> Iterator[tuple[str, Any]]:
        import tflite

        for which, enum in (("", "BuiltinOptions"), ("2", "BuiltinOptions2")):
            kind = _names(enum).get(getattr(operator, f"BuiltinOptions{which}Type")(), "NONE")
            table = getattr(operator, f"BuiltinOptions{which}")()
            if table is None or kind == "NONE" or not hasattr(tflite, kind):
                continue
            options = getattr(tflite, kind)()
            options.Init(table.Bytes, table.Pos)
            yield "table", kind
            for name in _fields(options.__class__):
                if hasattr(options, f"{name}AsNumpy"):
                    yield _snake(name), tuple(self._vector(options, name, np.int32).tolist())
                else:
                    yield _snake(name), _plain(getattr(options, name)())


@cache
def _fields(table: type[object]) -> tuple[str, ...]:
    """Return the fields of a generated table: its accessors without arguments, and vectors."""
    helpers = re.compile(r".*(Length|IsNone|AsNumpy|BufferHasIdentifier)$|GetRootAs.*|Init$")
    names = [name for name in vars(table) if name[0].isupper() and not helpers.match(name)]
    return tuple(names)


def _plain(value: Any) -> Any:
    return _text(value) if isinstance(value, bytes) else value


def _text(raw: bytes) -> str:
    """Return a name as it can be printed: on one line, without control characters."""
    decoded = raw.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\ufffd" for c in decoded)
