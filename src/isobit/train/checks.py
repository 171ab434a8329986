"""Parts of a training that do not go together, found before the first step: what a recipe cannot
know, for it has neither the model nor the examples.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isobit.core.arguments import Arguments, shown
from isobit.train.augment import LARGEST_PIXEL
from isobit.train.examples import output_shapes
from isobit.train.graph_net import GraphNet
from isobit.train.plan import NO_CHANGE, Plan
from isobit.train.recipe.types import Augment, Schedule
from isobit.train.twin import Twin


def check_parts(given: Arguments, model: object, plan: Plan) -> None:
    """Add to `given` parts of a plan that contradict each other or the kind of model."""
    teacher, epochs = plan.teacher, plan.run.epochs
    if (plan.distill is None) != (teacher is None):
        want = "both, or neither"
        got = "distill without teacher" if teacher is None else "teacher without distill"
        given.refuse("distill and teacher", want, got, "Pass the teacher's module.")
    if teacher is not None:
        given.instance("teacher", teacher, nn.Module, "a torch module")
    if isinstance(plan.schedule, Schedule):
        warmup = plan.schedule.warmup_epochs
        if warmup and warmup >= epochs:
            want = f"fewer than the {epochs} epochs of the run"
            given.refuse("schedule.warmup_epochs", want, shown(warmup))
    if plan.run.float_epochs and not isinstance(model, Twin):
        given.refuse("float_epochs", "0 for a float network", str(plan.run.float_epochs))
    elif plan.run.float_epochs and isinstance(model, Twin) and isinstance(model.net, GraphNet):
        got = str(plan.run.float_epochs)
        fix = "Its weights were trained as floats already: exact training starts from them."
        given.refuse("float_epochs", "0 for an imported network", got, fix)


def check_augment(given: Arguments, augment: Augment, model: nn.Module, x: Tensor) -> None:
    """Add to `given` changes that examples x [N, *input] cannot undergo.

    Brightness, contrast, cutout and mixup compute with pixels: of values that are no integers of a
    byte they would leave nothing.
    """
    if augment == NO_CHANGE or not len(x):
        return
    if x.dim() != 4:
        fix = "Leave augment out, or change the examples beforehand."
        given.refuse(
            "augment", "no changes of examples that are no images", f"{list(x.shape)}", fix
        )
        return
    last = isinstance(model, Twin) and model.channels_last
    side = min(x.shape[1:3] if last else x.shape[2:])
    if augment.crop_padding >= side:
        want = f"less than the shorter side of the images, {side}"
        given.refuse("augment.crop_padding", want, str(augment.crop_padding))
    names = ("brightness", "contrast", "cutout", "mixup")
    used = [name for name in names if getattr(augment, name)]
    if used and not _are_pixels(x):
        got = f"{float(x.min()):g}..{float(x.max()):g}, fractions among them"
        if bool((x == x.floor()).all()):
            got = f"{float(x.min()):g}..{float(x.max()):g}"
        fix = "Pass pixels as they are in the files, or change the examples beforehand."
        want = f"examples of integers in 0..255, with {' and '.join(used)}"
        given.refuse("augment", want, got, fix)


def check_teacher(given: Arguments, plan: Plan, model: nn.Module, x: Tensor) -> None:
    """Add to `given` a teacher that does not take examples x or knows other classes."""
    teacher = plan.teacher
    if not isinstance(teacher, nn.Module) or not len(x) or given.problems:
        return
    if isinstance(teacher, Twin) and teacher.input_shape != tuple(x.shape[1:]):
        want = f"one of inputs {list(x.shape[1:])}, as the model has"
        given.refuse("teacher", want, f"{list(teacher.input_shape)}", "Pass another teacher.")
        return
    if isinstance(teacher, Twin) and teacher.missing_ranges():
        fix = "Train it, or call calibrate with images."
        given.refuse("teacher", "a model that knows its ranges", "one that never saw images", fix)
        return
    own = output_shapes(given, "model", model, x[:1])
    found = output_shapes(given, "teacher", teacher, x[:1])
    if found is not None and found != own:
        shapes = " and ".join(f"[N, {', '.join(map(str, shape))}]" for shape in found)
        want = f"logits [N, {', '.join(map(str, own[0]))}], as the model has" if own else "logits"
        given.refuse("teacher", want, shapes or "no tensor", "Train a teacher of the same classes.")


def check_batches(given: Arguments, model: nn.Module, plan: Plan, x: Tensor, world: int) -> None:
    """Add to `given` a batch of one example that a batch norm in float cannot normalise: torch
    would refuse it at the end of the first epoch.

    world: how many processes share a batch.
    """
    if isinstance(model, Twin) and not plan.run.float_epochs:
        return
    net = model.net if isinstance(model, Twin) else model
    batch, (whole, rest) = plan.run.batch_size, divmod(len(x), plan.run.batch_size)
    sizes = [batch // world] * (whole > 0) + [rest // world] * (rest >= world)
    if 1 not in sizes or not any(isinstance(part, _BatchNorm) for part in net.modules()):
        return
    try:
        with torch.no_grad():
            copy.deepcopy(net).train()(x[:1])
    except ValueError as error:
        given.refuse(
            "batch_size",
            "batches of at least 2 examples per process, for a batch norm in float",
            f"one of 1: {len(x)} examples in batches of {batch} ({error})",
            "Choose another batch size, or leave an example out.",
        )


def _are_pixels(x: Tensor) -> bool:
    return bool(((x >= 0) & (x <= LARGEST_PIXEL) & (x == x.floor())).all())
