"""The functions of `lut` in float64 (float graphs) and in torch (ranges, gradients)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from isobit.core.types import FloatArray
from isobit.ops.lut import elementary
from isobit.ops.lut.elementary import ELEMENTARY
from isobit.ops.lut.functions import SELU_ALPHA, SELU_SCALE

if TYPE_CHECKING:
    from torch import Tensor

    from isobit.ops.lut.op import LutAttrs


def float64(attrs: LutAttrs, x: FloatArray) -> FloatArray:
    """Return the function of a float64 array, elementwise, without torch."""
    result: FloatArray
    if attrs.function in ELEMENTARY:
        return elementary.float64(attrs.function, x)
    match attrs.function:
        case "sigmoid":
            result = 1.0 / (1.0 + np.exp(-np.maximum(x, -700.0)))
        case "tanh":
            result = np.tanh(x)
        case "hardsigmoid":
            result = np.clip(x + 3.0, 0.0, 6.0) / 6.0
        case "hardswish":
            result = x * np.clip(x + 3.0, 0.0, 6.0) / 6.0
        case "silu":
            result = x / (1.0 + np.exp(-np.maximum(x, -700.0)))
        case "gelu":
            erfc = np.vectorize(math.erfc, otypes=[np.float64])
            result = 0.5 * x * erfc(-x * math.sqrt(0.5))
        case "gelu_tanh":
            inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
            result = 0.5 * x * (1.0 + np.tanh(inner))
        case "elu":
            result = np.where(x > 0, x, attrs.alpha * np.expm1(np.minimum(x, 0.0)))
        case "celu":
            below = attrs.alpha * np.expm1(np.minimum(x, 0.0) / attrs.alpha)
            result = np.where(x > 0, x, below)
        case "selu":
            below = float(SELU_ALPHA) * np.expm1(np.minimum(x, 0.0))
            result = float(SELU_SCALE) * np.where(x > 0, x, below)
        case "mish":
            result = x * np.tanh(np.logaddexp(0.0, x))
        case "softsign":
            result = x / (1.0 + np.abs(x))
        case "leaky_relu":
            result = np.where(x >= 0, x, attrs.negative_slope * x)
        case "softplus":
            scaled = attrs.beta * x
            result = np.where(scaled > attrs.threshold, x, np.logaddexp(0.0, scaled) / attrs.beta)
        case _:
            result = np.exp(np.minimum(x, 700.0))
    return result


def smooth(attrs: LutAttrs, x: Tensor) -> Tensor:
    """Return the function of a float tensor in torch, differentiable: for ranges and gradients."""
    import torch
    from torch.nn import functional

    if attrs.function in ELEMENTARY:
        return elementary.smooth(attrs.function, x)
    match attrs.function:
        case "leaky_relu":
            return functional.leaky_relu(x, attrs.negative_slope)
        case "elu":
            return functional.elu(x, attrs.alpha)
        case "celu":
            return functional.celu(x, attrs.alpha)
        case "softplus":
            return functional.softplus(x, attrs.beta, attrs.threshold)
        case "gelu_tanh":
            return functional.gelu(x, approximate="tanh")
        case "exp":
            return torch.exp(x)
        case "sigmoid":
            return torch.sigmoid(x)
        case "tanh":
            return torch.tanh(x)
        case name:
            result: Tensor = getattr(functional, name)(x)
            return result
