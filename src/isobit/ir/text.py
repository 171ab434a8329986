"""The text form: `print_graph` and `parse_graph` are inverse, given the constants' data.

    isobit 1  stage=int  net=kws  target=cortex-m4
    input  %x  : s8[1,49,10,1] affine(0x1.81p-5,-1)
    const  %w0 : s8[64,10,4,1] affine(%w0.scale,0,axis=0)  "stem.w" sha=3f2a91d0c4e5
    %1 = conv2d(%x, %w0, %b0; mult=%m0, shift=%s0) stride=(2,2) pad=(4,1,5,1) : s8[1,25,5,64]
    affine(..)  # kws.py:41 output %1

Attributes equal to the operator's default are left out. Per-channel scales are float64 tensors
stored beside the constants as `<name>.scale` (for `Pow2`, int64 `<name>.frac`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadGraph, IsobitError, TextSyntax, raise_all
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    Layout,
    Pow2,
    Raw,
    Real,
    Storage,
    TensorType,
)
from isobit.ir.graph import Attrs, Const, Graph, Inputs, Location, Node, Stage, State, Value
from isobit.ir.text_fields import NAME, parse_attrs, parse_inputs, print_attrs, print_inputs

VERSION = 1


@dataclass(frozen=True, slots=True)
class Signature:
    """The two dataclasses of an operator, all the parser needs to know of it."""

    attrs: type[Attrs]
    inputs: type[Inputs[str]]


Signatures = Callable[[str], Signature]


def print_graph(graph: Graph) -> str:
    """Return the text form, one line per value, ending in a newline."""
    lines = [
        f"isobit {VERSION}  stage={graph.stage.value}  net={graph.name}  target={graph.target}"
    ]
    for value in graph.inputs:
        lines.append(f"input  %{value.name} : {print_type(value.type, value.name)}")
    for const in graph.consts:
        label = f" {json.dumps(const.label)}" if const.label else ""
        storage = "" if const.storage is Storage.DENSE else f" storage={const.storage.value}"
        kind = print_type(const.type, const.name)
        lines.append(f"const  %{const.name} : {kind} {label} sha={const.digest[:12]}{storage}")
    for state in graph.states:
        links = (("reset", state.reset), ("next", state.next))
        named = "".join(f" {key}=%{name}" for key, name in links if name)
        lines.append(f"state  %{state.name} : {print_type(state.type, state.name)}{named}")
    lines.extend(print_node(node) for node in graph.nodes)
    lines.append("output " + ", ".join(f"%{name}" for name in graph.outputs))
    return "\n".join(lines) + "\n"


def print_node(node: Node) -> str:
    """Return one node's line without a newline."""
    left = ", ".join(f"%{value.name}" for value in node.outputs)
    kinds = ", ".join(print_type(value.type, value.name) for value in node.outputs)
    text = f"{left} = {node.op}({print_inputs(node.inputs)}){print_attrs(node.attrs)} : {kinds}"
    return f"{text}  # {node.location}" if str(node.location) else text


def print_type(kind: TensorType, name: str = "") -> str:
    """Return e.g. `s8[1,28,28,1] affine(0x1p-7,-128)`; `name` is used to point at per-channel
    scales.
    """
    shape = ",".join(map(str, kind.shape))
    layout = "" if kind.layout is Layout.ROW_MAJOR else f" {kind.layout.value}"
    return f"{kind.dtype.value}[{shape}]{_print_encoding(kind.encoding, name)}{layout}"


def _print_encoding(encoding: Encoding, name: str) -> str:
    match encoding:
        case Real():
            return ""
        case Raw():
            return " raw"
        case Affine(scale=scale, zero=zero, axis=None):
            return f" affine({float(scale[0]).hex()},{zero})"
        case Affine(zero=zero, axis=axis):
            return f" affine(%{name}.scale,{zero},axis={axis})"
        case Pow2(frac=frac, axis=None, dynamic=dynamic):
            return f" pow2({frac[0]}{',dynamic' if dynamic else ''})"
        case Pow2(axis=axis):
            return f" pow2(%{name}.frac,axis={axis})"


def scale_tensors(graph: Graph) -> dict[str, AnyArray]:
    """Per-channel scales and exponents of constants, to be stored beside their data."""
    found: dict[str, AnyArray] = {}
    for const in graph.consts:
        match const.type.encoding:
            case Affine(scale=scale, axis=int()):
                found[f"{const.name}.scale"] = np.asarray(scale, dtype=np.float64)
            case Pow2(frac=frac, axis=int()):
                found[f"{const.name}.frac"] = np.asarray(frac, dtype=np.int64)
    return found


def parse_graph(text: str, tensors: Mapping[str, AnyArray], signatures: Signatures) -> Graph:
    """Rebuild the graph that `print_graph` printed.

    `tensors` holds each constant's data by name, and its per-channel scales. Raises `TextSyntax`
    with every bad line at once, or `BadGraph` for constants that are missing or whose hash differs.
    """
    parser = _Parser(tensors, signatures)
    errors: list[IsobitError] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            parser.line(line, first=number == 1)
        except IsobitError as error:
            errors.append(error)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            errors.append(
                TextSyntax(
                    where=f"line {number}",
                    what="IR text",
                    want="a line of the form docs/ir.md describes",
                    got=f"{line.strip()[:80]!r} ({error})",
                    fix="Correct the line, or export the model again.",
                )
            )
    raise_all(errors)
    return parser.graph()


_NODE = re.compile(
    rf"^(?P<left>%{NAME}(?:, %{NAME})*) = (?P<op>\w+)\((?P<inputs>[^)]*)\)(?P<rest>.*)$"
)
_TYPE = re.compile(
    r"(?P<dtype>[suf]\d+)\[(?P<shape>[\d,]*)\]"
    r"(?: (?P<encoding>raw|affine\([^)]*\)|pow2\([^)]*\)))?(?: (?P<layout>row_major))?"
)
_LABEL = re.compile(r'"(?:[^"\\]|\\.)*"')  # foreign names hold anything: quotes, line ends


class _Parser:
    def __init__(self, tensors: Mapping[str, AnyArray], signatures: Signatures) -> None:
        self.tensors = tensors
        self.signatures = signatures
        self.header: dict[str, str] = {}
        self.inputs: list[Value] = []
        self.consts: list[Const] = []
        self.states: list[State] = []
        self.nodes: list[Node] = []
        self.outputs: tuple[str, ...] | None = None

    def line(self, line: str, *, first: bool) -> None:
        word = line.split(maxsplit=1)[0]
        if first:
            self._header(line)
        elif word == "input":
            name, kind, _ = self._declaration(line)
            self.inputs.append(Value(name, kind))
        elif word == "const":
            self._const(line)
        elif word == "state":
            name, kind, rest = self._declaration(line)
            links = dict(re.findall(rf"(reset|next)=%({NAME})", rest))
            self.states.append(State(name, kind, links.get("reset", ""), links.get("next", "")))
        elif word == "output":
            self.outputs = tuple(re.findall(rf"%({NAME})", line))
        else:
            self._node(line)

    def graph(self) -> Graph:
        if self.outputs is None:
            raise TextSyntax(
                where="end of text",
                what="IR text",
                want="a final `output` line",
                got="none",
                fix="The text is truncated; export the model again.",
            )
        return Graph(
            name=self.header["net"],
            stage=Stage(self.header["stage"]),
            target=self.header.get("target", ""),
            inputs=tuple(self.inputs),
            consts=tuple(self.consts),
            states=tuple(self.states),
            nodes=tuple(self.nodes),
            outputs=self.outputs,
        )

    def _header(self, line: str) -> None:
        match = re.match(r"^isobit (\d+)\s+stage=(\w+)\s+net=(\S+)\s+target=(\S*)\s*$", line)
        if match is None or int(match.group(1)) != VERSION:
            raise ValueError(f"the header must be `isobit {VERSION}  stage=..  net=..  target=..`")
        self.header = {"stage": match[2], "net": match[3], "target": match[4]}
        Stage(match[2])

    def _declaration(self, line: str) -> tuple[str, TensorType, str]:
        match = re.match(rf"^\w+\s+%({NAME})\s*: (.*)$", line)
        if match is None:
            raise ValueError("no `%name : type`")
        name, rest = match.groups()
        kind, end = self._type(rest, name)
        return name, kind, rest[end:]

    def _const(self, line: str) -> None:
        name, kind, rest = self._declaration(line)
        label = _LABEL.search(rest)
        after = rest[label.end() :] if label else rest
        sha = re.search(r"sha=([0-9a-f]+)", after)
        storage = re.search(r"storage=(\w+)", after)
        if sha is None:
            raise ValueError("a constant needs its sha=")
        if name not in self.tensors:
            raise BadGraph(
                where=f"const %{name}",
                what="data",
                want=f"a tensor of shape {kind.shape}",
                got="nothing",
                fix="The file is incomplete; export the model again.",
            )
        data = self.tensors[name]
        if tuple(data.shape) != kind.shape or data.dtype != kind.dtype.numpy:
            raise BadGraph(
                where=f"const %{name}",
                what="data",
                want=f"{kind.dtype.numpy}{list(kind.shape)}",
                got=f"{data.dtype}{list(data.shape)}",
                fix="The file is damaged; export the model again.",
            )
        const = Const(
            name,
            kind,
            data,
            str(json.loads(label[0])) if label else "",
            Storage(storage.group(1)) if storage else Storage.DENSE,
        )
        if not const.digest.startswith(sha.group(1)):
            raise BadGraph(
                where=f"const %{name}",
                what="SHA-256 of the data",
                want=sha.group(1),
                got=const.digest[:12],
                fix="The file is damaged; export the model again.",
            )
        self.consts.append(const)

    def _node(self, line: str) -> None:
        match = _NODE.match(line)
        if match is None:
            raise ValueError("neither a declaration nor `%name = op(...)`")
        rest, location = match["rest"], Location()
        comment = re.search(r"  # (\S.*):(\d+)$", rest)
        if comment:
            location = Location(comment[1], int(comment[2]))
            rest = rest[: comment.start()]
        names = re.findall(rf"%({NAME})", match["left"])
        attrs_text, _, kinds_text = rest.partition(" : ")
        signature = self.signatures(match["op"])
        values, position = [], 0
        for name in names:
            kind, end = self._type(kinds_text[position:], name)
            values.append(Value(name, kind))
            position += end + 2  # ", "
        self.nodes.append(
            Node(
                op=match["op"],
                inputs=parse_inputs(match["inputs"], signature.inputs),
                attrs=parse_attrs(attrs_text, signature.attrs),
                outputs=tuple(values),
                location=location,
            )
        )

    def _type(self, text: str, name: str) -> tuple[TensorType, int]:
        match = _TYPE.match(text)
        if match is None:
            raise ValueError(f"not a type: {text[:40]!r}")
        shape = tuple(int(d) for d in match["shape"].split(",") if d)
        layout = Layout(match["layout"]) if match["layout"] else Layout.ROW_MAJOR
        encoding = self._encoding(match["encoding"], name)
        return TensorType(shape, DType(match["dtype"]), encoding, layout), match.end()

    def _encoding(self, text: str | None, name: str) -> Encoding:
        if text is None:
            return Real()
        if text == "raw":
            return Raw()
        kind, arguments = text[:-1].split("(")
        parts = arguments.split(",")
        axis = int(parts[-1].removeprefix("axis=")) if parts[-1].startswith("axis=") else None
        if kind == "affine":
            if axis is None:
                return Affine((float.fromhex(parts[0]),), int(parts[1]))
            scale = self.tensors[f"{name}.scale"]
            return Affine(tuple(float(s) for s in scale), int(parts[1]), axis)
        if axis is None:
            return Pow2((int(parts[0]),), dynamic=parts[1:] == ["dynamic"])
        return Pow2(tuple(int(f) for f in self.tensors[f"{name}.frac"]), axis)
