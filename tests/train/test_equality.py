"""Forward pass, golden model and compiled C compute the same integers, at every moment of a
training.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from isobit import targets
from isobit.codegen.network import generate
from isobit.core import torch_sums
from isobit.core.types import scale_of
from isobit.ops.schemes import Scheme
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.train import normalised
from isobit.train.twin import Twin

from .nets import (
    SCHEMES,
    assert_equals_export,
    digits,
    make_twin,
    mixed_net,
    plain_net,
    take_steps,
    trained_twin,
    training_codes,
)

both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)


@both_schemes
@pytest.mark.parametrize("net", [mixed_net, plain_net])
def test_eval_forward_equals_export(scheme: Scheme, net: object) -> None:
    twin = trained_twin(scheme, net()).eval()  # type: ignore[operator]
    x, _ = digits(40, start=500)
    assert_equals_export(twin, x, twin.trace(x))


@both_schemes
def test_outputs_are_the_codes_times_their_step(scheme: Scheme) -> None:
    twin = trained_twin(scheme).eval()
    x, _ = digits(8, start=500)
    graph = twin.export()
    (name,) = graph.outputs
    kind = graph.type_map()[name]
    codes = run_golden(graph, twin.quantize_input(x))[name].astype(np.float64)
    real = ((codes - kind.zero) * float(scale_of(kind.encoding)[0])).astype(np.float32)
    # One product of an integer below 2^8 and a step: float32 rounds both sides of it at most once
    # each.
    assert np.allclose(twin(x).detach().numpy(), real, rtol=2**-22, atol=0)


@both_schemes
def test_frozen_training_forward_equals_export(scheme: Scheme) -> None:
    twin = trained_twin(scheme)
    twin.freeze()
    assert twin.training
    take_steps(twin, 2)
    x, _ = digits(40, start=500)
    assert_equals_export(twin, x, training_codes(twin, x, moving=False))
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    twin(x)
    assert all(torch.equal(value, before[key]) for key, value in twin.state_dict().items())


def test_training_forward_is_exact_for_its_own_batch_statistics() -> None:
    twin = trained_twin(Scheme.AFFINE)
    x, _ = digits(40, start=500)
    codes = training_codes(twin, x, moving=True)
    assert twin.batch_statistics, "the network has batch norms"
    twin_of_batch = copy.deepcopy(twin)
    for step in twin_of_batch.steps:
        if step.norm is not None:
            module = normalised.module(twin_of_batch, step)
            found = twin.batch_statistics[step.name]
            module.running_mean.copy_(torch.from_numpy(found.mean))
            module.running_var.copy_(torch.from_numpy(found.var))
    assert_equals_export(twin_of_batch, x, codes)


def test_training_forward_of_pow2_is_that_of_the_statistics_before_it() -> None:
    twin = trained_twin(Scheme.POW2)
    x, _ = digits(40, start=500)
    before = copy.deepcopy(twin)
    codes = training_codes(twin, x, moving=True)
    assert_equals_export(before, x, codes)


@both_schemes
def test_host_c_equals_golden(scheme: Scheme) -> None:
    twin = trained_twin(scheme).eval()
    x, _ = digits(12, start=500)
    graph = twin.export()
    codes = twin.quantize_input(x)
    golden = run_golden(graph, codes)
    network = generate(make_plan(graph, targets.load("host")), "")
    ran = execute(network, build(network, trace=True), codes)
    assert ran.trace
    for name, values in {**ran.trace, graph.outputs[0]: ran.output}.items():
        assert np.array_equal(values, golden[name]), name


def saturated_linear(features: int, scheme: Scheme) -> Twin:
    """A linear layer whose weights are all at a limit, so that sums reach `features * 127 *
    255`.
    """
    layer = torch.nn.Linear(features, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.98], [-1.98], [1.98]]).expand(3, features))
        layer.bias.copy_(torch.tensor([0.0, 5.0, -7.0]))
    twin = make_twin(torch.nn.Sequential(layer), scheme, shape=(features,))
    generator = torch.Generator().manual_seed(0)
    twin.calibrate(torch.rand(16, features, generator=generator) * 3.97)
    return twin.eval()


@both_schemes
@pytest.mark.parametrize("features", [500, 519, 700, 1500])
def test_sums_beyond_float32_stay_exact(scheme: Scheme, features: int) -> None:
    """519 * 127 * 255 > 2^24: from there on float32 partial sums may round, so float64 has to be
    taken.
    """
    twin = saturated_linear(features, scheme)
    (step,) = twin.steps
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(64, features, generator=generator) * 3.97
    x[0] = 3.97  # every product at its limit
    constants = twin.operands(
        step, twin.numbers, {"input": twin.carriers(x, twin.numbers.types["input"])}
    )
    kinds = twin.numbers.around(step)
    types = torch_sums.SumTypes(kinds.inputs.x, kinds.output)
    sums = torch_sums.exact_sums(
        lambda a, w, b: torch.nn.functional.linear(a, w, b), constants.x, constants.w, types
    )
    want = constants.x.long().numpy() @ constants.w.long().numpy().T
    assert np.array_equal(sums.detach().double().numpy(), want)
    bound = torch_sums.sum_bound(constants.w, constants.b, types)
    assert bound >= np.abs(want + constants.b.detach().long().numpy()).max()
    if bound > 1 << 24:
        assert sums.dtype is torch.float64
    if features == 1500:
        assert np.abs(want).max() > 1 << 24, "the case is meant to leave float32"
    assert_all_equal(twin, x)


def assert_all_equal(twin: Twin, x: torch.Tensor) -> None:
    golden = run_golden(twin.export(), twin.quantize_input(x))
    for name, values in twin.trace(x).items():
        assert np.array_equal(values, golden[name]), name


@both_schemes
def test_sums_beyond_float32_stay_exact_in_a_convolution(scheme: Scheme) -> None:
    layer = torch.nn.Conv2d(64, 4, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.sign(layer.weight) * 0.5)
        layer.weight[0] = 0.5
    twin = make_twin(torch.nn.Sequential(layer), scheme, shape=(64, 5, 5)).eval()
    generator = torch.Generator().manual_seed(2)
    twin.calibrate(torch.rand(4, 64, 5, 5, generator=generator) * 3 - 1)
    x = torch.rand(4, 64, 5, 5, generator=generator) * 3 - 1
    x[0] = 2.0
    assert_all_equal(twin, x)


@both_schemes
def test_a_batch_of_one_and_other_memory_orders_change_nothing(scheme: Scheme) -> None:
    twin = trained_twin(scheme).eval()
    x, _ = digits(6, start=500)
    whole = twin(x)
    assert torch.equal(torch.cat([twin(x[i : i + 1]) for i in range(6)]), whole)
    assert torch.equal(twin(x.to(memory_format=torch.channels_last)), whole)
    assert torch.equal(twin(x.double()), whole)
    assert torch.equal(copy.deepcopy(twin).to(memory_format=torch.channels_last)(x), whole)


@both_schemes
def test_autocast_changes_no_bit(scheme: Scheme) -> None:
    twin = trained_twin(scheme)
    twin.freeze()
    x, y = digits(16)
    runs = []
    for enabled in (False, True):
        one = copy.deepcopy(twin)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = one(x)
            out_eval = one.eval()(x)
        torch.nn.functional.cross_entropy(out.float(), y).backward()
        grads = [p.grad for p in one.parameters() if p.grad is not None]
        assert grads
        runs.append([out.detach(), out_eval.detach(), *grads])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@both_schemes
def test_autocast_changes_no_bit_of_a_training(scheme: Scheme) -> None:
    runs = []
    for enabled in (False, True):
        torch.manual_seed(0)
        twin = make_twin(mixed_net(), scheme)
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.05)
        for step in range(3):
            x, y = digits(16, start=16 * step)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                out = twin(x)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(out, y).backward()
            optimizer.step()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            twin.calibrate(x)
        runs.append(twin.state_dict())
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name]), name
