"""Dropout acts in training, on codes; evaluation, frozen training and the chip do not know it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from isobit import nn
from isobit.core.errors import NotTraceable, SeveralProblems
from isobit.ops.schemes import Scheme
from isobit.train.dropout import apply_dropout
from isobit.train.twin import Twin

from .nets import (
    SCHEMES,
    assert_equals_export,
    digits,
    make_twin,
    take_steps,
    training_codes,
)

both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
P = 0.25


def dropping_net() -> torch.nn.Module:
    """Dropout at the input, between convolutions, of channels, and before the last layer."""
    return nn.Sequential(
        nn.Standardize(),
        nn.Dropout(0.1),
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.Dropout(P),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(32, 10),
    )


def one_dropout(module: torch.nn.Module) -> torch.nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), module, nn.Flatten(), nn.Linear(288, 10))


@both_schemes
def test_evaluation_and_frozen_training_equal_the_export(scheme: Scheme) -> None:
    torch.manual_seed(0)
    twin = make_twin(dropping_net(), scheme)
    take_steps(twin)
    twin.update_ranges()
    x, _ = digits(40, start=500)
    twin.eval()
    assert_equals_export(twin, x, twin.trace(x))
    assert {node.op for node in twin.export().nodes} == {
        "standardize", "conv2d", "max_pool2d", "reshape", "linear"
    }  # fmt: skip
    twin.train()
    twin.freeze()
    assert_equals_export(twin, x, training_codes(twin, x, moving=False))


def calibrated(net: torch.nn.Module, scheme: Scheme = Scheme.AFFINE) -> tuple[Twin, Tensor]:
    torch.manual_seed(0)
    twin = make_twin(net, scheme)
    x, _ = digits(40)
    twin.calibrate(x)
    return twin.train(), x


@both_schemes
@pytest.mark.parametrize("module", [nn.Dropout(P), nn.Dropout2d(P)], ids=str)
def test_training_drops_and_scales_codes(scheme: Scheme, module: torch.nn.Module) -> None:
    twin, x = calibrated(one_dropout(module), scheme)
    before = training_codes(twin, x, moving=False)["conv2d_0"].astype(np.float64)
    after = training_codes(twin, x, moving=True)["conv2d_0"].astype(np.float64)
    zero = twin.export().type_map()["conv2d_0"].zero
    kept = np.clip(np.floor((before - zero) / (1 - P) + 0.5) + zero, -128, 127)
    dropped = after == zero
    # float32 products of the module may fall on the other side of a tie.
    assert (np.abs(after - kept)[~dropped] <= 1).all()
    assert (after == kept)[~dropped].mean() > 0.99
    units = dropped & (before != zero)
    if isinstance(module, torch.nn.Dropout2d):
        whole = units.any(axis=(1, 2))
        assert (dropped.all(axis=(1, 2)) == whole).all(), "whole channels"
        units = whole
    # 4 standard deviations of a binomial share.
    share = units.mean() / (1.0 if units.ndim == 2 else (before != zero).mean())
    assert abs(share - P) < 4 * np.sqrt(P * (1 - P) / units.size)


def test_every_training_step_drops_others_and_a_seed_repeats_them() -> None:
    twin, x = calibrated(one_dropout(nn.Dropout(P)))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(twin(x))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_dropped_values_have_no_gradient_and_kept_ones_torchs() -> None:
    twin, _ = calibrated(one_dropout(nn.Dropout(P)))
    carriers = torch.randint(-90, 90, (2, 6, 6, 8)).float().requires_grad_()
    values = {"conv2d_0": carriers}
    apply_dropout(twin, values, "conv2d_0")
    values["conv2d_0"].sum().backward()
    assert carriers.grad is not None
    kept = (values["conv2d_0"] != 0) | (carriers == 0)
    factors = carriers.grad[kept & (carriers != 0)]
    assert torch.allclose(factors, torch.full_like(factors, 1 / (1 - P)))
    assert not carriers.grad[~kept].any() and (~kept).any()


@both_schemes
def test_ranges_are_observed_without_dropout(scheme: Scheme) -> None:
    ranges = []
    for p in (1e-9, 0.9):  # next to none, but observed as every network with dropout is
        torch.manual_seed(0)
        twin, x = calibrated(one_dropout(nn.Dropout(p)), scheme)
        for _ in range(12):
            twin(x[:16])
        twin.update_ranges()
        ranges.append([twin.frozen_range(name) for name in ("conv2d_0", "linear_3")])
    assert ranges[0] == ranges[1]


def test_a_dropout_kept_in_eval_mode_is_off() -> None:
    net = one_dropout(nn.Dropout(P))
    twin, x = calibrated(net)
    net[1].eval()
    assert_equals_export(twin, x, training_codes(twin, x, moving=True))


def test_dropout_at_both_ends_and_in_place() -> None:
    net = nn.Sequential(nn.Dropout(P), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(P, inplace=True))
    twin, x = calibrated(net)
    codes = training_codes(twin, x, moving=True)
    zero = twin.export().inputs[0].type.zero
    assert (codes["input"] == zero).mean() > (twin.quantize_input(x) == zero).mean() + 0.1
    out = twin(x)
    assert out.shape == (40, 2, 6, 6)
    assert_equals_export(twin.eval(), x, twin.trace(x))


def test_alpha_dropout_acts() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ELU(), nn.AlphaDropout(P), nn.Conv2d(4, 2, 3))
    twin, x = calibrated(net)
    before = training_codes(twin, x, moving=False)["elu_1"]
    after = training_codes(twin, x, moving=True)["elu_1"]
    assert (before != after).mean() > 0.5


class Branch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(1, 4, 3), nn.Dropout(P)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.drop(y)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Branch(), "conv, which is also read without it"),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(P), nn.BatchNorm2d(4)),
            "before batch_norm batchnorm2d_2",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(P), nn.Hardtanh(0.5, 1.0)),
            "before clamp hardtanh_2",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.AlphaDropout(P), nn.MaxPool2d(2), nn.ReLU()),
            "before clamp relu_3",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Dropout2d(P)), "Use nn.Dropout"),
    ],
    ids=["branch", "norm", "clamp", "alpha", "2d"],
)
def test_places_where_dropout_would_mean_something_else(net: torch.nn.Module, said: str) -> None:
    with pytest.raises(NotTraceable) as caught:
        make_twin(net, Scheme.AFFINE)
    assert said in str(caught.value) and "test_dropout.py:" in str(caught.value)


def test_all_places_are_reported_at_once() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Dropout(P), nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3), nn.Dropout(P), nn.BatchNorm2d(4),
    )  # fmt: skip
    with pytest.raises(SeveralProblems) as caught:
        make_twin(net, Scheme.AFFINE)
    assert len(caught.value.problems) == 2


def test_one_dropout_module_used_twice() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Dropout(P)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.drop(self.b(self.drop(self.a(x))))
            return y

    twin, x = calibrated(Twice())
    assert dict(twin.traced.dropouts) == {"a": ("drop",), "b": ("drop",)}
    assert_equals_export(twin.eval(), x, twin.trace(x))
