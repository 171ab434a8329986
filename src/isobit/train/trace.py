"""From the user's `torch.nn.Module` to a float graph: `torch.fx` walks `forward`, operators' layers
lower it.

The graph is NHWC. Parameters stay in the module; a `Binding` says how each constant of the graph is
read from one, differentiably, so export permutes weights and adds no transpose.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from isobit.core.dtypes import DType
from isobit.core.errors import BadWeights, GraphProblem, IsobitError, NotTraceable, raise_all
from isobit.core.types import Real, Shape, TensorType
from isobit.ir.graph import (
    Attrs,
    Const,
    Graph,
    Inputs,
    Location,
    Node,
    Stage,
    Value,
    map_inputs,
    operands,
)
from isobit.ops.dynamic import dynamic_problems
from isobit.ops.registry import Registry, load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs
from isobit.train import calls
from isobit.train.builder import Binding, Builder, Symbol, Traced
from isobit.train.dropout import dropouts_of
from isobit.train.hints import function_hint, module_hint
from isobit.train.modules import is_users, location_of


def trace(net: nn.Module, shape: Shape, name: str, target: str) -> Traced:
    """Trace `net` for an input of `shape` (C, H, W) or (features,). Raises all problems at once."""
    tracer = _Tracer(load_ops())
    bare = layer_name(net, tracer.registry)
    if bare:  # torch.fx would walk into it and find tensors instead of a layer
        raise NotTraceable(
            where=str(location_of(net)) or name,
            what="network",
            want="a module that holds layers",
            got=f"a single {bare}",
            fix=f"Write nn.Sequential(nn.{bare}(...)).",
        )
    calls.require_forward(net)
    try:
        program = tracer.trace(net, concrete_args=calls.fixed_arguments(net) or None)
    except (torch.fx.proxy.TraceError, RuntimeError, TypeError) as error:
        own = isinstance(error, torch.fx.proxy.TraceError) or _says_traced(str(error))
        if not own:  # a mistake in the user's forward: theirs to read
            raise
        raise _untraceable(str(error).splitlines()[0], Location()) from error
    calls.drop_fixed_arguments(program, net)
    return Lowering(net, shape, name, target).run(program)


def _says_traced(message: str) -> bool:
    """Whether torch.fx made a message: it calls the tensors of a tracing by these names."""
    return "symbolic trac" in message or "Proxy" in message


class _Proxy(torch.fx.Proxy):
    """torch.fx records `a += b` as `a + b`, which loses that other readers of `a` see the sum."""

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(operator.iadd, other, "add")

    def __isub__(self, other: Any) -> Any:
        return self._in_place(operator.isub, other, "sub")

    def __imul__(self, other: Any) -> Any:
        return self._in_place(operator.imul, other, "mul")

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place(operator.itruediv, other, "truediv")

    def _in_place(self, function: Any, other: Any, name: str) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {}, name=name)


class _Tracer(torch.fx.Tracer):
    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self.record_stack_traces = True
        self.registry = registry

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return layer_name(m, self.registry) != "" or super().is_leaf_module(
            m, module_qualified_name
        )


def layer_name(module: nn.Module, registry: Registry) -> str:
    """Return the public layer name of a module, "" where it is a container of the user's.

    A subclass with a forward of its own means something else than the layer.
    """
    forward = getattr(type(module), "forward", None)
    for cls in type(module).__mro__:
        if (
            cls.__module__.startswith(("torch.nn.modules", "isobit."))
            and cls.__name__ in registry.layers
            and getattr(cls, "forward", None) is forward
        ):
            return cls.__name__
    return ""


def _untraceable(got: str, location: Location) -> NotTraceable:
    return NotTraceable(
        where=str(location) or "forward",
        what="Python that depends on values",
        want="a forward of layers and operators whose control flow does not depend on tensors",
        got=got,
        fix="Move the decision out of forward, or express it with an operator of `isobit ops`.",
    )


@dataclass
class Lowering:
    """One tracing in progress: the graph so far, and what the builders write into."""

    net: nn.Module
    shape: Shape
    name: str
    target: str
    registry: Registry = field(default_factory=load_ops)
    nodes: list[Node] = field(default_factory=list)
    consts: dict[str, Const] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    observers: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Shape] = field(default_factory=dict)
    """`Symbol.torch_order` by value name, where there is one."""
    reordered: dict[str, str] = field(default_factory=dict)
    """The copy in torch's order of a value in `orders`, once it was needed."""
    readers: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    """The dropout modules that the readers of a value see it through, by value name."""
    seen: frozenset[torch.fx.Node] = frozenset()
    """In-place calls that something else would notice."""

    def run(self, program: torch.fx.Graph) -> Traced:
        """Lower a whole program. Raises every problem at once."""
        modules = dict(self.net.named_modules())
        calls.one_input(program)
        self.seen = calls.seen_in_place(program, modules)
        values: dict[torch.fx.Node, Any] = {}
        errors: list[IsobitError] = []
        inputs: list[Value] = []
        outputs: tuple[str, ...] = ()
        functions = self._functions()
        for node in program.nodes:
            try:
                if node.op == "placeholder":
                    values[node] = self._input(node.name if node.name != "input_1" else "input")
                    inputs.append(Value(values[node].name, values[node].type))
                elif node.op == "output":
                    outputs = self._outputs(node.args[0], values)
                elif not _ready(node, values):
                    continue  # an input of it was refused already
                elif node.op == "call_module":
                    values[node] = self._module(node, modules[str(node.target)], values)
                elif node.op == "get_attr":
                    raise self._refuse_function(
                        node,
                        f"the tensor {node.target}",
                        "Only layers read parameters: use nn.Conv2d, nn.Linear and the others "
                        "as they are, without a forward of your own.",
                    )
                else:
                    values[node] = self._function(node, functions, values)
                self._note_readers(node, values)
            except GraphProblem as error:
                errors.append(error)
        raise_all(errors)
        nodes, used = _live(self.nodes, outputs)
        dropouts = dropouts_of(self.net, self.readers, nodes, used)
        graph = Graph(
            name=self.name,
            stage=Stage.FLOAT,
            target=self.target,
            inputs=tuple(inputs),
            consts=tuple(const for name, const in self.consts.items() if name in used),
            nodes=nodes,
            outputs=outputs,
        )
        raise_all(dynamic_problems(graph, self.registry))
        bindings = {name: binding for name, binding in self.bindings.items() if name in used}
        observers = {name: path for name, path in self.observers.items() if name in used}
        return Traced(graph, bindings, observers, dropouts)

    def _note_readers(self, node: torch.fx.Node, values: Mapping[torch.fx.Node, Any]) -> None:
        """Remember through which dropout a call reads its operands; one that passes a value on does
        not read it.
        """
        results = {symbol.name for symbol in calls.symbols(values.get(node))}
        if results or node.op == "output":
            for source in node.all_input_nodes:
                for symbol in calls.symbols(values.get(source)):
                    if symbol.name not in results:
                        self.readers.setdefault(symbol.name, set()).add(symbol.dropouts)

    def declare(self, symbol: Symbol) -> Symbol:
        """Remember a value's type and feature order; return it."""
        self.types[symbol.name] = symbol.type
        self.orders.pop(symbol.name, None)
        if symbol.torch_order:
            self.orders[symbol.name] = symbol.torch_order
        return symbol

    def in_torch_order(self, name: str) -> str:
        """Return the value whose features lie in torch's order: `name` itself, or a transposed copy
        of it.
        """
        if name not in self.orders:
            return name
        if name not in self.reordered:
            c, h, w = self.orders[name]
            producer = next(n for n in self.nodes if any(v.name == name for v in n.outputs))
            image = self._image_of(producer, (h, w, c)) or self._emit(
                producer, f"{name}_hwc", "reshape", ReshapeInputs(name), ReshapeAttrs((h, w, c))
            )
            moved = self._emit(
                producer,
                f"{name}_chw",
                "transpose",
                TransposeInputs(image),
                TransposeAttrs((0, 3, 1, 2)),
            )
            self.reordered[name] = self._emit(
                producer,
                f"{name}_torch",
                "reshape",
                ReshapeInputs(moved),
                ReshapeAttrs((c * h * w,)),
            )
        return self.reordered[name]

    def _image_of(self, producer: Node, shape: Shape) -> str:
        """Return the image [1, *shape] that a flattening reads, "" for any other node."""
        if not isinstance(producer.inputs, ReshapeInputs):
            return ""
        source: str = producer.inputs.x
        return source if self.types[source].shape[1:] == shape else ""

    def _emit(self, near: Node, name: str, op: str, inputs: Inputs[str], attrs: Attrs) -> str:
        """Append a node that the user did not write, at the place of one that they did; return its
        output.
        """
        types = map_inputs(inputs, lambda value: self.types[value])
        (inferred,) = self.registry.op(op).outputs_of(attrs, types)
        kind = TensorType(inferred.shape, DType.F32, Real())
        symbol = self.declare(Symbol(self._unique(name), kind))
        self.nodes.append(Node(op, inputs, attrs, (Value(symbol.name, kind),), near.location))
        return symbol.name

    def _input(self, name: str) -> Symbol:
        shape = self.shape
        nhwc = (1, shape[1], shape[2], shape[0]) if len(shape) == 3 else (1, *shape)
        return self.declare(Symbol(name, TensorType(nhwc, DType.F32, Real())))

    def _outputs(self, argument: Any, values: Mapping[torch.fx.Node, Any]) -> tuple[str, ...]:
        if isinstance(argument, torch.fx.Node):
            argument = (argument,)
        if not isinstance(argument, tuple | list):
            kind = type(argument).__name__.removeprefix("immutable_")  # torch.fx's own
            raise _untraceable(f"a forward that returns {kind}", Location())
        found: list[Symbol] = []
        for node in argument:
            value = values.get(node, ())  # absent: refused already
            found.extend(value if isinstance(value, tuple | list) else (value,))
        if not all(isinstance(value, Symbol) for value in found):
            raise _untraceable("a forward that returns sizes or numbers", Location())
        return tuple(self.in_torch_order(symbol.name) for symbol in found)

    def _module(self, node: torch.fx.Node, module: nn.Module, values: Mapping[Any, Any]) -> Any:
        path = str(node.target)
        location = location_of(module)
        known = layer_name(module, self.registry)
        if not known:
            raise NotTraceable(
                where=f'"{path}"',
                what="layer",
                want="one of isobit.nn: "
                + ", ".join(
                    sorted(n for n, cls in self.registry.layers.items() if cls.public_name)
                ),
                got=type(module).__name__,
                fix=module_hint(module) or "Use a layer the chip has, or compose it from those.",
            )
        name = self._unique(_value_name(path, known))
        build = Builder(self, path, name, module, location)
        self._refuse_aliasing(build, node)
        x = calls.only_argument(build, node, module, values)
        calls.require_initialised(build, module, known, x, self.shape)
        return self.registry.layers[known].lower(build, module, x)

    def _function(self, node: torch.fx.Node, functions: Mapping[Any, str], values: Any) -> Any:
        key = f"Tensor.{node.target}" if node.op == "call_method" else node.target
        location = _stack_location(node)
        args = torch.fx.map_arg(node.args, lambda n: values[n])
        kwargs = dict(torch.fx.map_arg(node.kwargs, lambda n: values[n]))
        build = Builder(self, "", self._unique(node.name), None, location)
        try:
            known = calls.evaluate(node, args, kwargs)
        except (TypeError, ValueError, IndexError, ArithmeticError) as error:
            raise build.refuse(
                "arithmetic on sizes",
                "numbers that do not depend on the batch",
                str(error),
                "Pass x.size(0) on as it is, as the first size of x.view(...).",
            ) from None
        if known is not None:
            return known
        if key not in functions:
            shown = key if isinstance(key, str) else getattr(key, "__name__", str(key))
            if key is getattr:
                shown = f"Tensor.{args[1]}"
            raise self._refuse_function(node, str(shown))
        self._refuse_aliasing(build, node)
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        layer = self.registry.layers[functions[key]]
        if args and not layer.takes_several and calls.is_no_operand(args):
            raise calls.not_one(build, args[0])
        return layer.lower_function(build, args, kwargs)

    def _refuse_aliasing(self, build: Builder, node: torch.fx.Node) -> None:
        """Refuse an in-place call whose operand is read later: torch changes it for that reader."""
        if node in self.seen:
            raise build.refuse(
                "in-place call on a value that is read later",
                "inplace=False",
                "inplace=True" if node.op == "call_module" else str(node.name),
                "In torch the later reader sees the changed value, which is rarely what is meant. "
                "Use the form that returns a new tensor.",
            )

    def _refuse_function(self, node: torch.fx.Node, shown: str, fix: str = "") -> NotTraceable:
        fix = fix or function_hint(shown)
        known = {f for layer in self.registry.layers.values() for f in layer.functions}
        return NotTraceable(
            where=str(_stack_location(node)) or "forward",
            what="function",
            want="a layer of isobit.nn or a function of `isobit ops`"
            if fix
            else f"a layer of isobit.nn or one of {', '.join(sorted(known))}",
            got=shown,
            fix=fix or "Compose it from those; `isobit ops` lists what each operator accepts.",
        )

    def _functions(self) -> dict[Any, str]:
        found: dict[Any, str] = {}
        for name, layer in self.registry.layers.items():
            for dotted in layer.functions:
                if dotted.startswith("Tensor."):
                    found[dotted] = name
                else:
                    holder: Any = {"torch": torch, "operator": operator}[dotted.split(".")[0]]
                    for part in dotted.split(".")[1:]:
                        holder = getattr(holder, part)
                    found[holder] = name
        return found

    def bind(self, name: str, binding: Binding) -> str:
        """Read a parameter now and remember how to read it again."""
        value = (
            binding.apply(_lookup(self.net, binding.path).detach()).to(torch.float64).cpu().numpy()
        )
        if not np.isfinite(value).all():
            raise BadWeights(
                where=f'"{binding.path}"',
                what="values",
                want="finite numbers",
                got=f"{int((~np.isfinite(value)).sum())} of {value.size} are NaN or infinite",
                fix="Load a checkpoint from before training diverged.",
            )
        self.bindings[name] = binding
        return self.constant(name, value, label=binding.path)

    def constant(self, name: str, data: np.ndarray[Any, Any], label: str = "") -> str:
        """Add a float constant."""
        kind = TensorType(tuple(data.shape), DType.F64, Real())
        self.consts[name] = Const(name, kind, data, label)
        self.types[name] = kind
        return name

    def _unique(self, name: str) -> str:
        taken = {value.name for node in self.nodes for value in node.outputs} | set(self.types)
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        return candidate


def _live(nodes: list[Node], outputs: tuple[str, ...]) -> tuple[tuple[Node, ...], set[str]]:
    """Return the nodes that an output depends on, and every name that they read or write."""
    used, kept = set(outputs), []
    for node in reversed(nodes):
        if any(value.name in used for value in node.outputs):
            kept.append(node)
            used.update(operands(node.inputs), (value.name for value in node.outputs))
    return tuple(reversed(kept)), used


def _lookup(net: nn.Module, path: str) -> Tensor:
    holder, _, attribute = path.rpartition(".")
    value = getattr(net.get_submodule(holder), attribute)
    assert isinstance(value, Tensor)
    return value


def _ready(node: torch.fx.Node, values: Mapping[torch.fx.Node, Any]) -> bool:
    return all(source in values for source in node.all_input_nodes)


def _value_name(path: str, layer: str) -> str:
    """Return a readable C identifier: the module path, with the layer's name where the path is a
    number.
    """
    name = re.sub(r"\W", "_", path)
    return f"{layer.lower()}_{name}" if name[0].isdigit() else name


def _stack_location(node: torch.fx.Node) -> Location:
    """Return the innermost frame of the user's: the trace goes on into torch."""
    matches = re.findall(r'File "([^"]+)", line (\d+)', node.stack_trace or "")
    own = [(Path(file), int(line)) for file, line in matches if is_users(Path(file))]
    return Location(own[-1][0].name, own[-1][1]) if own else Location()
