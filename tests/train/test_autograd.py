"""What autograd lets a user do with a training forward: each as with the float network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from isobit import nn
from isobit.core import fixed_torch
from isobit.core import torch_scratch as scratch
from isobit.ops.schemes import Scheme
from isobit.train.twin import Twin

from .nets import SCHEMES, assert_equals_export, digits, make_twin, trained_twin, training_codes

both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)


@pytest.fixture
def all_memory_used_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(scratch, "LEAST_BYTES", 1)
    scratch.release()
    yield
    scratch.release()


def loss_of(twin: Twin) -> Tensor:
    x, y = digits(16)
    out = twin(x)
    assert isinstance(out, Tensor)
    return F.cross_entropy(out, y)


def gradients(twin: Twin) -> list[Tensor]:
    return [p.grad.clone() for p in twin.parameters() if p.grad is not None]


@both_schemes
@pytest.mark.parametrize("frozen", [False, True])
def test_training_goes_on_after_inference_mode(
    scheme: Scheme, frozen: bool, all_memory_used_again: None
) -> None:
    twin = trained_twin(scheme)
    if frozen:
        twin.freeze()
    twin.forget_numbers()  # so that they are made where gradients do not exist
    x, _ = digits(16)
    with torch.inference_mode():
        twin.eval()(x)
    twin.train()
    twin.zero_grad()
    loss_of(twin).backward()  # type: ignore[no-untyped-call]  # torch's
    assert len(gradients(twin)) == len(list(twin.parameters()))


@both_schemes
def test_two_backwards_and_a_forward_between_give_the_same(
    scheme: Scheme, all_memory_used_again: None
) -> None:
    twin = trained_twin(scheme)
    loss, found = loss_of(twin), []
    for _ in range(2):
        twin.zero_grad()
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch's
        found.append(gradients(twin))
        loss_of(twin)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@both_schemes
def test_gradients_of_gradients_exist(scheme: Scheme) -> None:
    twin = trained_twin(scheme)
    parameters = [p for p in twin.parameters() if p.requires_grad]
    first = torch.autograd.grad(loss_of(twin), parameters, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), parameters)
    assert all(bool(torch.isfinite(g).all()) for g in second)
    assert any(bool(g.any()) for g in second)


def test_the_gradient_of_a_masked_gradient_is_the_mask() -> None:
    x = torch.tensor([-9.0, -1.0, 2.0, 9.0], requires_grad=True)
    upstream = torch.ones(4, requires_grad=True)
    y = fixed_torch.floor_clamp(x * 1, -4, 4)
    (inside,) = torch.autograd.grad(y, x, upstream, create_graph=True)
    (mask,) = torch.autograd.grad(inside.sum(), upstream)
    assert mask.tolist() == [0.0, 1.0, 1.0, 0.0]


class Backwards(TorchDispatchMode):
    """Counts backward passes through sums."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "backward" in str(func) and "loss" not in str(func):
            self.found[str(func).split(".")[1]] += 1
        return func(*args, **(kwargs or {}))


@both_schemes
def test_a_backward_ends_at_the_last_frozen_layer(scheme: Scheme) -> None:
    twin = trained_twin(scheme)
    twin.freeze()
    twin.zero_grad()
    for name, parameter in twin.net.named_parameters():
        parameter.requires_grad_(name.startswith("12."))
    loss = loss_of(twin)
    with Backwards() as calls:
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert calls.found["hardtanh_backward"] == 1, "of the last layer"
    assert not calls.found["convolution_backward"]
    names = [name for name, p in twin.net.named_parameters() if p.grad is not None]
    assert names == ["12.weight", "12.bias"]
    x, _ = digits(16)
    assert_equals_export(twin, x, training_codes(twin, x, moving=False))


class TwoHeads(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3)
        self.one, self.other = nn.Linear(144, 10), nn.Linear(144, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.flatten(torch.relu(self.body(x)), 1)
        return self.one(x), self.other(x)


@both_schemes
def test_what_no_loss_depends_on_gets_no_gradient(scheme: Scheme) -> None:
    """Zeros instead would let weight decay and momentum move it."""
    twin = make_twin(TwoHeads(), scheme)
    x, y = digits(16)
    F.cross_entropy(twin.train()(x)[0], y).backward()  # type: ignore[no-untyped-call]  # torch's
    without = [name for name, p in twin.net.named_parameters() if p.grad is None]
    assert without == ["other.weight", "other.bias"]
