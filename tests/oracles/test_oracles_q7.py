"""The oracles against outputs recorded from the compiled CMSIS-NN q7 kernels (CMSIS 5.9.0)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from . import oracle

pytestmark = pytest.mark.data("q7")

CONVOLUTIONS = (
    "arm_convolve_HWC_q7_basic",
    "arm_convolve_HWC_q7_basic_nonsquare",
    "arm_convolve_HWC_q7_fast",
    "arm_convolve_HWC_q7_fast_nonsquare",
    "arm_convolve_HWC_q7_RGB",
    "arm_convolve_1x1_HWC_q7_fast_nonsquare",
)
OPERATOR = {
    **dict.fromkeys(CONVOLUTIONS, "conv2d"),
    "arm_depthwise_separable_conv_HWC_q7": "depthwise_conv2d",
    "arm_depthwise_separable_conv_HWC_q7_nonsquare": "depthwise_conv2d",
    "arm_fully_connected_q7": "linear",
    "arm_fully_connected_q7_opt": "linear",
    "arm_relu_q7": "clamp",
    "arm_maxpool_q7_HWC": "max_pool2d",
    "arm_avepool_q7_HWC": "avg_pool2d",
}

# The DSP average pool truncates twice (rows, then columns): the text defines the C path.
ONLY_C = ("arm_avepool_q7_HWC",)


class Recording:
    """The cases by function, and the arrays of each."""

    def __init__(self, folder: Path) -> None:
        self.arrays: Mapping[str, np.ndarray] = np.load(folder / "q7_vectors.npz")
        index = json.loads((folder / "q7_index.json").read_text(encoding="utf-8"))
        self.cases: dict[str, list[dict]] = {}
        for case in index["cases"]:
            self.cases.setdefault(case["function"], []).append(case)

    def array(self, case: dict, name: str) -> np.ndarray:
        return self.arrays[f"{case['function']}/{case['index']}/{name}"].astype(np.int64)


@pytest.fixture(scope="module")
def recording() -> Recording:
    folder = os.environ.get("ISOBIT_BASELINES")
    if not folder:
        pytest.skip("ISOBIT_BASELINES does not name the folder of q7_vectors.npz and q7_index.json")
    return Recording(Path(folder))


def geometry(case: dict) -> dict[str, tuple[int, ...]]:
    """`stride` and `pad`; the padding below and right is what the recorded output size needs."""
    pads = []
    for axis in range(2):
        size, kernel, stride = (case[key][axis] for key in ("x_shape", "kernel_hw", "stride_hw"))
        before = case["pad_hw"][axis]
        pads.append((before, (case["out_hw"][axis] - 1) * stride + kernel - size - before))
    (top, bottom), (left, right) = pads
    return {"stride": case["stride_hw"], "pad": (top, left, max(bottom, 0), max(right, 0))}


def evaluate(recording: Recording, case: dict) -> np.ndarray:
    """What the oracle says of one case, in the recorded shape."""
    op = OPERATOR[case["function"]]
    inputs = {"x": recording.array(case, "x")[None]}
    if op == "clamp":
        return oracle(op)(inputs, {"clamp": (0, 127)}, {})[0]
    attrs: dict[str, object] = {} if op == "linear" else geometry(case)
    if op in ("max_pool2d", "avg_pool2d"):
        attrs["kernel"] = case["kernel_hw"]
        attrs |= {"round": "trunc"} if op == "avg_pool2d" else {}
    else:
        inputs["w"] = recording.array(case, "w")
        inputs["b"] = recording.array(case, "b") << case["bias_shift"]
        inputs["shift"] = np.array([case["out_shift"]])
    y = oracle(op)(inputs, attrs, {})[0]
    # Some recorded calls ask for fewer outputs than fit: the oracle's first ones.
    return y[tuple(slice(size) for size in case["y_shape"])]


@pytest.mark.parametrize("function", OPERATOR)
def test_oracle_reproduces_recorded_q7_outputs(function: str, recording: Recording) -> None:
    differing = []
    for case in recording.cases[function]:
        y = evaluate(recording, case)
        paths = ["y_c"] if case["hazard"] or function in ONLY_C else ["y_c", "y_dsp"]
        for path in paths:
            wrong = int((y != recording.array(case, path).reshape(y.shape)).sum())
            differing += [(case["index"], path, wrong)] if wrong else []
    assert differing == []
