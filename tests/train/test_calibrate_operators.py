"""Calibrated integers are close to the reals, one operator at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isobit
from importers.test_torch_export import stored
from importers.torch_cases import CASES, Calls
from isobit.api.from_torch import from_torch
from isobit.core.errors import BadRunInput, NoKernel
from isobit.run.golden import run_golden

LEAST_DB = 25.0
"""8-bit codes over the range of normal values have about 35 dB of noise; every operator rounds its
input and its output.
"""
EXAMPLES = 32


def noise_db(module: nn.Module, x: Tensor, **options: object) -> float:
    """Return the signal-to-noise ratio of the integers against the float graph."""
    graph = from_torch(module.eval(), x[:1], name="net")
    data = np.ascontiguousarray(stored(x.numpy(), graph.inputs[0].type.shape))
    model = isobit.calibrate(graph, data, **options)  # type: ignore[arg-type]
    real = run_golden(graph, data)[graph.outputs[0]]
    with torch.no_grad():
        outputs = model(torch.from_numpy(data))
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    error = first.numpy().reshape(real.shape) - real
    return float(10 * np.log10(np.square(real).mean() / max(np.square(error).mean(), 1e-30)))


STEPS = ("floor", "ceil", "round")
"""A rounded input falls on the other side of a step: no bound on the noise."""
SINGLE = [name for name, case in CASES.items() if len(case.shapes) == 1 and name not in STEPS]


@pytest.mark.parametrize("label", SINGLE)
def test_operator_has_little_noise(label: str) -> None:
    torch.manual_seed(5)
    case = CASES[label]
    x = torch.randn(EXAMPLES, *case.shapes[0])
    # A mean has the step of what it averages: means that all are about 0 would drown in it.
    assert noise_db(case.module(), x.abs() + 0.1 if case.positive else x + 0.5) >= LEAST_DB


@pytest.mark.parametrize("slope", [0.25, 0.9, -0.3])
def test_slopes_below_zero_are_in_the_range(slope: float) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4, init=slope))
    assert noise_db(net, torch.randn(EXAMPLES, 3, 6, 5)) >= 30


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
@pytest.mark.parametrize("value", [5.0, -5.0, 0.3])
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_numbers_that_pads_add_are_in_the_range(value: float, scheme: str, method: str) -> None:
    torch.manual_seed(3)
    x, conv = torch.randn(EXAMPLES, 3, 6, 5), nn.Conv2d(3, 4, 1)
    after = Calls(lambda x: F.pad(F.max_pool2d(conv(x), 2, 1), (1, 1, 1, 1), value=value))
    before = Calls(lambda x: conv(F.pad(x, (1, 1, 1, 1), value=value)))
    for net in (after, before):
        net.conv = conv
        assert noise_db(net, x, scheme=scheme, method=method) >= LEAST_DB


@pytest.mark.parametrize("value", [-5.0, -np.inf])
def test_numbers_that_no_code_stands_for_are_refused(value: float) -> None:
    conv = nn.Conv2d(3, 4, 1)
    net = Calls(lambda x: F.pad(F.relu(conv(x)), (1, 1, 1, 1), value=value))
    net.conv = conv
    with pytest.raises(NoKernel, match="value to pad with"):
        noise_db(net, torch.randn(EXAMPLES, 3, 6, 5))


def test_channels_first_are_told_to_move() -> None:
    graph = from_torch(nn.Conv2d(3, 4, 1).eval(), torch.randn(1, 3, 6, 5), name="net")
    with pytest.raises(BadRunInput) as caught:
        isobit.calibrate(graph, np.zeros((8, 3, 6, 5), np.float32))
    assert "np.moveaxis(x, 1, -1)" in caught.value.problems[0].fix
    with pytest.raises(BadRunInput) as other:
        isobit.calibrate(graph, np.zeros((8, 4, 6, 5), np.float32))
    assert "moveaxis" not in other.value.problems[0].fix
