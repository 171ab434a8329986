"""TFLite files to graphs. `isobit.ops.foreign` says how an operator's rule is written."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadGraph, IsobitError, Problem, Unsupported, raise_all
from isobit.core.types import Affine, AnyArray, Encoding, Raw, Real, TensorType
from isobit.importers.base import Imported, Survey, require_numbers
from isobit.importers.dilations import undilated
from isobit.importers.flatbuffer import FlatModel, FlatOperator, FlatTensor, parse, read_file
from isobit.importers.folding import evaluate, folded_integers
from isobit.importers.islands import TABULATED, Islands
from isobit.importers.nearest import unknown
from isobit.importers.recoding import Recoding
from isobit.importers.shapes import inferred
from isobit.ir.builder import GraphBuilder, clean_name
from isobit.ir.graph import Graph, Stage
from isobit.ops.check import check
from isobit.ops.foreign import Call, Operand, Runtime, canonical
from isobit.ops.logical import Note
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
SHAPES: dict[str, type[np.generic]] = {"INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}
"""Element types of what files compute shapes and indices with."""
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
    return Imported(graph=graph, names=reader.names, source=source, notes=tuple(reader.notes))


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
        model, self.miscounted = undilated(model)
        self.model, self.runtime = model, runtime
        activations = {i for o in model.operators for i in (*o.inputs, *o.outputs) if i >= 0}
        quantised = any(
            model.tensors[i].dtype in CARRIERS
            and model.tensors[i].data is None
            and bool(model.tensors[i].quantization.scale)
            for i in activations | set(model.inputs)
        )
        self.tensors = list(model.tensors)
        """With the shapes that the file leaves open."""
        self.build = GraphBuilder(name, Stage.INT if quantised else Stage.FLOAT)
        self.recoding = Recoding(model)
        self.islands = Islands()
        self.names: dict[str, str] = {}
        self.operands: dict[int, Operand] = {}
        self.borders: dict[int, str] = {}
        """Inputs of the network in the file's own codes, where those inside are others."""
        self.data: dict[int, AnyArray] = {}
        """Constants computed here from constants: by operators without another input, and weights
        that the file keeps as float16.
        """
        self.known: dict[str, str] = {}
        self.constants: set[str] = set()
        self.notes: list[Note] = []
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
        if self.runtime is Runtime.TFLM and not self.is_uint8:
            values = [self.operand(index).value for index in self.miscounted]
            self.notes.extend(Note(value=v, kind="runtime", text=MISCOUNTED) for v in values)
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
        self.resolve(operator)
        if self.is_widened(operator) or self.is_filled(operator) or self.is_shape(operator):
            return
        rule = load_ops().rules.get((FORMAT, operator.code))
        if rule is None and (self.build.stage is Stage.FLOAT or operator.code not in TABULATED):
            raise unknown(where, operator.code)
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
        if not (folds or call.is_float) and self.islands.answer(call):
            return
        if rule is None:
            raise unknown(where, operator.code)
        call.answer(rule)
        if folds:
            self.store(operator, evaluate(call.build))
        elif call.is_float and self.is_hybrid(operator):
            self.notes.append(Note(value=call.output().value, kind="weights", text=HYBRID))

    def is_hybrid(self, operator: FlatOperator) -> bool:
        """Whether an operator of a float network reads stored codes."""
        read = [self.model.tensors[i] for i in operator.inputs if i >= 0]
        return any(t.data is not None and t.dtype in CODED and t.quantization.scale for t in read)

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

    def is_filled(self, operator: FlatOperator) -> bool:
        """Whether the operator only repeats a stored number, such as the 0 that a loop starts from;
        then do it.
        """
        if operator.code != "FILL" or len(operator.inputs) != 2 or len(operator.outputs) != 1:
            return False
        source, result = self.tensors[operator.inputs[1]], self.tensors[operator.outputs[0]]
        sizes = self.data.get(operator.inputs[0], self.tensors[operator.inputs[0]].data)
        value = self.data.get(operator.inputs[1], source.data)
        alike = (source.dtype, source.quantization) == (result.dtype, result.quantization)
        legal = min(operator.inputs) >= 0 and sizes is not None and sizes.dtype.kind == "i"
        if not legal or sizes is None or value is None or value.size != 1 or not alike:
            return False
        if math.prod(result.shape) > MOST_ELEMENTS or result.dtype == "UINT8":
            return False
        if tuple(np.ravel(sizes).tolist()) != result.shape:
            return False
        self.data[operator.outputs[0]] = np.full(result.shape, value.reshape(-1)[0])
        return True

    def resolve(self, operator: FlatOperator) -> None:
        """Give an output whose shape the file leaves open the one that follows from the inputs."""
        outputs, inputs = operator.outputs, [i for i in operator.inputs if i >= 0]
        if len(outputs) == 1 and self.tensors[outputs[0]].is_dynamic:
            data = [self.data.get(i, self.tensors[i].data) for i in inputs]
            shapes = [self.tensors[i].shape for i in inputs]
            shape = inferred(operator.code, shapes, data, operator.options)
            if shape is not None:
                self.tensors[outputs[0]] = replace(self.tensors[outputs[0]], shape=shape)

    def is_shape(self, operator: FlatOperator) -> bool:
        """Whether the operator only computes with shapes or other stored integers; then do it."""
        if len(operator.outputs) != 1:
            return False
        index, tensors = operator.outputs[0], self.tensors
        result = tensors[index]
        if result.dtype not in SHAPES or result.quantization.scale:
            return False
        if operator.code in ("SHAPE", "RANK") and len(operator.inputs) == 1:
            shape = tensors[operator.inputs[0]].shape
            found: AnyArray | None = np.asarray(shape if operator.code == "SHAPE" else len(shape))
            found = found if found is not None and found.shape == result.shape else None
        else:
            inputs = [self.data.get(i, tensors[i].data) for i in operator.inputs if i >= 0]
            plain = all(i >= 0 and not tensors[i].quantization.scale for i in operator.inputs)
            stored = [x for x in inputs if x is not None and x.dtype.kind in "iub"]
            whole = plain and len(stored) == len(operator.inputs)
            wide = [x.astype(np.int64) if x.dtype.kind in "iu" else x for x in stored]
            found = (
                folded_integers(operator.code, wide, operator.options, result.shape)
                if whole
                else None
            )
        if found is None:
            return False
        self.data[index] = found.astype(SHAPES[result.dtype])
        return True

    def where(self, position: int, operator: FlatOperator) -> str:
        """Return how errors name an operator."""
        label = self.model.tensors[operator.outputs[0]].name if operator.outputs else ""
        return f'operator {position} {operator.code} "{label}"'

    def operand(self, index: int) -> Operand:
        """Return a tensor as rules see it."""
        if index not in self.operands:
            tensor = self.tensors[index]
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
            value = self.constant_name(wanted) if data is not None else self.build.fresh(wanted)
            if data is None:
                if not at_border:
                    self.names[value] = tensor.name
                self.build.declare(value, kind)
            self.operands[index] = Operand(
                tensor.name, tensor.shape, kind, value, data, tensor.is_variable
            )
        return self.operands[index]

    def constant_name(self, wanted: str) -> str:
        """Return a name that no other stored tensor has: rules know constants by it, and
        `a/batchnorm/mul` and `b/batchnorm/mul` would be one.
        """
        base = clean_name(wanted)
        names = (base if count == 1 else f"{base}_{count}" for count in itertools.count(1))
        name = next(name for name in names if name not in self.constants)
        self.constants.add(name)
        return name

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


MISCOUNTED = (
    "the dilated convolution of the model, as LiteRT computes it; tflite-micro takes the batch of "
    "its images from the file, which counts them as one (a dynamic batch), so that its own result "
    "is another; convert with a batch of 1 to compare"
)
HYBRID = (
    "the file keeps these weights as int8 codes, and here they are the reals that the codes stand "
    "for; LiteRT also rounds the activations to int8 as it runs, so its result is a little further "
    "from the model that was trained"
)
CODED = ("INT8", "UINT8")


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
