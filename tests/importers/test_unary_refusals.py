"""What operators of one tensor cannot be imported as, and what the refusals say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, Unsupported
from isobit.core.types import Affine, Real, TensorType
from isobit.importers.tflite import read
from isobit.ops import sampling
from isobit.ops.prelu.op import Prelu, PreluAttrs, PreluInputs
from isobit.ops.quantize.op import Quantize, QuantizeAttrs, QuantizeInputs
from isobit.ops.requantize.op import Requantize, RequantizeAttrs, RequantizeInputs

from .cases.base import activation, constant, single

Kind = tuple[float, int, str]
CASES: tuple[tuple[str, Kind, Kind, str, dict[str, float], str], ...] = (
    ("LOGISTIC", (0.05, 0, "int8"), (1 / 256, 0, "int8"), "", {}, "zero point of the output"),
    ("HARD_SWISH", (0.5, 0, "int8"), (0.001, 0, "int8"), "", {}, "scales: want Sx <= 128 Sy"),
    ("RSQRT", (14.7, -128, "int8"), (1200.0, 0, "int8"), "", {}, "2^-12 to 2^30"),
    ("RELU", (1e4, 0, "int8"), (1e-4, 0, "int8"), "", {}, "below 2^22"),
    ("TANH", (1e-9, 0, "int8"), (1 / 128, 0, "int8"), "", {}, "at least 2^-28"),
    ("ELU", (0.1, 0, "int16"), (0.1, 0, "int16"), "", {}, "types: want s8"),
    ("RELU", (0.1, 0, "int16"), (0.1, 3, "int16"), "", {}, 'zero point of "y"'),
    ("ABS", (0.1, 0, "uint8"), (0.1, 0, "uint8"), "", {}, "types: want int8"),
    ("RELU", (0.1, 0, "uint8"), (0.1, 0, "int8"), "", {}, "uint8 throughout"),
    ("LOGISTIC", (0.1, 0, "uint8"), (2**-8, 3, "uint8"), "", {}, "want 0, got 3"),
    ("LOGISTIC", (0.1, 0, "int16"), (2**-14, 0, "int16"), "", {}, "encoding of the output"),
    ("TANH", (2.7, 0, "int16"), (2**-15, 0, "int16"), "", {}, "below 2.66"),
    (
        "LEAKY_RELU",
        (0.1, 0, "int16"),
        (0.1, 0, "int16"),
        "LeakyReluOptions",
        {"Alpha": -0.5},
        "alpha: want >= 0 for int16",
    ),
    ("L2_NORMALIZATION", (0.1, 0, "uint8"), (2**-7, 128, "uint8"), "", {}, "got uint8"),
    ("EXP", (0.1, 0, "int8"), (0.1, 0, "int8"), "ExpOptions", {}, "a graph of float32"),
    ("SOFTMAX", (0.1, 0, "int8"), (2**-16, 0, "int16"), "SoftmaxOptions", {}, "s8 to s16"),
    ("SOFTMAX", (0.1, 0, "int8"), (0.01, 0, "int8"), "SoftmaxOptions", {}, "encoding"),
    ("QUANTIZE", (0.0, 0, "float32"), (2.0**-110, 0, "int16"), "", {}, "2^-100..2^100"),
    ("QUANTIZE", (0.0, 0, "float32"), (0.1, 3, "int16"), "", {}, 'zero point of "y"'),
    ("QUANTIZE", (0.1, 0, "int32"), (0.1, 0, "int8"), "", {}, "s32 to s8"),
    ("QUANTIZE", (0.1, 0, "int16"), (1e-6, 0, "int8"), "", {}, "below 2^13"),
    ("DEQUANTIZE", (0.1, 3, "int16"), (0.0, 0, "float32"), "", {}, 'zero point of "x"'),
    ("LEAKY_RELU", (1.0, 0, "int8"), (0.1, 0, "int8"), "LeakyReluOptions", {"Alpha": 1e8}, "alpha"),
)


@pytest.mark.parametrize(("code", "x", "y", "options", "values", "match"), CASES)
def test_what_the_runtime_has_no_arithmetic_for_is_refused(
    code: str,
    x: Kind,
    y: Kind,
    options: str,
    values: dict[str, float],
    match: str,
    tmp_path: Path,
) -> None:
    tensors = [activation("x", (1, 8), *x)], [activation("y", (1, 8), *y)]
    path = tmp_path / "refused.tflite"
    path.write_bytes(single(code, "refused", *tensors, options, values).blob)
    with pytest.raises(Unsupported, match=re.escape(match)):
        read(path)


@pytest.mark.parametrize(
    ("stored", "shape", "match"),
    [(False, (8,), "alpha: want a constant"), (True, (1, 1, 1, 8), "at most 2 axes")],
)
def test_slopes_of_prelu_are_stored(
    stored: bool, shape: tuple[int, ...], match: str, tmp_path: Path
) -> None:
    alpha = activation("alpha", shape)
    if stored:
        alpha = constant("alpha", np.ones(shape), "int8", [0.1])
    inputs = [activation("x", (1, 8)), alpha]
    path = tmp_path / "refused.tflite"
    path.write_bytes(single("PRELU", "refused", inputs, [activation("y", (1, 8))]).blob)
    with pytest.raises(Unsupported, match=match):
        read(path)


def test_constants_that_do_not_belong_together_are_refused() -> None:
    one, x = sampling.raw32(1), sampling.kind((1, 4), Affine((0.1,), 0))
    slope = sampling.kind((1, 5), Affine((0.1,), 0))
    with pytest.raises(BadShape, match="shapes of the operands"):
        Prelu.infer(PreluAttrs(), PreluInputs(x, slope))
    with pytest.raises(BadShape, match="slope shape"):
        Prelu.infer(PreluAttrs(), PreluInputs(sampling.kind((1, 1), Affine((0.1,), 0)), slope))
    with pytest.raises(BadAttribute, match="constants"):
        Prelu.infer(PreluAttrs(), PreluInputs(x, x, mult=one))
    wide = sampling.raw32(4)
    factors = dict.fromkeys(("shift", "mult_neg", "shift_neg"), one)
    with pytest.raises(BadShape, match="mult shape"):
        Prelu.infer(PreluAttrs(), PreluInputs(x, x, mult=wide, **factors))
    floats = TensorType((1, 4), DType.F32, Real())
    steps = TensorType((255,), DType.F32, Real())
    with pytest.raises(BadAttribute, match="mult and shift, or thresholds"):
        Quantize.infer(
            QuantizeAttrs(), QuantizeInputs(floats, mult=one, shift=one, thresholds=steps)
        )
    with pytest.raises(BadShape, match="thresholds"):
        Quantize.infer(QuantizeAttrs(), QuantizeInputs(floats, thresholds=floats))
    with pytest.raises(BadAttribute, match="dtype"):
        Requantize.infer(RequantizeAttrs(dtype=DType.S32), RequantizeInputs(x, mult=one, shift=one))
