"""The oracles against cases small enough to be worked out by hand."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest

from . import OPERATORS, graph, oracle, rounding, softmax


def ints(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def run(op: str, inputs: dict, attrs: dict | None = None, zeros: dict | None = None) -> list:
    result = oracle(op)(inputs, attrs or {}, zeros or {})
    return [each.tolist() for each in result] if isinstance(result, list) else result.tolist()


IMAGE = ints([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(1, 3, 3, 1)


def test_oracle_exists_for_every_name_only() -> None:
    assert all(callable(oracle(op)) for op in OPERATORS)
    with pytest.raises(KeyError, match="no oracle is written for 'rounding'"):
        oracle("rounding")


# Rounding rules


@pytest.mark.parametrize(
    ("v", "k", "e", "want"),
    [
        (3, 1, 1, 2),  # 1.5
        (-3, 1, 1, -1),  # -1.5: up
        (-5, 1, 1, -2),  # -2.5: up
        (-1, 1, 2, 0),  # -0.25
        (7, 3, 0, 21),
        (10, 3, 3, 4),  # 3.75
        (2**31 - 1, 2**31 - 1, 62, 1),
    ],
)
def test_half_up_rounds_ties_upwards(v: int, k: int, e: int, want: int) -> None:
    assert rounding.half_up(v, k, e) == want


@pytest.mark.parametrize(
    ("v", "m", "s", "want"),
    [
        (3, 2**30, 0, 2),  # 1.5: up
        (-3, 2**30, 0, -1),  # -1.5: up
        (6, 2**30, -1, 2),  # 3, then 1.5: away
        (-6, 2**30, -1, -2),  # -3, then -1.5: away
        (3, 2**30, -1, 1),  # 1.5 becomes 2, then 1; once rounded, 0.75 also is 1
        (5, 2**30, -2, 1),  # 2.5 becomes 3, then 0.75; once rounded, 0.625 also is 1
        (-5, 2**30, -2, -1),  # -2.5 becomes -2, then -0.5 becomes -1: -0.625 twice away
        (3, 2**30, -2, 1),  # 1.5 becomes 2, then 0.5 becomes 1; once rounded, 0.375 is 0
        (5, 2**30, 3, 20),
        (10**6, 2**30, -32, 0),
    ],
)
def test_tflite_double_rounds_twice(v: int, m: int, s: int, want: int) -> None:
    assert rounding.tflite_double(v, m, s) == want


def test_means_agree_with_the_formula_of_the_text() -> None:
    for n in range(1, 12):
        for v in range(-60, 61):
            sign = (v > 0) - (v < 0)
            assert rounding.away(v, n) == int((v + sign * (n // 2)) / n)
            assert rounding.trunc(v, n) == int(v / n)


def test_round_half_away_is_symmetric() -> None:
    for numerator, want in ((1, 0), (2, 1), (3, 1), (5, 1), (6, 2), (7, 2)):
        assert rounding.round_half_away(Fraction(numerator, 4)) == want
        assert rounding.round_half_away(Fraction(-numerator, 4)) == -want


def test_limits_are_enforced() -> None:
    for refused in (
        lambda: rounding.half_up(1, 2**31, 0),
        lambda: rounding.half_up(1, 1, 63),
        lambda: rounding.half_up(2**40, 2**30, 0),
        lambda: rounding.tflite_double(1, 1, 31),
        lambda: rounding.tflite_double(2**30, 2**30, 2),
        lambda: rounding.accumulate(2**31 - 1, [1, -1]),
        lambda: rounding.rescale(1, "tflite_double", None, [0], 0),
        lambda: rounding.rescale(1, "nearest", None, [0], 0),
    ):
        with pytest.raises(AssertionError):
            refused()


# Convolutions


def test_conv2d_slides_the_window() -> None:
    inputs = {"x": IMAGE, "w": ints([[[[1], [2]], [[3], [4]]]]), "shift": ints([0])}
    assert np.ravel(run("conv2d", inputs)).tolist() == [37, 47, 67, 77]


def test_conv2d_pads_with_real_zero_adds_the_bias_and_clamps() -> None:
    inputs = {"x": IMAGE, "w": ints([[[[1], [1]]]]), "b": ints([3]), "shift": ints([1])}
    attrs = {"pad": (0, 1, 0, 0), "stride": (2, 1), "clamp": (-100, 13)}
    # (x - 1): [0 1 2] and [6 7 8]; left neighbours summed: [0 1 3] and [6 13 15]; + 3, / 2, + 5
    assert np.ravel(run("conv2d", inputs, attrs, {"x": 1, "y": 5})).tolist() == [
        *(7, 7, 8),  # 1.5 -> 2, 2, 3
        *(10, 13, 13),  # 4.5 -> 5, 8, 9 clamped
    ]


def test_conv2d_groups_and_dilation() -> None:
    x = ints([[1, 10], [2, 20], [3, 30]]).reshape(1, 1, 3, 2)
    w = ints([[[[1], [1]]], [[[1], [-1]]]])  # two outputs, one input channel each
    inputs = {"x": x, "w": w, "shift": ints([0])}
    assert run("conv2d", inputs, {"groups": 2, "dilation": (1, 2)}) == [[[[4, -20]]]]


def test_conv2d_multiplies_per_channel() -> None:
    inputs = {
        "x": ints([[[[10]]]]),
        "w": ints([[[[1]]], [[[2]]]]),
        "mult": ints([3, 5]),
        "shift": ints([1, 3]),
    }
    assert run("conv2d", inputs) == [[[[15, 13]]]]  # 15, 12.5


def test_conv2d_refuses_sums_outside_int32() -> None:
    inputs = {"x": ints([[[[127]]]]), "w": ints([[[[127]]]]), "shift": ints([20])}
    run("conv2d", {**inputs, "b": ints([2**31 - 1 - 127 * 127])})
    with pytest.raises(AssertionError, match="outside int32"):
        run("conv2d", {**inputs, "b": ints([2**31 - 127 * 127])})


def test_depthwise_conv2d_reads_one_channel_per_output() -> None:
    x = ints([[1, 10], [2, 20]]).reshape(1, 1, 2, 2)
    w = ints([[[1, 2, 3, 4], [5, 6, 7, 8]]])  # [1,2,4]: two outputs per input channel
    inputs = {"x": x, "w": w, "shift": ints([0])}
    assert run("depthwise_conv2d", inputs, {"clamp": (-999, 999)}) == [[[[11, 14, 170, 200]]]]
    assert run("depthwise_conv2d", inputs, {"clamp": (-999, 999)}, {"x": 1}) == [
        [[[5, 6, 27 + 133, 36 + 152]]]
    ]


def test_linear_subtracts_the_zero_point() -> None:
    inputs = {"x": ints([[3, 4], [0, 0]]), "w": ints([[1, 2], [-1, 1]]), "shift": ints([0])}
    assert run("linear", inputs, zeros={"x": 1, "y": -2}) == [[6, -1], [-5, -2]]


# Pools


def test_max_pool2d_ignores_padding() -> None:
    attrs = {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1, 0, 0)}
    assert np.ravel(run("max_pool2d", {"x": -IMAGE}, attrs)).tolist() == [-1, -2, -4, -5]
    with pytest.raises(AssertionError, match="without a tap"):
        run("max_pool2d", {"x": IMAGE}, {**attrs, "pad": (2, 2, 0, 0)})


def test_avg_pool2d_divides_by_the_taps_on_the_input() -> None:
    attrs = {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1, 0, 0)}
    means = [1, 2.5, 5.5, 7]  # of [1], [2 3], [4 7], [5 6 8 9]
    x = {"x": IMAGE}
    assert np.ravel(run("avg_pool2d", x, attrs)).tolist() == [1, 3, 6, 7]
    assert np.ravel(run("avg_pool2d", {"x": -IMAGE}, attrs)).tolist() == [-1, -3, -6, -7]
    truncated = run("avg_pool2d", {"x": -IMAGE}, {**attrs, "round": "trunc"})
    assert np.ravel(truncated).tolist() == [-math.floor(mean) for mean in means]
    # with the padding: (1 + 3*3)/4, (5 + 2*3)/4, (11 + 2*3)/4, 28/4
    included = run("avg_pool2d", x, {**attrs, "count_include_pad": True}, {"x": 3})
    assert np.ravel(included).tolist() == [3, 3, 4, 7]


def test_global_avg_pool_is_the_mean_of_the_image() -> None:
    x = ints([[-1, 5], [-2, 5], [-2, 7], [-1, 6]]).reshape(1, 2, 2, 2)
    assert run("global_avg_pool", {"x": x}) == [[[[-2, 6]]]]  # -1.5, 5.75
    assert run("global_avg_pool", {"x": x}, {"round": "trunc"}) == [[[[-1, 5]]]]


# Element-wise operators


def test_add_aligns_and_broadcasts() -> None:
    inputs = {"a": ints([[1, 2], [-3, 100]]), "b": ints([[3]])}
    inputs |= {"mult_a": ints([4]), "mult_b": ints([1]), "shift": ints([1])}
    # (4a + (b - 1)) / 2 + 1
    assert run("add", inputs, zeros={"b": 1, "y": 1}) == [[4, 6], [-4, 127]]
    with pytest.raises(AssertionError):
        run("add", {**inputs, "mult_a": ints([2**30])})


def test_mul_and_requantize_round() -> None:
    inputs = {"a": ints([[3, -3]]), "b": ints([[5]]), "shift": ints([1])}
    assert run("mul", inputs, zeros={"b": 4}) == [[2, -1]]  # 1.5, -1.5
    inputs |= {"mult": ints([2**30]), "shift": ints([0])}
    assert run("mul", inputs, {"round": "tflite_double"}) == [[8, -7]]  # 7.5, -7.5
    inputs = {"x": ints([[10, -10]]), "mult": ints([3]), "shift": ints([2])}
    assert run("requantize", inputs, zeros={"x": 1, "y": 2}) == [[9, -6]]  # 6.75, -8.25
    assert run("requantize", {"x": ints([[5]]), "shift": ints([1])}) == [[3]]


def test_clamp_and_lut_map_codes() -> None:
    assert run("clamp", {"x": ints([[-128, 3, 127]])}, {"clamp": (0, 6)}) == [[0, 3, 6]]
    table = ints(range(255, -1, -1))
    assert run("lut", {"x": ints([[-128, 0, 127]]), "table": table}) == [[255, 127, 0]]
    table = np.arange(256, dtype=np.float32) / 2
    assert run("dequantize", {"x": ints([[-128, 0, 127]]), "table": table}) == [[0, 64, 127.5]]


def test_standardize_centres_bytes() -> None:
    inputs = {"x": ints([[0, 255], [100, 3]]), "mean": ints([100, 1])}
    # (0-100)*2/8 = -25, (255-1)*2/8 = 63.5, 0, 0.5
    assert run("standardize", inputs, {"left": 1, "right": 3}) == [[-25, 64], [0, 1]]


def test_mean_image_has_a_mean_per_pixel() -> None:
    inputs = {"x": ints([[[0, 255]], [[100, 3]]]), "mean": ints([[100, 1]])}
    # (0-100)*2/8 = -25, (255-1)*2/8 = 63.5, 0, 0.5
    assert run("mean_image", inputs, {"left": 1, "right": 3}) == [[[-25, 64]], [[0, 1]]]


def test_per_image_standardize_divides_by_the_deviation() -> None:
    # Mean 6 and deviation 4; constant; deviation sqrt(2)/3 of 0, 1, 0 against the bound 1/sqrt(3).
    x = ints([[2, 2, 10, 10, 10, 2]])
    assert run("per_image_standardize", {"x": x}, {"frac": 5, "least": 6}) == [
        [-32, -32, 32, 32, 32, -32]
    ]
    x = ints([[7, 7, 7], [0, 1, 0]])
    got = run("per_image_standardize", {"x": x}, {"frac": 5, "least": 3}, {"y": 1})
    assert got == [[1, 1, 1], [-17, 38, -17]]  # 1/3 and 2/3 times 32 * sqrt(3): -18.5, 36.95


def test_dynamic_layers_find_their_step() -> None:
    inputs = {"x": ints([[3, 1], [100, 90]]), "w": ints([[5, -2], [100, 1]]), "b": ints([1, -1])}
    attrs = {"product": -4, "bias": -4}
    # Sums with bias: 14, 300 have two bits too many, 3.5 and 75; 321, 10089 seven, 2.5 and 78.8.
    codes, exponents = run("dynamic_linear", inputs, attrs)
    assert codes == [[4, 75], [3, 79]]
    assert exponents == [[-2], [3]]
    # The input's exponent makes products coarser than the bias by 2^3, or finer by 2: 13 + 1/8 and
    # 301 - 1/8 in units of products, 320/2 + 1 and 10090/2 - 1 in units of the bias.
    codes, exponents = run("dynamic_linear", {**inputs, "e": ints([[3], [-1]])}, attrs)
    assert codes == [[3, 75], [3, 79]]
    assert exponents == [[1], [2]]
    image = {"x": ints([[[[2], [3]]]]), "w": ints([[[[4]]], [[[-200]]]])}
    codes, exponents = run("dynamic_conv2d", image, {"product": 0, "bias": 0})
    assert (codes, exponents) == ([[[[1, -50], [2, -75]]]], [[3]])
    # Channel 0 by 4 and -200, channel 1 by 1 and 30: 8, -400, 3, 90 in steps of 4, ties upwards.
    image = {"x": ints([[[[2, 3]]]]), "w": ints([[[4, -200, 1, 30]]])}
    codes, exponents = run("dynamic_depthwise_conv2d", image, {"product": 0, "bias": 0})
    assert (codes, exponents) == ([[[[2, -100, 1, 23]]]], [[2]])


def test_quantize_reads_the_bits_of_floats() -> None:
    x = [0.5, -0.5, 0.25, -0.25, 1.75, 1e30, -1e30, math.inf, -math.inf, math.nan, 1e-45, -0.0]
    inputs = {"x": np.array([x], dtype=np.float32), "mult": ints([2**30]), "shift": ints([29])}
    want = [1, -1, 1, -1, 4, 90, -128, 90, -128, 0, 0, 0]  # 2x, ties away from zero
    assert run("quantize", inputs, {"clamp": (-128, 90)}) == [want]
    # the zero point comes after the rounding: -0.5 rounds to -1, then + 3
    assert run("quantize", inputs, zeros={"y": 3})[0][2:4] == [4, 2]


# Layout


def test_layout_operators_move_codes() -> None:
    a, b = ints([[[1, 2]], [[3, 4]]]), ints([[[5]], [[6]]])
    joined = [[[1, 2, 5]], [[3, 4, 6]]]
    assert run("concat", {"xs": [a, b]}, {"axis": 2}) == joined
    assert run("concat", {"xs": [a, b]}, {"axis": -1}) == joined
    parts = run("split", {"x": ints(joined)}, {"axis": 2, "sizes": (2, 1)})
    assert parts == [a.tolist(), b.tolist()]
    attrs = {"pads": ((1, 0), (0, 1))}
    want = [[[9, 9, 9], [1, 2, 9]], [[9, 9, 9], [3, 4, 9]]]
    assert run("pad", {"x": a}, attrs, {"x": 9}) == want
    assert run("pad", {"x": a}, {**attrs, "value": 9}, {"x": 5}) == want
    row = ints([[1, 2, 3]])
    assert run("mirror_pad", {"x": row}, {"pads": ((2, 1),)}) == [[3, 2, 1, 2, 3, 2]]
    attrs = {"pads": ((2, 3),), "mode": "symmetric"}
    assert run("mirror_pad", {"x": row}, attrs) == [[2, 1, 1, 2, 3, 3, 2, 1]]
    attrs = {"begin": (2,), "stride": (-2,), "size": (2,)}
    assert run("strided_slice", {"x": row}, attrs) == [[3, 1]]
    x = np.arange(12).reshape(1, 2, 3, 2)
    assert run("reshape", {"x": x}, {"shape": (3, 4)}) == x.reshape(1, 3, 4).tolist()
    assert run("transpose", {"x": x}, {"perm": (0, 3, 1, 2)}) == x.transpose(0, 3, 1, 2).tolist()


# Softmax


def test_softmax_constants_are_the_nearest_integers() -> None:
    getcontext().prec = 40
    for k, constant in softmax.EXP_OF_POWERS.items():
        assert constant == round((-(Decimal(2) ** k)).exp() * 2**31)
    assert round(Decimal(-1 / 8).exp() * 2**31) == softmax.EXP_OF_MINUS_EIGHTH
    assert round(Fraction(2**31, 3)) == softmax.ONE_THIRD
    assert round(Fraction(48 * 2**29, 17)) == softmax.FORTY_EIGHT_OVER_17
    assert round(Fraction(-32 * 2**29, 17)) == softmax.MINUS_THIRTY_TWO_OVER_17


def test_softmax_of_equal_codes_is_uniform() -> None:
    attrs = {"mult": 2**30, "shift": 22, "diff_min": -496}
    assert run("softmax", {"x": ints([[7, 7, 7, 7]])}, attrs) == [[-64] * 4]
    assert run("softmax", {"x": ints([[7]])}, attrs) == [[127]]  # 256 of 256, clamped
    # e^-1 = 0.3679 against 1: 68.85 and 187.15 of 256, when one code is 1/32 * 32
    assert run("softmax", {"x": ints([[0, 32]])}, {**attrs, "shift": 22}) == [[-59, 59]]
    assert run("softmax", {"x": ints([[-128, 127]])}, {**attrs, "diff_min": -10}) == [[-128, 127]]


# Graphs


def test_graph_runs_nodes_in_order() -> None:
    nodes = [
        ("split", {"x": "x"}, {"axis": 1, "sizes": (1, 2)}, {}, ["a", "b"]),
        ("mul", {"a": "a", "b": "b", "mult": None, "shift": "none"}, {}, {}, ["c"]),
        ("concat", {"xs": ["c", "x"]}, {"axis": 1}, {}, ["y"]),
    ]
    values = graph.evaluate(nodes, {"x": ints([[2, 3, 4]]), "none": ints([0])})
    assert values["y"].tolist() == [[6, 8, 2, 3, 4]]
