"""Slow, readable definitions of every operator, written from `docs/numerics.md` alone.

These scalar loops over Python integers are the oracle of the golden model, of the torch forward and
of the C kernels. They import nothing from `isobit`, on purpose: two programs that share a helper
share its mistakes. numpy carries arrays in and out and computes nothing.

Every operator is one module with one function::

    oracle(inputs, attrs, zeros) -> array, or a list of arrays

`inputs` holds integer arrays by field name (`x`, `w`, `b`, `mult`, `shift`; None where absent),
activations with the batch axis first. `attrs` holds the attributes; a missing one has the default
that the module names. `zeros` holds the zero points by field name and of the output as `"y"`; a
missing one is 0. Codes are returned as int64, real values as float32.

An `assert` fails where a value leaves the limits that the text names (int32 sums, 64-bit products,
the ranges of multipliers and shifts) or where the text gives no meaning to the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

Inputs = Mapping[str, "np.ndarray | list[np.ndarray] | None"]
Attrs = Mapping[str, object]
Zeros = Mapping[str, int]
Oracle = Callable[[Inputs, Attrs, Zeros], "np.ndarray | list[np.ndarray]"]

OPERATORS = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("[a-z]*.py")
        if "\ndef oracle(inputs, attrs, zeros)" in path.read_text(encoding="utf-8")
    )
)
"""The modules that define an operator."""


def oracle(op: str) -> Oracle:
    """The function that defines the operator `op`: ours, or one that an installed wheel names."""
    if op not in OPERATORS:
        for entry in entry_points(group="isobit.oracles", name=op):
            found: Oracle = entry.load()
            return found
        raise KeyError(f"no oracle is written for {op!r}; there is one for {', '.join(OPERATORS)}")
    return import_module(f"{__name__}.{op}").oracle
