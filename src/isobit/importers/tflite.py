"""TFLite files to graphs. `isobit.ops.foreign` says how an operator's rule is written."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadGraph, IsobitError, Problem, Unsupported, raise_all
from isobit.core.types import Affine, AnyArray, Encoding, Raw, Real, TensorType
from isobit.importers.base import Imported, Survey, require_numbers
from isobit.importers.flatbuffer import FlatModel, FlatOperator, FlatTensor, parse, read_file
from isobit.importers.folding import evaluate
from isobit.importers.recoding import Recoding
from isobit.ir.builder import GraphBuilder, clean_name
from isobit.ir.graph import Graph, Stage
from isobit.ops.check import check
from isobit.ops.foreign import Call, Operand, Runtime, canonical
from isobit.ops.registry import load_ops

FORMAT = "tflite"
SUFFIXES = (".tflite", ".lite")
CARRIERS = {
    "INT8": DType.S8,
    "UINT8": DType.U8,
    "INT16": DType.S16,
    "INT32": DType.S32,
    "INT64": DType.S64,
}
FLOATS = ("FLOAT32", "FLOAT16", "FLOAT64")
MOST_ELEMENTS = 1 << 24
"""Of one tensor; no microcontroller has room for more."""


def read(path: Path, *, runtime: Runtime = Runtime.TFLM, name: str = "") -> Imported:
    """Return a TFLite file as a graph, nothing rewritten yet.

    name: of the network; the file's stem by default. uint8 models mean LiteRT's arithmetic whatever
    the `runtime`. Raises `FileMissing`, `FileDamaged`, and every `Unsupported` of the model at
    once.
    """
    blob = read_file(path)
    model = parse(blob, str(path))
    reader = _Importer(model, name or clean_name(path.stem), runtime)
    graph = reader.graph()
    check(graph)
    source = {
        "format": FORMAT,
        "file": path.name,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "runtime": (Runtime.LITERT if reader.is_uint8 else runtime).value,
    }
    return Imported(graph=graph, names=reader.names, source=source)


def survey(path: Path, *, runtime: Runtime = Runtime.TFLM) -> Survey:
    """Return what a file contains and all that cannot be imported, without raising the latter."""
    model = parse(read_file(path), str(path))
    counts = Counter(operator.code for operator in model.operators)
    problems: tuple[Problem, ...] = ()
    try:
        check(_Importer(model, "survey", runtime).graph())
    except IsobitError as error:
        problems = error.problems
    return Survey(operators=dict(sorted(counts.items())), problems=problems)


class _Importer:
    """One file on its way to a graph."""

    def __init__(self, model: FlatModel, name: str, runtime: Runtime) -> None:
        self.model, self.runtime = model, runtime
        activations = {i for o in model.operators for i in (*o.inputs, *o.outputs) if i >= 0}
        quantised = any(
            model.tensors[i].dtype in CARRIERS
            and model.tensors[i].data is None
            and bool(model.tensors[i].quantization.scale)
            for i in activations | set(model.inputs)
        )
        self.build = GraphBuilder(name, Stage.INT if quantised else Stage.FLOAT)
        self.recoding = Recoding(model)
        self.names: dict[str, str] = {}
        self.operands: dict[int, Operand] = {}
        self.borders: dict[int, str] = {}
        """Inputs of the network in the file's own codes, where those inside are others."""
        self.data: dict[int, AnyArray] = {}
        """Constants computed here from constants: by operators without another input, and weights
        that the file keeps as float16.
        """
        self.known: dict[str, str] = {}
        self.written = set(model.inputs)
        """Tensors that have a value by the operator that is being read."""

    @property
    def is_uint8(self) -> bool:
        """Whether uint8 is computed with, which means LiteRT's arithmetic."""
        return self.build.stage is Stage.INT and bool(self.recoding.tensors)

    def graph(self) -> Graph:
        """Return the graph, or raise every refusal."""
        problems: list[IsobitError] = []
        for index in self.model.inputs:
            try:
                operand = self.operand(index)
                if operand.is_const:
                    raise _broken(f'input "{operand.label}"', "no data", "a stored tensor")
                self.input(index, operand)
            except IsobitError as error:
                problems.append(error)
        for index in self.model.inputs:
            if index in self.recoding.tensors and not problems:
                self.recoding.enter(self.build, self.borders[index], self.operand(index))
        for position, operator in enumerate(self.model.operators):
            try:
                self.operator(position, operator)
            except IsobitError as error:
                problems.append(error)
        # A tensor that cannot be read is refused by every operator around it.
        raise_all({error.problems: error for error in problems}.values())
        for index in self.model.outputs:
            label = self.model.tensors[index].name
            if self.operand(index).is_const or index not in self.written:
                raise _broken(f'output "{label}"', "a computed value", "a constant or nothing")
            self.build.output(self.output(index))
        return self.build.graph()

    def input(self, index: int, operand: Operand) -> None:
        """Add an input of the network, in the file's own codes."""
        if index not in self.recoding.tensors:
            self.build.input(operand.value, operand.type)
            return
        border = self.build.fresh(operand.label or f"tensor_{index}")
        self.names[border] = operand.label
        self.borders[index] = border
        self.build.input(border, self.recoding.border(operand.type))

    def output(self, index: int) -> str:
        """Return the value of an output of the network, in the file's own codes."""
        operand = self.operand(index)
        if index not in self.recoding.tensors or operand.is_const:
            return operand.value
        border = self.build.fresh(operand.label or f"tensor_{index}")
        self.names[border] = operand.label
        self.recoding.leave(self.build, operand, border)
        return border

    def operator(self, position: int, operator: FlatOperator) -> None:
        """Let the operator's rule emit its nodes."""
        where = self.where(position, operator)
        self.require_order(where, operator)
        if self.is_widened(operator):
            return
        rule = load_ops().rules.get((FORMAT, operator.code))
        if rule is None:
            raise Unsupported(
                where=where,
                what="operator",
                want="one of `isobit ops --source tflite`",
                got=operator.code,
                fix=NEAREST.get(operator.code, "Rewrite it with supported operators."),
            )
        inputs = tuple(None if i < 0 else self.operand(i) for i in operator.inputs)
        recoded = self.recoding.require_one(where, operator)
        folds = any(inputs) and all(each is None or each.is_const for each in inputs)
        call = Call(
            code=operator.code,
            where=where,
            inputs=inputs,
            outputs=tuple(self.operand(i) for i in operator.outputs),
            options=operator.options,
            runtime=Runtime.LITERT if recoded else self.runtime,
            build=GraphBuilder("stored", self.build.stage) if folds else self.build,
            known={} if folds else self.known,
            is_uint8=recoded,
        )
        call.answer(rule)
        if folds:
            self.store(operator, evaluate(call.build))

    def require_order(self, where: str, operator: FlatOperator) -> None:
        """Refuse operators that read what is not there yet, or write what already has a value."""
        problems: list[IsobitError] = []
        if not operator.outputs:
            problems.append(_broken(where, "at least one output", "none"))
        for index in operator.inputs:
            tensor = self.model.tensors[index]
            stored = tensor.data is not None or tensor.is_variable
            if index >= 0 and not stored and index not in self.written:
                problems.append(_broken(where, "inputs that have a value", f'"{tensor.name}"'))
        for index in operator.outputs:
            tensor = self.model.tensors[index]
            if index < 0 or tensor.data is not None or index in self.written:
                problems.append(_broken(where, "outputs without a value", f'"{tensor.name}"'))
            self.written.add(index)
        raise_all(problems)

    def store(self, operator: FlatOperator, values: dict[str, AnyArray]) -> None:
        """Make an operator's outputs, which were computed here, stored tensors of the file."""
        for index in operator.outputs:
            operand = self.operands.pop(index)
            self.names.pop(operand.value)
            self.data[index] = values[operand.value].reshape(operand.shape)

    def is_widened(self, operator: FlatOperator) -> bool:
        """Whether the operator only turns a stored float16 tensor into float32; then do it now."""
        if operator.code != "DEQUANTIZE" or len(operator.inputs) != 1 or len(operator.outputs) != 1:
            return False
        source = self.model.tensors[operator.inputs[0]]
        result = self.model.tensors[operator.outputs[0]]
        if source.dtype != "FLOAT16" or source.data is None or source.shape != result.shape:
            return False
        self.data[operator.outputs[0]] = source.data.astype(np.float32)
        return True

    def where(self, position: int, operator: FlatOperator) -> str:
        """Return how errors name an operator."""
        label = self.model.tensors[operator.outputs[0]].name if operator.outputs else ""
        return f'operator {position} {operator.code} "{label}"'

    def operand(self, index: int) -> Operand:
        """Return a tensor as rules see it."""
        if index not in self.operands:
            tensor = self.model.tensors[index]
            kind = self.type(tensor, self.data.get(index, tensor.data) is not None)
            data = self.data.get(index, tensor.data)
            require_numbers(tensor.name, data)
            recoded = index in self.recoding.tensors
            # The value at the border of the network has the file's codes, and its name.
            at_border = recoded and index in (*self.model.inputs, *self.model.outputs)
            if recoded:
                kind = self.recoding.inside(kind, tensor.name)
                if data is not None and index not in self.data:
                    data = self.recoding.codes(data)
            if data is not None and self.build.stage is Stage.FLOAT:
                kind, data = _as_reals(kind, data)
            wanted = f"{tensor.name or f'tensor_{index}'}{'_s8' if at_border else ''}"
            # A constant reserves its name when a rule stores it, so that activations come first.
            value = clean_name(wanted) if data is not None else self.build.fresh(wanted)
            if data is None:
                if not at_border:
                    self.names[value] = tensor.name
                self.build.declare(value, kind)
            self.operands[index] = Operand(
                tensor.name, tensor.shape, kind, value, data, tensor.is_variable
            )
        return self.operands[index]

    def type(self, tensor: FlatTensor, is_const: bool) -> TensorType:
        """Return our type of a tensor, in the canonical shape."""
        shape = canonical(tensor.shape)
        empty = min(tensor.shape, default=1) < 1 and not (is_const and len(tensor.shape) == 1)
        if empty or math.prod(shape) > MOST_ELEMENTS:
            raise Unsupported(
                where=f'tensor "{tensor.name}"',
                what=f'shape of "{tensor.name}"',
                want=f"1..{MOST_ELEMENTS:,} elements",
                got=f"{math.prod(shape):,} in {list(tensor.shape)}",
                fix="Convert the model for a smaller input.",
            )
        if tensor.dtype in FLOATS:
            carrier = DType.F64 if self.build.stage is Stage.FLOAT else DType.F32
            return TensorType(shape, carrier, Real())
        if tensor.dtype not in CARRIERS and not (is_const and tensor.dtype == "BOOL"):
            raise Unsupported(
                where=f'tensor "{tensor.name}"',
                what="element type",
                want=", ".join([*CARRIERS, *FLOATS]),
                got=tensor.dtype,
                fix="Convert the model to int8.",
            )
        carrier = CARRIERS.get(tensor.dtype, DType.U8)
        encoding = self.encoding(tensor, carrier)
        if isinstance(encoding, Affine) and encoding.axis is not None and not is_const:
            raise Unsupported(
                where=f'tensor "{tensor.name}"',
                what="quantisation",
                want="one scale for a tensor computed at run time",
                got=f"{len(encoding.scale)} scales",
                fix="The file is damaged, or its converter is; convert the model again.",
            )
        return TensorType(shape, carrier, encoding)

    def encoding(self, tensor: FlatTensor, carrier: DType) -> Encoding:
        """Return the encoding; integers without a scale are raw."""
        q = tensor.quantization
        if not q.scale:
            return Raw()
        zeros = set(q.zero_point) or {0}
        sound = (
            all(math.isfinite(s) and s > 0 for s in q.scale)
            and len(q.zero_point) in (0, 1, len(q.scale))
            and all(carrier.low <= z <= carrier.high for z in zeros)
        )
        if not sound:
            raise Unsupported(
                where=f'tensor "{tensor.name}"',
                what="quantisation",
                want=f"finite scales > 0, zero points within {carrier.value}",
                got=f"scales {_short(q.scale)}, zero points {_short(q.zero_point)}",
                fix="The file is damaged, or its converter is; convert the model again.",
            )
        if len(q.scale) == 1:
            return Affine(q.scale, min(zeros))
        # Runtimes read the scales of a bias and of weights in order, whatever axis a converter
        # wrote beside them, such as 3 on a bias of rank 1.
        axis = q.axis if 0 <= q.axis < len(tensor.shape) else 0
        return Affine(q.scale, min(zeros) if len(zeros) == 1 else 0, axis)


def _broken(where: str, want: str, got: str) -> BadGraph:
    return BadGraph(
        where=where,
        what="tensors",
        want=want,
        got=got,
        fix="The file is damaged; convert it again.",
    )


def _short(values: tuple[float, ...]) -> str:
    return f"{list(values[:3])}{'...' if len(values) > 3 else ''}"


NEAREST: dict[str, str] = {
    "BATCH_MATMUL": "With one constant operand it is FULLY_CONNECTED.",
    "GATHER": "With constant indices it is STRIDED_SLICE and CONCATENATION.",
    "WHILE": "Unroll the loop when you convert.",
    "IF": "Convert the branch that is taken.",
    "CALL_ONCE": "Freeze the variables when you convert.",
    "ARG_MAX": "End the network before it and take the largest output code: the order is the same.",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "Use UNIDIRECTIONAL_SEQUENCE_LSTM or SVDF.",
    "CAST": "Convert the model with integer inputs.",
    "SHAPE": "Convert the model with a fixed input shape; shapes then fold into constants.",
}
"""The closest thing that can be imported."""


def _as_reals(kind: TensorType, codes: AnyArray) -> tuple[TensorType, AnyArray]:
    """Return a stored tensor of a float network as reals.

    Converters may keep its weights as int8 with scales, to make the file smaller ("dynamic range");
    each code stands for the real `scale * (code - zero)`.
    """
    encoding = kind.encoding
    if not isinstance(encoding, Affine):
        return kind, codes
    along = [-1 if axis == encoding.axis else 1 for axis in range(codes.ndim)]
    scale = np.asarray(encoding.scale)
    scale = scale if encoding.axis is None else scale.reshape(along)
    return TensorType(kind.shape, DType.F64, Real()), (codes - float(encoding.zero)) * scale
