"""What the tests of reports share: a planned network, and a large one with branches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit import targets
from isobit.codegen.network import generate
from isobit.core.dtypes import DType
from isobit.core.types import Affine, TensorType
from isobit.ir.graph import Graph, Location, Node, Stage, Value
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.plan.plan import Plan, make_plan
from isobit.report.making import make_report
from isobit.report.report import Lifetime, Port, Report, Step
from isobit.run.estimate import Estimate, measure
from isobit.run.measure import LayerCost
from isobit.run.verify import Comparison, Difference


def small_plan(prefix: str = "") -> Plan:
    """Clamp, pool, reshape: in-place memory, a scratch-free kernel and a view; any names."""
    encoding = Affine(scale=(0.5,), zero=0)

    def value(name: str, *shape: int) -> Value:
        return Value(f"{prefix}{name}", TensorType((1, *shape), DType.S8, encoding))

    x, a, b, c = (
        value("x", 8, 8, 4),
        value("act", 8, 8, 4),
        value("pool", 4, 4, 4),
        value("flat", 64),
    )
    nodes = (
        Node("clamp", ClampInputs(x.name), ClampAttrs(clamp=(0, 127)), (a,), Location("net.py", 7)),
        Node("max_pool2d", MaxPool2dInputs(a.name), MaxPool2dAttrs((2, 2), (2, 2)), (b,)),
        Node("reshape", ReshapeInputs(b.name), ReshapeAttrs((64,)), (c,), Location("net.py", 9)),
    )
    graph = Graph(
        name=f"{prefix}tiny", stage=Stage.INT, inputs=(x,), nodes=nodes, outputs=(c.name,)
    )
    return make_plan(graph, targets.load("nucleo-l4r5zi"))


def planned_estimate(plan: Plan) -> Estimate:
    """What is known without a compiler."""
    return measure(generate(plan, ""), compile=False)


def measured(estimate: Estimate) -> Estimate:
    """The same with the fields that a compiler and an emulator fill."""
    layers = tuple(
        replace(layer, code_bytes=120 * i, instructions=1000.5 * i, cycles=1500.0 * i)
        for i, layer in enumerate(estimate.layers)
    )
    return replace(
        estimate,
        layers=layers,
        compiler="zig 1.2.3",
        stack_bytes=88,
        ram_bytes=estimate.arena_bytes + 88,
        flash_bytes=estimate.constant_bytes + 460,
        instructions=3101.5,
        instructions_max=3105,
        cycles=4600.0,
        cycle_model="cortex-m4",
        milliseconds=0.0383333,
    )


def comparison(name: str, first: Difference | None = None, differing: int = 0) -> Comparison:
    """One execution."""
    return Comparison(
        name=name,
        compiler="zig",
        emulator="unicorn 2",
        samples=20,
        tensors=4,
        compared=617_283,
        differing=differing,
        first=first,
        content_hash="c0ffee",
    )


HISTORY = [
    {
        "epoch": i + 1,
        "loss": 2.0 / (i + 1),
        "train_accuracy": 0.5 + 0.04 * i,
        "val_accuracy": 0.52 + 0.035 * i,
        "learning_rate": 2e-3,
        "seconds": 1.25,
    }
    for i in range(10)
]


def full_report(prefix: str = "", **changes: object) -> Report:
    """A report with every part."""
    plan = small_plan(prefix)
    parts: dict[str, object] = {
        "history": HISTORY,
        "confusion": np.array([[9, 1, 0], [0, 8, 2], [3, 0, 7]]),
        "classes": ("cat", "dog", "owl"),
        "accuracy_on": "pets test",
        "notes": ["Data unverified."],
        "hashes": {"network": "ab12"},
        **changes,
    }
    comparisons = parts.pop("comparisons", [comparison("torch"), comparison("cortex-m4")])
    estimate = measured(planned_estimate(plan))
    return make_report(plan, estimate, comparisons, **parts)  # type: ignore[arg-type]


def bare_report() -> Report:
    """A plan and nothing else."""
    plan = small_plan()
    return make_report(plan, planned_estimate(plan))


def large_report(amount: int = 60) -> Report:
    """Residual blocks of four nodes: three convolutions and the sum with the input."""
    steps, lifetimes, previous, skip = [], [], "x", "x"
    for i in range(amount):
        op = ("conv2d", "depthwise_conv2d", "conv2d", "add")[i % 4]
        name = f"stage{i // 16}.block{i // 4}.{op}_{i}"
        reads = (previous, skip) if op == "add" else (previous,)
        side, channels = max(4, 64 >> (i // 16)), 16 << (i // 16)
        shared = steps[i - 4].name if op == "conv2d" and i % 16 > 3 else ""
        cost = LayerCost(
            name=name,
            op=op,
            kernel="pointwise_dsp" if op == "conv2d" else "reference",
            macs=0 if op == "add" else side * side * channels * 9,
            constant_bytes=0 if op == "add" else channels * 36,
            live_bytes=side * side * channels * 2,
            code_bytes=0 if shared else 480 + i,
            shares_code_with=shared,
            instructions=side * side * channels * 11.5,
            cycles=side * side * channels * 14.25,
        )
        shape = (1, side, side, channels)
        steps.append(
            Step(
                index=i,
                reads=reads,
                writes=(name,),
                shape=shape,
                dtype="s8",
                source=f"big.py:{i}",
                cost=cost,
            )
        )
        size = side * side * channels
        lifetimes.append(
            Lifetime(
                name=name,
                offset=(i % 3) * 65_536,
                size_bytes=size,
                first=i,
                last=min(i + (4 if op == "add" else 1), amount - 1),
                values=(name,),
            )
        )
        previous = name
        skip = name if op == "add" else skip
    layers = tuple(step.cost for step in steps)
    flash = sum(c.constant_bytes + (c.code_bytes or 0) for c in layers) + 900
    estimate = Estimate(
        name="large",
        target="cortex-m4",
        arena_bytes=3 * 65_536,
        constant_bytes=sum(c.constant_bytes for c in layers),
        macs=sum(c.macs for c in layers),
        layers=layers,
        compiler="zig 1.2.3",
        stack_bytes=200,
        ram_bytes=3 * 65_536 + 200,
        flash_bytes=flash,
        instructions=sum(c.instructions or 0 for c in layers) + 500,
        cycles=sum(c.cycles or 0 for c in layers) + 600,
        cycle_model="cortex-m4",
        ram_limit_bytes=262_144,
        flash_limit_bytes=1_048_576,
    )
    return Report(
        name="large",
        target="cortex-m4",
        target_title="Arm Cortex-M4F",
        isobit="0.1.0",
        estimate=estimate,
        inputs=(Port(name="x", shape=(1, 64, 64, 16), dtype="s8"),),
        outputs=(Port(name=previous, shape=steps[-1].shape, dtype="s8"),),
        steps=tuple(steps),
        lifetimes=tuple(lifetimes),
        peak_index=2,
        comparisons=(comparison("host"),),
    )
