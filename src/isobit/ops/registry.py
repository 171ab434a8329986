"""Every operator, kernel and layer there is, found by a scan.

`load_ops` walks the folders of `isobit.ops`, and the entry points `isobit.ops` and `isobit.kernels`
of installed wheels.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from inspect import isfunction
from types import ModuleType
from typing import Any

from isobit.core.errors import NoKernel, UnknownName
from isobit.core.features import Feature
from isobit.ir.text import Signature
from isobit.ops.base import Kernel, Op
from isobit.ops.foreign import Rule
from isobit.ops.layer import Layer


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything found: operators by name, kernels by operator (reference first), layers by
    name.
    """

    ops: Mapping[str, type[Op[Any, Any]]]
    kernels: Mapping[str, tuple[type[Kernel], ...]]
    layers: Mapping[str, type[Layer]] = field(default_factory=dict)
    rules: Mapping[tuple[str, str], Rule] = field(default_factory=dict)
    """How foreign operators become nodes, by (format, foreign name)."""

    def op(self, name: str) -> type[Op[Any, Any]]:
        """Return an operator; `UnknownName` lists what there is."""
        if name not in self.ops:
            raise UnknownName(
                where=f"operator {name!r}",
                what="operator",
                want="one of " + ", ".join(sorted(self.ops)),
                got=name,
                fix="`isobit ops` lists them; docs/add-an-operator.md shows how to add one.",
            )
        return self.ops[name]

    def signature(self, name: str) -> Signature:
        """Return what the text parser needs."""
        op = self.op(name)
        return Signature(op.attrs_type, op.inputs_type)


@cache
def load_ops() -> Registry:
    """Scan `isobit.ops` and the entry points `isobit.ops` and `isobit.kernels`, once per
    process.
    """
    package = importlib.import_module("isobit.ops")
    modules: list[ModuleType] = []
    for folder in pkgutil.iter_modules(package.__path__, "isobit.ops."):
        if folder.ispkg:
            modules.extend(_modules_of(folder.name))
    for group in ("isobit.ops", "isobit.kernels"):
        for entry in sorted(entry_points(group=group), key=lambda e: e.name):
            modules.extend(_modules_of(entry.module))
    ops: dict[str, type[Op[Any, Any]]] = {}
    kernels: dict[str, list[type[Kernel]]] = {}
    layers: dict[str, type[Layer]] = {}
    rules: dict[tuple[str, str], Rule] = {}
    for module in modules:
        for value in vars(module).values():
            if isfunction(value):
                rules.update((key, value) for key in getattr(value, "foreign", ()))
            if not isinstance(value, type) or value.__module__ != module.__name__:
                continue
            if issubclass(value, Op) and "name" in vars(value):
                ops.setdefault(value.name, value)  # ours come first and win over equal names
            elif issubclass(value, Kernel) and "function" in vars(value):
                kernels.setdefault(value.op, []).append(value)
            elif issubclass(value, Layer) and (value.public_name or value.functions):
                layers[value.public_name or value.__name__] = value
    ordered = {
        name: tuple(sorted(found, key=lambda k: (k.stem != "reference", k.stem)))
        for name, found in kernels.items()
    }
    return Registry(
        ops=dict(sorted(ops.items())),
        kernels=ordered,
        layers=dict(sorted(layers.items())),
        rules=dict(sorted(rules.items())),
    )


def _modules_of(name: str) -> list[ModuleType]:
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        return [module]
    names = [m.name for m in pkgutil.iter_modules(module.__path__, f"{name}.")]
    return [
        importlib.import_module(n) for n in names if not n.rsplit(".", 1)[-1].startswith("torch_")
    ]


def select_kernels(
    registry: Registry, op: str, attrs: Any, q: Any, features: frozenset[Feature], where: str
) -> tuple[type[Kernel], ...]:
    """Every kernel legal for this node on a core with `features`; raises `NoKernel` with each one's
    reason.
    """
    reasons, legal = [], []
    for kernel in registry.kernels.get(op, ()):
        missing = kernel.features - features
        reason = (
            f"needs {', '.join(sorted(f.value for f in missing))}"
            if missing
            else kernel.when(attrs, q)
        )
        if reason:
            reasons.append(f"{kernel.stem}: {reason}")
        else:
            legal.append(kernel)
    if not legal:
        raise NoKernel(
            where=where,
            what=f"kernel for {op}",
            want="one that takes this dtype, shape and options",
            got="none (" + ("; ".join(reasons) or "the operator has no kernel here") + ")",
            fix="`isobit ops --target T` lists what the target has.",
        )
    return tuple(legal)
