"""TRANSPOSE_CONV."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from .base import Case, activation, cases, constant, single

SAME, VALID = 0, 1
SHAPES = (
    # label, x, weights (O, KH, KW), stride, padding
    ("3x3 stride 2, same", (1, 4, 5, 4), (2, 3, 3), (2, 2), SAME),
    ("3x3 stride 2, valid", (1, 4, 5, 4), (2, 3, 3), (2, 2), VALID),
    ("2x2 stride 2", (1, 3, 3, 8), (5, 2, 2), (2, 2), SAME),
    ("3x3 stride 1, same", (1, 5, 4, 3), (4, 3, 3), (1, 1), SAME),
    ("3x3 stride 1, valid", (1, 5, 4, 3), (4, 3, 3), (1, 1), VALID),
    ("4x4 stride 2, same", (1, 3, 4, 6), (3, 4, 4), (2, 2), SAME),
    ("5x3, unlike strides", (1, 3, 4, 2), (3, 5, 3), (3, 1), SAME),
    ("kernel below the stride, same", (1, 3, 4, 2), (3, 2, 1), (3, 3), SAME),
    ("kernel below the stride, valid", (1, 3, 4, 2), (3, 2, 1), (3, 3), VALID),
    ("1x1", (1, 4, 3, 7), (6, 1, 1), (1, 1), VALID),
    ("row", (1, 1, 9, 5), (3, 1, 4), (1, 2), SAME),
    ("one pixel", (1, 1, 1, 5), (3, 3, 3), (2, 2), VALID),
)


@cases("TRANSPOSE_CONV")
def transpose_conv(code: str) -> Iterator[Case]:
    for label, *sizes in SHAPES:
        yield _case(code, label, *sizes)
    usual = SHAPES[0][1:]
    yield _case(code, "no bias", *usual, bias=False)
    yield _case(code, "one scale", *usual, per_channel=False)
    yield _case(code, "zero points at the ends", *usual, zeros=(-128, 127))
    yield _case(code, "zero points at the other ends", *usual, zeros=(127, -128))
    yield _case(code, "fine output", *usual, scale=0.001)
    for number, name in ((1, "RELU"), (2, "RELU_N1_TO_1"), (3, "RELU6")):
        yield _case(code, name, *usual, number=number)
    for label, *sizes in SHAPES[:9]:
        yield _case(code, f"float, {label}", *sizes, dtype="float32")
    yield _case(code, "float, no bias", *usual, bias=False, dtype="float32")


def _case(
    code: str,
    label: str,
    shape: tuple[int, int, int, int],
    filters: tuple[int, int, int],
    stride: tuple[int, int],
    padding: int,
    *,
    bias: bool = True,
    per_channel: bool = True,
    zeros: tuple[int, int] = (3, -2),
    scale: float = 0.0,
    number: int = 0,
    dtype: str = "int8",
) -> Case:
    rng = np.random.default_rng(zlib.crc32(label.encode()))
    outputs, kernel = filters[0], filters[1:]
    size = tuple(
        n * s if padding == SAME else (n - 1) * s + max(k, s)
        for n, s, k in zip(shape[1:3], stride, kernel, strict=True)
    )
    x = activation("x", shape, 0.05, zeros[0], dtype)
    spread = float(np.sqrt(np.prod(kernel) * shape[3])) * 0.1
    y = activation("y", (1, *size, outputs), scale or spread, zeros[1], dtype)
    codes = rng.integers(-127, 128, size=(*filters, shape[3]))
    biases = rng.integers(-3000, 3001, size=outputs)
    if dtype == "float32":
        w = constant("w", codes * 0.02, dtype)
        b = constant("b", biases * 0.001, dtype)
    else:
        scales = rng.uniform(0.01, 0.03, size=outputs if per_channel else 1).tolist()
        w = constant("w", codes, "int8", scales, axis=0)
        b = constant("b", biases, "int32", [0.05 * s for s in scales])
    inputs = [constant("shape", y.shape), w, x, *([b] if bias else [])]
    values = {
        "Padding": padding,
        "StrideH": stride[0],
        "StrideW": stride[1],
        "FusedActivationFunction": number,
    }
    return single(code, label, inputs, [y], "TransposeConvOptions", values, version=3)
