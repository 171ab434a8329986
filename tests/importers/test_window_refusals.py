"""What the rules of pools, reductions, resizing and products refuse, and how they say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from isobit.core.errors import Unsupported
from isobit.importers.tflite import read
from tflite_builder import Operator, Tensor, build

from .cases.base import activation, constant

X = activation("x", (1, 4, 6, 3), 0.05, 3)
POOL = {"Padding": 0, "FilterHeight": 2, "FilterWidth": 2, "StrideH": 2, "StrideW": 2}
STORED = constant("k", np.ones((1, 4, 6, 3)), "int8", [0.05], [3])
WEIGHTS = constant("w", np.ones((2, 3, 3, 3)), "int8", [0.1])


def other(shape: tuple[int, ...], scale: float = 0.07) -> Tensor:
    """An output in another encoding than X."""
    return activation("y", shape, scale, 3)


def same(shape: tuple[int, ...]) -> Tensor:
    return activation("y", shape, 0.05, 3)


def axes(*values: int) -> Tensor:
    return constant("axes", np.asarray(values, dtype=np.int32))


def size(*values: int) -> Tensor:
    return constant("size", np.asarray(values, dtype=np.int32))


def blob(
    code: str, inputs: Sequence[Tensor], y: Tensor, options: str, values: dict[str, int]
) -> bytes:
    """A file of one operator; where it reads stored tensors only, the input is left unused."""
    present = list({t.name: t for t in inputs}.values())
    fed = [t for t in present if t.data is None] or [X]
    operator = Operator(
        code=code,
        inputs=tuple(t.name for t in inputs),
        outputs=(y.name,),
        options=options,
        values=values,
    )
    stored = [t for t in present if t.data is not None]
    return build(
        tensors=[*fed, *stored, y],
        operators=[operator],
        inputs=[t.name for t in fed],
        outputs=[y.name],
    )


UINT8 = activation("x", (1, 4, 6, 3), 0.05, 3, "uint8")
REFUSED = (
    # code, what, inputs, output, options, values
    ("MAX_POOL_2D", "encoding of input 0", [X], other((1, 2, 3, 3)), "Pool2DOptions", POOL),
    ("AVERAGE_POOL_2D", "encoding of input 0", [X], other((1, 2, 3, 3)), "Pool2DOptions", POOL),
    ("MEAN", "axes", [X, axes()], same((1, 4, 6, 3)), "ReducerOptions", {}),
    ("MEAN", "axis", [X, axes(4)], same((1, 4, 6, 3)), "ReducerOptions", {}),
    ("MEAN", "axes", [X, activation("a", (1,), 1.0, 0, "int32")], same((1, 1, 1, 1)), "", {}),
    ("MEAN", "types", [UINT8, axes(1)], same((1, 6, 3)), "ReducerOptions", {}),
    ("SUM", "inputs", [STORED, axes(1)], same((1, 6, 3)), "ReducerOptions", {}),
    ("REDUCE_MAX", "encoding of input 0", [X, axes(1)], other((1, 6, 3)), "ReducerOptions", {}),
    ("REDUCE_MIN", "encoding of input 0", [X, axes(1)], other((1, 6, 3)), "ReducerOptions", {}),
    ("REDUCE_MAX", "shape of the output", [X, axes(1)], same((1, 5, 3)), "ReducerOptions", {}),
    ("MAXIMUM", "encoding of input 0", [X, X], other((1, 4, 6, 3)), "", {}),
    ("MINIMUM", "inputs", [STORED, STORED], same((1, 4, 6, 3)), "", {}),
    ("MUL", "inputs", [STORED, STORED], same((1, 4, 6, 3)), "MulOptions", {}),
    ("MUL", "fused activation", [X, X], same((1, 4, 6, 3)), "MulOptions", {"F": 4}),
    ("RESIZE_BILINEAR", "encoding of input 0", [X, size(2, 2)], other((1, 2, 2, 3)), "", {}),
    ("RESIZE_BILINEAR", "size", [X, size(2, 2)], same((1, 2, 3, 3)), "", {}),
    ("RESIZE_NEAREST_NEIGHBOR", "size", [X, size(2)], same((1, 2, 2, 3)), "", {}),
    (
        "RESIZE_NEAREST_NEIGHBOR",
        "shape",
        [activation("x", (2, 4, 6, 3), 0.05, 3), size(2, 2)],
        same((2, 2, 2, 3)),
        "",
        {},
    ),
    (
        "L2_NORMALIZATION",
        "encoding of the output",
        [X],
        same((1, 4, 6, 3)),
        "L2NormOptions",
        {"F": 0},
    ),
    (
        "L2_NORMALIZATION",
        "fused activation",
        [X],
        activation("y", (1, 4, 6, 3), 1 / 128, 0),
        "L2NormOptions",
        {"F": 1},
    ),
    (
        "TRANSPOSE_CONV",
        "types",
        [size(1, 8, 12, 2), WEIGHTS, UINT8],
        same((1, 8, 12, 2)),
        "",
        {},
    ),
    (
        "TRANSPOSE_CONV",
        "shapes",
        [size(1, 8, 12, 2), WEIGHTS, activation("x", (4, 6, 3), 0.05, 3)],
        same((1, 8, 12, 2)),
        "",
        {},
    ),
)


@pytest.mark.parametrize(
    ("code", "what", "inputs", "y", "options", "values"),
    REFUSED,
    ids=[f"{code}-{what}-{i}" for i, (code, what, *_) in enumerate(REFUSED)],
)
def test_refused(
    code: str,
    what: str,
    inputs: Sequence[Tensor],
    y: Tensor,
    options: str,
    values: dict[str, int],
    tmp_path: Path,
) -> None:
    named = {"FusedActivationFunction" if key == "F" else key: v for key, v in values.items()}
    path = tmp_path / "refused.tflite"
    path.write_bytes(blob(code, inputs, y, options, named))
    with pytest.raises(Unsupported) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.what == what
    assert code in problem.where
    assert problem.fix
