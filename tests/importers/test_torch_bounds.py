"""What torch leaves real in PT2E graphs: codes here, and a proven bound of what that changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isobit.core.errors import Unsupported
from isobit.importers import torch_bounds
from isobit.importers.onnx_file import FileNode
from isobit.importers.torch_bounds import ANY, CODES, Real
from isobit.importers.torch_export import read
from isobit.importers.torch_functions import FUNCTIONS
from isobit.ir.graph import Stage

from .pt2e import QUANTISERS, converted
from .test_pt2e import EXAMPLES, IMAGE
from .torch_cases import Calls
from .torch_random import IMAGE as RANDOM_IMAGE
from .torch_random import RandomNet
from .torch_regions import Judged, Regions


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


class Mixed(nn.Module):
    """A transposed convolution whose two terms almost cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(6, 2, 1), nn.ConvTranspose2d(2, 1, 1)
        self.conv.weight.data[1] = self.conv.weight.data[0] * 1.01
        self.mix.weight.data = torch.tensor([1.0, -0.97]).reshape(2, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.mix(F.silu(self.conv(x)))
        return z


NETS: dict[str, Callable[[], nn.Module]] = {
    # Results much smaller than what they are made of show the rounding of their operands.
    "difference": lambda: function_of_a_convolution(lambda x: F.silu(x) - 0.97 * F.silu(x)),
    "product": lambda: function_of_a_convolution(lambda x: F.silu(x) * torch.sigmoid(-4 * x)),
    "softmax": lambda: function_of_a_convolution(lambda x: (x * 6).softmax(1)),
    "steep": lambda: function_of_a_convolution(lambda x: torch.tanh(x * 9)),
    "mixed": Mixed,
    "hardswish": lambda: function_of_a_convolution(F.hardswish),
    "sigmoid": lambda: function_of_a_convolution(torch.sigmoid),
    "sum": lambda: function_of_a_convolution(lambda x: F.relu(x + x.mean((2, 3), keepdim=True))),
    "transposed": lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ConvTranspose2d(6, 4, 2, 2)),
    "gate": Gate,
}


SEEDS = {"quick": 4, "full": 40}
"""How many random networks."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(SEEDS[metafunc.config.getoption("--scale")]))


FACTORS = (0.3, 1, 10)
"""Of the examples: nothing leaves its range, what they are like, most of it is cut off."""


def unsound(module: nn.Module, xs: list[Tensor], quantiser: str) -> list[Judged]:
    """Return every value that differs by more than its notes say."""
    regions = Regions(converted(module, xs, quantiser), xs)
    if regions.imported.graph.stage is Stage.FLOAT:  # the quantiser knows none of its operators
        return []
    assert all(0 <= n.lsb <= CODES for n in regions.imported.notes if "reals before" in n.text)
    found = [one for factor in FACTORS for one in regions.judged([x * factor for x in xs])]
    assert found
    return [one for one in found if not one.sound]


@pytest.mark.parametrize("quantiser", QUANTISERS)
@pytest.mark.parametrize("label", NETS)
def test_codes_differ_by_no_more_than_was_proven(label: str, quantiser: str) -> None:
    torch.manual_seed(3)
    assert not unsound(NETS[label](), [torch.randn(EXAMPLES, *IMAGE)], quantiser)


@pytest.mark.parametrize("quantiser", QUANTISERS)
def test_random_network_differs_by_no_more_than_was_proven(seed: int, quantiser: str) -> None:
    module = RandomNet(seed)
    xs = [torch.randn(EXAMPLES, *RANDOM_IMAGE)]
    try:
        assert not unsound(module, xs, quantiser), module.operators
    except Unsupported as error:
        known = ("the result is not quantised", "a code of the input")
        assert any(reason in str(error) for reason in known)


def eighth(x: Real) -> Real:
    return replace(x, near=x.near / 8, far=x.far / 8)


def exact(x: Real) -> Real:
    return replace(x, near=0.0, far=0.0, cut=ANY)


class Unrounded(torch_bounds._Bounds):
    """Forgets that a value with codes of its own is rounded and cut off."""

    def quantise(self, node: FileNode) -> None:
        super().quantise(node)
        self.known[node.outputs[0]] = exact(self.known[node.outputs[0]])


class Paired(torch_bounds._Bounds):
    """Forgets the errors of operands."""

    def pair(self, node: FileNode, base: str, xs: list[Real]) -> Real:
        return super().pair(node, base, [exact(x) for x in xs])


class Light(torch_bounds._Bounds):
    """Underestimates weights."""

    def weighted(self, node: FileNode, x: Real) -> Real:
        return eighth(super().weighted(node, x))


class Flat(torch_bounds._Bounds):
    """Forgets what functions make of an error."""

    def function(self, node: FileNode, base: str, x: Real) -> Real:
        return super().function(node, base, exact(x))


class Level(torch_bounds._Bounds):
    """Underestimates what a softmax makes of an error."""

    def operator(self, node: FileNode) -> Real:
        found = super().operator(node)
        return eighth(found) if node.code.startswith("softmax") else found


@pytest.mark.parametrize(
    ("label", "quantiser", "wrong"),
    [
        ("sum", "x86", Unrounded),
        ("difference", "xnnpack", Paired),
        ("mixed", "x86", Light),
        ("steep", "x86", Flat),
        ("softmax", "x86", Level),
    ],
)
def test_bound_that_is_too_small_is_noticed(
    label: str, quantiser: str, wrong: type[torch_bounds._Bounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    monkeypatch.setattr(torch_bounds, "_Bounds", wrong)
    assert unsound(NETS[label](), [torch.randn(EXAMPLES, *IMAGE)], quantiser)


def test_real_value_inside_a_network_has_a_bound() -> None:
    torch.manual_seed(3)
    xs = [torch.randn(EXAMPLES, *IMAGE)]
    found = read(converted(Gate(), xs, "x86"), xs)
    inner = {n.value for n in found.notes if n.kind == "range"} - set(found.graph.outputs)
    assert inner and any("reals before" in note.text for note in found.notes)


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


def test_border_of_a_pad_is_not_cut_off() -> None:
    cut = Real(range=(-2.0, 2.0), cut=(-1.0, 1.0))
    assert torch_bounds._padded(cut, 0.5).far == 0.0
    assert torch_bounds._padded(cut, 1.5).far == 0.5  # of 1.5 against what is cut off at 1


def test_ends_of_two_clips_need_not_overlap() -> None:
    low, high = torch_bounds._clip((5.0, 6.0), (-1.0, 1.0))
    assert (low, high) == (1.0, 1.0)


def test_functions_of_unbounded_values_have_bounds() -> None:
    for name, make in FUNCTIONS.items():
        f = make({"negative_slope": 0.0, "alpha": 1.0, "approximate": "tanh"})
        for x in (-np.inf, -1e200, 1e200, np.inf):
            assert not np.isnan(f.value(float(x))), name
