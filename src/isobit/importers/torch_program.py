"""A torch module as plain data: values, constants, nodes; what operators compute is not known here.

Needs PyTorch, which is imported when a module is. What happens to it on the way, in this order:

1. The module runs once on the first example of every input, in eval mode, so that its own faults
   are told apart from what cannot be exported.
2. `torch.export` traces it; `run_decompositions({})` replaces in-place operators by their results
   and leaves every other one whole. `torch_rewrites` writes some of them as smaller ones; others
   without a rule are decomposed further, if the network then has rules for everything.
3. Nodes that read no input become constants, computed by torch itself. Parameters and buffers are
   constants, labelled as in `state_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.errors import IsobitError, Unsupported
from isobit.core.types import AnyArray, Shape
from isobit.importers.onnx_file import FileModel, FileNode, FileValue
from isobit.importers.onnx_types import MOST_ELEMENTS
from isobit.importers.torch_tracing import (
    TRANSPARENT,
    code_of,
    eval_mode,
    exported,
    first_examples,
    location_of,
    path_of,
    plain_results,
    quiet,
    require_known_sizes,
    value_ranges,
)

if TYPE_CHECKING:
    import torch

QUANTISED = "quantized_decomposed"
"""The operators between which a PT2E graph computes with reals."""
HALVES = ("float16", "bfloat16")
PLAIN = (*HALVES, "float32", "float64")
FILLED: dict[str, int | float] = {
    "zeros_like.default": 0.0,
    "ones_like.default": 1.0,
    "new_zeros.default": 0.0,
    "new_ones.default": 1.0,
    "full_like.default": 1,
    "new_full.default": 2,
    "fill.Scalar": 1,
    "fill.Tensor": 1,
}
"""Their results depend on shapes alone: a real number, or the place of it among the arguments."""
BROADCASTING = frozenset(
    {"add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "maximum.default", "minimum.default"}
)
"""They broadcast what they read, so an `expand` before them is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramNode(FileNode):
    """An operator of the program."""

    asked: str
    """Its name there; `code` may become another one."""

    @property
    def where(self) -> str:
        """How errors name it."""
        label = self.outputs[0] if self.outputs else self.name
        shown = f" ({self.location})" if self.location.file else ""
        return f'{self.asked} "{label}"{shown}'


@dataclass(frozen=True, slots=True)
class Traced:
    """A module as plain data."""

    model: FileModel
    ranges: Mapping[str, tuple[float, float]]
    """Of PT2E graphs: smallest and largest value over all examples, by name."""


def trace(
    module: torch.nn.Module, example_inputs: Sequence[torch.Tensor], known: Collection[str]
) -> Traced:
    """Return a module as plain data. Raises `BadArgument` and `NotTraceable`; what cannot be
    imported is in `problems`.

    known: operators that have a rule, such as `conv2d.default`.
    """
    from isobit.importers.torch_rewrites import rewritten  # needs PyTorch

    examples = first_examples(example_inputs)
    with eval_mode(module), quiet(), plain_results(module, examples):
        program = exported(module, examples)
        require_known_sizes(program)
        program = rewritten(program, coded=is_coded(program))
        reader = _Reader(program)
        whole = reader.read()
        if whole.coded:
            found = value_ranges(program, example_inputs)
            return Traced(whole, {reader.label(name): pair for name, pair in found.items()})
        if all(node.code in known for node in whole.nodes):
            return Traced(whole, {})
        smaller = _Reader(_decomposed(program, whole.nodes, known)).read()
        return Traced(smaller if all(node.code in known for node in smaller.nodes) else whole, {})


def is_coded(program: Any) -> bool:
    """Whether activations are quantised. Weights alone become reals again."""
    return any(
        code_of(node).startswith(f"{QUANTISED}.quantize")
        for node in program.graph.nodes
        if node.op == "call_function"
    )


def _decomposed(program: Any, nodes: Sequence[FileNode], known: Collection[str]) -> Any:
    """Return the program with operators without a rule written as smaller ones, where torch can."""
    import torch

    wanted = {node.code for node in nodes} - set(known)
    decompositions: Any = torch.export.default_decompositions()
    table = {
        operator: rule
        for operator, rule in decompositions.items()
        if str(operator).removeprefix("aten.") in wanted
    }
    return program.run_decompositions(table) if table else program


class _Reader:
    def __init__(self, program: Any) -> None:
        self.program = program
        self.tensors: dict[str, torch.Tensor] = {}
        """Known before the network runs, by node name."""
        self.labels: dict[str, str] = {}
        self.taken: set[str] = set()
        """Labels in use: a buffer may have the name of an input, or of an operator."""
        self.values: dict[str, FileValue] = {}
        self.nodes: list[FileNode] = []
        self.problems: list[IsobitError] = []
        self.parts: dict[str, tuple[str, ...]] = {}
        """Outputs of nodes that have several."""
        self.constants: dict[str, AnyArray] = {}
        self.inputs: list[str] = []
        self.coded = is_coded(program)

    def read(self) -> FileModel:
        """Return the plain model."""
        self.signature()
        self.skip_expansions()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.call(node)
        outputs = self.outputs()
        for name, tensor in self.tensors.items():
            self.constants.setdefault(self.label(name), as_numpy(tensor))
        codes = [node.code for node in self.nodes]
        return FileModel(
            inputs=tuple(self.inputs),
            outputs=outputs,
            values=self.values,
            constants=self.constants,
            nodes=self.nodes,
            opset=0,
            counts={code: codes.count(code) for code in sorted(set(codes))},
            coded=self.coded,
            problems=self.problems,
        )

    def label(self, name: str) -> str:
        """Return how a node of the program is called in the graph and in errors."""
        return self.labels.get(name, name)

    def fresh(self, wanted: str) -> str:
        """Return a label that nothing has yet, `wanted` if it is free."""
        label, count = wanted, 0
        while label in self.taken:
            count += 1
            label = f"{wanted}_{count}"
        self.taken.add(label)
        return label

    def signature(self) -> None:
        """Take parameters, buffers and constants, and the inputs."""
        from torch.export.graph_signature import InputKind, OutputKind

        signature = self.program.graph_signature
        nodes = {node.name: node for node in self.program.graph.nodes}
        stored = {**self.program.state_dict, **self.program.constants}
        given = [s.arg.name for s in signature.input_specs if s.kind is InputKind.USER_INPUT]
        for spec in signature.input_specs:
            if spec.kind is not InputKind.USER_INPUT and spec.target in stored:
                self.tensors[spec.arg.name] = stored[spec.target]
                self.labels[spec.arg.name] = spec.target
                self.taken.add(spec.target)
        for name in given:
            self.labels[name] = self.fresh(name)
            self.inputs.append(self.labels[name])
            self.declare(name, nodes[name].meta["val"])
        for spec in signature.output_specs:
            if spec.kind is OutputKind.BUFFER_MUTATION:
                self.refuse(
                    f'buffer "{spec.target}"',
                    "state",
                    "a network without memory",
                    "a buffer that forward changes",
                    "Make the buffer an input and an output of forward.",
                )

    def refuse(self, where: str, what: str, want: str, got: str, fix: str) -> None:
        """Remember a refusal."""
        self.problems.append(Unsupported(where=where, what=what, want=want, got=got, fix=fix))

    def declare(self, name: str, value: Any) -> None:
        """Note element type and shape of a value computed at run time."""
        dtype = str(value.dtype).removeprefix("torch.")
        shape: Shape = tuple(int(size) for size in value.shape)
        self.values[self.label(name)] = FileValue("float32" if dtype in PLAIN else dtype, shape)
        if dtype in HALVES and not any(
            problem.what == "precision" for error in self.problems for problem in error.problems
        ):
            self.refuse(
                f'value "{self.label(name)}"',
                "precision",
                "float32 or float64",
                dtype,
                "Call module.float(), pass float32 examples and leave autocast out: the weights "
                "keep their values.",
            )
        if math.prod(shape) > MOST_ELEMENTS:
            self.refuse(
                f'value "{self.label(name)}"',
                "elements",
                f"at most {MOST_ELEMENTS:,}",
                f"{math.prod(shape):,} in {list(shape)}",
                "Export for a smaller input.",
            )

    def skip_expansions(self) -> None:
        """Let operators that broadcast anyway read what an `expand` reads."""
        for node in list(self.program.graph.nodes):
            if node.op != "call_function" or code_of(node) != "expand.default":
                continue
            full = tuple(node.meta["val"].shape)
            if node.users and all(_broadcasts(user, node, full) for user in node.users):
                node.replace_all_uses_with(node.args[0])
        self.program.graph.eliminate_dead_code()

    def call(self, node: Any) -> None:
        """Take a node: a part of another's result, a constant, or an operator."""
        if code_of(node) == "getitem":
            source, index = node.args
            if source.name in self.parts:
                self.labels[node.name] = self.parts[source.name][index]
            else:
                self.known(node, self.tensors[f"{source.name}[{index}]"])
            return
        reads = [arg.name for arg in node.all_input_nodes]
        if code_of(node) in TRANSPARENT:
            return
        if code_of(node) in FILLED and not self.coded:
            self.fill(node)
            return
        if all(name in self.tensors for name in reads) and self.is_computable(node):
            self.compute(node)
            return
        self.operator(node)

    def is_computable(self, node: Any) -> bool:
        """Whether torch may compute the node now: it is not random, and no weights in codes."""
        import torch

        operator = node.target
        if not isinstance(operator, torch._ops.OpOverload):
            return False
        random = torch.Tag.nondeterministic_seeded in operator.tags
        return not random and not (self.coded and "dequantize" in code_of(node))

    def compute(self, node: Any) -> None:
        import torch
        from torch.fx import map_arg

        with torch.no_grad():
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: self.tensors[n.name])
            result = node.target(*args, **kwargs)
        if isinstance(result, tuple | list):
            self.tensors.update((f"{node.name}[{i}]", part) for i, part in enumerate(result))
        self.known(node, result[0] if isinstance(result, tuple | list) else result)

    def known(self, node: Any, tensor: torch.Tensor) -> None:
        """Take the result of a node that is known before the network runs."""
        self.labels[node.name] = self.fresh(node.name)
        self.tensors[node.name] = tensor

    def fill(self, node: Any) -> None:
        """Take a tensor of equal numbers that has only its shape from another one."""
        import torch

        number = FILLED[code_of(node)]
        given = node.args[number] if isinstance(number, int) else number
        given = self.tensors.get(given.name) if hasattr(given, "name") else given
        if given is None:
            self.operator(node)
            return
        value = node.meta["val"]
        shape = tuple(value.shape)
        self.known(node, torch.full(shape, float(given), dtype=value.dtype))

    def operator(self, node: Any) -> None:
        """Take an operator that computes at run time."""
        location = location_of(node.meta.get("stack_trace") or "")
        label = self.fresh(path_of(node))
        value = node.meta.get("val")
        several = isinstance(value, tuple | list)
        count = len(value) if several else 1
        outputs = (label, *(self.fresh(f"{label}.{i}") for i in range(1, count)))
        for name, one in zip(outputs, value if several else (value,), strict=True):
            if hasattr(one, "shape"):
                self.declare(name, one)
        if several:
            self.parts[node.name] = outputs
        self.labels[node.name] = outputs[0]
        inputs, options = self.arguments(node)
        self.nodes.append(
            ProgramNode(
                position=len(self.nodes),
                code=code_of(node),
                domain="",
                name=node.name,
                inputs=inputs,
                outputs=outputs,
                options=options,
                location=location,
                asked=code_of(node),
            )
        )

    def arguments(self, node: Any) -> tuple[tuple[str, ...], Mapping[str, Any]]:
        """Return tensors in the order of the operator's schema, and everything else by name."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return tuple(self.label(arg.name) for arg in node.all_input_nodes), {}
        inputs: list[str] = []
        options: dict[str, Any] = {}
        for index, argument in enumerate(schema.arguments):
            given = node.kwargs.get(argument.name, argument.default_value)
            if index < len(node.args):
                given = node.args[index]
            kind = str(argument.type)
            if "Tensor" not in kind:
                options[argument.name] = _plain(given)
            elif isinstance(given, tuple | list):
                inputs.extend(self.tensor(node, argument.name, item) for item in given)
            else:
                inputs.append(self.tensor(node, argument.name, given))
        return tuple(inputs), options

    def tensor(self, node: Any, name: str, given: Any) -> str:
        """Return the name of an operand, "" for one left out; a Python number is a constant."""
        if given is None:
            return ""
        if isinstance(given, bool | int | float):
            label = self.fresh(f"{path_of(node)}.{name}")
            self.constants[label] = np.asarray(given, np.float64)
            return label
        return self.label(given.name)

    def outputs(self) -> tuple[str, ...]:
        """Return what the module returns, nested results one after the other."""
        from torch.export.graph_signature import OutputKind

        found: list[str] = []
        for spec in self.program.graph_signature.output_specs:
            if spec.kind is not OutputKind.USER_OUTPUT:
                continue
            if getattr(spec.arg, "value", "") is None:
                continue  # what a module leaves out in eval mode, such as auxiliary results
            name = getattr(spec.arg, "name", "")
            if self.label(name) not in self.values:
                self.refuse(
                    f"output {len(found)}",
                    "value",
                    "one that the network computes",
                    "a constant",
                    "Leave this output out.",
                )
            found.append(self.label(name))
        return tuple(found)


def as_numpy(tensor: torch.Tensor) -> AnyArray:
    """Return a constant: reals as float64, everything else as it is."""
    plain = tensor.detach().cpu()
    found: AnyArray = (plain.double() if plain.is_floating_point() else plain).numpy()
    return found


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _broadcasts(user: Any, expand: Any, full: Shape) -> bool:
    if user.op != "call_function" or code_of(user) not in BROADCASTING:
        return False
    others = [arg for arg in user.all_input_nodes if arg is not expand]
    return any(tuple(other.meta["val"].shape) == full for other in others)
