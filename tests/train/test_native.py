"""Training with compiled kernels against training without."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor

from isobit import nn
from isobit.core.errors import NotTraceable, ToolMissing
from isobit.ops.schemes import Scheme
from isobit.run.shared import shared_library
from isobit.train import (
    moments,
    native,
    native_checks,
    norm_layer,
    norm_training,
    weights,
)
from isobit.train.twin import Twin

from .compiled import kernels, needs_vectors
from .nets import SCHEMES, assert_equals_export, digits, make_twin, take_steps, training_codes

pytestmark = needs_vectors
both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)


@pytest.fixture(autouse=True)
def _offered() -> Iterator[None]:
    before = list(native._build)
    native.offer(shared_library)
    forget()
    yield
    native.allow(True)
    native._build[:] = before
    forget()


def forget() -> None:
    native.load.cache_clear()
    native.attempt.cache_clear()


class Deep(torch.nn.Module):
    """What the fused layer meets: a pool behind a norm, depthwise and 1x1 layers, a bias of the
    layer's own, sums in int8, a value with two readers, a dropout, uneven padding, weights that are
    rounded alone.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = torch.nn.Sequential(
            nn.Conv2d(1, 40, 3, padding=1), nn.BatchNorm2d(40), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.depth = torch.nn.Sequential(
            nn.Conv2d(40, 40, 3, padding=1, groups=40, bias=False), nn.BatchNorm2d(40), nn.ReLU()
        )
        self.point = torch.nn.Sequential(
            nn.Conv2d(40, 200, 1, bias=False), nn.BatchNorm2d(200), nn.ReLU6()
        )
        self.dropout = nn.Dropout(dropout)
        self.wide = torch.nn.Sequential(
            nn.Conv2d(200, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64)
        )
        self.side = torch.nn.Sequential(
            nn.Conv2d(200, 64, 1, stride=2, bias=False), nn.BatchNorm2d(64)
        )
        self.last = nn.Linear(64, 10)
        with torch.no_grad():
            self.depth[1].weight.mul_(-1)
            self.wide[1].weight[:5] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.point(self.depth(self.first(x))))
        x = torch.relu(self.wide(x) + self.side(x))
        return self.last(x.mean((2, 3)))


def twin_of(scheme: Scheme, make: Callable[[], torch.nn.Module] = Deep) -> Twin:
    torch.manual_seed(0)
    twin = make_twin(make(), scheme)
    x, _ = digits(64)
    twin.calibrate(x)
    return twin


def step_of(twin: Twin, *, compiled: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outputs of a training forward and every gradient."""
    native.allow(compiled)
    twin.train()
    twin.zero_grad()
    x, y = digits(48)
    out = twin(x)
    assert isinstance(out, Tensor)
    F.cross_entropy(out, y).backward()
    return out.detach(), {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}


@pytest.fixture
def exact_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training without kernels take statistics as exactly as with them: torch's are float32
    sums, and in `affine` every code follows from them.
    """

    def of_all(values: Tensor) -> list[Tensor]:
        flat = values.double().reshape(-1, values.shape[-1])
        mean, square = flat.sum(0) / len(flat), flat.square().sum(0) / len(flat)
        return [mean, (square - mean * mean).clamp_min(0.0)]

    monkeypatch.setattr(moments, "parts_of", of_all)


@both_schemes
def test_training_with_and_without_them_is_the_same(scheme: Scheme, exact_parts: None) -> None:
    """From one state, three times: outputs to the bit; gradients but for the order in which float32
    adds some hundreds of terms: 1e-4 of the largest.
    """
    one, other = twin_of(scheme), twin_of(scheme)
    for _ in range(3):
        out, own = step_of(one, compiled=True)
        plain, wanted = step_of(other, compiled=False)
        assert own.keys() == wanted.keys() == {n for n, _ in one.named_parameters()}
        assert torch.equal(out, plain)
        for name, value in wanted.items():
            largest = float(value.abs().max())
            assert float((own[name] - value).abs().max()) <= 1e-4 * largest + 1e-7, name
        other.load_state_dict(one.state_dict())


@both_schemes
def test_a_forward_with_them_is_the_exports(scheme: Scheme) -> None:
    """With batch statistics written into the norms the export computes the same integers."""
    twin = twin_of(scheme)
    take_steps(twin, 2)
    twin.update_ranges()
    x, _ = digits(32)
    if scheme is Scheme.POW2:  # the forward uses running statistics, and moves them afterwards
        before = {k: v.clone() for k, v in twin.state_dict().items()}
        codes = training_codes(twin, x, moving=True)
        twin.load_state_dict(before)
    else:
        codes = training_codes(twin, x, moving=True)
        for step in twin.steps:
            if step.name in twin.batch_statistics:
                assert step.norm is not None
                found = twin.batch_statistics[step.name]
                twin.parameter(step.norm.mean).copy_(torch.from_numpy(found.mean))
                twin.parameter(step.norm.var).copy_(torch.from_numpy(found.var))
    twin.eval()
    assert_equals_export(twin, x, codes)


@both_schemes
def test_two_threads_find_the_bits_of_one(scheme: Scheme) -> None:
    """Statistics of integers are exact sums, so whatever follows from them is the same."""
    found = []
    for threads in (1, 2):
        twin = twin_of(scheme)
        torch.set_num_threads(threads)
        try:
            step_of(twin, compiled=True)
        finally:
            torch.set_num_threads(1)
        found.append({k: v for k, v in twin.state_dict().items() if "running" in k})
    assert found[0] and all(torch.equal(value, found[1][key]) for key, value in found[0].items())


@both_schemes
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_backward_reads_what_the_forward_read(
    scheme: Scheme, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed codes are those of the tensor itself; not of what a dropout made of it."""
    found = []
    for packed in (True, False):
        if not packed:
            monkeypatch.setattr(norm_training.Pass, "packed_of", lambda *_: None)
        twin = twin_of(scheme, lambda: Deep(dropout))
        torch.manual_seed(3)
        found.append(step_of(twin, compiled=True)[1])
    assert found[0] and all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@both_schemes
def test_gradients_of_gradients_are_those_without_them(scheme: Scheme, exact_parts: None) -> None:
    found = []
    for compiled in (True, False):
        native.allow(compiled)
        twin = twin_of(scheme)
        twin.train()
        x, y = digits(32)
        parameters = [p for p in twin.parameters() if p.requires_grad]
        out = twin(x)
        assert isinstance(out, Tensor)
        first = torch.autograd.grad(F.cross_entropy(out, y), parameters, create_graph=True)
        penalty = sum(grad.square().sum() for grad in first)
        assert isinstance(penalty, Tensor)
        found.append(torch.autograd.grad(penalty, parameters))
    for own, wanted in zip(*found, strict=True):
        assert float((own - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max()) + 1e-7


def test_checkpointing_gives_the_same_gradients() -> None:
    """Its hooks decide how tensors are kept; ours stand back. In `affine`, whose forward follows
    from the batch alone: in `pow2` the second forward finds statistics that have moved.
    """
    found = []
    for checkpointed in (False, True):
        twin = twin_of(Scheme.AFFINE)
        step_of(twin, compiled=True)  # the first one sets ranges
        twin.zero_grad()
        x, y = digits(32)
        if checkpointed:
            out: Any = torch.utils.checkpoint.checkpoint(twin, x, use_reentrant=False)
        else:
            out = twin(x)
        F.cross_entropy(out, y).backward()
        found.append([p.grad for p in twin.parameters()])
    for own, wanted in zip(*found, strict=True):
        assert own is not None and wanted is not None and torch.equal(own, wanted)


def test_a_backward_keeps_codes_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two layers with batch norm nobody holds float32 codes once the second has run."""
    kernels()  # tried now, not while they are watched
    held: list[weakref.ref[Tensor]] = []
    make = native.Kernels.codes

    def watched(self: native.Kernels, *given: Any) -> tuple[Tensor, native.Packed]:
        y, packed = make(self, *given)
        held.append(weakref.ref(y))
        return y, packed

    monkeypatch.setattr(native.Kernels, "codes", watched)
    twin = twin_of(Scheme.AFFINE)
    twin.train()
    out = twin(digits(32)[0])
    assert len(held) == 5
    assert [one() is None for one in held] == [False, True, True, True, True], "one is pooled"
    assert isinstance(out, Tensor)
    out.sum().backward()


def test_without_a_compiler_training_goes_on() -> None:
    def missing(*_: object) -> Path:
        raise ToolMissing(where="zig", what="not installed", want="zig", got="none", fix="pip")

    native.offer(missing)
    assert native.load() is None
    twin = twin_of(Scheme.POW2)
    step_of(twin, compiled=True)


def test_a_library_that_computes_something_else_is_not_used() -> None:
    """Every kernel is tried before the first is used: each of these faults is seen."""
    good = kernels()

    class Wrong(native.Kernels):
        def __init__(self, name: str) -> None:
            self.__dict__.update(good.__dict__)
            make = getattr(good, name)

            def spoiled(*given: Any) -> Any:
                found = make(*given)
                first = found[0] if isinstance(found, tuple) else found
                first.reshape(-1)[-1] += 1
                return found

            setattr(self, name, spoiled)

    assert native_checks.first_fault(good) == ""
    faults = {
        "rounded": "weights",
        "real": "weights",
        "unpack": "codes",
        "gradient_sums": "gradient",
    }
    for name in ("moments", "fold", "codes", "unpack", "rounded", "real", "gradient_sums"):
        assert native_checks.first_fault(Wrong(name)).startswith(faults.get(name, name)), name
    assert native_checks.first_fault(Wrong("gradient")).startswith("gradient")


def test_a_fault_is_said_once_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_checks, "first_fault", lambda _: "codes of 5 x 3")
    with pytest.warns(RuntimeWarning, match=r"slower.*codes of 5 x 3"):
        step_of(twin_of(Scheme.POW2), compiled=True)
    step_of(twin_of(Scheme.POW2), compiled=True)


def test_a_damaged_library_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "kernels.so").write_bytes(b"not a library")
    native.offer(lambda *_: tmp_path / "kernels.so")
    with pytest.warns(RuntimeWarning, match=r"kernels\.so"):
        assert native.load() is None


@both_schemes
@pytest.mark.parametrize("where", ["weight", "beta", "gamma"])
def test_a_parameter_that_is_no_number_shows(scheme: Scheme, where: str) -> None:
    """As without kernels: in the outputs or in the gradients, so that a loop can stop."""
    twin = twin_of(scheme)
    step_of(twin, compiled=True)  # the first one sets ranges, and would refuse
    with torch.no_grad():
        layer = twin.net.wide
        assert isinstance(layer, torch.nn.Sequential)
        chosen = {"weight": layer[0].weight, "gamma": layer[1].weight, "beta": layer[1].bias}
        chosen[where].reshape(-1)[7] = torch.nan
    out, found = step_of(twin, compiled=True)
    finite = [torch.isfinite(value).all() for value in (out, *found.values())]
    assert not all(finite)


@both_schemes
@pytest.mark.parametrize("compiled", [True, False])
def test_depthwise_weights_of_more_than_a_part(
    scheme: Scheme, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their channels come last, so they are not rounded in parts. Weights rounded alone lie in
    another order in memory, so float32 may add gradients in another one: 1e-4 of the largest.
    """
    monkeypatch.setattr(norm_layer, "ROWS_BYTES", 64)
    found = []
    for most in (1, 1 << 16):
        monkeypatch.setattr(weights, "MOST_SMALL", most)
        found.append(step_of(twin_of(scheme), compiled=compiled))
    assert torch.equal(found[0][0], found[1][0])
    for name, value in found[0][1].items():
        largest = float(value.abs().max())
        assert float((value - found[1][1][name]).abs().max()) <= 1e-4 * largest + 1e-7, name


@both_schemes
def test_another_network_in_the_model_is_the_one_that_trains(scheme: Scheme) -> None:
    twin = twin_of(scheme)
    step_of(twin, compiled=True)
    twin.zero_grad()
    before, twin.net = twin.net, copy.deepcopy(twin.net)
    step_of(twin, compiled=True)
    assert all(p.grad is None for p in before.parameters())
    assert all(p.grad is not None for p in twin.net.parameters())
    twin.net.last.register_forward_hook(lambda *_: None)
    with pytest.raises(NotTraceable, match="hooks on a layer"):
        twin(digits(8)[0])


@both_schemes
def test_forbidden_hooks_are_not_used(scheme: Scheme) -> None:
    twin = twin_of(scheme)
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        step_of(twin, compiled=True)
