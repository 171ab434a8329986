"""What an operator says of transposes, of memory and of order holds for all its samples."""

from __future__ import annotations

from dataclasses import fields
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from isobit.core.types import AnyArray, TensorType
from isobit.ops.base import NodeTypes, Op, Sample
from isobit.ops.registry import load_ops

OPS = sorted(name for name, op in load_ops().ops.items() if op.integer is not Op.integer)


def mapped(op: type[Op[Any, Any]], inputs: Any, function: Any) -> Any:
    """`inputs` with `function` applied to every activation."""

    def apply(name: str, value: Any) -> Any:
        if name in op.constants or value is None:
            return value
        return tuple(map(function, value)) if isinstance(value, tuple) else function(value)

    return type(inputs)(**{f.name: apply(f.name, getattr(inputs, f.name)) for f in fields(inputs)})


def flowing(op: type[Op[Any, Any]], inputs: Any) -> list[Any]:
    found: list[Any] = []
    mapped(op, inputs, found.append)
    return found


def results(op: type[Op[Any, Any]], attrs: Any, q: NodeTypes[Any], inputs: Any) -> list[AnyArray]:
    found = op.integer(attrs, q, inputs)
    return list(found) if isinstance(found, tuple) else [found]


def turned(sample: Sample[Any], op: type[Op[Any, Any]], perm: tuple[int, ...]) -> int:
    """Compare both sides for one permutation; 0 where the operator says that there is none."""
    attrs = op.permuted(sample.attrs, sample.types, perm)
    if attrs is None:
        return 0
    inverse = tuple(perm.index(axis) for axis in range(len(perm)))

    def back(kind: TensorType) -> TensorType:
        return kind.with_shape(tuple(kind.shape[axis] for axis in inverse))

    inputs = mapped(op, sample.types.inputs, back)
    q = NodeTypes(inputs, tuple(map(back, sample.types.outputs)))
    inferred = op.outputs_of(attrs, inputs)
    assert [one.shape for one in inferred] == [kind.shape for kind in q.outputs]
    arrays = mapped(op, sample.inputs, lambda x: x.transpose(inverse))
    want = results(op, sample.attrs, sample.types, sample.inputs)
    got = [y.transpose(perm) for y in results(op, attrs, q, arrays)]
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True)), sample.label
    return 1


@pytest.mark.parametrize("name", OPS)
def test_transposes_change_sides(name: str) -> None:
    op, tried = load_ops().op(name), 0
    for sample in op.samples():
        ranks = {len(kind.shape) for kind in flowing(op, sample.types.inputs)}
        ranks |= {len(kind.shape) for kind in sample.types.outputs}
        if len(ranks) != 1 or sample.types.inputs is None:
            continue
        for axes in permutations(range(1, ranks.pop())):
            tried += turned(sample, op, (0, *axes))
    if op.elementwise and not op.view and not op.constants:
        assert tried


@pytest.mark.parametrize("name", OPS)
def test_contiguous_nodes_move_no_byte(name: str) -> None:
    op = load_ops().op(name)
    for sample in op.samples():
        if op.contiguous(sample.attrs, sample.types):
            given = mapped(op, sample.inputs, lambda x: x[:1])
            read = [x.reshape(-1) for x in flowing(op, given)]
            written = [y.reshape(-1) for y in results(op, sample.attrs, sample.types, given)]
            assert np.array_equal(np.concatenate(read), np.concatenate(written)), sample.label


@pytest.mark.parametrize("name", OPS)
def test_order_is_kept(name: str) -> None:
    op = load_ops().op(name)
    for sample in op.samples():
        if not op.keeps_order(sample.attrs, sample.types):
            continue
        (x,), (y,) = (
            flowing(op, sample.inputs),
            results(op, sample.attrs, sample.types, sample.inputs),
        )
        assert x.shape == y.shape
        order = np.argsort(x, axis=-1, kind="stable")
        assert np.all(np.diff(np.take_along_axis(y, order, -1), axis=-1) >= 0), sample.label


def test_the_operators_that_say_so() -> None:
    """Concatenations and splits move no byte along the outermost axis; softmax keeps the order."""
    ops = load_ops().ops
    contiguous = {n for n in OPS for s in ops[n].samples() if ops[n].contiguous(s.attrs, s.types)}
    ordered = {n for n in OPS for s in ops[n].samples() if ops[n].keeps_order(s.attrs, s.types)}
    assert {"concat", "split"} <= contiguous and "softmax" in ordered
