"""Tables of imported functions: equal to the runtime's for all 256 codes and many encodings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from importers.cases.base import activation, single
from importers.tflm import Wheel
from isobit.core.types import IntArray
from isobit.ops.lut import tflm
from isobit.ops.lut.tflm import Quantised
from isobit.ops.quantize.op import thresholds

pytestmark = pytest.mark.data("tflite-micro")
MODELS = {"quick": 40, "full": 600}
NICE = (0.05, 0.04, 0.1, 0.2, 0.25, 0.5, 0.01, 0.02, 1 / 256, 1 / 128, 1.0, 2.0)
"""Scales whose ratios make ties."""
FUNCTIONS: dict[str, Callable[[Quantised], IntArray]] = {
    "ABS": tflm.absolute,
    "ELU": tflm.elu,
    "HARD_SWISH": tflm.hard_swish,
    "LOGISTIC": tflm.logistic,
    "RELU6": tflm.relu6,
    "RSQRT": tflm.rsqrt,
    "TANH": tflm.tanh,
}


def drawn(rng: np.random.Generator, code: str) -> Quantised:
    """Encodings that the runtime takes for this operator."""
    if rng.random() < 0.3:
        sx, sy = (float(np.float32(s)) for s in rng.choice(NICE, size=2))
    else:
        sx = float(np.float32(10 ** rng.uniform(-5, 1.3)))
        sy = sx if rng.random() < 0.1 else float(np.float32(sx * 10 ** rng.uniform(-2, 2)))
    zx, zy = (int(z) for z in rng.integers(-128, 128, size=2))
    if rng.random() < 0.2:
        zx = int(rng.choice([-128, 127]))
    match code:
        case "LOGISTIC":
            return Quantised(sx=sx, zx=zx, sy=1 / 256, zy=-128)
        case "TANH":
            return Quantised(sx=sx, zx=zx, sy=1 / 128, zy=0)
        case "HARD_SWISH":
            sy = max(sy, float(np.float32(sx / 100)))
        case "RSQRT":
            sy = float(np.float32(10 ** rng.uniform(-3, 0)))
    return Quantised(sx=sx, zx=zx, sy=sy, zy=zy)


def runtime(code: str, q: Quantised, x: np.ndarray, options: str = "", **values: float) -> IntArray:
    """What the runtime computes for codes."""
    tensors = (
        [activation("x", (1, len(x)), q.sx, q.zx)],
        [activation("y", (1, len(x)), q.sy, q.zy)],
    )
    wheel = Wheel(single(code, "x", *tensors, options, values).blob)
    wheel.run(x)
    return wheel.output().ravel()


@pytest.mark.parametrize("code", sorted(FUNCTIONS))
def test_table_is_the_runtimes(code: str, scale: str) -> None:
    rng = np.random.default_rng(31)
    for _ in range(MODELS[scale]):
        q = drawn(rng, code)
        # The runtime stops at negative arguments of RSQRT.
        x = np.arange(q.zx if code == "RSQRT" else -128, 128).astype(np.int8)
        table = FUNCTIONS[code](q)
        np.testing.assert_array_equal(table[x.astype(int) + 128], runtime(code, q, x), str(q))


def test_leaky_relu_is_the_runtimes(scale: str) -> None:
    rng = np.random.default_rng(32)
    x = np.arange(-128, 128).astype(np.int8)
    for _ in range(MODELS[scale]):
        q = drawn(rng, "LEAKY_RELU")
        size = rng.choice([rng.normal(), 0.1, 0.125, 0.25, 0.5, 0.2, 0.01, 1.0])
        alpha = float(np.float32(size * rng.choice([-1, 1])))
        want = runtime("LEAKY_RELU", q, x, "LeakyReluOptions", Alpha=alpha)
        np.testing.assert_array_equal(tflm.leaky_relu(q, alpha), want, f"{q} {alpha}")


def test_small_sixteen_bit_multipliers_wrap_as_the_runtimes() -> None:
    x = np.arange(-128, 128).astype(np.int8)
    for sx, sy in ((1e-3, 0.7), (1e-7, 1e-7), (1e-6, 0.5)):
        q = Quantised(sx=float(np.float32(sx)), zx=4, sy=float(np.float32(sy)), zy=-9)
        np.testing.assert_array_equal(tflm.hard_swish(q), runtime("HARD_SWISH", q, x))


def test_quantize_is_the_runtimes_at_every_threshold(scale: str) -> None:
    """The floats at, below and above each threshold, and random ones."""
    rng = np.random.default_rng(33)
    for _ in range(MODELS[scale]):
        step = float(np.float32(rng.choice([*NICE, *10 ** rng.uniform(-6, 6, size=20)])))
        zero = int(rng.integers(-128, 128))
        steps = thresholds(step, zero)
        below = np.nextafter(steps, np.float32(-np.inf))
        free = (rng.normal(size=300) * step * 80).astype(np.float32)
        tiny = np.asarray([0.0, -0.0, 1e-45, -1e-45, 1e-39], dtype=np.float32)
        x = np.concatenate([steps, below, free, tiny]).astype(np.float32)
        inputs = [activation("x", (1, len(x)), dtype="float32")]
        outputs = [activation("y", (1, len(x)), step, zero)]
        wheel = Wheel(single("QUANTIZE", "x", inputs, outputs).blob)
        wheel.run(x)
        got = np.searchsorted(steps, x, side="right") - 128
        np.testing.assert_array_equal(got, wheel.output().ravel(), f"{step} {zero}")
