"""Ranges: what is observed, when it comes into force, and that nothing changes in between."""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch

from isobit.core.errors import BadRunInput, Diverged, NoRange
from isobit.core.types import Encoding
from isobit.ops.schemes import Scheme
from isobit.train.ranges import (
    RangeMethod,
    RangeObserver,
    RangeOptions,
    Restore,
    in_powers,
    in_steps,
    in_wide_codes,
)
from isobit.train.twin import Twin

from .nets import SCHEMES, digits, make_twin, mixed_net, plain_net, take_steps, trained_twin

both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)


def encodings(twin: Twin) -> dict[str, Encoding]:
    return {name: kind.encoding for name, kind in twin.numbers.types.items()}


def test_minmax_moves_by_momentum() -> None:
    observer = RangeObserver(RangeOptions(momentum=0.25))
    observer.observe(torch.tensor([-4.0, 8.0]), 0.5)
    assert (float(observer.low), float(observer.high)) == (-2.0, 4.0), "the first batch sets it"
    observer.observe(torch.tensor([-2.0, 0.0]), 0.5)
    assert (float(observer.low), float(observer.high)) == (-1.75, 3.0)
    assert not bool(observer.frozen)
    assert (float(observer.frozen_low), float(observer.frozen_high)) == (-1.0, 1.0)
    observer.freeze()
    assert (float(observer.frozen_low), float(observer.frozen_high)) == (-1.75, 3.0)
    observer.forget()
    observer.observe(torch.tensor([0.0, 1.0]), 1.0)
    assert (float(observer.low), float(observer.high)) == (0.0, 1.0), "forgotten: set again"


def test_percentile_cuts_the_tails() -> None:
    observer = RangeObserver(RangeOptions(method=RangeMethod.PERCENTILE, tail=0.01))
    values = torch.arange(1000.0)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    observer.observe(values, 2.0)
    # The 10th smallest and the 10th largest of 0..999, counted from one.
    assert (float(observer.low), float(observer.high)) == (18.0, 1980.0)


def test_percentile_of_few_values_is_their_extremes() -> None:
    observer = RangeObserver(RangeOptions(method=RangeMethod.PERCENTILE, tail=1e-4))
    observer.observe(torch.tensor([3.0, -1.0]), 1.0)
    assert (float(observer.low), float(observer.high)) == (-1.0, 3.0)


def quantisation_error(values: torch.Tensor, low: float, high: float) -> float:
    x = values.double().numpy()
    step = (high - low) / 255
    restored = np.rint((np.clip(x, low, high) - low) / step) * step + low
    return float(((restored - x) ** 2).mean())


def test_mse_shrinks_a_range_with_an_outlier_and_keeps_a_uniform_one() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(120_000, generator=generator) * 2 - 1
    observer = RangeObserver(RangeOptions(method=RangeMethod.MSE))
    observer.observe(uniform, 1.0)
    assert float(observer.high) == float(uniform.max())
    outlier = torch.cat([uniform, torch.tensor([1.5, -1.5])])
    observer = RangeObserver(RangeOptions(method=RangeMethod.MSE))
    observer.observe(outlier, 1.0)
    assert float(observer.high) < 1.5
    own = quantisation_error(outlier, float(observer.low), float(observer.high))
    assert own < quantisation_error(outlier, -1.5, 1.5)


def test_mse_counts_the_error_of_the_codes_at_hand() -> None:
    """Just beyond 127.5/128 a power of two is twice as coarse: in `pow2` cutting there pays."""
    generator = torch.Generator().manual_seed(0)
    uniform = (torch.rand(60_000, generator=generator) * 2 - 1) * 1.02
    outlier = torch.cat([uniform, torch.tensor([1.5, -1.5])])

    def high(restore: Restore, values: torch.Tensor) -> float:
        observer = RangeObserver(RangeOptions(method=RangeMethod.MSE), restore)
        observer.observe(values, 1.0)
        return float(observer.high)

    assert high(in_steps, uniform) == float(uniform.max())
    assert high(in_powers, uniform) <= 127.5 / 128
    for scheme in Scheme:
        wide = partial(in_wide_codes, scheme)
        assert high(in_steps, outlier) < 1.5 == high(wide, outlier)
        assert high(wide, torch.tensor([0.0, math.inf])) == math.inf
    assert high(in_powers, torch.tensor([0.0, math.inf])) == math.inf


@both_schemes
@pytest.mark.parametrize("method", list(RangeMethod), ids=lambda m: m.value)
def test_every_method_trains(scheme: Scheme, method: RangeMethod) -> None:
    torch.manual_seed(0)
    options = RangeOptions(method=method, update_every=2, observe_every=1)
    twin = make_twin(mixed_net(), scheme, ranges=options)
    take_steps(twin, 4)
    assert twin.missing_ranges() == []
    for observer in twin.observers.values():
        assert isinstance(observer, RangeObserver)
        assert float(observer.frozen_low) < float(observer.frozen_high)
    twin.export()


@both_schemes
def test_encodings_are_constant_between_updates(scheme: Scheme) -> None:
    torch.manual_seed(0)
    options = RangeOptions(update_every=3, observe_every=1, momentum=0.5)
    twin = make_twin(mixed_net(), scheme, ranges=options)
    seen = []
    for _ in range(10):
        take_steps(twin, 1, rate=0.5)
        seen.append(encodings(twin))
    changes = [step for step in range(1, 10) if seen[step] != seen[step - 1]]
    assert changes, "large steps change ranges"
    assert set(changes) <= {3, 6, 9}, "steps are counted from 0, the first sets everything"


@both_schemes
def test_update_ranges_takes_what_was_observed(scheme: Scheme) -> None:
    torch.manual_seed(0)
    twin = make_twin(plain_net(), scheme, ranges=RangeOptions(momentum=1.0, observe_every=1))
    take_steps(twin, 1)
    before = encodings(twin)
    x, _ = digits(16)
    with torch.no_grad():
        twin.net.get_parameter("0.weight").mul_(5)
        twin(x * 3)
    assert encodings(twin) == before
    twin.update_ranges()
    assert encodings(twin) != before
    low, high = twin.frozen_range("input")
    assert (low, high) == (0.0, float(x.max()) * 3)


@both_schemes
def test_eval_changes_nothing(scheme: Scheme) -> None:
    twin = trained_twin(scheme).eval()
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    x, _ = digits(32)
    first = twin(x)
    twin(x * 100)
    twin.trace(x * 100)
    assert all(torch.equal(value, before[key]) for key, value in twin.state_dict().items())
    assert torch.equal(twin(x), first)


@both_schemes
def test_freeze_stops_every_update_and_can_be_undone(scheme: Scheme) -> None:
    torch.manual_seed(0)
    options = RangeOptions(update_every=1, observe_every=1, momentum=1.0)
    twin = make_twin(mixed_net(), scheme, ranges=options)
    take_steps(twin, 2)
    twin.freeze()
    buffers = {key: value.clone() for key, value in twin.named_buffers()}
    take_steps(twin, 2)
    assert all(torch.equal(value, buffers[key]) for key, value in twin.named_buffers())
    twin.freeze(False)
    take_steps(twin, 2)
    assert not all(torch.equal(value, buffers[key]) for key, value in twin.named_buffers())


def test_export_refuses_ranges_that_were_never_set() -> None:
    twin = make_twin(plain_net(), Scheme.AFFINE)
    with pytest.raises(NoRange, match=r"E602 small: ranges: .*calibrate"):
        twin.export()
    twin.export(untrained=True)
    twin.calibrate(digits(8)[0])
    twin.export()


@both_schemes
def test_calibrate_sets_everything_from_one_batch(scheme: Scheme) -> None:
    """Layer by layer, so that a second call with the same batch finds nothing to change."""
    torch.manual_seed(0)
    twin = make_twin(mixed_net(), scheme)
    x, _ = digits(64)
    twin.calibrate(x)
    assert twin.missing_ranges() == []
    assert all(
        int(m.num_batches_tracked) == 1 for m in twin.modules() if hasattr(m, "num_batches_tracked")
    )
    again = copy.deepcopy(twin)
    again.calibrate(x)
    assert encodings(again) == encodings(twin)


def _conv_net(scheme: Scheme) -> Twin:
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, 3),
    )
    return Twin(net, input=(1, 8, 8), target="host", scheme=scheme, name="small")


def _refuses(
    twin: Twin, x: torch.Tensor, error: type[BadRunInput] | type[Diverged], said: str
) -> None:
    """In both ways to set ranges, and nothing is changed: the next batch finds a fresh model."""
    before = copy.deepcopy(dict(twin.named_buffers()))
    for call in (twin.calibrate, twin.train()):
        with pytest.raises(error, match=said):
            call(x)
        after = dict(twin.named_buffers())
        assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("factor", [1e20, 1e30, 1e37])
def test_statistics_that_leave_float32_are_refused(factor: float) -> None:
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    twin, other = _conv_net(Scheme.AFFINE), _conv_net(Scheme.AFFINE)
    _refuses(twin, x * factor, Diverged, "E603 .*batch norm.* finite .*[Rr]escale the input")
    for one in (twin, other):
        one.calibrate(x)
    assert torch.equal(twin.eval()(x), other.eval()(x))


def test_a_range_that_is_no_number_is_refused() -> None:
    twin = make_twin(plain_net(), Scheme.AFFINE)
    with torch.no_grad():
        list(twin.net.parameters())[-2].fill_(float("nan"))
    _refuses(twin, digits(8)[0], Diverged, "E603 .*observed range.* finite")


@pytest.mark.parametrize(
    ("scheme", "factor"),
    [(Scheme.AFFINE, 1e-11), (Scheme.AFFINE, 1e-30), (Scheme.POW2, 1e-10), (Scheme.POW2, 1e9)],
)
def test_a_range_without_a_step_is_refused(scheme: Scheme, factor: float) -> None:
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    _refuses(_conv_net(scheme), x * factor, BadRunInput, "E501 .*input.*[Rr]escale the input")


@both_schemes
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e5])
def test_ranges_that_codes_can_stand_for_are_taken(scheme: Scheme, factor: float) -> None:
    twin = _conv_net(scheme)
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * factor
    twin.calibrate(x)
    assert len(np.unique(twin.quantize_input(x))) > 20


@both_schemes
def test_where_nothing_flows_every_step_is_right(scheme: Scheme) -> None:
    """A dead ReLU, a layer of zeros, silence: the range is exactly nothing."""
    twin = _conv_net(scheme)
    twin.calibrate(torch.zeros(4, 1, 8, 8))
    assert bool(torch.isfinite(twin(torch.zeros(4, 1, 8, 8))).all())
