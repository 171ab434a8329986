"""Where a network's parameters live, for training forwards, which read all of them every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isobit.train.builder import Binding, place_of

if TYPE_CHECKING:
    from isobit.train.twin import Twin

Store = Mapping[str, Any]


class Places:
    """The modules of a network as they were, and the dictionaries that hold what constants are
    bound to.
    """

    def __init__(self, net: nn.Module, bindings: Mapping[str, Binding]) -> None:
        modules = list(net.modules())
        self._net = net
        self._children = [(m._modules, tuple(m._modules.values())) for m in modules]
        self._hooks = [
            hooks
            for m in modules
            for hooks in (
                m._forward_hooks,
                m._forward_pre_hooks,
                m._backward_hooks,
                m._backward_pre_hooks,
            )
        ]
        self._stores: dict[str, tuple[Store, str, Binding | None]] = {}
        self.holders: dict[str, nn.Module] = {}
        """The module that a constant is bound to a part of."""
        for const, binding in bindings.items():
            holder, attribute = place_of(net, binding.path)
            self.holders[const] = holder
            plain = not (binding.view or binding.order or binding.final)
            for store in (holder._parameters, holder._buffers):
                if attribute in store:
                    self._stores[const] = store, attribute, None if plain else binding

    def hold(self, net: nn.Module) -> bool:
        """Whether this is that network, and no module was put in another's place since."""
        return net is self._net and all(
            tuple(below.values()) == kept for below, kept in self._children
        )

    @property
    def hooked(self) -> bool:
        """Whether a module has a hook."""
        return any(self._hooks)

    def read(self, const: str, otherwise: Callable[[str], Tensor]) -> Tensor:
        """Return the value of a constant. otherwise: reads what is computed (parametrizations), or
        is not float32.
        """
        store, attribute, binding = self._stores.get(const, _NOWHERE)
        value = store.get(attribute)
        if value is None or value.dtype is not torch.float32:
            return otherwise(const)
        return value if binding is None else binding.apply(value)


_NOWHERE: tuple[Store, str, None] = ({}, "", None)


def places_of(twin: Twin) -> Places:
    """Return the places of a twin's parameters, found again where its modules have changed."""
    found = twin.places
    if found is None or not found.hold(twin.net):
        found = twin.places = Places(twin.net, twin.traced.bindings)
    return found
