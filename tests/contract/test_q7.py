"""Our operators and their C against the recorded outputs of the real CMSIS-NN q7 kernels.

Every convolution, depthwise, fully connected, ReLU and max-pool case without the `hazard` flag on
both recorded paths, and average pool with `round=trunc` against the C path: 0 differing values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit import targets
from isobit.core.fixed import Average
from isobit.core.types import Pow2, TensorType
from isobit.ops import sampling
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.base import NodeTypes, Sample
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedInputs
from oracles.test_oracles_q7 import ONLY_C, OPERATOR, Recording, geometry, recording

from . import calls, cases, programs, runners

__all__ = ["recording"]
pytestmark = pytest.mark.data("q7")
CODE = Pow2((7,))


def kind(shape: tuple[int, ...]) -> TensorType:
    return sampling.kind(shape, CODE)


def sample(recording: Recording, case: dict[str, Any]) -> Sample[Any]:
    """One recorded call as a sample of our operator."""
    op = OPERATOR[case["function"]]
    x = recording.array(case, "x")[None]
    label = f"{case['function']}/{case['index']}"
    if op == "clamp":
        types: Any = ClampInputs(kind(x.shape))
        return make(label, op, ClampAttrs(clamp=(0, 127)), types, ClampInputs(x))
    if op in ("max_pool2d", "avg_pool2d"):
        windows = geometry(case)
        kernel, stride, pad = tuple(case["kernel_hw"]), tuple(windows["stride"]), windows["pad"]
        if op == "max_pool2d":
            pool = MaxPool2dAttrs(kernel, stride, pad)
            return make(label, op, pool, MaxPool2dInputs(kind(x.shape)), MaxPool2dInputs(x))
        average = AvgPool2dAttrs(kernel, stride, pad, round=Average.TRUNC)
        return make(label, op, average, AvgPool2dInputs(kind(x.shape)), AvgPool2dInputs(x))
    w, bias = recording.array(case, "w"), recording.array(case, "b") << case["bias_shift"]
    inputs: WeightedInputs[Any] = WeightedInputs(x, w, bias, shift=np.array([case["out_shift"]]))
    types = WeightedInputs(
        kind(x.shape), kind(w.shape), sampling.raw32(len(bias)), shift=sampling.raw32(1)
    )
    attrs: Any = LinearAttrs()
    if op != "linear":
        windows = geometry(case)
        cls = Conv2dAttrs if op == "conv2d" else DepthwiseConv2dAttrs
        attrs = cls(stride=tuple(windows["stride"]), pad=windows["pad"])
    return make(label, op, attrs, types, inputs)


def make(label: str, op: str, attrs: Any, types: Any, inputs: Any) -> Sample[Any]:
    inferred = load_ops().op(op).outputs_of(attrs, types)[0]
    return Sample(label, attrs, NodeTypes(types, (kind(inferred.shape),)), inputs)


def legal(recording: Recording, function: str) -> Iterator[tuple[dict[str, Any], Sample[Any]]]:
    for case in recording.cases[function]:
        yield case, sample(recording, case)


@pytest.mark.parametrize("function", OPERATOR)
def test_integer_equals_the_recorded_kernels(function: str, recording: Recording) -> None:
    op = load_ops().op(OPERATOR[function])
    compared = 0
    for case, one in legal(recording, function):
        y = np.asarray(op.integer(one.attrs, one.types, one.inputs))[0]
        y = y[tuple(slice(size) for size in case["y_shape"])]
        for path in ["y_c"] if case["hazard"] or function in ONLY_C else ["y_c", "y_dsp"]:
            np.testing.assert_array_equal(
                y, recording.array(case, path).reshape(y.shape), one.label
            )
            compared += y.size
    assert compared > 0


@pytest.mark.parametrize("name", sorted(set(OPERATOR.values())))
def test_c_equals_the_recorded_kernels(
    name: str, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled reference kernels on this computer; `integer` stands for the recording, which
    the test above compares it with.
    """
    functions = [f for f in OPERATOR if OPERATOR[f] == name]
    found = tuple(s for f in functions for _, s in legal(recording, f))
    monkeypatch.setattr(cases, "samples", lambda _: found)
    programs.instances.cache_clear()
    try:
        host = targets.load("host")
        program = programs.build(name, host, programs.Variant("gcc-O2", "gcc", "-O2"), tmp_path)
        definition = load_ops().op(name)
        jobs = [
            call
            for entry in programs.instances(name, host.features)[1]
            for call in calls.apart(definition, entry.kernel, entry.sample, entry.entry)
        ]
        ran = runners.run_host(program, jobs)
    finally:
        programs.instances.cache_clear()
    assert len(jobs) >= len(found)
    assert not ran.problems
