"""Kernels with declared figures, and which of them each mode takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from isobit import targets
from isobit.core.dtypes import DType
from isobit.core.errors import NoKernel
from isobit.core.fixed import Rounding
from isobit.core.types import Pow2, Raw, Real, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.weighted import WeightedInputs
from isobit.plan.choice import (
    Optimize,
    allowance_bytes,
    choose,
    extra_bytes,
    is_small,
    longest_prefix,
    working_bytes,
)
from isobit.plan.plan import Plan, make_plan

KIND = TensorType((1, 64), DType.S8, Pow2((5,)))
TYPES = NodeTypes(ClampInputs(KIND), (KIND,))
"""64 bytes in and 64 out: `balanced` allows 32."""


def kernel(
    name: str,
    cycles: float,
    *,
    flash: int = 100,
    scratch: int = 0,
    lead: int | None = 0,
    preference: int = 0,
) -> type[Kernel]:
    class Declared(Kernel):
        stem = name
        code_bytes = flash
        rank = preference

        @staticmethod
        def scratch_bytes(attrs: Any, q: Any) -> int:
            return scratch

        @staticmethod
        def overlap_bytes(attrs: Any, q: Any) -> int | None:
            return lead

        @staticmethod
        def cycles(attrs: Any, q: Any) -> float:
            return cycles

    return Declared


SMALL = kernel("small", 9)
WANTED: tuple[tuple[str, tuple[type[Kernel], ...], str], ...] = (
    # Kernels; what speed, balanced, ram and flash take.
    ("cycles alone", (SMALL, kernel("quick", 5)), "quick quick quick quick"),
    ("code", (SMALL, kernel("quick", 5, flash=133)), "quick small quick small"),
    ("code within a quarter", (SMALL, kernel("quick", 5, flash=132)), "quick quick quick small"),
    ("scratch", (SMALL, kernel("quick", 5, scratch=33)), "quick small small quick"),
    (
        "scratch within a quarter",
        (SMALL, kernel("quick", 5, scratch=32)),
        "quick quick small quick",
    ),
    (
        "both within a quarter",
        (SMALL, kernel("quick", 5, flash=116, scratch=16)),
        "quick quick small small",
    ),
    (
        "both beyond a quarter",
        (SMALL, kernel("quick", 5, flash=116, scratch=17)),
        "quick small small small",
    ),
    ("not in place", (SMALL, kernel("quick", 5, lead=None)), "quick quick small quick"),
    ("ahead by 1", (SMALL, kernel("quick", 5, lead=1)), "quick quick small quick"),
    (
        "ahead by less than scratch",
        (kernel("small", 9, scratch=4), kernel("quick", 5, lead=5)),
        "quick quick small quick",
    ),
    (
        "ahead by more than both",
        (kernel("small", 9, lead=65), kernel("quick", 5, lead=None)),
        "quick quick quick quick",
    ),
    ("rank", (SMALL, kernel("ranked", 9, preference=1)), "ranked ranked ranked ranked"),
    ("the first of equals", (SMALL, kernel("late", 9)), "small small small small"),
    (
        "the fastest of those allowed",
        (SMALL, kernel("middle", 7, flash=110), kernel("quick", 5, flash=200)),
        "quick middle quick small",
    ),
)


def choice_problems() -> Iterator[str]:
    """Yield choices that are not the documented ones."""
    for name, kernels, wanted in WANTED:
        got = " ".join(choose(kernels, None, TYPES, mode).stem for mode in Optimize)
        if got != wanted:
            yield f"{name}: want {wanted}, got {got}"
    quick = kernel("quick", 5)
    small = " ".join(str(is_small(SMALL, quick, mode)) for mode in Optimize)
    if small != "False True False True":
        yield f"passed over: {small}"
    if is_small(quick, quick, Optimize.BALANCED):
        yield "the fastest compiled for size"
    both = NodeTypes(ClampInputs(KIND), (KIND, KIND))
    figures = {
        "in place": (working_bytes(SMALL, None, TYPES), 64),
        "ahead by 3, scratch 5": (
            working_bytes(kernel("k", 0, lead=3, scratch=5), None, TYPES),
            72,
        ),
        "two outputs": (working_bytes(SMALL, None, both), 192),
        "a wide output": (
            working_bytes(SMALL, None, NodeTypes(ClampInputs(KIND), (KIND.with_shape((1, 99)),))),
            99,
        ),
        "extra": (extra_bytes(kernel("k", 0, flash=7, scratch=5), None, TYPES), 12),
        "allowance": (allowance_bytes(both), 48),
    }
    for name, (found, want) in figures.items():
        if found != want:
            yield f"{name}: want {want}, got {found}"
    for count in range(20):
        for longest in range(count + 1):
            asked: list[int] = []

            def fits(size: int, most: int = longest, seen: list[int] = asked) -> bool:
                seen.append(size)
                if len(seen) > 20:
                    raise AssertionError(f"endless: {seen}")
                return size <= most

            if (got_ := longest_prefix(count, fits)) != longest:
                yield f"the longest prefix of {count}: want {longest}, got {got_}"
            if len(asked) > 6 or len(asked) != len(set(asked)):
                yield f"the longest prefix of {count}: asked for {asked}"


def ram_problems(graph: Graph) -> Iterator[str]:
    """Yield what `ram` gives away: arena against the other modes, cycles that cost no arena."""
    core = targets.load("cortex-m4")
    plans = {mode: make_plan(graph, core, mode) for mode in Optimize}
    least = plans[Optimize.RAM]
    for mode, plan in plans.items():
        if plan.arena_bytes < least.arena_bytes:
            yield f"{mode.value} has an arena of {plan.arena_bytes}, ram of {least.arena_bytes}"
        slower = cycles(plan) < cycles(least)
        if slower and plan.arena_bytes == least.arena_bytes and mode is Optimize.SPEED:
            yield "speed is faster in the same arena"
    if cycles(least) < cycles(plans[Optimize.SPEED]):
        yield "ram is faster than speed"
    for step in plans[Optimize.FLASH].nodes:
        if step.small != (step.kernel is not None):
            yield f"{step.name}: {'small' if step.small else 'not small'} for flash"


def relaxed_problems() -> Iterator[str]:
    """Yield where `ram` takes another kernel than the smallest at the peak, the fastest below."""
    core = targets.load("cortex-m4")
    for peaks, wanted in (
        # Convolutions of 12 x 12 are the peak, those of 3 x 3 are far below it.
        ((True, False), "reference im2col_dsp"),
        ((True, False, False), "reference im2col_dsp im2col_dsp"),
        ((True, True, False), "reference reference im2col_dsp"),
    ):
        graph = convolutions(peaks)
        plan = make_plan(graph, core, Optimize.RAM)
        kernels = [s.kernel.stem for s in plan.nodes if s.kernel and s.node.op == "conv2d"]
        if " ".join(kernels) != wanted:
            yield f"{peaks}: want {wanted}, got {' '.join(kernels)}"
        if plan.arena_bytes >= make_plan(graph, core).arena_bytes:
            yield f"{peaks}: ram has no smaller arena than speed"


def convolutions(peaks: tuple[bool, ...]) -> Graph:
    """3x3 convolutions of 8 channels in a row, on 12 x 12 pixels and, behind a pool, on 3 x 3."""
    large, little = (TensorType((1, side, side, 8), DType.S8, Pow2((5,))) for side in (12, 3))
    w = TensorType((8, 3, 3, 8), DType.S8, Pow2((7,)))
    numbers = TensorType((8,), DType.S32, Raw())
    inputs: dict[str, str] = {"w": "w", "b": "numbers", "mult": "numbers", "shift": "numbers"}
    attrs = Conv2dAttrs(pad=(1, 1, 1, 1), round=Rounding.HALF_UP)
    nodes: list[Node] = []
    at, kind = "x", large
    for number, peak in enumerate(peaks):
        if kind is large and not peak:
            pool = MaxPool2dAttrs((4, 4), (4, 4))
            nodes.append(Node("max_pool2d", MaxPool2dInputs(at), pool, (Value("pool", little),)))
            at, kind = "pool", little
        operands: WeightedInputs[Any] = WeightedInputs(at, **inputs)
        at = f"conv{number}"
        nodes.append(Node("conv2d", operands, attrs, (Value(at, kind),)))
    return Graph(
        name="convolutions",
        stage=Stage.INT,
        inputs=(Value("x", large),),
        consts=(
            Const("w", w, np.ones((8, 3, 3, 8), dtype=np.int8)),
            Const("numbers", numbers, np.ones(8, dtype=np.int32)),
        ),
        nodes=tuple(nodes),
        outputs=(at,),
    )


def unknown_problems() -> Iterator[str]:
    """Yield if a first node without any kernel is not what the planner complains of."""
    reals = TensorType((1, 4), DType.F32, Real())
    node = Node("clamp", ClampInputs("x"), ClampAttrs(), (Value("y", reals),))
    graph = Graph(
        name="reals", stage=Stage.FLOAT, inputs=(Value("x", reals),), nodes=(node,), outputs=("y",)
    )
    try:
        make_plan(graph, targets.load("host"))
        yield "a network of reals got a plan"
    except NoKernel:
        pass


def cycles(plan: Plan) -> float:
    """Modelled cycles of a plan's kernels."""
    return sum(s.kernel.cycles(s.node.attrs, s.types) for s in plan.nodes if s.kernel)
