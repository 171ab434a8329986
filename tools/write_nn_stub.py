"""Write `src/isobit/nn/__init__.pyi`: what `isobit.nn` has, for editors. A test compares it with
the operators.
"""

from __future__ import annotations

from pathlib import Path

from isobit.ops.registry import load_ops
from isobit.train.modules import layer_classes

STUB = Path(__file__).resolve().parent.parent / "src/isobit/nn/__init__.pyi"


def stub() -> str:
    """Return the stub's text."""
    layers = load_ops().layers
    lines = [
        '"""Layers to compose networks from. Written by tools/write_nn_stub.py."""',
        "",
        "# ruff: noqa: I001, RUF022",  # one order, ours: a test compares the text
        "",
    ]
    imports, names = [], []
    for name in sorted(layer_classes()):
        layer = layers.get(name)
        own = layer is not None and "module_class" in vars(layer)
        module = layer.module_class().__module__ if layer is not None and own else "torch.nn"
        source = layer.module_class().__name__ if layer is not None and own else name
        imports.append(f"from {module} import {source} as {name}")
        names.append(name)
    lines += sorted(imports)
    lines += ["", "__all__ = ["] + [f'    "{name}",' for name in names] + ["]", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
