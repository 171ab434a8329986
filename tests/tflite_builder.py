"""Writes small TensorFlow Lite files: tensors, operators, and nothing else.

The schema is the one of the PyPI package `tflite`; every operator of it can be written::

    build(
        tensors=[Tensor(name="x", shape=(1, 4), dtype="int8", scale=(0.5,), zero_point=(3,)), ...],
        operators=[Operator(code="SOFTMAX", inputs=("x",), outputs=("y",),
                            options="SoftmaxOptions", values={"Beta": 1.0})],
        inputs=["x"], outputs=["y"],
    )
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import tflite

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
LAST_DEPRECATED_CODE = 127  # builtin codes above it are written only in the 32-bit field

TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "bool": tflite.TensorType.BOOL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor; with `data` it is a constant, with `scale` it is quantised.

    `scale` and `zero_point` have one entry, or one per slice of the axis `axis`. A variable lives
    from one run to the next.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0
    variable: bool = False

    @classmethod
    def constant(cls, name: str, data: np.ndarray, **quantisation: object) -> Tensor:
        """A constant with the shape and the type of `data`."""
        dtype = data.dtype.name
        return cls(name=name, shape=data.shape, dtype=dtype, data=data, **quantisation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A builtin operator.

    `code` is a member of `tflite.BuiltinOperator`. `options` names its table of options (a member
    of `tflite.BuiltinOptions`, "" for none) and `values` sets fields of the table by their names in
    the generated Python code (`StrideH`); sequences of integers become int32 vectors. An input
    may be None where the operator leaves one out.
    """

    code: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    options: str = ""
    values: Mapping[str, int | float | bool | Sequence[int]] = field(default_factory=dict)
    version: int = 1


def build(
    *,
    tensors: Sequence[Tensor],
    operators: Sequence[Operator],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """The bytes of a .tflite file with one subgraph. Same arguments, same bytes."""
    builder = flatbuffers.Builder(1024)
    number = {tensor.name: position for position, tensor in enumerate(tensors)}
    assert len(number) == len(tensors), "two tensors have the same name"
    codes = sorted({(operator.code, operator.version) for operator in operators})

    # Buffer 0 is empty by convention: it belongs to every tensor that is not a constant.
    constants = [tensor for tensor in tensors if tensor.data is not None]
    buffer_of = {tensor.name: position for position, tensor in enumerate(constants, start=1)}
    buffers = [_buffer(builder, None)] + [_buffer(builder, each.data) for each in constants]
    written = [_tensor(builder, each, buffer_of.get(each.name, 0)) for each in tensors]
    nodes = [_operator(builder, each, number, codes) for each in operators]
    subgraph = _table(
        builder,
        "SubGraph",
        Tensors=_offsets(builder, written),
        Inputs=_vector(builder, [number[name] for name in inputs], "Int32"),
        Outputs=_vector(builder, [number[name] for name in outputs], "Int32"),
        Operators=_offsets(builder, nodes),
        Name=builder.CreateString("main"),
    )
    model = _table(
        builder,
        "Model",
        Version=SCHEMA_VERSION,
        OperatorCodes=_offsets(builder, [_code(builder, *each) for each in codes]),
        Subgraphs=_offsets(builder, [subgraph]),
        Description=builder.CreateString("isobit test"),
        Buffers=_offsets(builder, buffers),
    )
    builder.Finish(model, FILE_IDENTIFIER)
    return bytes(builder.Output())


def quantize_multiplier(real: float) -> tuple[int, int]:
    """TensorFlow Lite's QuantizeMultiplier: (m, s), `real ~ m * 2^(s - 31)`, m in [2^30, 2^31)."""
    if real == 0:
        return 0, 0
    mantissa, s = math.frexp(real)
    m = math.floor(abs(mantissa) * 2**31 + 0.5)  # exact: 53 bits hold mantissa * 2^31 + 1/2
    if m == 2**31:
        m, s = m // 2, s + 1
    return (0, 0) if s < -31 else (m, s)


def _table(builder: flatbuffers.Builder, name: str, **fields: object) -> int:
    getattr(tflite, f"{name}Start")(builder)
    for key, value in fields.items():
        getattr(tflite, f"{name}Add{key}")(builder, value)
    return getattr(tflite, f"{name}End")(builder)


def _vector(builder: flatbuffers.Builder, values: Sequence[float], kind: str) -> int:
    width = {"Int32": 4, "Int64": 8, "Float32": 4}[kind]
    prepend: Callable[[float], None] = getattr(builder, f"Prepend{kind}")
    builder.StartVector(width, len(values), width)
    for value in reversed(values):
        prepend(value)
    return builder.EndVector()


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _buffer(builder: flatbuffers.Builder, data: np.ndarray | None) -> int:
    if data is None:
        return _table(builder, "Buffer")
    raw = np.ascontiguousarray(data).astype(data.dtype.newbyteorder("<"), copy=False).tobytes()
    builder.Prep(16, len(raw))  # the schema forces this alignment on data
    return _table(builder, "Buffer", Data=builder.CreateByteVector(raw))


def _tensor(builder: flatbuffers.Builder, tensor: Tensor, buffer: int) -> int:
    fields = {
        "Shape": _vector(builder, tensor.shape, "Int32"),
        "Type": TYPES[tensor.dtype],
        "Buffer": buffer,
        "Name": builder.CreateString(tensor.name),
    }
    if tensor.variable:
        fields["IsVariable"] = True
    if tensor.scale:
        zeros = tensor.zero_point or (0,) * len(tensor.scale)
        fields["Quantization"] = _table(
            builder,
            "QuantizationParameters",
            Scale=_vector(builder, tensor.scale, "Float32"),
            ZeroPoint=_vector(builder, zeros, "Int64"),
            QuantizedDimension=tensor.axis,
        )
    return _table(builder, "Tensor", **fields)


def _operator(
    builder: flatbuffers.Builder,
    operator: Operator,
    number: Mapping[str, int],
    codes: Sequence[tuple[str, int]],
) -> int:
    sources = [-1 if name is None else number[name] for name in operator.inputs]
    targets = [number[name] for name in operator.outputs]
    fields = {
        "OpcodeIndex": codes.index((operator.code, operator.version)),
        "Inputs": _vector(builder, sources, "Int32"),
        "Outputs": _vector(builder, targets, "Int32"),
    }
    if operator.options:
        values = {
            key: _vector(builder, value, "Int32") if isinstance(value, Sequence) else value
            for key, value in operator.values.items()
        }
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, operator.options)
        fields["BuiltinOptions"] = _table(builder, operator.options, **values)
    return _table(builder, "Operator", **fields)


def _code(builder: flatbuffers.Builder, code: str, version: int) -> int:
    number = getattr(tflite.BuiltinOperator, code)
    return _table(
        builder,
        "OperatorCode",
        DeprecatedBuiltinCode=min(number, LAST_DEPRECATED_CODE),
        Version=version,
        BuiltinCode=number,
    )
