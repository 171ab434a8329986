"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from __future__ import annotations

from collections.abc import Iterator

from .base import Case, activation, cases, single

SAME, VALID = 0, 1
WINDOWS = (
    # label, shape, kernel, stride, padding
    ("2x2", (1, 6, 4, 3), (2, 2), (2, 2), VALID),
    ("2x2, a row left over", (1, 7, 5, 4), (2, 2), (2, 2), VALID),
    ("2x2, same", (1, 7, 5, 4), (2, 2), (2, 2), SAME),
    ("3x3 stride 1, same", (1, 5, 6, 3), (3, 3), (1, 1), SAME),
    ("3x3 stride 2, same", (1, 8, 7, 5), (3, 3), (2, 2), SAME),
    ("3x2, unlike strides, same", (1, 6, 9, 2), (3, 2), (2, 3), SAME),
    ("1x4 row", (1, 1, 9, 7), (1, 4), (1, 3), SAME),
    ("stride beyond the kernel", (1, 9, 8, 3), (2, 2), (3, 4), VALID),
    ("whole image", (1, 7, 7, 8), (7, 7), (7, 7), VALID),
    ("wider than the image, same", (1, 3, 4, 2), (5, 6), (1, 1), SAME),
    ("19x20 window", (1, 20, 22, 2), (19, 20), (1, 1), VALID),
    ("one pixel", (1, 1, 1, 5), (1, 1), (1, 1), VALID),
)


@cases("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(code: str) -> Iterator[Case]:
    for label, *window in WINDOWS:
        yield _case(code, label, *window)
    image = WINDOWS[4][1:]
    for number, name in ((1, "RELU"), (2, "RELU_N1_TO_1"), (3, "RELU6")):
        yield _case(code, name, *image, number=number)
        yield _case(code, f"float {name}", *image, number=number, dtype="float32")
    yield _case(code, "lowest zero point, RELU6", *image, zero=-128, number=3)
    yield _case(code, "highest zero point, RELU", *image, zero=127, number=1)
    yield _case(code, "float, same", *image, dtype="float32")
    yield _case(code, "float, valid", *WINDOWS[1][1:], dtype="float32")


def _case(
    code: str,
    label: str,
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    *,
    zero: int = 3,
    number: int = 0,
    dtype: str = "int8",
) -> Case:
    sizes = [
        -(-size // s) if padding == SAME else (size - k) // s + 1
        for size, k, s in zip(shape[1:3], kernel, stride, strict=True)
    ]
    x = activation("x", shape, 0.05, zero, dtype)
    y = activation("y", (1, *sizes, shape[3]), 0.05, zero, dtype)
    values = {
        "Padding": padding,
        "FilterHeight": kernel[0],
        "FilterWidth": kernel[1],
        "StrideH": stride[0],
        "StrideW": stride[1],
        "FusedActivationFunction": number,
    }
    return single(code, label, [x], [y], "Pool2DOptions", values)
