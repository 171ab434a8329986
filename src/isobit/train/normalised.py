"""Steps that hold a batch norm: what the twin asks of `norm` for one of them.

Free functions over a `Twin`, as `export` is: the twin owns parameters and ranges, this module the
order in which a normalised step reads and updates them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.core import torch_sums as ts
from isobit.core.types import scale_of
from isobit.ops.base import NodeTypes
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedInputs, WeightedOp
from isobit.train import norm
from isobit.train.numbers import Numbers
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


def weight_factor(twin: Twin, step: Step) -> Tensor:
    """Return what multiplies the weights before they are quantised, per output channel.

    gamma / sigma in `pow2`, the sign of gamma in `affine`.
    """
    assert step.norm is not None
    gamma = twin.parameter(step.norm.gamma)
    if twin.scheme is not Scheme.POW2:
        return norm.sign_of(gamma.detach())
    factor = gamma / (running(twin, step).var + step.norm.eps).sqrt()
    if twin.training and not twin.frozen and module(twin, step).training:
        return factor.detach()  # the norm's own gradient reaches gamma
    return factor


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
    path = twin.traced.bindings[step.norm.mean].path
    return twin.net.get_submodule(path.rpartition(".")[0])


def folded(twin: Twin, step: Step, numbers: Numbers) -> norm.Folded:
    """Return the frozen multiplier, shift and bias of an `affine` batch norm, from its running
    statistics.
    """
    q = numbers.around(step)
    return norm.fold(
        learned(twin, step),
        running(twin, step),
        _sum_step(q),
        float(scale_of(q.output.encoding)[0]),
    )


def run(
    twin: Twin,
    step: Step,
    numbers: Numbers,
    values: dict[str, Tensor],
    *,
    moving: bool,
    between: ts.Between | None = None,
) -> Tensor:
    """Run a normalised step in training: exact for the statistics it uses, with batch norm's
    gradient. between: see `torch_sums.weighted`.
    """
    own = step.norm
    assert issubclass(step.op, WeightedOp) and own is not None
    moving = moving and module(twin, step).training  # a norm in eval mode keeps its statistics
    q, attrs, inputs = (
        numbers.around(step),
        numbers.attrs[step.name],
        twin.operands(step, numbers, values),
    )
    assert isinstance(inputs, WeightedInputs) and inputs.shift is not None
    types = ts.SumTypes(q.inputs.x, q.output, step.op.channel_axis)
    combine, form = partial(step.op.combine, step.attrs), step.op.int8_form(step.attrs)
    acc = ts.exact_sums(combine, inputs, types, form)
    affine, sizes = learned(twin, step), _sum_step(q).to(acc.device)
    count = acc.numel() // acc.shape[-1]
    y_step = float(scale_of(q.output.encoding)[0])
    bounds = (attrs.clamp[0] - q.output.zero, attrs.clamp[1] - q.output.zero)
    if twin.scheme is Scheme.POW2:
        assert inputs.b is not None
        if moving:
            _move_running(twin, step, acc, sizes, count)
            return norm.shift_requantize(
                acc, affine, inputs.b, inputs.shift, y_step, bounds, q.soft, between=between
            )
        return norm.frozen_shift(acc, inputs.b, inputs.shift, bounds, q.soft, between)
    statistics = norm.batch_statistics(acc, affine, sizes) if moving else running(twin, step)
    if moving:
        twin.batch_statistics[step.name] = statistics
        norm.update_running(module(twin, step), statistics, count, own.momentum)
    numbers_now = norm.fold(affine, statistics, sizes, y_step)
    return norm.norm_requantize(
        acc,
        affine,
        numbers_now,
        statistics,
        sizes,
        y_step,
        bounds,
        q.soft,
        moving=moving,
        between=between,
    )


@torch.no_grad()
def _move_running(twin: Twin, step: Step, acc: Tensor, sizes: Tensor, count: int) -> None:
    """Undo gamma / sigma in the sums of folded weights to see the statistics before the norm."""
    assert step.norm is not None
    affine, before = learned(twin, step), running(twin, step)
    slope = affine.gamma.double() / (before.var.double() + affine.eps).sqrt()
    usable = slope.abs() > 1e-4
    plain = norm.Affine(
        torch.ones_like(affine.gamma),
        affine.beta,
        torch.zeros_like(affine.bias),
        affine.eps,
    )
    found = norm.batch_statistics(acc, plain, sizes)
    safe = torch.where(usable, slope, torch.ones_like(slope))
    mean = torch.where(
        usable, found.mean.double() / safe + affine.bias.double(), before.mean.double()
    )
    var = torch.where(usable, found.var.double() / safe.square(), before.var.double())
    norm.update_running(
        module(twin, step), norm.Statistics(mean.float(), var.float()), count, step.norm.momentum
    )


def _sum_step(q: NodeTypes[Any]) -> Tensor:
    """Return `Sx * Sw[c]` in float64."""
    return torch.as_tensor(scale_of(q.inputs.x.encoding) * scale_of(q.inputs.w.encoding))
