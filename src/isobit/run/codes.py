"""Input codes of a network: one array, or one by the name of each of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

from isobit.core.errors import BadRunInput, IsobitError, raise_all
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph, Stage, Value

Codes: TypeAlias = AnyArray | Mapping[str, AnyArray]
"""What a network is run on: [N, *NHWC] in the input's dtype, of several inputs one by name."""


def check_inputs(graph: Graph, x: Codes) -> dict[str, AnyArray]:
    """Return `x` by input name, in the graph's order, as contiguous arrays of the inputs' dtypes.

    Raises `BadRunInput` for every array that is missing, unknown, empty, of another shape or of a
    dtype that does not fit without loss, and where the numbers of samples differ; all at once.
    """
    given = x if isinstance(x, Mapping) else {_only_name(graph): x}
    raise_all(list(_problems(graph, given)))
    found = {v.name: _contiguous(graph, v, given[v.name]) for v in graph.inputs}
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        raise BadRunInput(
            where=graph.name,
            what="samples",
            want="the same number for every input",
            got=", ".join(f"{count} of %{name}" for name, count in counts.items()),
            fix="Axis 0 of every array counts samples.",
        )
    return found


def random_codes(graph: Graph, samples: int, seed: int) -> dict[str, AnyArray]:
    """Return seeded codes by input name: uniform over a carrier of integers, else normal."""
    rng = np.random.default_rng(seed)
    found: dict[str, AnyArray] = {}
    for value in graph.inputs:
        kind = value.type.dtype
        shape = (samples, *value.type.shape[1:])
        if kind.is_integer:
            drawn: AnyArray = rng.integers(kind.low, kind.high, size=shape, endpoint=True)
        else:
            drawn = rng.normal(size=shape)
        found[value.name] = drawn.astype(kind.numpy)
    return found


def cut(arrays: Mapping[str, AnyArray], start: int, stop: int) -> dict[str, AnyArray]:
    """Return samples `start` to `stop` of every array."""
    return {name: array[start:stop] for name, array in arrays.items()}


def sample_count(arrays: Mapping[str, AnyArray]) -> int:
    """Return the number of samples of arrays that all have the same."""
    return len(next(iter(arrays.values())))


def _only_name(graph: Graph) -> str:
    if len(graph.inputs) > 1:
        names = ", ".join(v.name for v in graph.inputs)
        raise BadRunInput(
            where=graph.name,
            what="inputs",
            want=f"an array for each of {names}, by name",
            got="one array",
            fix="Pass a mapping, or on the command line an .npz with these names.",
        )
    return graph.inputs[0].name


def _problems(graph: Graph, given: Mapping[str, AnyArray]) -> Iterator[IsobitError]:
    names = [value.name for value in graph.inputs]
    for name in given:
        if name not in names:
            yield BadRunInput(
                where=graph.name,
                what=f"input {name!r}",
                want=f"one of {', '.join(names)}",
                got="an array of this name",
                fix="Name each array as its input.",
            )
    for value in graph.inputs:
        array = _array(given[value.name]) if value.name in given else None
        kind, shape = _wanted(graph, value), value.type.shape
        if (
            array is None
            or array.ndim != len(shape)
            or array.shape[1:] != shape[1:]
            or len(array) == 0
            or not np.can_cast(array.dtype, kind, casting="safe")
        ):
            yield BadRunInput(
                where=f"input %{value.name} of {graph.name}",
                what="input array",
                want=f"{kind}[N, {', '.join(map(str, shape[1:]))}] (NHWC)",
                got="no array" if array is None else f"{array.dtype}{list(array.shape)}",
                fix="Integer networks take codes of their input; Model.quantize_input makes them.",
            )


def _array(x: object) -> AnyArray | None:
    try:
        return np.asarray(x)
    except (ValueError, TypeError, RuntimeError):  # ragged rows, no numbers, a tensor with gradient
        return None


def _wanted(graph: Graph, value: Value) -> np.dtype[np.generic]:
    return np.dtype(np.float64) if graph.stage is Stage.FLOAT else value.type.dtype.numpy


def _contiguous(graph: Graph, value: Value, array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(array, dtype=_wanted(graph, value))
