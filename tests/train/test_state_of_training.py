"""What training keeps, refuses and leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import isobit
from isobit import nn
from isobit.core.errors import BadArgument, BadCheckpoint, BadRunInput, NotTraceable
from isobit.ir.text import print_graph
from isobit.train import calibration, weights
from isobit.train.ranges import RangeOptions
from isobit.train.steps import Step
from isobit.train.twin import Twin

SCHEMES = ("affine", "pow2")


def model(scheme: str = "affine", *, norm: bool = True) -> Any:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(3)] if norm else []
    net = nn.Sequential(nn.Conv2d(1, 3, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    return isobit.Model(net, input=(1, 4, 4), scheme=scheme, name="small")


def images(count: int = 16) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("training", [True, False])
def test_values_that_are_no_numbers_are_refused_and_change_nothing(
    bad: float, training: bool
) -> None:
    one = model()
    one.calibrate(images())
    before = {k: v.clone() for k, v in one.state_dict().items()}
    x = images()
    x[0, 0, 0, 0] = bad
    one.train(training)
    with pytest.raises(BadRunInput, match="NaN or infinite"):
        one(x)
    with pytest.raises(BadRunInput):
        one.calibrate(x)
    assert all(torch.equal(before[k], v) for k, v in one.state_dict().items())
    one.calibrate(images())
    one.export()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_step_that_fails_changes_nothing(
    scheme: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = model(scheme)
    one.options = RangeOptions(observe_every=1, update_every=100)
    one.train()
    one(images())
    before = {k: v.clone() for k, v in one.state_dict().items()}
    x = images() * 3
    if moment == "before":
        x[0, 0, 0, 0] = float("nan")
    else:  # memory runs out when the first ranges were observed
        compute = calibration.observe_step

        def fail(twin: Twin, step: Step, values: dict[str, Tensor]) -> None:
            compute(twin, step, values)
            if step is twin.steps[-1]:
                raise MemoryError

        monkeypatch.setattr(calibration, "observe_step", fail)
    with pytest.raises((BadRunInput, MemoryError)):
        one(x)
    assert all(torch.equal(before[k], v) for k, v in one.state_dict().items())
    monkeypatch.undo()
    one(images() * 3)
    after = one.state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert {"steps_seen", "observers.input.high", "net.1.running_mean"} <= changed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_being_frozen_is_part_of_the_state(scheme: str) -> None:
    one = model(scheme)
    one.train()
    for _ in range(3):
        one(images())
    one.freeze()
    other = model(scheme)
    other.load_state_dict(one.state_dict())
    assert other.frozen
    other.train()
    other(images() * 9)
    assert print_graph(other.export()) == print_graph(one.export())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_batch_norm_in_eval_mode_keeps_its_statistics(scheme: str) -> None:
    one = model(scheme)
    one.calibrate(images())
    one.train()
    norm = one.net[1]
    norm.eval()
    before = norm.running_mean.clone()
    one(images() * 5).sum().backward()
    assert torch.equal(before, norm.running_mean)
    assert norm.weight.grad is not None
    norm.train()
    one(images() * 5)
    assert not torch.equal(before, norm.running_mean)


def test_a_file_of_the_other_scheme_is_refused(tmp_path: Path) -> None:
    one = model("affine", norm=False)
    one.calibrate(images())
    one.save(tmp_path / "m.isobit")
    with pytest.raises(BadCheckpoint, match="scheme"):
        model("pow2", norm=False).restore(tmp_path / "m.isobit")


class Aliased(nn.Module):  # type: ignore[misc]  # isobit.nn is made at run time
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 3, padding=1)
        self.second = nn.Conv2d(1, 1, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        result: Tensor = self.second(self.relu(y)) + y
        return result


def test_an_in_place_layer_whose_input_is_read_elsewhere_is_refused() -> None:
    with pytest.raises(NotTraceable, match="inplace=False"):
        isobit.Model(Aliased(True), input=(1, 4, 4))
    isobit.Model(Aliased(False), input=(1, 4, 4))


@pytest.mark.parametrize("shape", [None, 4, (), (0,), (1, -2, 2), (1.0, 2, 2), (True, 2, 2), "122"])
def test_input_shapes_that_mean_nothing_are_refused(shape: Any) -> None:
    with pytest.raises(BadArgument, match="input"):
        isobit.Model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input=shape)


@pytest.mark.parametrize("net", [None, nn.Sequential, 3])
def test_nets_that_are_none_are_refused(net: Any) -> None:
    with pytest.raises(BadArgument, match="net"):
        isobit.Model(net, input=(1, 2, 2))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(BadArgument, match="at least one layer"):
        isobit.Model(nn.Sequential(), input=(1, 2, 2))


@pytest.mark.parametrize("name", ["harness", "stdint", "ISOBIT_RT", "n" * 101])
def test_names_of_the_run_time_are_refused(name: str) -> None:
    with pytest.raises(BadArgument, match="name"):
        isobit.Model(nn.Sequential(nn.Linear(4, 2)), input=(4,), name=name)


class Two(nn.Module):  # type: ignore[misc]  # isobit.nn is made at run time
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), self.b(x)


def test_several_outputs_train_and_deploy(tmp_path: Path) -> None:
    one = isobit.Model(Two(), input=(4,))
    x = torch.rand(8, 4)
    one.calibrate(x)
    assert [y.shape[1] for y in one(x)] == [2, 3]
    bundle = one.deploy(tmp_path / "out", samples=x)
    found = bundle.verify(on=["host", "cortex-m4"])
    assert [c.differing for c in found] == [0, 0, 0, 0]  # golden vectors and torch too
    ran = bundle.run(one.quantize_input(x), "host")
    traced = one.trace(x)
    assert [y.shape for y in ran.outputs.values()] == [(8, 2), (8, 3)]
    assert all(np.array_equal(y, traced[name]) for name, y in ran.outputs.items())


def test_one_epoch_trains_the_statistics_of_batch_norms() -> None:
    one = model()
    data = (images(64), torch.randint(0, 2, (64,), generator=torch.Generator().manual_seed(2)))
    isobit.fit(one, data, data, epochs=1, batch_size=8)
    assert int(one.net[1].num_batches_tracked) == 9


def test_a_run_resumes_only_with_the_options_it_began_with(tmp_path: Path) -> None:
    data = (images(32), torch.zeros(32, dtype=torch.int64))
    isobit.fit(model(), data, data, epochs=2, out=tmp_path, batch_size=8)
    with pytest.raises(BadCheckpoint):
        isobit.fit(model(), data, data, epochs=2, resume=tmp_path, batch_size=8, weight_decay=0.9)


def test_live_bytes_count_shared_memory_once() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    found = isobit.Model(net, input=(1, 12, 12)).estimate(compile=False)
    live = [layer.live_bytes for layer in found.layers]
    assert max(live) <= found.arena_bytes
    assert min(live) > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_moved_model_computes_where_it_is(scheme: str) -> None:
    """`meta` stands for a device that this machine need not have: it refuses operands elsewhere."""
    one = model(scheme)
    one.calibrate(images())
    numbers = one.numbers
    one.to("meta")
    assert one._numbers is None, "constants of the numbers are where the model was"
    given = dict.fromkeys((step.name for step in one.steps if step.op.constants), None)
    found = weights.rounded_all(one, numbers, given)
    assert {w.device.type for w in found.values()} == {"meta"}
    assert len(found) == 2
