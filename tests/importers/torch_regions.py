"""Holds imported PT2E graphs to torch region by region, so that every note `lsb` is judged alone.

torch's program runs in float64 by torch's own operators; only its quantisations are written here.
The integer graph runs node by node. Wherever torch has codes, ours are compared with them and then
replaced by them, so that no difference is carried on. Where torch has a real value and we have
codes, these are compared with the nearest ones and stay ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind

from isobit.core.types import Affine, AnyArray, scale_of
from isobit.importers import layout, torch_export, torch_program
from isobit.importers.base import Imported
from isobit.importers.onnx_file import FileNode
from isobit.importers.torch_export import read
from isobit.ir.graph import map_inputs
from isobit.ops.check import activations, node_types
from isobit.ops.registry import load_ops

TIE = 1e-9
"""In steps: a value of float64 this near to a tie may be the code on either side."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The largest difference of one value's codes from torch's, and what its notes allow."""

    codes: str
    found: int
    proven: int
    inside: int
    """The same over samples without a real value outside of its codes."""
    near: int

    @property
    def sound(self) -> bool:
        """Whether no difference is larger than its bound."""
        return self.found <= self.proven and self.inside <= self.near


@dataclass(frozen=True, slots=True)
class Quantised:
    """Real values of torch in steps of their codes, [samples, ...], and the code of 0."""

    steps: AnyArray
    zero: int

    @property
    def codes(self) -> AnyArray:
        """Return the nearest codes, ties to even as torch has them."""
        return self.rounded(self.steps)

    def rounded(self, steps: AnyArray) -> AnyArray:
        return np.clip(np.rint(steps) + self.zero, -128, 127).astype(np.int64)

    def apart(self, ours: AnyArray) -> AnyArray:
        """Return by how many codes ours differ, [samples]."""
        both = [abs(ours - self.rounded(self.steps + side)) for side in (-TIE, TIE)]
        return np.minimum(*both).reshape(len(ours), -1).max(axis=1)

    @property
    def inside(self) -> AnyArray:
        """Return which samples have no value outside of the codes' range, [samples]."""
        flat = self.steps.reshape(len(self.steps), -1) + self.zero
        return np.asarray(((flat >= -128) & (flat <= 127)).all(axis=1))


class Regions:
    """A module as torch computes it, and the graph that was imported from it."""

    def __init__(self, module: nn.Module, xs: Sequence[Tensor]) -> None:
        made: dict[str, Any] = {}

        def kept(where: Any, name: str) -> Any:
            own = getattr(where, name)

            def create(*args: Any) -> Any:
                made[name] = own(*args)
                return made[name]

            return patch.object(where, name, create)

        with (
            kept(torch_program, "_Reader"),
            kept(torch_export, "_Importer"),
            kept(layout, "_Solver"),
        ):
            self.imported: Imported = read(module, xs)
        self.program, self.label = made["_Reader"].program, made["_Reader"].label
        self.model, self.operands = made["_Importer"].model, made["_Importer"].operands
        self.stored = made["_Solver"].stored
        self.proven: Counter[str] = Counter()
        self.near: Counter[str] = Counter()
        """By value of the graph: what its notes allow; the same without a cut."""
        for note in self.imported.notes:
            inner = re.search(r"reals before it: (\d+) while", note.text)
            self.proven[note.value] += note.lsb
            self.near[note.value] += int(inner[1]) if inner else note.lsb

    def judged(self, xs: Sequence[Tensor]) -> Iterator[Judged]:
        """Yield a verdict for every value with codes, of inputs [samples, ...]."""
        real = self.reals(xs)
        coded = {node.outputs[0]: self.quantised(node, real) for node in self.quantisations(real)}
        within = np.all([found.inside for found in coded.values()], axis=0)
        within &= np.all([self.within(name, found) for name, found in real.items()], axis=0)
        places: dict[str, list[str]] = {}
        for codes in coded:
            if codes in self.operands and self.operands[codes].value in self.stored:
                places.setdefault(self.stored[self.operands[codes].value].name, []).append(codes)
        graph, registry = self.imported.graph, load_ops()
        consts = {const.name: const.data.astype(np.int64) for const in graph.consts}
        values: dict[str, AnyArray] = {}

        def place(value: str, array: AnyArray | None) -> Iterator[Judged]:
            shape = graph.type_map()[value].shape
            for codes in places.get(value, []):
                known, name = coded[codes], self.operands[codes].value
                order = self.stored[name].order.indices(known.steps[0].size)
                laid = known.steps.reshape(len(known.steps), -1)[:, order]
                mine = Quantised(laid.reshape(-1, *shape[1:]), known.zero)
                if array is None:
                    array = mine.codes
                off = mine.apart(array)
                # What is moved from a value has no note of its own.
                held = (
                    [self.proven[n] for n in {name, value}],
                    [self.near[n] for n in {name, value}],
                )
                inside = int(off[within].max(initial=0))
                yield Judged(codes, int(off.max()), sum(held[0]), inside, sum(held[1]))
                if not self.is_real(codes):
                    array = mine.codes
            assert array is not None, f"{value}: an input without codes"
            values[value] = array

        for value in graph.inputs:
            yield from place(value.name, None)
        for node in graph.nodes:
            op = registry.op(node.op)
            flowing, count = activations(op, node), len(xs[0])

            def operand(name: str, flowing: Any = flowing, count: int = count) -> AnyArray:
                if name in values:
                    return values[name]
                data = consts[name]
                shape = (count, *data.shape[1:]) if name in flowing else data.shape
                return np.broadcast_to(data, shape)

            given = map_inputs(node.inputs, operand)
            results = op.integer(node.attrs, node_types(graph, node), given)
            results = results if isinstance(results, tuple) else (results,)
            for value, array in zip(node.outputs, results, strict=True):
                yield from place(value.name, array)

    def is_real(self, codes: str) -> bool:
        """Whether torch has no codes there: a note says which."""
        name = self.operands[codes].value
        return any(
            note.kind == "range" and note.value == name and "real in torch" in note.text
            for note in self.imported.notes
        )

    def quantisations(self, real: Mapping[str, AnyArray]) -> list[FileNode]:
        own = [node for node in self.model.nodes if node.code == "QuantizeLinear"]
        return [node for node in own if node.inputs[0] in real]

    def quantised(self, node: FileNode, real: Mapping[str, AnyArray]) -> Quantised:
        scale, zero = (self.model.constants[name] for name in node.inputs[1:3])
        own = int(zero.reshape(())) - (128 if zero.dtype == np.uint8 else 0)
        return Quantised(real[node.inputs[0]] / float(np.float32(scale.reshape(()))), own)

    def within(self, name: str, found: AnyArray) -> AnyArray:
        """Return for which samples a value without a quantisation is inside of its codes."""
        operand = self.operands.get(name)
        if operand is None or not isinstance(operand.type.encoding, Affine):
            return np.ones(len(found), bool)
        scale = float(scale_of(operand.type.encoding)[0])
        return Quantised(found / scale, operand.type.zero).inside

    def reals(self, xs: Sequence[Tensor]) -> dict[str, AnyArray]:
        """Return every real value of torch by its name, [samples, ...] of float64."""
        found: dict[str, list[AnyArray]] = {}
        label = self.label

        class Watch(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                value = _exact(self, n) if "quantize_per" in str(n.target) else super().run_node(n)
                if isinstance(value, Tensor) and value.is_floating_point():
                    found.setdefault(label(n.name), []).append(value.numpy())
                return value

        state = {**self.program.state_dict, **self.program.constants}
        specs = self.program.graph_signature.input_specs
        with torch.no_grad():
            for index in range(len(xs[0])):
                one = iter([x[index : index + 1] for x in xs])
                args = [
                    next(one) if s.kind is InputKind.USER_INPUT else state[s.target] for s in specs
                ]
                wide = [a.double() if a.is_floating_point() else a for a in args]
                Watch(self.program.graph_module).run(*wide)
        several = {name: np.concatenate(parts) for name, parts in found.items() if parts[0].ndim}
        return {name: part for name, part in several.items() if len(part) == len(xs[0])}


def _exact(interpreter: torch.fx.Interpreter, node: torch.fx.Node) -> Tensor:
    """Quantise, or make real again, in float64: scales are numbers of float32."""
    args, _ = interpreter.fetch_args_kwargs_from_env(node)
    x, scale, zero, *rest = args
    channels = "per_channel" in str(node.target)
    scale, zero = (torch.as_tensor(n, dtype=torch.float64) for n in (scale, zero))
    scale = scale.float().double()
    if channels:
        shape = [-1 if axis == rest[0] else 1 for axis in range(x.ndim)]
        scale, zero, rest = scale.reshape(shape), zero.reshape(shape), rest[1:]
    if "dequantize" in str(node.target):
        return (x.double() - zero) * scale
    return (torch.round(x.double() / scale) + zero).clamp(rest[0], rest[1]).to(rest[2])
