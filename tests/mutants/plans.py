"""Small graphs whose plans are known, and what every plan must keep."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from isobit import targets
from isobit.core.dtypes import DType
from isobit.core.types import Pow2, Raw, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.plan.plan import ALIGNMENT_BYTES, Plan, make_plan
from property.states import draw as draw_states

KIND = TensorType((1, 64), DType.S8, Pow2((5,)))
NUMBERS = {"mult_a": "one", "mult_b": "one", "shift": "one"}


def clamp(name: str, x: str) -> Node:
    return Node("clamp", ClampInputs(x), ClampAttrs(clamp=(-100, 100)), (Value(name, KIND),))


def add(name: str, a: str, b: str) -> Node:
    return Node("add", AddInputs(a, b, **NUMBERS), AddAttrs(), (Value(name, KIND),))


def graph(*nodes: Node) -> Graph:
    """The nodes on one input of 64 bytes; the last one's result is the output."""
    one = Const("one", TensorType((1,), DType.S32, Raw()), np.ones(1, dtype=np.int32))
    return Graph(
        name="known",
        stage=Stage.INT,
        inputs=(Value("x", KIND),),
        consts=(one,) if any(node.op == "add" for node in nodes) else (),
        nodes=nodes,
        outputs=(nodes[-1].output.name,),
    )


def joined() -> Graph:
    """16 and 64 bytes side by side, the second part computed first, each from its own input."""
    small, whole = KIND.with_shape((1, 16)), KIND.with_shape((1, 80))
    attrs = ClampAttrs(clamp=(-100, 100))
    return Graph(
        name="known",
        stage=Stage.INT,
        inputs=(Value("x", KIND), Value("z", small)),
        consts=(),
        nodes=(
            clamp("second", "x"),
            Node("clamp", ClampInputs("z"), attrs, (Value("first", small),)),
            Node("concat", ConcatInputs(("first", "second")), ConcatAttrs(1), (Value("y", whole),)),
        ),
        outputs=("y",),
    )


def plan_problems() -> Iterator[str]:
    """Yield what the planner gets wrong."""
    host = targets.load("host")
    arenas = {
        "in place": (graph(clamp("a", "x"), clamp("b", "a")), 64),
        "sum over its first operand": (
            graph(clamp("a", "x"), add("b", "a", "x"), add("c", "b", "x")),
            128,
        ),
        "sum over its second operand": (
            graph(clamp("a", "x"), add("b", "x", "a"), add("c", "x", "b")),
            128,
        ),
        "a part behind another, over its input": (joined(), 96),
        "one value twice": (graph(clamp("a", "x"), add("b", "a", "a"), clamp("c", "b")), 128),
    }
    for name, (known, size) in arenas.items():
        got = make_plan(known, host).arena_bytes
        if got != size:
            yield f"{name}: {got} bytes, want {size}"
    for seed in range(4):
        remembers = draw_states(seed)
        plan = make_plan(remembers, host)
        for state in remembers.states:
            buffer = plan.buffers[state.name]
            if (buffer.first, buffer.last) != (0, len(remembers.nodes) - 1):
                yield f"seed {seed}: a state lives from {buffer.first} to {buffer.last}"
            if plan.buffers[state.next] != buffer:
                yield f"seed {seed}: %{state.next} lies beside its state"


def alignment_problems(plan: Plan) -> Iterator[str]:
    """Yield places on which a kernel must not work."""
    for step in plan.nodes:
        if step.kernel is None:
            continue
        least = max(step.kernel.alignment_bytes, ALIGNMENT_BYTES)
        if step.scratch is not None and step.scratch.offset % least:
            yield f"{step.name}: scratch at {step.scratch.offset}"
        for value in step.node.outputs:
            if plan.buffers[value.name].offset % least:
                yield f"%{value.name} at {plan.buffers[value.name].offset}"
