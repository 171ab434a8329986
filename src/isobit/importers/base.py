"""What every importer returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from isobit.core.errors import BadWeights, Problem
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph
from isobit.ops.logical import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A foreign model as a graph, before any pass."""

    graph: Graph
    names: Mapping[str, str]
    """Graph value -> name of the source tensor."""
    fused: Mapping[str, str] = field(default_factory=dict)
    """Source tensor that no graph value is -> the graph value whose node computes it on its way:
    sums before a bias that was joined to them, values before an activation.
    """
    source: Mapping[str, str] = field(default_factory=dict)
    """Where it came from: format, file name, SHA-256, runtime."""
    notes: tuple[Note, ...] = ()
    """Transpositions that had to stay, results that are not always the format's own, and inputs
    and outputs that are stored in another way.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a model asks for: every operator with its count, and every refusal."""

    operators: Mapping[str, int]
    problems: tuple[Problem, ...]
    format: str = ""
    unknown: tuple[str, ...] = ()
    """Operators that nothing here has a rule for; others may still be refused for their options."""


def require_numbers(label: str, data: AnyArray | None) -> None:
    """Refuse a stored tensor with entries that are no numbers; infinities are bounds."""
    if data is not None and data.dtype.kind == "f" and bool(np.isnan(data).any()):
        raise BadWeights(
            where=f'tensor "{label}"',
            what="stored values",
            want="numbers",
            got=f"{int(np.isnan(data).sum())} of {data.size} are NaN",
            fix="The file is damaged, or the training diverged.",
        )
