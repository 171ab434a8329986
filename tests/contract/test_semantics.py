"""Every operator's definition against oracle, real meaning, torch, text and its own claims."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from isobit.core.fixed import Rounding
from isobit.core.types import scale_of
from isobit.ir.graph import Const, Graph, Node, Stage, State, Value, operands
from isobit.ir.store import Stored, parse_store, to_bytes
from isobit.ir.text import parse_graph, print_graph, scale_tensors
from isobit.ops.base import Op, Sample
from isobit.ops.check import check
from isobit.ops.dynamic import DynamicOp
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedOp
from isobit.train import selftest
from oracles import oracle

from . import cases, counts, reals, shapes

CPU = torch.device("cpu")


def test_oracle(op: str) -> None:
    for sample, mine in zip(cases.samples(op), cases.expected(op), strict=True):
        result = oracle(op)(*cases.oracle_arguments(sample))
        wanted = result if isinstance(result, list) else [result]
        for got, want in zip(mine, wanted, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=f"{op}: {sample.label}")


def test_real(op: str) -> None:
    """Rounding costs half an output step, and what the multiplier lacks.

    A derived multiplier is within 2^-15 of its real value (15 bits, the top one set), so the
    requantised value is off by at most 255 * 2^-15 < 0.01 step where it is not clamped; a node with
    several multipliers (add) has as many such terms. 0.52 steps cover two. Where the sum is
    clamped, the real value beyond the last code is cut there: a cut is 1-Lipschitz, so the bound
    stays. Operators with other arithmetic are listed in `reals.BOUNDS`.
    """
    definition = load_ops().op(op)
    compared = 0
    for sample in cases.samples(op):
        case = reals.real_case(definition, sample)
        if case is None:
            continue
        codes = cases.integer(definition, case.attrs, sample.types, case.codes)
        result = definition.real(case.attrs, case.reals)
        if issubclass(definition, DynamicOp):  # codes count steps that each example has of its own
            steps = reals.in_steps(-codes[1], result[0])
            _compare_real(f"{op}: {sample.label}", None, sample.types.outputs[0], codes[0], steps)
            compared += codes[0].size
            continue
        for position, (kind, got, want) in enumerate(
            zip(
                sample.types.outputs,
                codes,
                result if isinstance(result, tuple) else (result,),
                strict=True,
            )
        ):
            # What a state becomes has the limits of its carrier; `clamp` is the output's.
            attrs = None if position in definition.updates.values() else case.attrs
            _compare_real(f"{op}: {sample.label}", attrs, kind, got, np.asarray(want))
            compared += got.size
    assert compared > 0


def _compare_real(label: str, attrs: Any, kind: Any, codes: np.ndarray, want: np.ndarray) -> None:
    if not kind.dtype.is_integer:  # float32 nearest to the real value
        want32 = want.astype(np.float32)
        np.testing.assert_array_equal(codes, want32, err_msg=label)
        return
    step = float(scale_of(kind.encoding)[0])
    known = ~np.isnan(want)  # the code of NaN is a convention
    low, high = reals.limits(attrs, kind)
    off = np.abs(reals.to_real(kind, codes) - np.clip(want, low, high))[known] / step
    bound = reals.BOUNDS.get(label.split(":")[0], reals.DEFAULT)
    # 1e-6 step: float64 rounding of sums and scales, below 2^-40 of 2^15 steps.
    assert off.max(initial=0.0) <= bound + 1e-6, f"{label}: {off.max():.4f} steps, bound {bound}"


def test_trainable(trainable: str) -> None:
    """0 differing values, and a gradient that is finite and reaches the inputs of outputs inside
    their clamp.
    """
    definition = load_ops().op(trainable)
    for sample in cases.samples(trainable):
        bad, total = selftest.differing(definition, sample, CPU)
        assert bad == 0, f"{sample.label}: {bad} of {total} differ"
        _check_gradient(definition, sample)


def _check_gradient(op: type[Op[Any, Any]], sample: Sample[Any]) -> None:
    carriers = selftest.carriers(op, sample, CPU)
    leaves = []
    changes: dict[str, Any] = {}
    for name in cases.activation_fields(op):
        value = getattr(carriers, name)
        if isinstance(value, tuple):
            changes[name] = tuple(v.clone().requires_grad_() for v in value)
            leaves.extend(changes[name])
        elif value is not None:
            changes[name] = value.clone().requires_grad_()
            leaves.append(changes[name])
    result = op.surrogate(sample.attrs, sample.types, dataclasses.replace(carriers, **changes))
    outputs = result if isinstance(result, tuple) else (result,)
    inside = 0
    loss = torch.zeros(())
    for tensor, kind in zip(outputs, sample.types.outputs, strict=True):
        low, high = getattr(sample.attrs, "clamp", (kind.dtype.low, kind.dtype.high))
        inside += int(((tensor + kind.zero > low) & (tensor + kind.zero < high)).sum())
        loss = loss + tensor.sum()
    assert loss.requires_grad, f"{sample.label}: no gradient"
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    for grad in grads:
        assert grad is not None, f"{sample.label}: an input without a gradient"
        assert torch.isfinite(grad).all(), f"{sample.label}: gradient not finite"
    # The sum of a softmax is constant: its gradient is 0 but for rounding, so only a weighted sum
    # shows it.
    if inside:
        weights = [torch.linspace(0.5, 1.5, t.numel()).reshape(t.shape) for t in outputs]
        result = op.surrogate(sample.attrs, sample.types, dataclasses.replace(carriers, **changes))
        outputs = result if isinstance(result, tuple) else (result,)
        loss = torch.stack([(t * w).sum() for t, w in zip(outputs, weights, strict=True)]).sum()
        grads = torch.autograd.grad(loss, leaves)
        assert any(bool((grad != 0).any()) for grad in grads), f"{sample.label}: gradient is 0"


def test_multipliers_are_what_they_say(op: str) -> None:
    """A weighted sample's own `mult` and `shift`: `y - Zy = (sum + b) * mult * 2^-shift`, rounded.

    half_up is off by half a step. tflite_double rounds to t first and then t / 2^n: half a step,
    and before it half a unit of t, which is a quarter of a step where n >= 1 and the only error
    where n = 0.
    """
    definition = load_ops().op(op)
    if not issubclass(definition, WeightedOp) or issubclass(definition, DynamicOp):
        return
    for sample in cases.samples(op):
        q, given = sample.types, sample.inputs
        centred = dataclasses.replace(
            given,
            x=(given.x - q.inputs.x.zero).astype(np.float64),
            w=(given.w - q.inputs.w.zero).astype(np.float64),
            b=None,
        )
        sums = definition.real(sample.attrs, centred) + (0 if given.b is None else given.b)
        tflite = given.mult is not None and sample.attrs.round is Rounding.TFLITE_DOUBLE
        exponent = given.shift - 31 if tflite else -given.shift
        want = (
            sums * (1 if given.mult is None else given.mult) * np.exp2(exponent.astype(np.float64))
        )
        low, high = sample.attrs.clamp
        (got,) = cases.integer(definition, sample.attrs, q, given)
        off = np.abs(got - np.clip(want + q.output.zero, low, high))
        assert off.max() <= (0.75 if tflite else 0.5), f"{sample.label}: {off.max()}"


def test_text(op: str) -> None:
    registry = load_ops()
    for sample in cases.samples(op):
        graph = one_node(registry.op(op), sample)
        check(graph)
        text = print_graph(graph)
        tensors = {c.name: c.data for c in graph.consts} | scale_tensors(graph)
        parsed = parse_graph(text, tensors, registry.signature)
        assert parsed == graph, f"{sample.label}\n{text}"
        assert print_graph(parsed) == text
        blob = to_bytes(Stored({"int": graph}))
        stored = parse_store(blob, sample.label, registry.signature)
        assert stored.graphs["int"] == graph
        assert to_bytes(stored) == blob


def one_node(op: type[Op[Any, Any]], sample: Sample[Any]) -> Graph:
    """The sample as a graph: activations are its inputs, states start from the sample's."""
    names: dict[str, Any] = {}
    inputs, consts, states = [], [], []
    for item in dataclasses.fields(sample.inputs):
        value, kind = getattr(sample.inputs, item.name), getattr(sample.types.inputs, item.name)
        if value is None:
            names[item.name] = None
        elif item.name in op.constants:
            names[item.name] = item.name
            consts.append(
                Const(item.name, kind, cases.stored(value, kind), f"{op.name}.{item.name}")
            )
        elif item.name in op.updates:
            names[item.name] = item.name
            consts.append(Const(f"{item.name}_0", kind, cases.stored(value[:1], kind)))
            after = f"out{op.updates[item.name]}"
            states.append(State(item.name, kind, f"{item.name}_0", after))
        else:
            many = kind if isinstance(kind, tuple) else (kind,)
            own = (
                [f"{item.name}{i}" for i in range(len(many))]
                if isinstance(kind, tuple)
                else [item.name]
            )
            inputs.extend(Value(n, k) for n, k in zip(own, many, strict=True))
            names[item.name] = tuple(own) if isinstance(kind, tuple) else own[0]
    outputs = tuple(Value(f"out{i}", kind) for i, kind in enumerate(sample.types.outputs))
    node = Node(op.name, type(sample.inputs)(**names), sample.attrs, outputs)
    return Graph(
        name=op.name,
        stage=Stage.INT,
        inputs=tuple(inputs),
        consts=tuple(consts),
        states=tuple(states),
        nodes=(node,),
        outputs=tuple(v.name for v in outputs),
    )


def test_shape_rule(op: str) -> None:
    """`infer` = the sample's types = torch's shapes, for any number of samples in the batch."""
    definition = load_ops().op(op)
    for sample in cases.samples(op):
        q = sample.types
        inferred = definition.outputs_of(sample.attrs, q.inputs)
        assert [i.shape for i in inferred] == [k.shape for k in q.outputs], sample.label
        assert [i.dtype for i in inferred] == [k.dtype for k in q.outputs], sample.label
        for want, kind in zip(inferred, q.outputs, strict=True):
            assert want.encoding in (None, kind.encoding), sample.label
        theirs = shapes.torch_shapes(op, sample.attrs, q)
        if theirs is not None:
            assert [i.shape for i in inferred] == theirs, sample.label
        n = cases.batches(definition, sample.inputs)
        for array, kind in zip(
            cases.expected(op)[cases.samples(op).index(sample)], q.outputs, strict=True
        ):
            assert array.shape == (n, *kind.shape[1:]), sample.label


def test_cost(op: str) -> None:
    definition = load_ops().op(op)
    for sample in cases.samples(op):
        q = sample.types
        cost = definition.cost(sample.attrs, q)
        macs = counts.MACS[op](sample.attrs, q) if op in counts.MACS else 0
        assert cost.macs == macs, sample.label
        if definition.view:
            assert (cost.reads, cost.writes) == (0, 0), sample.label
            continue
        assert cost.writes == sum(k.elements for k in q.outputs), sample.label
        # Each element once: all activations, at most every operand.
        least = sum(k.elements for k in cases.activations(definition, q.inputs))
        most = sum(k.elements for k in operands(q.inputs))
        assert least <= cost.reads <= most, sample.label


def test_informative(op: str) -> None:
    """Saturated or constant outputs hide faults: few clamped values, many distinct ones, several
    shapes.
    """
    assert len(cases.samples(op)) >= 3
    for sample, outputs in zip(cases.samples(op), cases.expected(op), strict=True):
        if op == "softmax" and sample.types.output.shape[-1] == 1:
            continue  # probability 1, whatever the input
        values = np.concatenate([np.ravel(a) for a in outputs])
        distinct = np.unique(values).size
        assert distinct >= min(8, values.size), (
            f"{sample.label}: {distinct} distinct of {values.size}"
        )
        assert values.size >= 8, (
            f"{sample.label}: {values.size} values; put more samples on the batch axis"
        )
        kind = sample.types.outputs[0]
        if not kind.dtype.is_integer or op in MOVES:
            continue  # what is moved or selected is as informative as the input
        ends = getattr(sample.attrs, "clamp", (kind.dtype.low, kind.dtype.high))
        clamped = np.isin(values, ends).mean()
        limit = saturation_limit(op, ends)
        assert clamped < limit, f"{sample.label}: {clamped:.0%} saturated, limit {limit:.0%}"


MOVES = {name for name, bound in reals.BOUNDS.items() if bound == reals.EXACT}


def saturation_limit(op: str, ends: tuple[int, int]) -> float:
    """A quarter. Where the clamp itself is the case (a ReLU cuts half by its nature), three
    quarters.

    A softmax of a wide input says "probability 0", its lowest code, for most classes: half.
    """
    if op == "softmax":
        return 0.5
    return 0.25 if ends == (-128, 127) else 0.75


def test_float_only_operators_never_reach_the_chip(float_op: str) -> None:
    """They are folded away: no kernel, no integer sample, but a real meaning and a cost."""
    registry = load_ops()
    op = registry.op(float_op)
    assert float_op not in registry.kernels
    assert list(op.samples()) == []
    assert op.real is not Op.real
