"""What each pass makes of the graphs it was written for, and why it leaves others alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isobit.core.fixed import Rounding
from isobit.core.types import Affine
from isobit.ir.graph import Graph, State
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.base import NodeTypes
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.maximum.op import MaximumAttrs, MaximumInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.ops.requantize.exact import equal_to
from isobit.ops.requantize.op import Requantize, RequantizeAttrs, RequantizeInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.softmax import gemmlowp
from isobit.ops.softmax.op import SoftmaxAttrs, SoftmaxInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs
from isobit.ops.weighted import WeightedInputs
from isobit.passes.base import chosen, load_passes, run_passes
from isobit.run.golden import run_golden

from .nets import Net, inputs_of, ops, run

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""To channels first, and back."""


def turn(net: Net, x: str, perm: tuple[int, ...]) -> str:
    return net.add("transpose", TransposeInputs(x), TransposeAttrs(perm))


def clamp(net: Net, x: str, low: int, high: int) -> str:
    return net.add("clamp", ClampInputs(x), ClampAttrs(clamp=(low, high)))


def reshape(net: Net, x: str, *shape: int) -> str:
    return net.add("reshape", ReshapeInputs(x), ReshapeAttrs(shape))


def table(net: Net, x: str, seed: int = 0) -> str:
    data = np.random.default_rng(seed).integers(-128, 128, size=256)
    stored = net.const(data, replace(net.codes(()), encoding=net.types["x"].encoding))
    return net.add("lut", LutInputs(x, table=stored), LutAttrs(""))


def requantize(net: Net, x: str, mult: int, shift: int, encoding: Affine) -> str:
    inputs = RequantizeInputs(x, mult=net.number(mult), shift=net.number(shift))
    return net.add("requantize", inputs, RequantizeAttrs(), encoding)


def real_conv(net: Net, x: str, channels: int) -> str:
    rng = np.random.default_rng(2)
    w = net.const(rng.normal(size=(channels, 3, 3, net.types[x].shape[-1])))
    return net.add("conv2d", WeightedInputs(x, w), Conv2dAttrs(pad=(1, 1, 1, 1)))


def settled(graph: Graph, *wanted: str) -> Graph:
    result, _ = run_passes(graph, chosen(wanted))
    x = inputs_of(graph)
    before, after = run_golden(graph, x), run_golden(result, x)
    for output in graph.outputs:
        assert np.allclose(before[output], after[output], rtol=1e-12, atol=1e-12)
    return result


class TestWhatStatesBecome:
    """A value that a state becomes is needed, whoever else reads it."""

    def remembered(self, graph: Graph, name: str) -> Graph:
        return replace(graph, states=(State("before", graph.type_map()[name], next=name),))

    def test_no_clamp_is_fused_into_it(self) -> None:
        net = Net((2, 2, 2))
        one = {"mult_a": net.number(1), "mult_b": net.number(1), "shift": net.number(0)}
        first = net.add("add", AddInputs("x", "x", **one), AddAttrs())
        second = clamp(net, first, -5, 9)
        graph = net.graph(second)
        assert load_passes()["fuse_clamp"].run(graph).done
        rewrite = load_passes()["fuse_clamp"].run(self.remembered(graph, first))
        assert not rewrite.done
        assert f"%{first} before it is what a state becomes" in [s.text for s in rewrite.kept]

    def test_no_table_is_merged_with_its_own(self) -> None:
        net = Net((5,))
        first = table(net, "x", 1)
        graph = net.graph(table(net, first, 2))
        assert load_passes()["merge_tables"].run(graph).done
        rewrite = load_passes()["merge_tables"].run(self.remembered(graph, first))
        assert not rewrite.done
        assert rewrite.kept[0].text == f"%{first} before it is what a state becomes"


class TestTableChains:
    def test_a_decomposed_hard_swish_is_one_table(self) -> None:
        net = Net((3, 3, 2))
        three = net.const(np.full((1, 1, 1, 1), 51), net.codes((1, 1, 1)))
        one = {"mult_a": net.number(1), "mult_b": net.number(1), "shift": net.number(0)}
        shifted = net.add("add", AddInputs("x", three, **one), AddAttrs(clamp=(-9, 111)))
        y = net.add("mul", MulInputs("x", shifted, shift=net.number(6)), MulAttrs())
        rewrite = run("table_chains", net.graph(y))
        assert ops(rewrite.graph) == ["lut"]
        assert rewrite.done[0].text == "one table of %x for add, mul"

    def test_what_is_read_elsewhere_stays(self) -> None:
        net = Net((5,))
        first = table(net, "x", 1)
        rewrite = run("table_chains", net.graph(first, table(net, first, 2)))
        assert not rewrite.done
        assert rewrite.kept[0].text == f"%{first} before it is needed elsewhere too"

    def test_a_chain_starts_where_another_value_is_needed(self) -> None:
        net = Net((5,))
        first = table(net, "x", 1)
        rewrite = run("table_chains", net.graph(first, clamp(net, table(net, first, 2), -5, 9)))
        assert ops(rewrite.graph) == ["lut", "lut"]
        assert rewrite.done[0].text == f"one table of %{first} for lut, clamp"

    def test_operands_that_differ_by_element_are_no_function_of_a_code(self) -> None:
        net = Net((4,))
        other = net.const([[1, 2, 3, 4]], net.codes((4,)))
        y = net.add("mul", MulInputs("x", other, shift=net.number(3)), MulAttrs())
        rewrite = run("table_chains", net.graph(clamp(net, y, -5, 9)))
        assert not rewrite.done and not rewrite.kept


class TestSimplifyCodes:
    def test_clamps_in_a_row_are_one(self) -> None:
        net = Net((6,))
        y = clamp(net, clamp(net, clamp(net, "x", -100, 50), -20, 90), -128, 40)
        rewrite = run("simplify_scalars", net.graph(y))
        assert [node.attrs for node in rewrite.graph.nodes] == [ClampAttrs(clamp=(-20, 40))]

    def test_a_requantisation_that_changes_no_code_goes(self) -> None:
        net = Net((6,))
        y = requantize(net, table(net, "x"), 1 << 14, 14, Affine((0.05,), -9))
        assert ops(run("simplify_scalars", net.graph(y)).graph) == ["lut"]

    def test_two_requantisations_become_one_only_if_all_codes_agree(self) -> None:
        net = Net((6,))
        fine, half = Affine((0.0125,), 5), Affine((0.025,), -9)
        exact = requantize(net, requantize(net, "x", 4, 0, fine), 1, 1, half)
        rewrite = run("simplify_scalars", net.graph(exact))
        assert ops(rewrite.graph) == ["requantize"]
        net = Net((6,))
        rounded_twice = requantize(net, requantize(net, "x", 1, 1, half), 1, 1, fine)
        rewrite = run("simplify_scalars", net.graph(rounded_twice))
        assert not rewrite.done
        assert rewrite.kept[0].text == "no requantisation of %x gives all its 256 codes"
        assert ops(settled(net.graph(rounded_twice))) == ["lut"]

    def test_a_product_with_a_number_is_a_requantisation(self) -> None:
        net = Net((6,))
        number = net.const([[31]], net.codes((1,)))
        y = net.add("mul", MulInputs("x", number, shift=net.number(6)), MulAttrs())
        rewrite = run("simplify_scalars", net.graph(y))
        assert ops(rewrite.graph) == ["requantize"]

    def test_an_input_cannot_be_an_output(self) -> None:
        net = Net((6,))
        y = requantize(net, "x", 1, 0, Affine((0.05,), -9))
        rewrite = run("simplify_scalars", net.graph(y))
        assert not rewrite.done and "is computed by no node" in rewrite.kept[0].text


@pytest.mark.parametrize("rule", Rounding)
def test_every_requantisation_is_found_again(rule: Rounding) -> None:
    rng, found = np.random.default_rng(5), 0
    net = Net((1,))
    codes = np.arange(-128, 128)[:, None]
    for _ in range(60):
        x = net.codes((1,), Affine((0.03,), int(rng.integers(-128, 128))))
        y = net.codes((1,), Affine((float(rng.uniform(0.01, 0.1)),), int(rng.integers(-50, 50))))
        if rule is Rounding.TFLITE_DOUBLE:
            mult, shift = int(rng.integers(1 << 30, 1 << 31)), int(rng.integers(-3, 2))
        else:
            mult, shift = int(rng.integers(1 << 14, 1 << 15)), int(rng.integers(13, 18))
        factors = {"mult": np.asarray([mult]), "shift": np.asarray([shift])}
        attrs = RequantizeAttrs(tuple(np.sort(rng.integers(-128, 128, 2)).tolist()), rule)
        q = NodeTypes(RequantizeInputs(x), (y,))
        result = Requantize.integer(attrs, q, RequantizeInputs(codes, **factors))[:, 0]
        again = equal_to(result, x, y)
        if again is not None:
            found += 1
            own, numbers = again
            exact = RequantizeInputs(codes, **{k: v.astype(np.int64) for k, v in numbers.items()})
            assert np.array_equal(Requantize.integer(own, q, exact)[:, 0], result)
    assert found >= (55 if rule is Rounding.HALF_UP else 30)  # one that rounds twice has no slope
    assert equal_to(np.arange(128, -128, -1) - 1, x, y) is None
    assert equal_to(rng.integers(-128, 128, size=256), x, y) is None


class TestSinkTransposes:
    def test_a_network_in_channels_first_loses_all_but_the_ends(self) -> None:
        net = Net((6, 5, 3), real=True)
        a = turn(net, real_conv(net, "x", 4), FIRST)
        a = net.add("clamp", ClampInputs(a), ClampAttrs(low=0.0))
        b = turn(net, real_conv(net, turn(net, a, LAST), 4), FIRST)
        b = net.add("add", AddInputs(a, b), AddAttrs())
        bias = net.const(np.arange(4.0).reshape(1, 4, 1, 1))
        b = net.add("mul", MulInputs(b, bias), MulAttrs())
        c = net.add("concat", ConcatInputs((a, b)), ConcatAttrs(1))
        c = net.add("pad", PadInputs(c), PadAttrs(((0, 1), (2, 0), (0, 3))))
        y = turn(net, real_conv(net, turn(net, c, LAST), 2), FIRST)
        graph = net.graph(y)
        assert ops(graph).count("transpose") == 5
        rewrite = run("sink_transposes", graph)
        assert ops(rewrite.graph).count("transpose") == 1
        assert rewrite.kept[0].text == "it is the last node"
        pad = next(node for node in rewrite.graph.nodes if node.op == "pad")
        assert pad.attrs == PadAttrs(((2, 0), (0, 3), (0, 1)))

    def test_a_factor_per_channel_is_turned_by_a_view(self) -> None:
        net = Net((4, 4, 3))
        gate = table(
            net, net.add("max_pool2d", MaxPool2dInputs("x"), MaxPool2dAttrs((4, 4), (4, 4)))
        )
        inputs = MulInputs(turn(net, "x", FIRST), reshape(net, gate, 3, 1, 1), shift=net.number(7))
        y = turn(net, net.add("mul", inputs, MulAttrs()), LAST)
        rewrite = run("sink_transposes", net.graph(y))
        assert "transpose" not in ops(rewrite.graph)

    def test_rows_and_columns_change_places_in_a_pool(self) -> None:
        net = Net((7, 5, 2))
        swap = (0, 2, 1, 3)
        attrs = MaxPool2dAttrs((2, 3), (1, 2), (1, 0, 0, 2))
        pooled = net.add("max_pool2d", MaxPool2dInputs(turn(net, "x", swap)), attrs)
        rewrite = run("sink_transposes", net.graph(clamp(net, turn(net, pooled, swap), -90, 90)))
        (pool,) = (n for n in rewrite.graph.nodes if n.op == "max_pool2d")
        assert pool.attrs == MaxPool2dAttrs((3, 2), (2, 1), (0, 1, 2, 0))

    def test_one_that_moves_nothing_is_a_view(self) -> None:
        net = Net((1, 7, 1))
        rewrite = run("sink_transposes", net.graph(turn(net, "x", FIRST)))
        assert ops(rewrite.graph) == ["reshape"]

    def test_reasons(self) -> None:
        net = Net((4, 4, 3))
        turned = turn(net, "x", FIRST)
        softmax = net.add("softmax", SoftmaxInputs(turned), SoftmaxAttrs(1.0, 1 << 30, 20, -100))
        mul = net.add("mul", MulInputs(turned, softmax, shift=net.number(7)), MulAttrs())
        rewrite = run("sink_transposes", net.graph(mul))
        assert not rewrite.done
        assert rewrite.kept[0].text == f'mul "{mul}" also reads %{softmax}, which is not turned'
        net = Net((4, 4, 3))
        clamped = clamp(net, turn(net, "x", FIRST), -5, 5)
        rewrite = run("sink_transposes", net.graph(clamped))
        assert rewrite.kept[0].text == 'nothing behind clamp "transpose0" undoes it'


class TestFoldConstants:
    def test_weights_of_a_turned_tensor_are_stored_turned(self) -> None:
        net = Net((3,), real=True)
        stored = net.const(np.arange(6.0).reshape(3, 2))
        w = net.add("transpose", TransposeInputs(reshape(net, stored, 2)), TransposeAttrs((0, 1)))
        y = net.add("add", AddInputs("x", net.const(np.ones((1, 3)))), AddAttrs())
        rewrite = load_passes()["fold_constants"].run(replace(net.graph(y), outputs=(y, w)))
        assert not [s for s in rewrite.done if s.node == w]
        assert "an output of the network" in rewrite.kept[0].text

    def test_a_branch_of_constants_is_one_constant(self) -> None:
        net = Net((2, 3))
        stored = net.const(np.arange(6).reshape(1, 3, 2), net.codes((3, 2)))
        b = clamp(net, turn(net, stored, (0, 2, 1)), 1, 4)
        y = net.add("concat", ConcatInputs(("x", b)), ConcatAttrs(1))
        rewrite = run("fold_constants", net.graph(y))
        assert ops(rewrite.graph) == ["concat"]
        (const,) = rewrite.graph.consts
        assert const.data.tolist() == [[[1, 2, 4], [1, 3, 4]]] and const.label == b


class TestSimplifyReals:
    def test_sums_and_products_go_into_the_weights(self) -> None:
        net = Net((5, 5, 2), real=True)
        y = real_conv(net, "x", 3)
        per_channel = net.const(np.asarray([2.0, -0.5, 3.0]).reshape(1, 1, 1, 3))
        y = net.add("mul", MulInputs(per_channel, y), MulAttrs())
        y = net.add(
            "add", AddInputs(net.const(np.full((1, 1, 1, 1), 0.7)), y), AddAttrs(subtract=True)
        )
        assert ops(settled(net.graph(y))) == ["conv2d"]

    def test_chains_of_sums_cancel(self) -> None:
        net = Net((4,), real=True)
        x = net.add("clamp", ClampInputs("x"), ClampAttrs(low=-1.0))
        three = net.const(np.full((1, 1), 3.0))
        y = net.add("add", AddInputs(three, x), AddAttrs(subtract=True))
        y = net.add("add", AddInputs(three, y), AddAttrs(subtract=True))
        y = net.add("mul", MulInputs(y, net.const(np.ones((1, 1)))), MulAttrs())
        assert ops(settled(net.graph(y))) == ["clamp"]

    def test_reasons(self) -> None:
        net = Net((4, 4, 2), real=True)
        y = real_conv(net, "x", 2)
        mask = net.const(np.random.default_rng(0).normal(size=(1, 4, 4, 1)))
        y = net.add("mul", MulInputs(y, mask), MulAttrs())
        row = net.const(np.random.default_rng(1).normal(size=(1, 1, 1, 2)))
        y = net.add("mul", MulInputs(y, row), MulAttrs())
        z = net.add("add", AddInputs(y, row), AddAttrs())
        rewrite = run("simplify_scalars", net.graph(z))
        assert not rewrite.done
        assert [step.text for step in rewrite.kept] == [
            "its constant differs within a channel, the weights of conv2d do not",
            "mul and mul together need a larger constant",
            "mul and add together are neither one sum nor one product",
        ]


class TestViewsAndResidue:
    def test_views_in_a_row_are_one(self) -> None:
        net = Net((3, 4))
        y = clamp(net, reshape(net, reshape(net, reshape(net, "x", 12), 2, 6), 4, 3), -9, 9)
        rewrite = run("merge_views", net.graph(y))
        assert ops(rewrite.graph) == ["reshape", "clamp"]

    def test_what_a_converter_leaves_behind_goes(self) -> None:
        """Identities that once carried control edges, loop variables computed twice, branches that
        nothing reads.
        """
        net = Net((4, 3))
        y = table(net, "x")
        for _ in range(4):
            y = turn(net, reshape(net, clamp(net, y, -128, 127), 4, 3), (0, 1, 2))
        twice = [clamp(net, y, -20, 30) for _ in range(2)]
        table(net, y, 9)
        y = net.add("concat", ConcatInputs(tuple(twice)), ConcatAttrs(1))
        y = net.add("concat", ConcatInputs((y,)), ConcatAttrs(1))
        graph = settled(net.graph(y))
        assert ops(graph) == ["lut", "concat"]

    def test_a_pad_by_another_number_stays(self) -> None:
        net = Net((4, 4, 2), real=True)
        padded = net.add("pad", PadInputs("x"), PadAttrs(((1, 1), (1, 1), (0, 0)), real=2.5))
        rewrite = run("fuse_pad", net.graph(real_conv(net, padded, 2)))
        assert not rewrite.done
        assert rewrite.kept[0].text == "it pads with 2.5, a convolution with 0"

    def test_two_outputs_stay_two_values_where_a_third_is_the_same(self) -> None:
        net = Net((2, 3, 4), real=True)
        first, second, third = (reshape(net, "x", 24) for _ in range(3))
        again = net.add("concat", ConcatInputs((first, first)), ConcatAttrs(1))
        result = settled(net.graph(again, second, third))
        assert result.outputs == (again, second, third)

    def test_an_output_never_becomes_an_input_by_way_of_a_third(self) -> None:
        net = Net((3, 4))
        y = net.add("maximum", MaximumInputs("x", "x"), MaximumAttrs())
        y = net.add("maximum", MaximumInputs(y, y), MaximumAttrs())
        settled(net.graph(y, table(net, y)))

    def test_an_output_never_becomes_another_by_way_of_a_third(self) -> None:
        net = Net((3, 4))
        first = table(net, "x")
        y = net.add("maximum", MaximumInputs(first, first), MaximumAttrs())
        y = net.add("maximum", MaximumInputs(y, y), MaximumAttrs())
        settled(net.graph(first, y))


class TestElideSoftmax:
    @staticmethod
    def net(scale: float) -> tuple[Net, str]:
        net = Net((3,))
        attrs = SoftmaxAttrs(1.0, *gemmlowp.parameters(scale))
        logits = clamp(net, "x", -100, 100)
        return net, net.add("softmax", SoftmaxInputs(logits), attrs, name="y")

    def test_on_request_the_output_is_the_logits(self) -> None:
        net, y = self.net(0.05)
        graph = net.graph(y)
        assert ops(run_passes(graph, chosen())[0]) == ["clamp", "softmax"]
        result, runs = run_passes(graph, chosen(["elide_softmax"]))
        assert ops(result) == ["clamp"] and result.outputs == (y,)
        (step,) = next(r.done for r in runs if r.name == "elide_softmax")
        assert step.data == {"scale": 0.05, "zero": -9}

    def test_the_largest_logit_is_a_largest_probability(self) -> None:
        net, y = self.net(1e-4)  # so flat that all probabilities are the same code
        graph = net.graph(y)
        result, _ = run_passes(graph, chosen(["elide_softmax"]))
        x = np.asarray([[1, 2, 3]], dtype=np.int8)
        old, new = run_golden(graph, x)[y], run_golden(result, x)[y]
        assert len(set(old[0].tolist())) == 1 and new.argmax() == 2

    def test_reasons(self) -> None:
        net, y = self.net(0.05)
        z = table(net, y)
        kept = load_passes()["elide_softmax"].run(net.graph(y, z)).kept
        assert kept[0].text == f'lut "{z}" reads it'
        net = Net((3,))
        attrs = SoftmaxAttrs(1.0, *gemmlowp.parameters(0.05))
        y = net.add("softmax", SoftmaxInputs("x"), attrs)
        kept = load_passes()["elide_softmax"].run(net.graph(y)).kept
        assert "is computed by no node" in kept[0].text


def test_linear_takes_a_factor() -> None:
    net = Net((4,), real=True)
    w = net.const(np.random.default_rng(0).normal(size=(3, 4)))
    b = net.const(np.ones(3))
    y = net.add("linear", WeightedInputs("x", w, b), LinearAttrs())
    y = net.add("mul", MulInputs(y, net.const(np.full((1, 1), 0.25))), MulAttrs())
    assert ops(run("simplify_scalars", net.graph(y)).graph) == ["linear"]
