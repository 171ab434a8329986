"""Orders of axes: the algebra against NumPy, and what the solver does with contradicting wishes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isobit.core.dtypes import DType
from isobit.core.types import Real, TensorType
from isobit.importers.layout import formed, solve
from isobit.importers.order import Order
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Graph, Stage
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.check import check
from isobit.ops.foreign import Operand
from isobit.ops.global_avg_pool.op import GlobalAvgPoolAttrs, GlobalAvgPoolInputs
from isobit.ops.logical import Elementwise, Fixed, Last, Note, Permuted, Step, View
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.softmax.op import SoftmaxAttrs, SoftmaxInputs
from isobit.run.golden import run_golden

SIZES = st.sampled_from((1, 1, 2, 3, 4, 6))


@st.composite
def ordered(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=5)))
    return shape, tuple(draw(st.permutations(range(len(shape)))))


@given(ordered())
def test_an_order_names_where_every_element_lies(case: tuple) -> None:
    shape, perm = case
    count = int(np.prod(shape))
    order = Order.of(shape, perm)
    stored = np.arange(count).reshape(shape).transpose(perm).ravel()
    assert np.array_equal(order.indices(count), stored)
    assert order.is_row_major == bool(np.array_equal(stored, np.arange(count)))


@given(ordered())
def test_axes_is_the_inverse_of_of(case: tuple) -> None:
    shape, perm = case
    axes = Order.of(shape, perm).axes(shape)
    assert axes is not None and sorted(axes) == list(range(len(shape)))
    assert Order.of(shape, axes) == Order.of(shape, perm)
    if shape[0] == 1:
        assert axes[0] == 0


@given(ordered(), st.randoms(use_true_random=False))
def test_a_transposition_of_the_model_moves_no_memory(case: tuple, random: object) -> None:
    shape, perm = case
    other = list(range(len(shape)))
    random.shuffle(other)  # type: ignore[attr-defined]
    order, count = Order.of(shape, perm), int(np.prod(shape))
    x = np.arange(count).reshape(shape)
    moved = order.transposed(shape, other)
    assert moved is not None
    memory = x.ravel()[order.indices(count)]
    assert np.array_equal(x.transpose(other).ravel()[moved.indices(count)], memory)


@given(ordered(), st.randoms(use_true_random=False))
def test_move_to_is_one_transposition(case: tuple, random: object) -> None:
    shape, perm = case
    other = list(range(len(shape)))
    random.shuffle(other)  # type: ignore[attr-defined]
    first, second, count = Order.of(shape, perm), Order.of(shape, other), int(np.prod(shape))
    move = first.move_to(second)
    assert move is not None
    factors, axes = move
    memory = first.indices(count).reshape(factors or (1,)).transpose(axes or (0,)).ravel()
    assert np.array_equal(memory, second.indices(count))


def test_boundaries_inside_of_a_factor_have_no_refinement() -> None:
    turned = Order.of((6, 2), (1, 0))
    assert turned.refined((4, 3)) is None and turned.axes((4, 3)) is None
    assert turned.transposed((4, 3), (1, 0)) is None
    assert turned.move_to(Order.of((4, 3), (1, 0))) is None


def operand(name: str, *shape: int) -> Operand:
    return Operand(name, shape, TensorType(shape, DType.F64, Real()), name)


def step(kind: object, xs: list[Operand], y: Operand) -> Step:
    return Step(where=f'operator "{y.label}"', kind=kind, xs=tuple(xs), ys=(y,))  # type: ignore[arg-type]


def pool(x: Operand, y: Operand) -> Step:
    attrs = MaxPool2dAttrs((2, 2), (1, 1))
    return step(Fixed("max_pool2d", lambda n: MaxPool2dInputs(n[0]), attrs), [x], y)


def add(a: Operand, b: Operand, y: Operand) -> Step:
    return step(Elementwise("add", lambda n: AddInputs(n[0], n[1]), AddAttrs()), [a, b], y)


def solved(
    inputs: list[Operand], steps: list[Step], outputs: list[Operand]
) -> tuple[Graph, tuple[Note, ...]]:
    build = GraphBuilder("net", Stage.FLOAT)
    for each in (*inputs, *(y for s in steps for y in s.ys)):
        build.fresh(each.value)
    *_, notes = solve(build, inputs, steps, outputs)
    graph = build.graph()
    check(graph)
    return graph, notes


def transposes(graph: Graph) -> int:
    return sum(node.op == "transpose" for node in graph.nodes)


def test_residuals_stay_channels_last() -> None:
    x, a, b, y = (operand(n, 1, 3, h, h) for n, h in zip("xaby", (6, 5, 5, 5), strict=True))
    graph, notes = solved([x], [pool(x, a), add(a, a, b), add(a, b, y)], [y])
    assert transposes(graph) == 0
    assert graph.inputs[0].type.shape == (1, 6, 6, 3)
    assert [note.perm for note in notes] == [(0, 2, 3, 1)] * 2


def test_two_orders_in_one_sum_need_one_transposition() -> None:
    x, flat = operand("x", 1, 3, 4, 4), operand("flat", 1, 27)
    a, row, y = operand("a", 1, 3, 3, 3), operand("row", 1, 27), operand("y", 1, 27)
    graph, notes = solved([x, row], [pool(x, a), step(View(), [a], flat), add(flat, row, y)], [y])
    # The row follows the wish of nobody; it is brought to the image's order, and the sum back.
    reasons = [note.text for note in notes if note.kind == "transpose"]
    assert len(reasons) == transposes(graph) == 2
    rng = np.random.default_rng(0)
    image, values = rng.normal(size=(1, 4, 4, 3)), rng.normal(size=(1, 27))
    out = run_golden(graph, {"x": image, "row": values})[graph.outputs[0]]
    pooled = np.lib.stride_tricks.sliding_window_view(image, (2, 2), (1, 2)).max((-1, -2))
    assert np.allclose(out, pooled.transpose(0, 3, 1, 2).reshape(1, 27) + values)


def test_a_transposition_is_shared_by_its_readers() -> None:
    x, t = operand("x", 1, 4, 3, 5), operand("t", 1, 3, 5, 4)
    a, b, c, y = (
        operand(n, *s)
        for n, s in zip(
            "abcy", ((1, 4, 2, 4), (1, 3, 4, 3), (1, 3, 4, 3), (1, 3, 4, 3)), strict=True
        )
    )
    steps = [
        pool(x, a),
        step(Permuted((0, 2, 3, 1)), [x], t),
        pool(t, b),
        pool(t, c),
        add(b, c, y),
    ]
    graph, notes = solved([x], steps, [a, y])
    assert transposes(graph) == 1
    assert sum(note.kind == "transpose" for note in notes) == 1


def test_what_works_along_the_last_axis_moves_it_there() -> None:
    x, a, y = operand("x", 1, 3, 4, 5), operand("a", 1, 3, 3, 4), operand("y", 1, 3, 3, 4)
    last = Last("softmax", lambda n: SoftmaxInputs(n[0]), SoftmaxAttrs(), 1)
    graph, _ = solved([x], [pool(x, a), step(last, [a], y)], [y])
    assert transposes(graph) == 0  # the channels are last already
    rows = Last("softmax", lambda n: SoftmaxInputs(n[0]), SoftmaxAttrs(), 3)
    graph, notes = solved([x], [pool(x, a), step(rows, [a], y)], [y])
    assert transposes(graph) >= 1
    assert any("last" in note.text for note in notes if note.kind == "transpose")


def test_outputs_that_are_one_value_or_an_input_get_nodes_of_their_own() -> None:
    x, v, y = operand("x", 1, 3, 4, 4), operand("v", 1, 48), operand("y", 1, 3, 1, 1)
    mean = Fixed("global_avg_pool", lambda n: GlobalAvgPoolInputs(n[0]), GlobalAvgPoolAttrs())
    flat = operand("flat", 1, 3)
    steps = [step(View(), [x], v), step(mean, [x], y), step(View(), [y], flat)]
    graph, _ = solved([x], steps, [v, y, flat])
    assert len(set(graph.outputs)) == 3
    image = np.arange(48.0).reshape(1, 4, 4, 3)
    values = run_golden(graph, image)
    assert np.array_equal(values[graph.outputs[0]], image.transpose(0, 3, 1, 2).reshape(1, 48))
    assert values[graph.outputs[2]].shape == (1, 3)


@settings(max_examples=30)
@given(ordered())
def test_formed_puts_a_batch_in_front_where_there_is_none(case: tuple) -> None:
    shape, _ = case
    form, boxed = formed(shape)
    assert form[0] == 1 and len(form) == len(shape) + boxed
