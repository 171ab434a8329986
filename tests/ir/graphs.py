"""Graphs for the tests of text and file: everything that can be written is in them."""

from __future__ import annotations

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, Encoding, Pow2, Raw, Real, TensorType
from isobit.ir.graph import Const, Graph, Location, Node, Stage, State, Value
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.ops.weighted import WeightedInputs


def kind(shape: tuple[int, ...], encoding: Encoding, dtype: DType = DType.S8) -> TensorType:
    return TensorType(shape, dtype, encoding)


def rich() -> Graph:
    """Per-channel scales, optional and variadic operands, several outputs, states, labels and
    locations.
    """
    rng = np.random.default_rng(1)
    image = Affine((float.fromhex("0x1.81p-5"),), -1)
    x = kind((1, 4, 5, 2), image)
    w = kind((6, 3, 3, 2), Affine(tuple(rng.uniform(0.01, 0.02, size=6)), 0, axis=0))
    y = kind((1, 4, 5, 6), Affine((0.1,), 7))
    part = y.with_shape((1, 4, 5, 3))
    raw = kind((6,), Raw(), DType.S32)
    consts = (
        Const("w0", w, rng.integers(-127, 128, size=w.shape), "stem.w"),
        Const("b0", raw, rng.integers(-(2**31), 2**31, size=6), "stem.b"),
        Const("m0", raw, rng.integers(1, 2**31, size=6)),
        Const("s0", raw, np.full(6, 40)),
        Const("p", kind((3, 2), Pow2((1, -2, 3), axis=0)), rng.integers(-9, 9, size=(3, 2))),
        Const("zero", kind((0,), Raw(), DType.S32), np.empty(0)),
    )
    conv = Node(
        "conv2d",
        WeightedInputs("x", "w0", "b0", mult="m0", shift="s0"),
        Conv2dAttrs(pad=(1, 1, 1, 1), clamp=(-100, 127), round=Rounding.TFLITE_DOUBLE),
        (Value("c", y),),
        Location("a folder/kws.py", 41),
    )
    split = Node(
        "split", SplitInputs("c"), SplitAttrs(3, (3, 3)), (Value("l", part), Value("r", part))
    )
    joined = Node("concat", ConcatInputs(("r", "l")), ConcatAttrs(3), (Value("j", y),))
    relu = Node("clamp", ClampInputs("j"), ClampAttrs(0.0, 6.5, (7, 72)), (Value("out", y),))
    return Graph(
        name="kws",
        stage=Stage.INT,
        target="cortex-m4",
        inputs=(Value("x", x),),
        consts=consts,
        states=(State("memory", y, "p", "r"), State("fresh", kind((1, 2), Pow2((-3,))))),
        nodes=(conv, split, joined, relu),
        outputs=("out", "l"),
    )


def floating() -> Graph:
    """A float graph: no bias, no multipliers, infinite bounds."""
    x = kind((1, 4, 5, 2), Real(), DType.F64)
    w = kind((3, 1, 1, 2), Real(), DType.F64)
    y = kind((1, 4, 5, 3), Real(), DType.F64)
    data = np.array([1e-300, -0.0, np.pi, 1.5, -2.0, 1e300]).reshape(w.shape)
    conv = Node("conv2d", WeightedInputs("x", "w"), Conv2dAttrs(), (Value("c", y),))
    relu = Node("clamp", ClampInputs("c"), ClampAttrs(0.0), (Value("out", y),))
    return Graph(
        name="f",
        stage=Stage.FLOAT,
        inputs=(Value("x", x),),
        consts=(Const("w", w, data),),
        nodes=(conv, relu),
        outputs=("out",),
    )
