"""How a twin's ranges come about: which values are observed, when, and through which integers.

Free functions over a `Twin`, as `normalised` and `export` are: the twin owns parameters and ranges,
this module the order in which a batch sets them. A batch goes through layer by layer: each step
sees the integers that its input will have under the ranges before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isobit.core.errors import IsobitError, NoKernel, raise_all
from isobit.core.types import AnyArray, scale_of
from isobit.ops import torch_dynamic
from isobit.ops.base import EncodingRule
from isobit.ops.clamp.op import clamp_codes
from isobit.ops.pad.op import PadAttrs
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import channels, moments, normalised, weights
from isobit.train.guards import raw_values, require_range, require_statistics
from isobit.train.numbers import InputDType, NumberBuilder
from isobit.train.ranges import RangeObserver, in_powers, in_steps, in_wide_codes
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


class WeightRange(nn.Module):
    """The frozen largest magnitude per output channel."""

    largest: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("largest", torch.ones(channels, dtype=torch.float64))


def key_of(name: str) -> str:
    """Return the module name under which the range of a value or of a step's weights is kept."""
    return name.replace(".", "_")


def place(twin: Twin) -> None:
    """Give the input (unless it is pixels) and every step with a free range an observer, and every
    weight its range.
    """
    (source,) = twin.traced.graph.inputs
    narrow = in_powers if twin.scheme is Scheme.POW2 else in_steps
    if not twin.takes_pixels:
        wide = twin.input_dtype is InputDType.INT16
        restore = partial(in_wide_codes, twin.scheme) if wide else narrow
        twin.observers[key_of(source.name)] = RangeObserver(twin.options, restore)
    types = twin.traced.graph.type_map()
    for step in twin.steps:
        if step.op.rule(step.attrs) is EncodingRule.FREE:
            twin.observers[key_of(step.name)] = RangeObserver(twin.options, narrow)
        if issubclass(step.op, WeightedOp):
            w: Any = step.inputs
            channels = types[w.w].shape[step.op.channel_axis]
            twin.weight_ranges[key_of(step.name)] = WeightRange(channels)
            _freeze_weights(twin, step)


@torch.no_grad()
def freeze_ranges(twin: Twin) -> None:
    """Make what was observed so far the ranges in force, and let weight ranges follow the
    weights.
    """
    for observer in twin.observers.values():
        assert isinstance(observer, RangeObserver)
        observer.freeze()
    for step in twin.steps:
        _freeze_weights(twin, step)
        _watcher(twin, step, "freeze")


@torch.no_grad()
def calibrate(twin: Twin, x: Tensor | AnyArray) -> None:
    """Set every range from one batch; see `Twin.calibrate`."""
    unset = [name for name in twin.ties if not twin.has_range(name)]
    norms = [normalised.module(twin, step) for step in twin.steps if step.norm is not None]
    fresh = [module for module in norms if int(module.num_batches_tracked) == 0]
    with torch.autocast(twin.device.type, enabled=False), all_or_nothing(twin):
        for step in twin.steps:  # weights may have been loaded since
            _freeze_weights(twin, step)
        twin.forget_numbers()
        observe(twin, x)
        twin.update_ranges()
        if unset:
            # Steps that share an encoding did not know each other's ranges yet; what came after
            # saw wrong codes.
            for observer in twin.observers.values():
                assert isinstance(observer, RangeObserver)
                observer.forget()
            for module in fresh:
                module.num_batches_tracked.zero_()
            observe(twin, x, again=True)
            twin.update_ranges()
        require_filled(twin)


def advance(twin: Twin, x: Tensor | AnyArray) -> bool:
    """Set or update ranges on schedule, before a training step; the first batch sets everything.
    Return whether the step is to observe its batch: where both intervals are equal, the last one
    before an update does. Where a dropout acts on what flows, the chip's own numbers are
    observed here instead.
    """
    count = int(twin.steps_seen)
    if count == 0:
        calibrate(twin, x)
        return False  # the batch is in every range already
    if count % twin.options.update_every == 0:
        twin.update_ranges()
    if (count + 1) % twin.options.observe_every != 0:
        return False
    if not twin.traced.dropouts:
        return True
    with all_or_nothing(twin):
        observe(twin, x)
    return False


@torch.no_grad()
def observe_input(twin: Twin, raw: Tensor) -> None:
    """Take raw values of a training step into the input's moving range."""
    (source,) = twin.traced.graph.inputs
    held = twin.filled.get(source.name, ())
    _observe_value(twin, source.name, f'input "{source.name}"', raw, held)


def watch_of(twin: Twin, step: Step) -> Callable[[Tensor], None] | None:
    """Return what takes the output of a weighted step, before it is rounded and in steps, into its
    moving range, if that is free.
    """
    if twin.observer(step.name) is None or not issubclass(step.op, WeightedOp):
        return None
    size, held = twin.numbers.step_of(step.name), twin.filled.get(step.name, ())

    @torch.no_grad()
    def watch(values: Tensor) -> None:
        clamped = values.clamp(step.low / size, step.high / size)
        _observe_value(twin, step.name, _where(step), clamped, held, size)

    return watch


@torch.no_grad()
def observe_step(twin: Twin, step: Step, values: dict[str, Tensor]) -> None:
    """Take a training step's batch, at the inputs of a step of the network, into what watches them
    and, where no sums are watched, into the range of its output. Raises `Diverged` for statistics
    of its batch norm that left float32.
    """
    if step.norm is not None:
        require_statistics(twin, _where(step), normalised.running(twin, step))
    _watcher(twin, step, "observe", values[step.activations[0]])
    if twin.observer(step.name) is None or issubclass(step.op, WeightedOp):
        return
    numbers = twin.numbers
    operands = _with_reals(twin, step, twin.operands(step, numbers, values))
    real = step.op.estimate(step.attrs, numbers.around(step), operands)
    held = twin.filled.get(step.name, ())
    _observe_value(twin, step.name, _where(step), real.clamp(step.low, step.high), held)


@torch.no_grad()
def observe(twin: Twin, x: Tensor | AnyArray, *, again: bool = False) -> None:
    """Take one batch of raw values [N, *input] into the moving ranges.

    Ranges that were never set are set on the way, so one call from nothing leaves a usable network.
    `again`: the batch was seen before, by the modules that watch inputs.
    """
    build = NumberBuilder(twin, twin.numbers.finest if twin.ties else None)
    (source,) = twin.traced.graph.inputs
    raw = raw_values(twin, x)
    numbers = twin.filled
    _observe_value(twin, source.name, f'input "{source.name}"', raw, numbers.get(source.name, ()))
    build.input()
    values = {source.name: twin.carriers(raw, build.numbers.types[source.name])}
    values.update(twin.stored_carriers(build.numbers, len(raw)))
    dead = last_readers(twin.steps)
    for step in twin.steps:
        if not again:
            _watcher(twin, step, "observe", values[step.activations[0]])
        if int(twin.steps_seen) == 0:
            _watcher(twin, step, "freeze")
        if twin.observer(step.name) is not None:
            real = real_output(twin, step, build, values).clamp(step.low, step.high)
            _observe_value(twin, step.name, _where(step), real, numbers.get(step.name, ()))
        elif step.norm is not None:
            normalised_input(twin, step, build, values)
        build.decide(step)
        twin.run_step(step, build.numbers, values)
        for name in dead.get(step.name, ()):
            values.pop(name, None)


def filled(steps: Sequence[Step]) -> dict[str, tuple[float, ...]]:
    """Return the numbers that later pads surround a value with, by value name: a pad keeps the
    encoding of what it reads, which therefore must have codes for them. Zero has one always.
    """
    found: dict[str, tuple[float, ...]] = {}
    for step in reversed(steps):
        own = tuple(n for value in step.outputs for n in found.get(value.name, ()))
        if isinstance(step.attrs, PadAttrs) and step.attrs.real != 0:
            own = (*own, step.attrs.real)
        if own and step.op.rule(step.attrs) is EncodingRule.SAME:
            for name in step.activations:
                found[name] = (*found.get(name, ()), *own)
    return found


def require_filled(twin: Twin) -> None:
    """Raise `NoKernel` where an encoding ends before the number that a pad needs a code for, as
    behind a ReLU for numbers below 0.
    """
    problems: list[IsobitError] = []
    for step in twin.steps:
        if not isinstance(step.attrs, PadAttrs) or step.attrs.real == 0:
            continue
        kind, real = twin.numbers.types[step.name], step.attrs.real
        size = float(scale_of(kind.encoding)[0])
        held = (clamp_codes(kind, real, real)[0] - kind.zero) * size
        if abs(held - real) > size * 1.001:  # the last code may be a step short of the range's end
            problems.append(
                NoKernel(
                    where=_where(step),
                    what="value to pad with",
                    want="one within the range that what is padded can have",
                    got=f"{real:g}, the nearest code is {held:g}",
                    fix="Pad with 0 or a number within the range, or before the activation.",
                )
            )
    raise_all(problems)


def _where(step: Step) -> str:
    return f'{step.op.name} "{step.name}" ({step.location})'


def _observe_value(
    twin: Twin,
    name: str,
    where: str,
    values: Tensor,
    numbers: Sequence[float] = (),
    size: float = 1.0,
) -> None:
    """Take `values * size`, and `numbers` that are not among them, into the moving range of a
    value, if it is free, and check that codes can stand for it.
    """
    observer = twin.observer(name)
    if observer is not None:
        first = not bool(observer.frozen)
        observer.observe(values, size, freeze=True, holds=numbers)
        require_range(twin, where, float(observer.low), float(observer.high), first=first)


@contextmanager
def all_or_nothing(twin: Twin) -> Iterator[None]:
    """Undo what a batch did to ranges and statistics, to the buffers of a twin, if it fails."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in twin.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    except BaseException:  # as when memory ran out, or a key was pressed
        for module, name, buffer, value in before:
            setattr(module, name, buffer.copy_(value))
        twin.forget_numbers()
        raise


def last_readers(steps: Sequence[Step]) -> dict[str, list[str]]:
    """Return by step name the values that no later step reads."""
    last = {name: step.name for step in steps for name in step.activations}
    found: dict[str, list[str]] = {}
    for name, reader in last.items():
        found.setdefault(reader, []).append(name)
    return found


@torch.no_grad()
def _freeze_weights(twin: Twin, step: Step) -> None:
    key = key_of(step.name)
    if key in twin.weight_ranges:
        assert issubclass(step.op, WeightedOp)
        w = weights.effective(twin, step).movedim(step.op.channel_axis, 0)
        holder = twin.weight_ranges[key]
        assert isinstance(holder, WeightRange)
        holder.largest.copy_(w.abs().flatten(1).amax(1))


def _watcher(twin: Twin, step: Step, method: str, *arguments: Tensor) -> None:
    """Call `observe(x)` or `freeze()` of the module that watches a step's input, if one does."""
    path = twin.traced.observers.get(step.name)
    if path is not None:
        getattr(twin.net.get_submodule(path), method)(*arguments)


def _with_reals(twin: Twin, step: Step, operands: Any) -> Any:
    """Return operands with the stored reals of operators without weights (the slopes of a PReLU)
    as they are: no step of theirs is decided yet, and rounded to whole numbers they are nothing.

    What a module derives from the inputs it watches is whole by design.
    """
    if issubclass(step.op, WeightedOp) or step.name in twin.traced.observers:
        return operands
    names = {item: getattr(step.inputs, item) for item in step.op.constants}
    reals = {item: twin.parameter(name) for item, name in names.items() if name is not None}
    return replace(operands, **reals)


def real_output(twin: Twin, step: Step, build: NumberBuilder, values: dict[str, Tensor]) -> Tensor:
    """Return a step's output before rounding, real units."""
    if step.norm is None:
        types = build.prepare(step)
        operands = twin.operands(step, build.numbers, values)
        return step.op.estimate(step.attrs, types, _with_reals(twin, step, operands))
    c = normalised_input(twin, step, build, values)
    learned = normalised.learned(twin, step)
    assert step.norm is not None
    mean, var = twin.parameter(step.norm.mean), twin.parameter(step.norm.var)
    return (c - mean) / (var + learned.eps).sqrt() * learned.gamma + learned.beta


def normalised_input(
    twin: Twin, step: Step, build: NumberBuilder, values: dict[str, Tensor]
) -> Tensor:
    """Return what the batch norm of a step normalises, real units; of a norm that never saw data
    the statistics are then the batch's.
    """
    assert issubclass(step.op, WeightedOp)
    inputs: Any = step.inputs
    x = values[inputs.x] * float(scale_of(build.numbers.types[inputs.x].encoding)[0])
    if inputs.x in twin.exponents:
        x = x * torch_dynamic.unit(x, 0, values[twin.exponents[inputs.x]]).float()
    c = step.op.combine(step.attrs, x, twin.parameter(inputs.w), None)
    learned = normalised.learned(twin, step)
    c = c + learned.bias
    module = normalised.module(twin, step)
    if int(module.num_batches_tracked) == 0 and not twin.frozen:
        batch = moments.moments_of(c)
        found = channels.Statistics(batch.mean.astype("f4"), batch.var.astype("f4"))
        channels.update_running([module], [1.0], found, [moments.count_of(c)])
        _freeze_weights(twin, step)
    running = normalised.running(twin, step)
    require_statistics(twin, _where(step), running)
    return c
