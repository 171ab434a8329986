"""The batch norm of a step: its parameters, its statistics, and what it makes of the weights.

Free functions over a `Twin`, as `export` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.ops.schemes import Scheme
from isobit.train import norm
from isobit.train.builder import place_of
from isobit.train.numbers import Numbers
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


def weight_factor(twin: Twin, step: Step) -> Tensor:
    """Return what multiplies the weights before they are quantised, per output channel.

    gamma / sigma in `pow2`, the sign of gamma in `affine`.
    """
    assert step.norm is not None
    if twin.scheme is not Scheme.POW2:
        return norm.sign_of(twin.parameter(step.norm.gamma).detach())
    return norm.slope(learned(twin, step), running(twin, step))


def learned(twin: Twin, step: Step) -> norm.Affine:
    """Return gamma, beta and the layer's own bias."""
    assert step.norm is not None
    inputs: Any = step.inputs
    gamma, beta = twin.parameter(step.norm.gamma), twin.parameter(step.norm.beta)
    bias = torch.zeros_like(beta) if inputs.b is None else twin.parameter(inputs.b)
    return norm.Affine(gamma, beta, bias, step.norm.eps)


def running(twin: Twin, step: Step) -> norm.Statistics:
    """Return the running statistics."""
    assert step.norm is not None
    return norm.Statistics(twin.parameter(step.norm.mean), twin.parameter(step.norm.var))


def module(twin: Twin, step: Step) -> Any:
    """Return the user's batch-norm module."""
    assert step.norm is not None
    return place_of(twin.net, twin.traced.bindings[step.norm.mean].path)[0]


def folded(twin: Twin, step: Step, numbers: Numbers) -> norm.Folded:
    """Return the frozen multiplier, shift and bias of an `affine` batch norm, from its running
    statistics.
    """
    own = learned(twin, step)
    sizes = numbers.sum_step(step, own.gamma.device)
    return norm.fold(own, running(twin, step), sizes, numbers.step_of(step.name))
