"""What a forward does besides calling layers: default arguments, sizes of tensors, in-place calls.

Sizes are known while tracing, so arithmetic on them is done at once; only the batch is not a
number. In-place calls are lowered as if they were not, where nobody can tell.
"""

from __future__ import annotations

import builtins
import inspect
import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.fx
from torch import nn

from isobit.core.errors import NotTraceable
from isobit.core.types import Shape, TensorType
from isobit.train.builder import Builder, Symbol


class BatchSize:
    """The size of the batch axis: what `x.size(0)` is while tracing. Arithmetic on it fails."""

    def __repr__(self) -> str:
        return "the batch size"


BATCH = BatchSize()
IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
VIEWS = (
    *("flatten", "view", "reshape", "transpose", "swapaxes", "permute", "contiguous"),
    *("chunk", "split", "getitem", "dropout", "dropout2d", "alpha_dropout"),
)
"""Functions whose result may share its memory with the first argument."""
VIEW_LAYERS = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)


def require_forward(net: nn.Module) -> None:
    """Refuse a container that does not say in which order its layers run."""
    if getattr(type(net), "forward", None) is nn.Module.forward:
        raise NotTraceable(
            where="network",
            what="network",
            want="a module with a forward",
            got=type(net).__name__,
            fix="Write nn.Sequential(...), or a module whose forward calls these layers.",
        )


def fixed_arguments(net: nn.Module) -> dict[str, Any]:
    """Return the defaults of `forward` after its first argument, which tracing takes as given."""
    parameters = list(inspect.signature(type(net).forward).parameters.values())[2:]
    kinds = (bool, int, float, str, type(None))
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD and isinstance(p.default, kinds)
    }


def drop_fixed_arguments(program: torch.fx.Graph, net: nn.Module) -> None:
    """Remove the placeholders of `fixed_arguments`, with torch.fx's assertions on them, and of
    unused `*args` and `**kwargs`.
    """
    names = list(inspect.signature(type(net).forward).parameters)[1:]
    fixed = fixed_arguments(net)
    placeholders = [node for node in program.nodes if node.op == "placeholder"]
    for name, node in zip(names, placeholders, strict=False):
        if name in fixed:
            _erase(program, node)
        elif str(node.target).startswith("*") and not node.users:
            program.erase_node(node)


def _erase(program: torch.fx.Graph, node: torch.fx.Node) -> None:
    for user in list(node.users):
        _erase(program, user)
    program.erase_node(node)


def one_input(program: torch.fx.Graph) -> torch.fx.Node:
    """Return the only input of a program; refuses none or several."""
    inputs = [node for node in program.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        names = [str(node.target) for node in inputs]
        raise NotTraceable(
            where="forward",
            what="inputs",
            want="one tensor",
            got=f"{len(names)}: {', '.join(names)}" if names else "none",
            fix="Give the network one input and split it inside, e.g. by torch.split over dim 1.",
        )
    (node,) = inputs
    assert isinstance(node, torch.fx.Node)
    return node


def size_of(kind: TensorType) -> tuple[Any, ...]:
    """Return `x.shape` in torch's order of axes, with `BATCH` first."""
    shape = kind.shape[1:]
    if len(shape) == 3:
        shape = (shape[2], shape[0], shape[1])
    return (BATCH, *shape)


def is_size(value: Any) -> bool:
    """Whether a value is a size, or sizes, of tensors and no tensor."""
    if isinstance(value, tuple | list):
        return all(is_size(item) for item in value)
    return value is None or isinstance(value, BatchSize | int | float | str | slice)


def evaluate(node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
    """Return what a call says about the sizes of tensors, or None where it is one on tensors.

    `x.shape`, `x.size(1)`, `x.dim()`, and Python's arithmetic and indexing on such numbers.
    """
    x = args[0] if args else None
    if isinstance(x, Symbol):
        asked = args[1] if node.target is builtins.getattr else node.target
        if asked in ("shape", "size"):
            sizes = size_of(x.type)
            rest = [*args[1:], *kwargs.values()] if asked == "size" else []
            return sizes[rest[0]] if rest else sizes
        if asked in ("dim", "ndim", "ndimension"):
            return len(x.type.shape)
        if asked == "numel":
            return math.prod(size_of(x.type))  # fails: it counts the batch
        return None
    own = getattr(node.target, "__module__", "") in ("_operator", "builtins", "math")
    if node.op == "call_function" and own and is_size(args) and not kwargs:
        assert not isinstance(node.target, str)
        return node.target(*args)
    return None


def symbols(values: Any) -> Iterator[Symbol]:
    """Every value of the network inside the arguments or results of a call."""
    if isinstance(values, Symbol):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from symbols(value)
    elif isinstance(values, tuple | list):
        for value in values:
            yield from symbols(value)


def is_no_operand(args: tuple[Any, ...]) -> bool:
    """Whether a call is on several values at once, or on numbers only; `1 - x` is neither."""
    return isinstance(args[0], tuple | list) or not any(symbols(args))


def is_in_place(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a call changes its first operand in torch."""
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.endswith("__")
    if node.op != "call_function" or isinstance(node.target, str):
        return False
    name = getattr(node.target, "__name__", "")
    if node.target in IN_PLACE or (name.endswith("_") and not name.endswith("__")):
        return True
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):  # a builtin, which has no such option
        given = dict(node.kwargs)
    return bool(given.get("inplace", False))


def _is_view(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], VIEW_LAYERS)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in VIEWS


def seen_in_place(
    program: torch.fx.Graph, modules: Mapping[str, nn.Module]
) -> frozenset[torch.fx.Node]:
    """Return the in-place calls whose effect shows somewhere else than in their result.

    That is: later in the program something reads the operand itself, or an earlier view of it.
    Readers before the call saw the old value, as without it. Linear in values times in-place calls.
    """
    roots: dict[torch.fx.Node, torch.fx.Node] = {}
    changed: dict[torch.fx.Node, torch.fx.Node] = {}
    found: set[torch.fx.Node] = set()
    for node in program.nodes:
        sources = node.all_input_nodes
        found.update(changed[source] for source in sources if source in changed)
        in_place = bool(sources) and is_in_place(node, modules)
        if in_place:
            root = roots[sources[0]]
            changed.update((value, node) for value, own in roots.items() if own is root)
        shares = bool(sources) and (in_place or _is_view(node, modules))
        roots[node] = roots[sources[0]] if shares else node
    return frozenset(found)


def only_argument(
    build: Builder, node: torch.fx.Node, module: nn.Module, values: Mapping[Any, Any]
) -> Symbol:
    """Return what a layer is called on, given by position or by name."""
    try:
        given = inspect.signature(module.forward).bind(*node.args, **node.kwargs).arguments
        (argument,) = given.values()
    except (TypeError, ValueError):
        shown = [*map(str, node.args), *(f"{k}={v}" for k, v in node.kwargs.items())]
        raise build.refuse(
            "arguments", "one tensor", ", ".join(shown) or "none", "Call the layer on one tensor."
        ) from None
    x = torch.fx.map_arg(argument, lambda n: values[n])
    if not isinstance(x, Symbol):
        raise not_one(build, x)
    return x


def not_one(build: Builder, value: Any) -> NotTraceable:
    """Return the error for several values, or a number, where one value is needed."""
    several = isinstance(value, tuple | list)
    return build.refuse(
        "argument",
        "one tensor that the network computes",
        f"{len(value)} values" if several else repr(value),
        "Take one of them by its number, or join them by torch.cat."
        if several
        else "Call it on the result of a layer.",
    )


def require_initialised(
    build: Builder, module: nn.Module, layer: str, x: Symbol, shape: Shape
) -> None:
    """Refuse a lazy module whose parameters have no shape yet; say what it would be."""
    named = (*module.named_parameters(), *module.named_buffers())
    lazy = [name for name, value in named if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise build.refuse(
            "parameters",
            "of known shape",
            f"{', '.join(lazy)} of a {type(module).__name__} that never saw data",
            f"Write {layer}({size_of(x.type)[1]}, ...), or call "
            f"net(torch.zeros(1, {', '.join(map(str, shape))})) once before.",
        )
