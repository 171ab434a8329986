"""What does not go together is refused before the first step, all of it at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import isobit
from isobit import nn
from isobit.core.errors import BadArgument, IsobitError
from isobit.train.cost import measure
from isobit.train.evaluate import predict
from isobit.train.fit import COSINE, train
from isobit.train.float_baseline import float_baseline
from isobit.train.plan import Plan
from isobit.train.recipe import Augment, Distill, Optimizer, Run, Schedule

from .runs import TRAIN, VAL, build

DISTILL = Distill(teacher=Path("teacher.py"))
LARGE, SMALL = (
    Augment(crop_padding=8, brightness=0.2, mixup=0.1),
    Augment(crop_padding=7, flip=True, cutmix=0.5),
)

PLAN = Plan(
    run=Run(epochs=1, batch_size=32),
    optimizer=Optimizer(name="sgd", learning_rate=0.1),
    schedule=COSINE,
)


def refused(model: Any, examples: Any = TRAIN, val: Any = VAL, **options: Any) -> list[str]:
    """Return what `fit` says before it computes anything."""
    with pytest.raises(IsobitError) as caught:
        isobit.fit(model, examples, val, **{"epochs": 2, "batch_size": 32, **options})
    return [str(problem) for problem in caught.value.problems]


def plain(*layers: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)


def float_norm() -> torch.nn.Module:
    return plain(torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 10))


class TwoInputs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear((x + y).flatten(1))
        return result


def test_warm_up_beyond_the_run_is_refused_as_in_a_recipe() -> None:
    schedule = Schedule(name="cosine", warmup_epochs=2)
    (problem,) = refused(build("affine"), schedule=schedule)
    assert problem.startswith(
        "E105 fit: schedule.warmup_epochs: want fewer than the 2 epochs of the run, got 2.0"
    )
    isobit.fit(build("affine"), TRAIN, VAL, epochs=3, batch_size=32, schedule=schedule)


def test_modules_of_another_call_are_refused() -> None:
    (problem,) = refused(TwoInputs())
    assert problem.startswith(
        "E105 fit: model: want a module that takes one input, float32 [1, 1, 8, 8], got TypeError:"
    )
    (problem,) = refused(plain(torch.nn.Linear(64, 10)).double())
    assert "want a module that takes one input, float32 [1, 1, 8, 8]" in problem


def test_teachers_that_cannot_teach_are_refused() -> None:
    def of(teacher: Any) -> str:
        (problem,) = refused(build("affine"), distill=DISTILL, teacher=teacher)
        return problem

    assert of("teacher.py").startswith("E105 fit: teacher: want a torch module, got 'teacher.py'")
    assert "teacher: want logits [N, 10], as the model has, got [N, 5]" in of(
        plain(torch.nn.Linear(64, 5))
    )
    assert "teacher: want a module that takes one input" in of(plain(torch.nn.Linear(60, 10)))
    assert "teacher: want a model that knows its ranges" in of(build("affine"))
    colour = isobit.Model(plain(torch.nn.Linear(192, 10)), input=(3, 8, 8))
    assert "teacher: want one of inputs [1, 8, 8], as the model has, got [3, 8, 8]" in of(colour)


def test_augmentation_is_for_images_of_pixels() -> None:
    flat = tuple((x.flatten(1), y) for x, y in (TRAIN, VAL))
    model = torch.nn.Sequential(torch.nn.Linear(64, 10))
    (problem,) = refused(model, *flat, augment=Augment(flip=True))
    assert "augment: want no changes of examples that are no images, got [90, 64]" in problem
    halves = (TRAIN[0] / 16, TRAIN[1])
    found = refused(build("affine"), halves, augment=LARGE)
    assert [p.split(": want")[0] for p in found] == [
        "E105 fit: augment.crop_padding",
        "E105 fit: augment",
    ]
    assert "less than the shorter side of the images, 8, got 8" in found[0]
    assert "examples of integers in 0..255, with brightness and mixup, got 0..1, frac" in found[1]
    (problem,) = refused(build("affine"), (TRAIN[0] - 1, TRAIN[1]), augment=Augment(cutout=2))
    assert "with cutout, got -1..15." in problem
    with pytest.raises(IsobitError, match=r"E105 measure: augment\.crop_padding"):
        measure(build("affine"), TRAIN, replace(PLAN, augment=LARGE))
    # windows, mirror images and boxes keep every value as it is
    isobit.fit(build("affine"), halves, VAL, epochs=1, batch_size=32, augment=SMALL)


@pytest.mark.parametrize("count", [33, 65])
def test_a_batch_of_one_is_refused_where_a_float_norm_cannot_have_it(count: int) -> None:
    """Torch would refuse it after all the other steps of the first epoch."""
    few = (TRAIN[0][:count], TRAIN[1][:count])
    (problem,) = refused(float_norm(), few)
    assert problem.startswith("E105 fit: batch_size: want batches of at least 2 examples")
    assert f"got one of 1: {count} examples in batches of 32" in problem
    hybrid = isobit.Model(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)), input=(1, 8, 8)
    )
    assert len(refused(hybrid, few, float_epochs=1)) == 1
    isobit.fit(hybrid, few, VAL, epochs=1, batch_size=32)
    spatial = torch.nn.Sequential(torch.nn.BatchNorm2d(1), plain(torch.nn.Linear(64, 10)))
    before = spatial[0].running_mean.clone()
    isobit.fit(spatial, few, VAL, epochs=1, batch_size=32)
    assert not torch.equal(spatial[0].running_mean, before)


def test_a_plan_is_a_plan() -> None:
    with pytest.raises(BadArgument, match="E105 train: plan: want a Plan, got None"):
        train(build("affine"), TRAIN, VAL, None)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(BadArgument, match="E105 float_baseline: plan: want a Plan, got None"):
        float_baseline(build("affine"), TRAIN, VAL, None)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(BadArgument, match="E105 train: on_step: want a function"):
        train(build("affine"), TRAIN, VAL, PLAN, on_step=3)  # type: ignore[arg-type]  # on purpose


def test_predict_gives_every_part_its_own_mode_again() -> None:
    """A batch norm that its user keeps in eval mode stays there."""
    model = float_norm()
    model.train()
    model[2].eval()  # type: ignore[index]  # a Sequential
    predict(model, TRAIN[0])
    assert [m.training for m in model.modules()] == [True, True, True, False, True]
