"""Layers to compose networks from: torch's names, arguments and defaults; logical NCHW.

Made from the operators at first use, so a new operator's layer is here without an edit.
`__init__.pyi` lists them for editors; `tools/write_nn_stub.py` regenerates it and a test keeps it
fresh.
"""

from __future__ import annotations

from typing import Any

from isobit.train.modules import layer_classes


def __getattr__(name: str) -> Any:
    classes = layer_classes()
    if name not in classes:
        raise AttributeError(f"isobit.nn has no {name!r}; it has {', '.join(sorted(classes))}")
    return classes[name]


def __dir__() -> list[str]:
    return sorted(layer_classes())
