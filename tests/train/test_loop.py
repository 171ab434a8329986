"""What the loop does besides resuming: phases, schedules, a teacher, event files, costs, and the
usual way to a chip as its baseline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

import isobit
from isobit import nn
from isobit.core import torch_sums
from isobit.core.errors import BadArgument, BadCheckpoint, FileUnwritable, ToolMissing
from isobit.run.golden import run_golden
from isobit.train import distributed, loop, schedule
from isobit.train import history as histories
from isobit.train.cost import measure
from isobit.train.evaluate import Scores, accuracy
from isobit.train.fit import COSINE, History, train
from isobit.train.float_baseline import float_baseline
from isobit.train.history import Moment
from isobit.train.plan import Plan
from isobit.train.recipe import Augment, Distill, Optimizer, Run, Schedule

from .nets import digits
from .runs import OPTIONS, build, digest

TRAIN, VAL = digits(256), digits(200, start=900)
SGD = Optimizer(name="nesterov", learning_rate=0.05, weight_decay=5e-4, clip_norm=5.0)
SCHEMES = ("affine", "pow2")


def plan(**options: Any) -> Plan:
    run = Run(**{"epochs": 4, "batch_size": 32, "seed": 1, **options})
    return Plan(run=run, optimizer=SGD, schedule=COSINE)


def fit(model: torch.nn.Module, **options: Any) -> History:
    return isobit.fit(model, TRAIN, VAL, **{"epochs": 4, "batch_size": 32, **options})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_float_phase_is_the_float_networks_training(scheme: str) -> None:
    """Up to the switch it is bit for bit what training `model.net` alone does."""
    hybrid, plain = build(scheme), build(scheme)
    for module in plain.net.modules():
        if isinstance(module, nn.Standardize):
            module.adapt(TRAIN[0])
    seen: list[str] = []
    weights: list[str] = []

    def take(moment: Moment) -> None:
        seen.append(moment.phase)
        weights.append(digest(hybrid.net))

    train(hybrid, TRAIN, VAL, plan(float_epochs=2), on_step=take)
    assert seen == ["float"] * 16 + ["exact"] * 16
    halted: list[str] = []
    train(plain.net, TRAIN, VAL, plan(), on_step=lambda _: halted.append(digest(plain.net)))
    assert weights[:16] == halted[:16]
    assert weights[16] != halted[16], "the integers' gradient is another"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_hybrid_run_ends_in_what_it_exports(scheme: str) -> None:
    model = build(scheme)
    history = fit(model, float_epochs=2, learning_rate=0.01)
    assert [e.phase for e in history.epochs] == ["float", "float", "exact", "exact"]
    assert history.best.epoch in (3, 4)
    graph = model.export()
    outputs = run_golden(graph, model.quantize_input(VAL[0]))[graph.outputs[0]]
    right = (torch.from_numpy(outputs).argmax(1) == VAL[1]).double().mean()
    assert history.epochs[-1].val_accuracy == float(right) > 0.3


@pytest.mark.parametrize("step", [3, 7, 8, 9, 15, 16, 17])
def test_a_hybrid_run_resumes_around_the_switch(tmp_path: Path, step: int) -> None:
    """8 steps per epoch: the switch is before the 17th; 7 and 15 are the last within an epoch."""
    whole, taken = build("affine"), 0
    fit(whole, float_epochs=2, ema=0.9)

    def interrupt(*_: object) -> None:
        nonlocal taken
        taken += 1
        if taken == step + 1:
            raise KeyboardInterrupt

    options = {"float_epochs": 2, "ema": 0.9, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        fit(build("affine"), progress=interrupt, checkpoint_every=1, **options)
    model = build("affine", seed=5)
    fit(model, resume=tmp_path, **options)
    assert digest(model) == digest(whole)


def test_ranges_are_set_anew_at_the_switch() -> None:
    """Those of a model that was calibrated before are another network's."""
    fresh, calibrated = build("affine"), build("affine")
    calibrated.calibrate(TRAIN[0] / 16)
    for module in fresh.net.modules():
        if isinstance(module, _BatchNorm):
            assert int(module.num_batches_tracked) == 0
    calibrated.net.load_state_dict(fresh.net.state_dict())
    for model in (fresh, calibrated):
        for module in model.net.modules():
            if isinstance(module, nn.Standardize):
                module.adapt(TRAIN[0])
        fit(model, float_epochs=2)
    ranges = [
        {k: v for k, v in m.state_dict().items() if "observers" in k} for m in (fresh, calibrated)
    ]
    assert ranges[0] and all(torch.equal(v, ranges[1][k]) for k, v in ranges[0].items())


def test_a_run_of_float_epochs_only_is_converted_at_its_end() -> None:
    model = build("pow2")
    history = fit(model, epochs=2, float_epochs=2)
    assert not model.missing_ranges() and model.export().nodes
    assert [e.phase for e in history.epochs] == ["float", "float"]


def test_float_epochs_are_refused_where_there_is_no_float_network() -> None:
    with pytest.raises(BadArgument, match=r"E105 fit: float_epochs: want 0 for a float network"):
        fit(build("affine").net, float_epochs=1)
    imported = isobit.Model.from_graph(build("affine").float_graph())
    with pytest.raises(BadArgument, match=r"E105 fit: float_epochs: want 0 for an imported"):
        fit_imported(imported, float_epochs=1)


def fit_imported(model: isobit.Model, **options: Any) -> History:
    nhwc = [(x.permute(0, 2, 3, 1).contiguous(), y) for x, y in (TRAIN, VAL)]
    return isobit.fit(model, *nhwc, **{"epochs": 2, "batch_size": 32, **options})


@pytest.mark.parametrize("augment", [Augment(), Augment(crop_padding=1, cutmix=0.5)])
def test_an_imported_float_model_is_fine_tuned(augment: Augment) -> None:
    source = build("affine")
    fit(source, epochs=4, float_epochs=4, learning_rate=0.02)
    source.eval()
    model = isobit.Model.from_graph(source.float_graph())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = fit_imported(model, augment=augment)
    assert history.epochs[-1].val_accuracy > 0.5
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_every_step_has_the_rate_of_the_schedule() -> None:
    steps: list[Moment] = []
    chosen = Schedule(name="step", milestones=(0.5,), warmup_epochs=0.5)
    own = Plan(run=Run(epochs=2, batch_size=32), optimizer=SGD, schedule=chosen)
    train(build("affine"), TRAIN, VAL, own, on_step=steps.append)
    assert [m.learning_rate for m in steps] == [
        schedule.rate(chosen, 0.05, at, 8, 2) for at in range(16)
    ]
    assert [(m.epoch, m.step) for m in steps] == [(e, s) for e in (1, 2) for s in range(1, 9)]
    assert all(m.epochs == 2 and m.steps == 8 and 0 <= m.accuracy <= 1 for m in steps)


def test_validation_and_result_are_the_averaged_weights() -> None:
    model = build("affine")
    weights: list[torch.Tensor] = []

    def take(*_: object) -> None:
        weights.append(model.net[-1].weight.detach().clone())

    history = fit(model, ema=0.999, progress=take)
    average = model.net[-1].weight.detach()
    assert not torch.equal(average, weights[-1])
    low, high = torch.stack(weights).amin(0) - 0.1, torch.stack(weights).amax(0) + 0.1
    assert bool(((low < average) & (average < high)).all())
    assert history.epochs[-1].val_accuracy == accuracy(model, VAL)


def test_a_teacher_changes_the_gradient_and_is_part_of_the_run(tmp_path: Path) -> None:
    teacher = build("affine", width=8)
    fit(teacher, learning_rate=0.01)
    logits = Scores(teacher).eval()
    distill = Distill(teacher=Path("teacher.isobit"), temperature=2.0, weight=0.7)
    one, two, alone = build("affine"), build("affine"), build("affine")
    fit(one, distill=distill, teacher=logits, out=tmp_path)
    fit(two, distill=distill, teacher=logits)
    fit(alone)
    assert digest(one) == digest(two) != digest(alone)
    with torch.no_grad():
        teacher.net[-1].bias[0] += 1
    with pytest.raises(BadCheckpoint, match=r"a run of distill\.teacher="):
        fit(build("affine"), distill=distill, teacher=logits, resume=tmp_path)
    with pytest.raises(BadArgument, match=r"distill and teacher: want both, or neither"):
        fit(build("affine"), distill=distill)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ({"ema": 1.0}, "ema"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"float_epochs": 5}, "float_epochs"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"devices": 0}, "devices"),
        ({"tensorboard": 1}, "tensorboard"),
        ({"schedule": "cosine"}, "schedule"),
        ({"augment": None}, "augment"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"optimizer": SGD, "learning_rate": 0.1}, "learning_rate"),
    ],
)
def test_wrong_parts_are_refused_before_anything_is_computed(
    option: dict[str, Any], what: str
) -> None:
    model = build("affine")
    before = digest(model)
    with pytest.raises(BadArgument, match=rf"E105 .*: {what}: want"):
        fit(model, **option)
    assert digest(model) == before


@pytest.mark.parametrize("exact", [False, True])
def test_int8_sums_are_a_switch_without_effect_on_bits(
    monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    monkeypatch.setattr(loop.torch_products, "int8_is_exact", lambda: exact)
    found = []
    for switch in ("auto", "off", *(["on"] if exact else [])):
        model = build("affine")
        train(model, TRAIN, VAL, plan(epochs=2, int8_forward=switch))
        found.append(digest(model))
        assert torch_sums._int8_allowed
    assert len(set(found)) == 1
    if not exact:
        with pytest.raises(BadArgument, match=r"E105 run\.int8_forward: CPU: want int8 products"):
            train(build("affine"), TRAIN, VAL, plan(int8_forward="on"))


def test_dropout_draws_follow_from_the_step_alone() -> None:
    """A caller's own random numbers between the steps change nothing."""
    one, two = build("affine"), build("affine")
    isobit.fit(one, TRAIN, VAL, **OPTIONS)
    isobit.fit(two, TRAIN, VAL, **OPTIONS, progress=lambda *_: torch.rand(3))  # type: ignore[arg-type, return-value]
    assert digest(one) == digest(two)


def test_event_files_are_written_beside_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(build("affine"), epochs=2, out=tmp_path, tensorboard=True)
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    for tag in (b"step/loss", b"step/learning_rate", b"epoch/val_accuracy"):
        assert tag in content


def test_event_files_of_a_resumed_run_have_every_step_once(tmp_path: Path) -> None:
    module = "tensorboard.backend.event_processing.event_accumulator"
    events = pytest.importorskip(module)
    options = {"epochs": 2, "out": tmp_path, "tensorboard": True, "checkpoint_every": 2}
    taken = 0

    def interrupt(*_: object) -> None:
        nonlocal taken
        taken += 1
        if taken == 12:  # 8 steps per epoch: checkpoints after the 8th, as an epoch's, and the 10th
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build("affine"), progress=interrupt, **options)
    fit(build("affine"), resume=tmp_path, **options)
    found = events.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    steps = {tag: [e.step for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert steps["step/loss"] == list(range(1, 17))
    assert steps["epoch/loss"] == [8, 16]


def test_event_files_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("a file, not a folder")
    with pytest.raises(FileUnwritable, match=r"E103 .*tensorboard: cannot write"):
        fit(build("affine"), out=tmp_path, tensorboard=True)


def test_without_tensorboard_the_run_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories.importlib.util, "find_spec", lambda _: None)
    model = build("affine")
    before = digest(model)
    with pytest.raises(ToolMissing, match=r"E401 run\.tensorboard: .*isobit\[tensorboard\]"):
        fit(model, out=tmp_path / "run", tensorboard=True)
    assert digest(model) == before and not (tmp_path / "run").exists()


def test_without_fabric_the_run_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolMissing, match=r"E401 isobit\.fit: package lightning-fabric: .*train"):
        fit(build("affine"))


def test_a_measurement_changes_nothing() -> None:
    model = build("affine")
    before, state = digest(model), torch.random.get_rng_state()
    found = measure(model, TRAIN, plan(float_epochs=1, ema=0.9), steps=3)
    assert digest(model) == before and torch.equal(state, torch.random.get_rng_state())
    assert found.steps == 32 and found.measured_steps == 3 and found.seconds > 0
    floats = sum(p.numel() for p in model.parameters())
    # gradient, momentum and average of every weight
    assert found.optimizer_bytes == 3 * 4 * floats
    assert found.parameter_bytes > 4 * floats
    assert found.activation_bytes > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_baselines_surprise_is_float_minus_device(tmp_path: Path, scheme: str) -> None:
    model = build(scheme)
    found = float_baseline(model, TRAIN, VAL, plan(epochs=3), out=tmp_path)
    assert {e.phase for e in found.history.epochs} == {"float"}
    assert found.framework == found.history.epochs[-1].val_accuracy == accuracy(model.net, VAL)
    graph = model.export()
    outputs = run_golden(graph, model.quantize_input(VAL[0]))[graph.outputs[0]]
    assert found.device == float((outputs.argmax(1) == VAL[1].numpy()).mean())
    assert found.surprise == found.framework - found.device
    again = build(scheme, seed=5)
    float_baseline(again, TRAIN, VAL, plan(epochs=3), resume=tmp_path)
    assert digest(again) == digest(model)


def test_the_baseline_of_an_imported_network_is_refused() -> None:
    imported = isobit.Model.from_graph(build("affine").float_graph())
    with pytest.raises(BadArgument, match=r"E105 float_baseline: model: .*an imported one"):
        float_baseline(imported, TRAIN, VAL, plan())
    with pytest.raises(BadArgument, match=r"run\.float_epochs"):
        float_baseline(build("affine"), TRAIN, VAL, plan(float_epochs=1))


def test_exact_training_has_no_surprise() -> None:
    """What validation says is what the exported integers do, for every epoch's end."""
    model = build("pow2")
    history = fit(model, epochs=2)
    graph = model.export()
    outputs = run_golden(graph, model.quantize_input(VAL[0]))[graph.outputs[0]]
    assert history.epochs[-1].val_accuracy == float(np.mean(outputs.argmax(1) == VAL[1].numpy()))
