"""What every importer returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isobit.core.errors import Problem
from isobit.ir.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A foreign model as a graph, before any pass."""

    graph: Graph
    names: Mapping[str, str]
    """Graph value -> name of the source tensor."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Where it came from: format, file name, SHA-256, runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a model asks for: every operator with its count, and every refusal."""

    operators: Mapping[str, int]
    problems: tuple[Problem, ...]
