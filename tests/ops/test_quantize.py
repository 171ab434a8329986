"""`quantize` and `dequantize`: float32 at the ends of an integer graph."""

from __future__ import annotations

import re
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pytest

from isobit import targets
from isobit.codegen.network import generate
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, SeveralProblems
from isobit.core.types import Affine, Encoding, Pow2, Real, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ir.text import parse_graph, print_graph
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.dequantize.op import (
    Dequantize,
    DequantizeAttrs,
    DequantizeInputs,
    nearest_float32,
    table_of,
)
from isobit.ops.quantize.op import Quantize, QuantizeAttrs, QuantizeInputs
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from oracles import oracle

ENCODINGS: tuple[Encoding, ...] = (
    Affine((0.037,), -9),
    Affine((1e-38,), 100),
    Affine((3e35,), 0),
    Pow2((7,)),
    Pow2((-16,)),
    Pow2((24,)),
)


def derived(encoding: Encoding) -> dict[str, np.ndarray]:
    kind = sampling.kind((1, 1), encoding)
    types = NodeTypes(QuantizeInputs(TensorType((1, 1), DType.F32, Real())), (kind,))
    return dict(Quantize.derive(QuantizeAttrs(), types, Scheme.AFFINE, None)[1])


def integer(x: np.ndarray, encoding: Encoding, **numbers: np.ndarray) -> np.ndarray:
    types = NodeTypes(
        QuantizeInputs(TensorType((1, 1), DType.F32, Real())), (sampling.kind((1, 1), encoding),)
    )
    return Quantize.integer(
        QuantizeAttrs(), types, QuantizeInputs(x, **(numbers or derived(encoding)))
    )


def bit_patterns(count: int) -> np.ndarray:
    """Floats of every kind: all 512 signs and exponents come up, NaN and infinities too."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, size=count, dtype=np.uint32)
    bits[:4] = (0x7F800000, 0xFF800000, 0x7FC00001, 0x80000001)
    return bits.view(np.float32).reshape(1, -1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_integer_equals_the_oracle_for_all_kinds_of_floats(encoding: Encoding) -> None:
    x = bit_patterns(3000)
    numbers = derived(encoding)
    zeros = {"y": sampling.kind((1,), encoding).zero}
    want = oracle("quantize")({"x": x, **numbers}, {}, zeros)
    np.testing.assert_array_equal(integer(x, encoding), want)


def test_any_multiplier_and_exponent_equals_the_oracle() -> None:
    rng = np.random.default_rng(4)
    x = bit_patterns(300)
    for _ in range(60):
        mult = rng.integers(0, 1 << int(rng.integers(1, 32)), size=1)
        shift = rng.integers(-150, 180, size=1)
        want = oracle("quantize")({"x": x, "mult": mult, "shift": shift}, {}, {"y": 3})
        np.testing.assert_array_equal(integer(x, Affine((1.0,), 3), mult=mult, shift=shift), want)


def test_powers_of_two_are_exact_with_ties_away() -> None:
    assert derived(Pow2((4,)))["mult"] == 1 << 30
    x = (np.arange(-4000, 4000).reshape(1, -1) / 512).astype(np.float32)
    want = np.sign(x) * np.floor(np.abs(x.astype(np.float64)) * 16 + 0.5)
    np.testing.assert_array_equal(integer(x, Pow2((4,))), np.clip(want, -128, 127))


def network(encoding: Encoding, count: int) -> Graph:
    """f32 -> quantize -> clamp to itself -> dequantize -> f32."""
    real = TensorType((1, count), DType.F32, Real())
    kind = sampling.kind((1, count), encoding)
    consts = [Const(name, sampling.raw32(1), data) for name, data in derived(encoding).items()]
    table = Const("table", TensorType((256,), DType.F32, Real()), table_of(kind))
    down: QuantizeInputs[str] = QuantizeInputs("x", mult="mult", shift="shift")
    up: DequantizeInputs[str] = DequantizeInputs("q", table="table")
    return Graph(
        name="ends",
        stage=Stage.INT,
        inputs=(Value("x", real),),
        consts=(*consts, table),
        nodes=(
            Node("quantize", down, QuantizeAttrs(), (Value("q", kind),)),
            Node("dequantize", up, DequantizeAttrs(), (Value("y", real),)),
        ),
        outputs=("y",),
    )


@pytest.mark.parametrize("encoding", ENCODINGS[:4])
def test_float_ends_have_the_same_bits(encoding: Encoding) -> None:
    x = bit_patterns(6 * 101).reshape(6, 101)
    graph = network(encoding, 101)
    golden = run_golden(graph, x)
    assert golden["q"].dtype == np.int8 and golden["y"].dtype == np.float32
    for core in ("host", "cortex-m4"):
        made = generate(make_plan(graph, targets.load(core)), "test")
        ran = execute(made, build(made, trace=True), x)
        np.testing.assert_array_equal(ran.trace["q"], golden["q"], err_msg=core)
        assert ran.output.tobytes() == golden["y"].tobytes()


def test_float_ends_round_trip_as_text() -> None:
    graph = network(Affine((0.037,), -9), 5)
    tensors = {const.name: const.data for const in graph.consts}
    assert parse_graph(print_graph(graph), tensors, load_ops().signature) == graph


@pytest.mark.parametrize("op", ["quantize", "dequantize"])
def test_kernels_have_no_floating_point(op: str) -> None:
    source = (files("isobit") / "ops" / op / "reference.c").read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    assert not re.search(r"\b(float|double)\b", code)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_table_holds_the_nearest_floats(encoding: Encoding) -> None:
    kind = sampling.kind((1, 1), encoding)
    scale = Fraction(
        encoding.scale[0] if isinstance(encoding, Affine) else 2.0 ** -encoding.frac[0]
    )
    table = table_of(kind)
    for code, value in zip(range(-128, 128), table, strict=True):
        want = scale * (code - kind.zero)
        error = abs(Fraction(float(value)) - want)
        for neighbour in (
            np.nextafter(value, np.float32(-np.inf)),
            np.nextafter(value, np.float32(np.inf)),
        ):
            assert error <= abs(Fraction(float(neighbour)) - want)


def test_nearest_float_rounds_once_and_to_even() -> None:
    assert nearest_float32(Fraction(2**24 + 1)) == 2.0**24
    assert nearest_float32(Fraction(2**24 + 3)) == 2.0**24 + 4
    # Through float64 this would round twice, to 2^24.
    assert nearest_float32(2**24 + 1 + Fraction(1, 2**60)) == 2.0**24 + 2
    assert nearest_float32(Fraction(3, 2**150)) == 2.0**-148
    assert nearest_float32(-Fraction(1, 3)) == float(np.float32(-1 / 3))


def test_wrong_types_are_refused() -> None:
    codes = sampling.kind((1, 5), Pow2((3,)))
    with pytest.raises(SeveralProblems, match="clamp"):
        Quantize.infer(QuantizeAttrs((5, 1)), QuantizeInputs(codes))
    with pytest.raises(BadShape, match="f32"):
        Quantize.infer(QuantizeAttrs(), QuantizeInputs(codes))
    with pytest.raises(BadAttribute):
        Quantize.infer(
            QuantizeAttrs((0, 128)), QuantizeInputs(TensorType((1, 5), DType.F32, Real()))
        )
    one, floats = TensorType((1,), DType.F32, Real()), TensorType((1, 5), DType.F32, Real())
    with pytest.raises(BadShape, match=r"divisor: want f32\[1\]"):
        Quantize.infer(QuantizeAttrs(), QuantizeInputs(floats, divisor=floats))
    with pytest.raises(BadAttribute, match="or a divisor, got two of these"):
        both = QuantizeInputs(floats, mult=one, shift=one, divisor=one)
        Quantize.infer(QuantizeAttrs(), both)
    with pytest.raises(BadAttribute, match="-32768 <= low"):
        Quantize.infer(QuantizeAttrs((0, 32768)), QuantizeInputs(floats, divisor=one))
    with pytest.raises(BadShape, match="a scale for s16"):
        Dequantize.infer(DequantizeAttrs(), DequantizeInputs(codes, scale=one))
    with pytest.raises(BadShape, match="table"):
        Dequantize.infer(DequantizeAttrs(), DequantizeInputs(codes, table=codes))
