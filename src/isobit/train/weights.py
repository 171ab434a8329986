"""Weights and biases as the integers of the frozen ranges, with straight-through gradients.

Free functions over a `Twin`, as `normalised` and `export` are. Training, its frozen forward and
export all round here, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isobit.core.types import Shape
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import normalised
from isobit.train.builder import place_of
from isobit.train.channels import MOST_BIAS
from isobit.train.numbers import Numbers, bias_of
from isobit.train.ste import round_all, ste_round
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


MOST_SMALL = 1 << 16
"""Elements up to which the calls for weights cost more than the work on them."""


def constants(
    twin: Twin, step: Step, numbers: Numbers, ready: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return w and b of a weighted step as integers, float32. ready: weights, by step."""
    inputs: Any = step.inputs
    w = ready.get(step.name)
    if w is None:
        factor = None if step.norm is None else normalised.weight_factor(twin, step)
        w = rounded(twin, step, numbers, factor)
    found: dict[str, Any] = {"w": w, "b": None}
    if step.norm is None:
        if inputs.b is not None:
            found["b"] = _bias(twin.parameter(inputs.b), numbers, inputs.b)
    elif twin.scheme is Scheme.POW2:
        found["b"] = folded_bias(twin, step, numbers)
    return found


def rounded_all(
    twin: Twin, numbers: Numbers, factors: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """Return `rounded` of the small weights among those of some steps. factors: by step, without a
    gradient.
    """
    chosen: list[Step] = []
    given: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for step in twin.steps:
        if step.name not in factors:
            continue
        inputs: Any = step.inputs
        w, factor = twin.parameter(inputs.w), factors[step.name]
        if w.numel() > MOST_SMALL:
            continue
        shape = along(step, w.dim())
        inverse = numbers.inverse(inputs.w, w.device, shape)
        chosen.append(step)
        factor = numbers.one(w.device) if factor is None else factor.reshape(shape)
        for items, item in zip(given, (w, inverse, factor), strict=True):
            items.append(item)
    if not chosen:
        return {}
    low = least_code(twin.scheme)
    return dict(zip((s.name for s in chosen), round_all(*given, low, 127), strict=True))


def effective(twin: Twin, step: Step) -> Tensor:
    """Return the real weights that are quantised."""
    inputs: Any = step.inputs
    w = twin.parameter(inputs.w)
    if step.norm is None:
        return w
    return w * normalised.weight_factor(twin, step).reshape(along(step, w.dim()))


def rounded(twin: Twin, step: Step, numbers: Numbers, factor: Tensor | None) -> Tensor:
    """Return the weights as integers. factor: [C], multiplies them before they are rounded."""
    inputs: Any = step.inputs
    w = twin.parameter(inputs.w)
    shape = along(step, w.dim())
    inverse = numbers.inverse(inputs.w, w.device, shape)
    if factor is not None:
        factor = factor.reshape(shape)
        if twin.scheme is not Scheme.POW2:  # a sign: exact in any order
            inverse, factor = inverse * factor, None
        elif factor.requires_grad:
            w, factor = w * factor, None
    return ste_round(w, inverse, least_code(twin.scheme), 127, factor)


def least_code(scheme: Scheme) -> int:
    """Return the least code of a weight."""
    return -128 if scheme is Scheme.POW2 else -127


def folded_bias(twin: Twin, step: Step, numbers: Numbers) -> Tensor:
    """Return the integer bias [C] of a `pow2` batch norm for its running statistics."""
    assert step.norm is not None
    own, mean = normalised.learned(twin, step), twin.parameter(step.norm.mean)
    real = own.beta + (own.bias - mean) * normalised.slope(twin, step)
    return _bias(real, numbers, bias_of(step))


def _bias(value: Tensor, numbers: Numbers, const: str) -> Tensor:
    return ste_round(value, numbers.inverse(const, value.device), -MOST_BIAS, MOST_BIAS)


def along(step: Step, dims: int) -> Shape:
    """Return the shape in which channels broadcast over weights."""
    assert issubclass(step.op, WeightedOp)
    return (1,) * step.op.channel_axis + (-1,) + (1,) * (dims - step.op.channel_axis - 1)


@contextmanager
def in_order(twin: Twin) -> Iterator[None]:
    """Keep the weights of convolutions as the sums read them, channels last, while the body runs.

    That changes no value; otherwise every training step would reorder them, and their gradients
    back. Afterwards they lie as they did: optimizers of the user's may rely on it.
    """
    chosen = [weight for weight in _permuted(twin) if weight.dim() == 4]
    plain = [weight.is_contiguous() for weight in chosen]
    for weight in chosen:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for weight, was_plain in zip(chosen, plain, strict=True):
            if was_plain:
                weight.data = weight.data.contiguous()
                weight.grad = None if weight.grad is None else weight.grad.contiguous()


def _permuted(twin: Twin) -> Iterator[nn.Parameter]:
    """Yield the weights whose axes are permuted for the sums: not a graph's own (`GraphNet`)."""
    for step in twin.steps:
        binding = twin.traced.bindings.get(getattr(step.inputs, "w", "") or "")
        if binding is not None and binding.order and issubclass(step.op, WeightedOp):
            holder, attribute = place_of(twin.net, binding.path)
            weight = holder._parameters.get(attribute)
            if weight is not None:
                yield weight
