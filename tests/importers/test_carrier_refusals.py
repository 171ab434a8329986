"""What cannot be imported of uint8 and int16x8 models, and which remedy is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.core.errors import Unsupported
from isobit.importers.tflite import read
from isobit.ops.foreign import Runtime
from tflite_builder import Tensor

from .cases.base import activation, constant, single

CONV = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
DEPTHWISE = {**CONV, "DepthMultiplier": 1}
IMAGE = (1, 4, 4, 3)


def u8(name: str, shape: tuple[int, ...], scale: float = 0.05) -> Tensor:
    return activation(name, shape, scale, 128, "uint8")


def s16(name: str, shape: tuple[int, ...], scale: float = 0.001) -> Tensor:
    return activation(name, shape, scale, 0, "int16")


def weights(dtype: str, scales: list[float], zero: int = 0) -> Tensor:
    shape = (3, 1, 1, 3) if dtype == "uint8" else (1, 1, 1, 3)
    return constant("w", np.ones(shape), dtype, scales, [zero] * len(scales), axis=0)


def bias(dtype: str) -> Tensor:
    return constant("b", [9, 8, 7], dtype, [1e-5])


SYMMETRIC = constant("w", np.ones((1, 1, 1, 3)), "int8", [0.01], [5])
SIZE = constant("size", [8, 8])
AXES = constant("axes", [1, 2])
CASES: tuple[tuple[str, str, list[Tensor], Tensor, str, dict[str, Any], str], ...] = (
    # code, what is refused, inputs, output, options, values, runtime
    (
        "CONV_2D",
        "one scale for a uint8 tensor",
        [u8("x", IMAGE), weights("uint8", [0.1, 0.2, 0.3], 128), bias("int32")],
        u8("y", IMAGE),
        "Conv2DOptions",
        CONV,
        "tflm",
    ),
    (
        "DEPTHWISE_CONV_2D",
        "bias: want int64, got int32",
        [s16("x", IMAGE), weights("int8", [0.01]), bias("int32")],
        s16("y", IMAGE),
        "DepthwiseConv2DOptions",
        DEPTHWISE,
        "tflm",
    ),
    (
        "DEPTHWISE_CONV_2D",
        "zero point of the weights: want 0, got 5",
        [activation("x", IMAGE), SYMMETRIC, bias("int32")],
        activation("y", IMAGE),
        "DepthwiseConv2DOptions",
        DEPTHWISE,
        "tflm",
    ),
    (
        "DEPTHWISE_CONV_2D",
        "below 2^7",
        [s16("x", IMAGE), weights("int8", [0.9]), bias("int64")],
        s16("y", IMAGE, 1e-6),
        "DepthwiseConv2DOptions",
        DEPTHWISE,
        "tflm",
    ),
    (
        "DEPTHWISE_CONV_2D",
        "depth_multiplier: want 1",
        [activation("x", IMAGE), weights("int8", [0.01]), bias("int32")],
        activation("y", IMAGE),
        "DepthwiseConv2DOptions",
        {**CONV, "DepthMultiplier": 2},
        "tflm",
    ),
    (
        "ADD",
        "runtime: want tflm, got litert",
        [s16("x", IMAGE), s16("z", IMAGE)],
        s16("y", IMAGE),
        "AddOptions",
        {},
        "litert",
    ),
    (
        "SUM",
        "import it with --runtime tflm",
        [activation("x", IMAGE), AXES],
        activation("y", (1, 3)),
        "ReducerOptions",
        {},
        "litert",
    ),
    (
        "RESIZE_BILINEAR",
        "LiteRT interpolates uint8 in float32",
        [u8("x", IMAGE), SIZE],
        u8("y", (1, 8, 8, 3)),
        "ResizeBilinearOptions",
        {},
        "tflm",
    ),
    (
        "MIRROR_PAD",
        "no int16 kernel",
        [s16("x", IMAGE), constant("pads", [[0, 0], [1, 1], [0, 0], [0, 0]])],
        s16("y", (1, 6, 4, 3)),
        "MirrorPadOptions",
        {},
        "tflm",
    ),
)


@pytest.mark.parametrize(
    ("code", "match", "inputs", "output", "options", "values", "runtime"),
    CASES,
    ids=[f"{case[0]}-{case[1][:12]}" for case in CASES],
)
def test_refused(
    code: str,
    match: str,
    inputs: list[Tensor],
    output: Tensor,
    options: str,
    values: dict[str, Any],
    runtime: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "refused.tflite"
    path.write_bytes(single(code, "refused", inputs, [output], options, values).blob)
    with pytest.raises(Unsupported) as caught:
        read(path, runtime=Runtime(runtime))
    assert match in str(caught.value)


def test_uint8_is_litert_whatever_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "add.tflite"
    inputs = [u8("x", IMAGE), u8("z", IMAGE)]
    path.write_bytes(single("ADD", "add", inputs, [u8("y", IMAGE)], "AddOptions").blob)
    assert read(path).source["runtime"] == "litert"
