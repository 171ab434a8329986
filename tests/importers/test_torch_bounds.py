"""What torch leaves real in PT2E graphs: codes here, and a proven bound of what that changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isobit.importers.base import Imported
from isobit.importers.torch_bounds import CODES
from isobit.importers.torch_export import read
from isobit.importers.torch_functions import FUNCTIONS

from .pt2e import QUANTISERS, converted
from .test_pt2e import EXAMPLES, IMAGE, differences
from .torch_cases import Calls


class Gate(nn.Module):
    """A hard-swish of a convolution, gated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.conv(x))
        return y * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))


def function_of_a_convolution(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(6, 6, 1), Calls(function), nn.Conv2d(6, 6, 1))


NETS: dict[str, Callable[[], nn.Module]] = {
    "hardswish": lambda: function_of_a_convolution(F.hardswish),
    "sigmoid": lambda: function_of_a_convolution(torch.sigmoid),
    "sum": lambda: function_of_a_convolution(lambda x: F.relu(x + x.mean((2, 3), keepdim=True))),
    "transposed": lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ConvTranspose2d(6, 4, 2, 2)),
    "gate": Gate,
}


def proven(found: Imported) -> int:
    """Return a bound of an output: what every operator before it may add, carried on by none."""
    of_value: Counter[str] = Counter()
    for note in found.notes:
        of_value[note.value] += note.lsb
    return sum(of_value.values())


@pytest.mark.parametrize("quantiser", QUANTISERS)
@pytest.mark.parametrize("label", NETS)
def test_codes_differ_by_no_more_than_was_proven(label: str, quantiser: str) -> None:
    torch.manual_seed(3)
    xs = [torch.randn(EXAMPLES, *IMAGE)]
    module = converted(NETS[label](), xs, quantiser)
    found = read(module, xs)
    bounds = [n for n in found.notes if n.kind == "lsb" and "with reals before" in n.text]
    if any(n.kind == "range" and "real in torch" in n.text for n in found.notes):
        inner = {n.value for n in found.notes if n.kind == "range"} - set(found.graph.outputs)
        assert bounds or not inner, "a value inside the network has codes of its own"
    assert all(0 < note.lsb <= CODES for note in bounds)
    assert differences(found, module, xs).max() <= max(proven(found), 1)
    beyond = [x * 6 for x in xs]  # far outside of the ranges of the examples
    assert differences(found, module, beyond).max() <= max(proven(found), 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_slope_and_the_minimum_that_bounds_use(name: str) -> None:
    x = np.linspace(-12, 12, 24001)
    f = FUNCTIONS[name]({"negative_slope": 0.1, "alpha": 1.5})
    options = {"leaky_relu": {"negative_slope": 0.1}, "elu": {"alpha": 1.5}}.get(name, {})
    function: Callable[..., Tensor] = getattr(F, name)
    want = function(torch.from_numpy(x), **options).numpy()
    got = np.asarray([f.value(float(v)) for v in x])
    assert np.abs(got - want).max() < 1e-12
    assert (np.abs(np.diff(want)) / np.diff(x)).max() <= f.steepest + 1e-9
    if f.monotone:
        assert (np.diff(want) >= 0).all()
    else:
        assert want.min() >= f.least and (want[x <= 0] <= 0).all()
        assert (np.diff(want[x >= 0]) >= 0).all()
