"""uint8 tensors of a TFLite file as int8: every code and zero point less 128, the same reals.

The arithmetic of a network does not depend on where its codes begin, so all operators and kernels
of int8 serve. The network still takes and gives the file's own codes: a `requantize` that subtracts
or adds 128 stands behind every uint8 input and before every uint8 output. What only QUANTIZE and
DEQUANTIZE touch, between it and another type, stays uint8.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import Unsupported
from isobit.core.types import Affine, AnyArray, Raw, TensorType
from isobit.importers.flatbuffer import FlatModel, FlatOperator
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Value
from isobit.ops.foreign import Operand
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs

OFFSET = 128
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
OTHERS = ("INT8", "INT16")
UNCHANGED = ("FLOAT32", "UINT8")
"""The other side of a QUANTIZE that computes as if its uint8 were int8."""


class Recoding:
    """Which tensors of a file are recoded, and how."""

    def __init__(self, model: FlatModel) -> None:
        self._model = model
        self.tensors: frozenset[int] = frozenset(
            index
            for operator in model.operators
            if self._computes(operator)
            for index in (*operator.inputs, *operator.outputs)
            if index >= 0 and self._is_uint8(index)
        )

    def _is_uint8(self, index: int) -> bool:
        tensor = self._model.tensors[index]
        return tensor.dtype == "UINT8" and bool(tensor.quantization.scale)

    def _computes(self, operator: FlatOperator) -> bool:
        """Whether the operator does more than change the type."""
        if operator.code not in CONVERSIONS:
            return True
        types = [self._model.tensors[i].dtype for i in (*operator.inputs, *operator.outputs)]
        quantizes = operator.code == "QUANTIZE" and len(types) == 2
        return quantizes and types[0] in UNCHANGED and types[1] == "UINT8"

    def require_one(self, where: str, operator: FlatOperator) -> bool:
        """Return whether an operator computes uint8; refuses one that mixes it with others."""
        touched = {i for i in (*operator.inputs, *operator.outputs) if i >= 0}
        if touched.isdisjoint(self.tensors):
            return False
        if operator.code not in CONVERSIONS:
            for index in sorted(touched):
                tensor = self._model.tensors[index]
                if tensor.dtype in OTHERS and tensor.quantization.scale:
                    raise Unsupported(
                        where=where,
                        what="types",
                        want="uint8 throughout",
                        got=f'{tensor.dtype.lower()} "{tensor.name}" among them',
                        fix="Convert the whole model to int8, or to uint8.",
                    )
        return True

    @staticmethod
    def inside(kind: TensorType, label: str) -> TensorType:
        """Return the int8 type of a uint8 tensor; refuses several scales, which uint8 never has."""
        encoding = kind.encoding
        assert isinstance(encoding, Affine)
        if encoding.axis is not None:
            raise Unsupported(
                where=f'tensor "{label}"',
                what="quantisation",
                want="one scale for a uint8 tensor",
                got=f"{len(encoding.scale)} scales",
                fix="Convert the model to int8, whose weights may have a scale per channel.",
            )
        recoded = replace(encoding, zero=encoding.zero - OFFSET)
        return replace(kind, dtype=DType.S8, encoding=recoded)

    @staticmethod
    def border(kind: TensorType) -> TensorType:
        """Return the uint8 type of a recoded tensor."""
        encoding = kind.encoding
        assert isinstance(encoding, Affine)
        return replace(
            kind, dtype=DType.U8, encoding=replace(encoding, zero=encoding.zero + OFFSET)
        )

    @staticmethod
    def codes(data: AnyArray) -> AnyArray:
        """Return stored uint8 codes as int8."""
        return (data.astype(np.int16) - OFFSET).astype(np.int8)

    def enter(self, build: GraphBuilder, border: str, operand: Operand) -> None:
        """Compute an input's int8 codes."""
        self._shift(build, border, operand.value, operand.type)

    def leave(self, build: GraphBuilder, operand: Operand, border: str) -> None:
        """Compute an output's uint8 codes."""
        self._shift(build, operand.value, border, self.border(operand.type))

    @staticmethod
    def _shift(build: GraphBuilder, source: str, result: str, kind: TensorType) -> None:
        """Subtract one zero point and add the other: no multiplier, a shift by 0."""
        raw = TensorType((), DType.S32, Raw())
        shift = build.const(f"{result}_shift", raw, np.zeros(1, dtype=np.int32))
        attrs = RequantizeAttrs((kind.dtype.low, kind.dtype.high), dtype=kind.dtype)
        inputs = RequantizeInputs(source, shift=shift)
        build.node("requantize", inputs, attrs, Value(result, kind))
