"""The same softmax in int64 torch tensors: the training forward, exact on every device with 64-bit
integers.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EXP = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2^k), k = -2..4
_ONE = 2**31 - 1


def softmax(x: Tensor, mult: int, shift: int, diff_min: int) -> Tensor:
    """Return `code + 128` of the softmax over the last axis of integer-valued floats, in the dtype
    of `x`.
    """
    codes = x.detach().to(torch.int64)
    difference = codes - codes.amax(-1, keepdim=True)
    counted = difference >= diff_min
    e = _exp(_product((difference * counted) << shift, mult)) * counted
    # Exponentials are positive, so rounding half up is rounding half away.
    total = ((e + (1 << 11)) >> 12).sum(-1, keepdim=True)
    length = torch.frexp(total.double()).exponent.to(torch.int64)  # bits of total, exactly
    r = _reciprocal((total << (32 - length)) - (1 << 31))
    power = length + 3  # 12 - (32 - length) + 31 - 8
    rounded = (_product(r, e) + (torch.ones_like(power) << (power - 1))) >> power
    return (rounded.clamp(0, 255) * counted).to(x.dtype)


def _product(a: Tensor, b: Tensor | int) -> Tensor:
    return (a * b + (1 << 30)) >> 31


def _exp(a: Tensor) -> Tensor:
    rest = -(a >> 24) - 1  # in quarters; what remains of a lies in [-1/4, 0)
    near = a + (rest << 24)
    x = (near << 5) + (1 << 28)
    square = _product(x, x)
    fourth = _product(square, square)
    # Divisions by 4 and 2 round ties away from zero; a fourth power is never negative.
    inner = _product(((fourth + 2) >> 2) + _product(square, x), 715827883) + square
    tail = (inner + 1 - (inner < 0).long()) >> 1
    value = 1895147668 + _product(x + tail, 1895147668)
    for bit, constant in enumerate(_EXP):
        value = torch.where((rest >> bit) & 1 == 1, _product(value, constant), value)
    return torch.where(a == 0, torch.full_like(value, _ONE), value)


def _reciprocal(a: Tensor) -> Tensor:
    half = (a + (1 << 31)) >> 1
    x = 1515870810 + _product(half, -1010580540)
    for _ in range(3):
        x = x + 4 * _product(x, (1 << 29) - _product(half, x))
    return (2 * x).clamp(max=_ONE)
