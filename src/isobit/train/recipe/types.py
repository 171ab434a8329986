"""A training as data: one small frozen type per table of a recipe file.

Every value is checked when a type is made, all wrong ones in one `BadArgument` (or
`SeveralProblems`). Limits stand in the annotation, from which the reader of recipe files and their
JSON Schema work too; the line below a field says what it means, with its unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from isobit import data
from isobit.core.arguments import shown
from isobit.train.recipe.fields import Limits, Suffixes, settle

Scheme = Literal["affine", "pow2", "float32"]
OptimizerName = Literal["sgd", "nesterov", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "cosine"]
Accelerator = Literal["cpu", "cuda", "auto"]
Switch = Literal["auto", "on", "off"]

LARGEST_RATE = 1e6
"""Far beyond use, and far enough from the end of float32, where torch's optimizers fail."""
LARGEST_SEED = 2**31 - 1

Fraction = Annotated[float, Limits(at_least=0, at_most=1)]
BelowOne = Annotated[float, Limits(at_least=0, below=1)]
Inside = Annotated[float, Limits(above=0, below=1)]
Positive = Annotated[float, Limits(above=0, at_most=LARGEST_RATE)]
Penalty = Annotated[float, Limits(at_least=0, at_most=LARGEST_RATE)]
Count = Annotated[int, Limits(at_least=1)]
Whole = Annotated[int, Limits(at_least=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The images."""

    name: str | Path
    """A published data set ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100"), or your own
    folder with train.npz and test.npz. A string that is no published name becomes a `Path`."""
    verified: bool = True
    """Whether a published data set must be the published files, bit for bit."""
    limit: Count | None = None
    """Train on the first so many training images, at least 1; None: on all. Every test image is
    used either way."""

    def __post_init__(self) -> None:
        given = settle(self)
        name = self.name
        if isinstance(name, str) and name not in data.names():
            object.__setattr__(self, "name", given.path("name", name))
        given.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """The network: exactly one of `spec` and `model`."""

    spec: Annotated[Path, Suffixes((".py",))] | None = None
    """A SPEC.py that defines `model`, trained from its initial weights."""
    model: Annotated[Path, Suffixes((".isobit", ".tflite", ".onnx"))] | None = None
    """A float model, fine-tuned from its own weights."""
    scheme: Scheme | None = None
    """The number system; "float32" trains the plain float network. None: what the SPEC.py says;
    "affine" for a float model."""
    target: str | None = None
    """A name of `isobit targets`. None: what the SPEC.py or the model says."""

    def __post_init__(self) -> None:
        given = settle(self)
        if (self.spec is None) == (self.model is None):
            got = "neither" if self.spec is None else "both"
            fix = "Give the SPEC.py to train, or the float model to fine-tune."
            given.refuse("spec", "exactly one of spec and model", got, fix)
        given.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """How a gradient becomes a step: torch's optimizer of the same name, epsilon 1e-8."""

    name: OptimizerName
    """"sgd" (with momentum), "nesterov", "adam" (weight decay inside the gradient) or "adamw"."""
    learning_rate: Positive
    """Largest step size of the schedule, above 0, at most 1e6."""
    momentum: BelowOne = 0.9
    """Of "sgd" and "nesterov", in [0, 1); "nesterov" needs more than 0. Others ignore it."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    """Decay of the two moments of "adam" and "adamw", each in [0, 1). Others ignore it."""
    weight_decay: Penalty = 0.0
    """Weight decay, 0..1e6, in torch's convention of the rule."""
    decay_biases_and_norms: bool = True
    """Whether weight decay also acts on biases and the parameters of norms, as in torch."""
    clip_norm: Positive | None = None
    """Scale the gradient down to this Euclidean norm, over all parameters, where it is longer;
    above 0, at most 1e6. None: never."""

    def __post_init__(self) -> None:
        given = settle(self)
        if self.name == "nesterov" and self.momentum == 0:
            given.refuse("momentum", "above 0 for nesterov", "0", 'Use "sgd", or a momentum.')
        given.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The learning rate over the steps of a run; `isobit.train.schedule.rate` has the equation."""

    name: ScheduleName
    """"constant"; "step": multiplied by gamma at each milestone; "cosine": half a cosine down to
    final_fraction."""
    warmup_epochs: Annotated[float, Limits(at_least=0)] = 0.0
    """Epochs, in parts too, in which the rate first rises linearly from almost 0; at least 0."""
    milestones: tuple[Inside, ...] = ()
    """Of "step": when, as fractions of the whole run, warm-up included, each in (0, 1), increasing.
    Fractions, so that a run of other length keeps its shape: (0.5, 0.75) of 160 epochs is 80 and
    120."""
    gamma: Annotated[float, Limits(above=0, at_most=1)] = 0.1
    """Of "step": factor at each milestone, in (0, 1]."""
    final_fraction: Fraction = 0.0
    """Of "cosine": where it ends, as a fraction of the learning rate, 0..1."""

    def __post_init__(self) -> None:
        given = settle(self)
        increasing = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        if not increasing:
            given.refuse("milestones", "increasing fractions", shown(self.milestones))
        if (self.name == "step") != bool(self.milestones):
            want = "at least one" if self.name == "step" else f"none with a {self.name} schedule"
            fix = 'Write name = "step" and e.g. milestones = [0.5, 0.75].'
            given.refuse("milestones", want, shown(self.milestones), fix)
        if self.final_fraction and self.name != "cosine":
            got = shown(self.final_fraction)
            given.refuse("final_fraction", f"0 with a {self.name} schedule", got)
        given.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Random changes of training images; all off by default. `isobit.train.augment.apply` has the
    equations and their order.
    """

    crop_padding: Whole = 0
    """Pixels of 0 put around an image before a window of its size is cut out at random."""
    flip: bool = False
    """Whether an image is mirrored left to right with probability 1/2."""
    brightness: BelowOne = 0.0
    """Pixels are multiplied by a factor drawn from 1 - brightness to 1 + brightness; [0, 1)."""
    contrast: BelowOne = 0.0
    """Distances from an image's mean are multiplied by a factor drawn from 1 - contrast to
    1 + contrast; [0, 1)."""
    cutout: Whole = 0
    """Side in pixels of a square that is painted in the image's mean colour (arXiv 1708.04552)."""
    mixup: Annotated[float, Limits(at_least=0, at_most=1000)] = 0.0
    """Alpha of mixup (arXiv 1710.09412): images are blended by a weight from Beta(alpha, alpha)."""
    cutmix: Annotated[float, Limits(at_least=0, at_most=1000)] = 0.0
    """Alpha of CutMix (arXiv 1905.04899): a box is taken from another image. With mixup as well,
    each image draws one of the two."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill:
    """A teacher whose outputs the network also learns (arXiv 1503.02531)."""

    teacher: Annotated[Path, Suffixes((".py", ".isobit", ".tflite", ".onnx"))]
    """A SPEC.py that sets its weights, or a .isobit, .tflite or .onnx model, on the same images."""
    temperature: Annotated[float, Limits(above=0, at_most=1000)] = 4.0
    """Both logits are divided by it before their softmax; above 0, at most 1000."""
    weight: Fraction = 0.5
    """The loss is (1 - weight) * cross entropy + weight * distillation; 0..1."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How long, in which pieces and where."""

    epochs: Count
    """Passes over the training images, at least 1."""
    batch_size: Count
    """Images of one step, over all processes together; at least 1."""
    seed: Annotated[int, Limits(at_least=0, at_most=LARGEST_SEED)] = 0
    """Of initial weights, order of images, augmentation and dropout; 0..2^31-1."""
    label_smoothing: BelowOne = 0.0
    """Share of the target that is spread over all classes, in [0, 1)."""
    ema: BelowOne = 0.0
    """Decay of the moving average of the weights per step, in [0, 1); 0: none is kept."""
    float_epochs: Whole = 0
    """First epochs that train the plain float network, before exact training; at most `epochs`."""
    freeze_epochs: Whole = 1
    """Last epochs with constant ranges and batch-norm statistics, whose loss is the exported
    integers'; never the first epoch."""
    patience: Whole = 0
    """Stop after so many epochs without a better validation accuracy; 0: never."""
    checkpoint_every: Whole = 0
    """Steps from one checkpoint to the next; 0: one after each epoch."""
    accelerator: Accelerator = "auto"
    """Where to compute; "auto": CUDA where there is a device that passes the exactness test."""
    devices: Count = 1
    """Processes, each with its own device, at least 1."""
    tensorboard: bool = False
    """Whether to write TensorBoard event files beside metrics.jsonl."""
    int8_forward: Switch = "auto"
    """Whether sums run in int8 instructions of the CPU; the results are the same bits. "auto":
    where the CPU has them and they pass the exactness test."""

    def __post_init__(self) -> None:
        given = settle(self)
        if self.float_epochs > self.epochs:
            want = f"at most the {self.epochs} epochs of the run"
            given.refuse("float_epochs", want, shown(self.float_epochs))
        given.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole training. One recipe, one seed, one result."""

    data: Data
    net: Net
    optimizer: Optimizer
    schedule: Schedule
    run: Run
    augment: Augment = field(default_factory=Augment)
    distill: Distill | None = None

    def __post_init__(self) -> None:
        given = settle(self)
        if self.schedule.warmup_epochs >= self.run.epochs and self.schedule.warmup_epochs:
            want = f"fewer than the {self.run.epochs} epochs of the run"
            given.refuse("schedule.warmup_epochs", want, shown(self.schedule.warmup_epochs))
        if self.net.scheme == "float32" and self.run.int8_forward == "on":
            fix = 'Write "auto" or "off", or train in integers.'
            given.refuse("run.int8_forward", 'not "on" for a float32 network', "'on'", fix)
        if self.net.scheme == "float32" and self.run.float_epochs:
            fix = "Leave it out: every epoch of a float32 network is one."
            got = shown(self.run.float_epochs)
            given.refuse("run.float_epochs", "0 for a float32 network", got, fix)
        given.check()
