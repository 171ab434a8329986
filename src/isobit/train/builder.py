"""What a layer's `lower` writes into: values, nodes, and constants read from parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError, NotTraceable
from isobit.core.types import Real, Shape, TensorType
from isobit.ir.graph import Attrs, Graph, Inputs, Location, Node, Value, map_inputs, operands
from isobit.ops.base import Op
from isobit.ops.dynamic import exponents_of
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs

if TYPE_CHECKING:
    from isobit.train.trace import Lowering


@dataclass(frozen=True, slots=True)
class Binding:
    """How a constant is read: `parameter.reshape(view).permute(order).reshape(final)`."""

    path: str
    view: Shape = ()
    order: tuple[int, ...] = ()
    final: Shape = ()

    def apply(self, parameter: Tensor) -> Tensor:
        """Return the constant's value; differentiable."""
        if self.view:
            parameter = parameter.reshape(self.view)
        if self.order:
            parameter = parameter.permute(self.order)
        return parameter.reshape(self.final) if self.final else parameter


def place_of(net: nn.Module, path: str) -> tuple[nn.Module, str]:
    """Return the module that holds a parameter or buffer, and its name there."""
    *atoms, attribute = path.split(".")
    for atom in atoms:
        found = net._modules[atom]
        assert found is not None
        net = found
    return net, attribute


@dataclass(frozen=True, slots=True)
class Traced:
    """A float graph, where its constants live in the module, which modules watch a node's input,
    and which dropout modules act on a value in training.
    """

    graph: Graph
    bindings: Mapping[str, Binding]
    observers: Mapping[str, str]
    dropouts: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A value while tracing.

    `torch_order`: the (C, H, W) of the image that was flattened to it, where its features still lie
    in NHWC order but the user's torch program has them in (C, H, W) order; () where the two orders
    are the same. `dropouts`: paths of the modules that act on it in training, first one first.
    """

    name: str
    type: TensorType
    torch_order: Shape = ()
    dropouts: tuple[str, ...] = ()


class Builder:
    """What `Layer.lower` writes into. One builder serves one call of one module."""

    def __init__(
        self,
        lowering: Lowering,
        path: str,
        name: str,
        module: nn.Module | None,
        location: Location,
    ) -> None:
        self._lowering = lowering
        self._path = path
        self._name = name
        self._module = module
        self._location = location
        self._count = 0
        self._permuted: set[str] = set()

    @property
    def where(self) -> str:
        """How errors name this place."""
        shown = f'"{self._path}"' if self._path else self._name
        return f"{shown} ({self._location})" if str(self._location) else shown

    def refuse(self, what: str, want: str, got: str, fix: str) -> NotTraceable:
        """Return the error for an option that no operator has."""
        return NotTraceable(where=self.where, what=what, want=want, got=got, fix=fix)

    def node(self, op: str, inputs: Inputs[str], attrs: Attrs, torch_order: Shape = ()) -> Any:
        """Append one node; return its output, or a tuple of them.

        Operands in NHWC feature order (`Symbol.torch_order`) stay so through elementwise operators;
        every other operator but a linear layer with permuted weights gets them transposed into
        torch's order. `torch_order`: the result's, where the caller has already settled it.
        """
        lowering = self._lowering
        cls = lowering.registry.op(op)
        if not torch_order:
            inputs, torch_order = self._settle_order(cls, inputs, attrs)
        types = map_inputs(inputs, lambda value: lowering.types[value])
        try:
            inferred = cls.outputs_of(attrs, types)
        except IsobitError as error:
            raise _at(error, self.where) from None
        name = self._name if self._count == 0 else f"{self._name}_{op}{self._count}"
        self._count += 1
        symbols = []
        for index, out in enumerate(inferred):
            own = name if len(inferred) == 1 else f"{name}_{index}"
            kind = TensorType(out.shape, DType.F32, Real())
            symbols.append(lowering.declare(Symbol(own, kind, torch_order)))
        values = tuple(Value(s.name, s.type) for s in symbols)
        lowering.nodes.append(Node(op, inputs, attrs, values, self._location))
        return symbols[0] if len(symbols) == 1 else tuple(symbols)

    def _settle_order(
        self, cls: type[Op[Any, Any]], inputs: Inputs[str], attrs: Attrs
    ) -> tuple[Inputs[str], Shape]:
        """Return the operands to read, and the feature order of the result."""
        lowering = self._lowering
        orders = {
            name: lowering.orders[name]
            for name in operands(inputs)
            if name in lowering.orders and name not in self._permuted
        }
        if not orders:
            return inputs, ()
        order = next(iter(orders.values()))
        if cls.view:
            shape = lowering.types[next(iter(orders))].shape
            if getattr(attrs, "shape", ()) == shape[1:]:
                return inputs, order
        elif cls.elementwise:
            # A single feature is broadcast: it has no order.
            wide = [n for n in operands(inputs) if math.prod(lowering.types[n].shape[-1:]) > 1]
            if all(orders.get(name) == order for name in wide):
                return inputs, order
        ordered: Inputs[str] = map_inputs(
            inputs, lambda name: lowering.in_torch_order(name) if name in orders else name
        )
        return ordered, ()

    def parameter(
        self, attribute: str, view: Shape = (), permute: tuple[int, ...] = (), final: Shape = ()
    ) -> str:
        """Bind a parameter or buffer of the module as a constant; return the constant's name."""
        path = f"{self._path}.{attribute}" if self._path else attribute
        return self._lowering.bind(
            f"{self._name}.{_SHORT.get(attribute, attribute)}", Binding(path, view, permute, final)
        )

    def exponent(self, x: Symbol) -> str | None:
        """Return the value that tells the step of `x` at run time, if its step is dynamic."""
        return exponents_of(self._lowering.nodes, self._lowering.registry).get(x.name)

    def constant(self, suffix: str, data: np.ndarray[Any, Any]) -> str:
        """Add a constant that is not a parameter; return its name."""
        return self._lowering.constant(f"{self._name}.{suffix}", data)

    def features(self, attribute: str, x: Symbol) -> str:
        """Bind a [O, I] weight whose I features follow torch's flattening of `x`."""
        weight = getattr(self._module, attribute)
        out, size = weight.shape
        if x.torch_order and math.prod(x.torch_order) == size:
            self._permuted.add(x.name)
            return self.parameter(attribute, (out, *x.torch_order), (0, 2, 3, 1), (out, size))
        return self.parameter(attribute)

    def flattened(self, flat: Symbol, image: Symbol) -> Symbol:
        """Mark `flat` as the flattening of `image`, an NHWC value or already flat."""
        if len(image.type.shape) != 4:
            return flat
        _, h, w, c = image.type.shape
        order = (c, h, w) if c > 1 and h * w > 1 else ()  # else both orders are the same
        return self._lowering.declare(Symbol(flat.name, flat.type, order))

    def unflattened(self, flat: Symbol, image: Shape) -> Symbol:
        """Return the NHWC image whose (C, H, W) = `image` torch sees in the features `flat`."""
        c, h, w = image
        if flat.torch_order == image:
            self._permuted.add(flat.name)  # its features lie as in the image that was flattened
        elif c > 1 and h * w > 1:
            moved = self.node("reshape", ReshapeInputs(flat.name), ReshapeAttrs(image))
            settled: Symbol = self.node(
                "transpose", TransposeInputs(moved.name), TransposeAttrs((0, 2, 3, 1))
            )
            return settled
        same: Symbol = self.node("reshape", ReshapeInputs(flat.name), ReshapeAttrs((h, w, c)))
        return same

    def dropped(self, x: Symbol) -> Symbol:
        """Return `x` as it is after this module, a dropout: the same value outside training."""
        return replace(x, dropouts=(*x.dropouts, self._path))

    def observe_with(self, module: nn.Module) -> None:
        """Have `module.observe(x)` called with this node's input during training."""
        self._lowering.observers[self._name] = self._path


_SHORT = {"weight": "w", "bias": "b"}


def _at(error: IsobitError, where: str) -> IsobitError:
    """Return the error with the user's place in front of the operator's name."""
    error.problems = tuple(replace(p, where=f"{p.where} {where}") for p in error.problems)
    return error
