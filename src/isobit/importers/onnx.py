"""ONNX files to graphs: float models, and quantised ones in QDQ or QOperator form.

`isobit.ops.logical` says how an operator's rule is written, `isobit.importers.layout` how axes are
chosen, `isobit.importers.onnx_codes` what becomes of quantised graphs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError, Problem, Unsupported, raise_all
from isobit.core.types import Affine, Encoding, Raw, Real, TensorType
from isobit.importers.base import Imported, Survey, require_numbers
from isobit.importers.flatbuffer import read_file
from isobit.importers.layout import solve
from isobit.importers.onnx_codes import FUSES, Coded, Coding, Work, on_codes, plain
from isobit.importers.onnx_file import FileModel, parse
from isobit.importers.onnx_names import INTEGER, MICROSOFT, QLINEAR
from isobit.importers.onnx_patterns import fuse
from isobit.importers.onnx_types import MOST_ELEMENTS
from isobit.ir.builder import GraphBuilder, clean_name
from isobit.ir.graph import Graph, Stage
from isobit.ops.check import check
from isobit.ops.foreign import Operand, Rule, Runtime
from isobit.ops.logical import LogicalCall, Note, Step
from isobit.ops.registry import load_ops

FORMAT = "onnx"
SUFFIXES = (".onnx",)
FLOATS = ("float16", "float32", "float64")
SHIFT = 128
"""uint8 codes and zero points are stored less 128, as int8: the same reals."""
PRESERVING = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose", "MaxPool"}
    | {"GlobalMaxPool", "Relu", "Clip", "Concat", "Split", "Slice", "Pad", "ReduceMax", "ReduceMin"}
    | {"Max", "Min", "Resize", "DepthToSpace", "SpaceToDepth", "Tile", "Expand"}
)
"""Operators whose results are values of their operands: without a quantisation of their own they
keep the one of the first operand.
"""
MOVING = PRESERVING - {"Relu", "Clip"} | {"Gather"}
"""What also means the same where a file applies it to codes themselves."""
REARRANGING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


def read(path: Path, *, runtime: Runtime = Runtime.TFLM, name: str = "") -> Imported:
    """Return an ONNX file as a graph, nothing rewritten yet.

    runtime: ignored, ONNX defines its operators by real numbers. name: of the network; the file's
    stem by default. Raises `FileMissing`, `FileDamaged`, `ToolMissing`, and every `Unsupported` of
    the model at once.
    """
    blob = read_file(path)
    model = parse(blob, str(path), path.parent)
    reader = Importer(model, name or clean_name(path.stem))
    graph = reader.graph()
    check(graph)
    source = {
        "format": FORMAT,
        "file": path.name,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "opset": str(model.opset),
        "notes": json.dumps([asdict(note) for note in reader.notes], sort_keys=True),
    }
    return Imported(
        graph=graph,
        names=reader.names,
        fused=reader.fused,
        source=source,
        notes=tuple(reader.notes),
    )


def survey(path: Path, *, runtime: Runtime = Runtime.TFLM) -> Survey:
    """Return what a file contains and all that cannot be imported, without raising the latter."""
    problems: tuple[Problem, ...] = ()
    counts: dict[str, int] = {}
    try:
        model = parse(read_file(path), str(path), path.parent)
        counts = model.counts
        check(Importer(model, "survey").graph())
    except Unsupported as error:
        problems = error.problems
    except IsobitError as error:
        if not counts:
            raise
        problems = error.problems
    return Survey(operators=dict(sorted(counts.items())), problems=problems)


class Importer:
    """One file on its way to a graph. Formats that call operators otherwise override what depends
    on names.
    """

    preserving = PRESERVING
    fuses = FUSES

    def __init__(self, model: FileModel, name: str) -> None:
        self.model = model
        fuse(model)
        self.coded: Coded = on_codes(model, self.fuses) if model.coded else plain(model)
        self.build = GraphBuilder(name, Stage.INT if model.coded else Stage.FLOAT)
        self.names: dict[str, str] = {}
        self.fused: dict[str, str] = {}
        """Tensor of the file that no value is named after -> the value that it is a part of."""
        self.notes: list[Note] = []
        self.steps: list[Step] = []
        self.operands: dict[str, Operand] = {}
        self.reals: set[str] = set()
        """Values that are real in the file and keep the codes of what they were moved from."""

    def graph(self) -> Graph:
        """Return the graph, or raise every refusal."""
        problems: list[IsobitError] = [*self.model.problems, *self.coded.problems]
        failed = set(self.model.failed)
        inputs = []
        for name in self.coded.inputs:
            try:
                inputs.append(self.operand(name))
            except IsobitError as error:
                problems.append(error)
                failed.add(name)
        for work in self.coded.work:
            try:
                known = failed.isdisjoint((*work.inputs, *work.outputs))
                if known or self.rule(work) is None:
                    self.operator(work)
                    continue
            except IsobitError as error:
                problems.append(error)
            failed.update(work.outputs)  # what reads them cannot be judged
        raise_all(problems)
        outputs = [self.operand(name) for name in self.coded.outputs]
        self.names, viewed, notes = solve(self.build, inputs, self.steps, outputs)
        self.fused = self.absorbed(viewed)
        self.notes.extend(notes)
        return self.build.graph()

    def absorbed(self, viewed: Mapping[str, str]) -> dict[str, str]:
        """Return the value that every tensor without a value of its own became a part of."""
        known = {label: value for value, label in self.names.items()}
        values, found = {**viewed, **known}, dict(viewed)
        instead = self.model.absorbed
        for name in instead:
            final, passed = name, {name}
            while final in instead and instead[final] not in passed:
                final = instead[final]
                passed.add(final)
            if name not in values and final in values:
                found[name] = values[final]
        return found

    def rule(self, work: Work) -> Rule | None:
        """Return the rule of an operator, `None` where there is none."""
        known = work.node.domain in ("", MICROSOFT)
        return load_ops().rules.get((FORMAT, work.code)) if known else None

    def unknown(self, work: Work) -> Unsupported:
        """Return the refusal of an operator without a rule."""
        return Unsupported(
            where=work.node.where,
            what="operator",
            want="one of `isobit ops --source onnx`",
            got=f"{work.node.domain}.{work.node.code}".lstrip("."),
            fix=NEAREST.get(work.node.code, "Rewrite it with supported operators."),
        )

    def results(self, work: Work) -> tuple[Operand, ...]:
        """Return the outputs as rules see them."""
        return tuple(self.operand(name) for name in work.outputs)

    def operator(self, work: Work) -> None:
        """Let the operator's rule record its steps."""
        rule = self.rule(work)
        if rule is None:
            raise self.unknown(work)
        inputs = tuple(self.operand(name) if name else None for name in work.inputs)
        if self.rearranged(work, inputs):
            return
        inherits = self.inherit(work)
        self.require_moving(work)
        rule(
            LogicalCall(
                code=work.code,
                where=work.node.where,
                inputs=inputs,
                outputs=self.results(work),
                options=work.options,
                build=self.build,
                steps=self.steps,
                notes=self.notes,
                bounds=work.bounds,
                inherits=inherits,
                location=work.node.location,
            )
        )

    def require_moving(self, work: Work) -> None:
        """Refuse operators of reals on codes: there Relu is a maximum of codes and 0."""
        node, codings = work.node, self.coded.codings
        own = node.inputs[0] if node.inputs else ""
        by_definition = node.code in QLINEAR or node.code in INTEGER
        if (
            own not in codings
            or own in self.reals
            or by_definition
            or node.code == "QuantizeLinear"
        ):
            return
        names = (*node.inputs, *node.outputs)
        found = {codings[name] for name in names if name in codings}
        if work.code not in MOVING or len(found) > 1:
            got = f"{len(found)} encodings" if work.code in MOVING else "codes themselves"
            raise Unsupported(
                where=node.where,
                what="operands",
                want="reals, or codes in one encoding for operators that only move them",
                got=got,
                fix="Put DequantizeLinear before it and QuantizeLinear behind it.",
            )

    def inherit(self, work: Work) -> bool:
        """Let results without a quantisation of their own keep their operand's; say whether."""
        codings = self.coded.codings
        coding = codings.get(work.inputs[0]) if work.inputs and work.inputs[0] else None
        if work.code not in self.preserving or coding is None:
            return False
        lacking = [name for name in work.outputs if name not in codings]
        own = work.node.inputs[0]
        if own not in codings or own in self.reals:
            self.reals.update(lacking)
        codings.update((name, coding) for name in lacking)
        return bool(lacking)

    def rearranged(self, work: Work, inputs: tuple[Operand | None, ...]) -> bool:
        """Rearrange stored codes here: weights that a Transpose makes fit."""
        x = inputs[0] if inputs else None
        if not self.model.coded or x is None or x.data is None:
            return False
        coding = self.coded.codings.get(work.inputs[0])
        if coding is None or work.code not in {"Transpose", *REARRANGING}:
            return False
        if work.code == "Transpose":
            perm = work.options.get("perm", tuple(range(x.data.ndim))[::-1])
            data = self.model.constants[work.inputs[0]].transpose(perm)
            coding = replace(coding, axis=list(perm).index(coding.axis))
        else:
            data = self.model.constants[work.inputs[0]].reshape(self.shape(work.outputs[0]))
            if len(coding.scale) > 1 and data.shape[:1] != x.data.shape[:1]:
                return False
        self.model.constants[work.outputs[0]] = data
        self.coded.codings.setdefault(work.outputs[0], coding)
        return True

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; raises `Unsupported` where nothing says it."""
        if name in self.model.constants:
            return tuple(self.model.constants[name].shape)
        real = self.real(name)
        for known in (name, real):
            if known in self.model.values:
                return self.model.values[known].shape
        raise Unsupported(
            where=f'tensor "{name}"',
            what="shape",
            want="known before the network runs",
            got="nothing that says it",
            fix="Export with fixed input shapes.",
        )

    def real(self, name: str) -> str:
        """Return the real tensor of the file that codes of another name stand for."""
        return self.coded.borders.get(name, name)

    def operand(self, name: str) -> Operand:
        """Return a tensor as rules see it."""
        if name not in self.operands:
            shape = self.shape(name)
            data = self.model.constants.get(name)
            require_numbers(name, data)
            dtype = data.dtype.name if data is not None else self.dtype(name)
            carrier, encoding = self.carrier(name, dtype, data is not None)
            if data is not None and dtype == "uint8" and carrier is DType.S8:
                data = data.astype(np.int16) - SHIFT
            if int(np.prod(shape)) > MOST_ELEMENTS:
                raise self.refuse(name, "elements", f"at most {MOST_ELEMENTS:,}", str(shape))
            wanted = name or "value"
            value = clean_name(wanted) if data is not None else self.build.fresh(wanted)
            kind = TensorType(shape, carrier, encoding)
            self.operands[name] = Operand(name, shape, kind, value, data)
            self.border(name, value)
        return self.operands[name]

    def border(self, name: str, value: str) -> None:
        """Note where an input or output is not what the file has there."""
        if name not in (*self.coded.inputs, *self.coded.outputs):
            return
        texts = []
        if name in self.coded.borders:
            texts.append(f'codes of "{self.coded.borders[name]}", which the file has as reals')
        coding = self.coded.codings.get(name)
        if coding is not None and coding.dtype == "uint8":
            texts.append("uint8 codes less 128")
        if texts:
            self.notes.append(Note(value=value, kind="border", text="; ".join(texts)))

    def dtype(self, name: str) -> str:
        """Return the element type of a value computed at run time."""
        if name in self.model.values:
            return self.model.values[name].dtype
        return "float32"

    def carrier(self, name: str, dtype: str, stored: bool) -> tuple[DType, Encoding]:
        """Return how a tensor is stored."""
        coding = self.coded.codings.get(name)
        if coding is not None:
            kinds = {"int8": DType.S8, "uint8": DType.S8}
            known = {**kinds, "int32": DType.S32} if stored else kinds
            if coding.dtype not in known:
                raise self.refuse(name, "codes", ", ".join(known), coding.dtype)
            return known[coding.dtype], self.affine(coding)
        if stored:
            if dtype in FLOATS:
                return DType.F64, Real()
            return (DType.S32, Raw()) if dtype == "int32" else (DType.S64, Raw())
        if not self.model.coded and self.only_cast(name):
            return DType.F64, Real()  # integers that the network takes as reals
        if self.model.coded or dtype not in FLOATS:
            raise self.refuse(
                name,
                "value",
                "codes with a scale" if self.model.coded else "reals",
                "reals" if dtype in FLOATS else dtype,
            )
        return DType.F64, Real()

    def only_cast(self, name: str) -> bool:
        """Whether an input is read by Cast alone, whatever its element type."""
        readers = [node for node in self.model.nodes if name in node.inputs]
        casts = all(node.code == "Cast" for node in readers)
        return name in self.model.inputs and bool(readers) and casts

    def affine(self, coding: Coding) -> Affine:
        """Return the encoding of int8 codes, uint8 ones shifted."""
        zero = coding.zero - SHIFT if coding.dtype == "uint8" else coding.zero
        axis = coding.axis if len(coding.scale) > 1 else None
        return Affine(coding.scale, zero, axis)

    def refuse(self, name: str, what: str, want: str, got: str) -> Unsupported:
        """Return the refusal of a tensor."""
        return Unsupported(
            where=f'tensor "{name}"',
            what=what,
            want=want,
            got=got,
            fix="Quantise this tensor when you export, or end the network before it."
            if self.model.coded
            else "Export a float model, or one quantised to int8.",
        )


NEAREST: dict[str, str] = {
    "DynamicQuantizeLinear": "Use static quantisation; a scale found at run time needs a second "
    "pass over the data.",
    "LSTM": "Import the network as TFLite, whose LSTM is exact.",
    "If": "Export the branch that is taken.",
    "Loop": "Unroll the loop when you export.",
    "Scan": "Unroll the loop when you export.",
    "ArgMax": "End the network before it and take the largest output: the order is the same.",
    "TopK": "End the network before it and choose on the host.",
    "NonMaxSuppression": "End the network before it and choose boxes on the host.",
    "ArrayFeatureExtractor": "Export without labels: the largest output is the label.",
    "Gather": "With constant indices that follow each other it is Slice.",
    "Cast": "Export a model whose activations have one element type.",
    "Einsum": "Write it as MatMul with a constant.",
}
"""The closest thing that can be imported."""
