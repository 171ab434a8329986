"""Samples of int16, made from those of int8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Average, Rounding
from isobit.core.types import Affine, Encoding, Pow2, TensorType
from isobit.ops.base import NodeTypes, Sample
from isobit.ops.sampling import Rng

BITS = 8
"""By how many bits a code is longer."""
ZERO_STEPS = 16
"""Zero points far from 0, and sums with them still an int32."""


def widened(
    rng: Rng,
    samples: Iterable[Sample[Any]],
    *constants: str,
    finer: tuple[str, ...] = (),
    moved: str = "",
) -> Iterator[Sample[Any]]:
    """Yield the samples of int8 that round as imported networks do, or not at all, with activations
    of int16: the same reals in steps of 2^-8, zero point 0.

    constants: fields that stay as they are; finer: shifts of `tflite_double` to lower by 8 bits,
    because a product of two codes has 16 more; moved: label of a sample to repeat at the end with
    zero points, which no converter writes but graph files may hold.
    """
    whole = [sample for sample in samples if _is_narrow(sample)]
    for sample in whole:
        yield _wide_sample(rng, sample, constants, finer)
    for sample in whole:
        if moved and sample.label == moved:
            found = _wide_sample(rng, sample, constants, finer, ZERO_STEPS)
            yield replace(found, label=f"{found.label}, zero points")


def _is_narrow(sample: Sample[Any]) -> bool:
    rule = getattr(sample.attrs, "round", None)
    rounds = rule not in (Rounding.HALF_UP, Average.HALF_UP)
    return rounds and sample.types.outputs[0].dtype is DType.S8


def _wide_sample(
    rng: Rng,
    sample: Sample[Any],
    constants: tuple[str, ...],
    finer: tuple[str, ...],
    steps: int = 0,
) -> Sample[Any]:
    """One sample; steps: by how many steps of int16 one of the zero point of int8 moves codes."""
    types, arrays = {}, {}
    for item in fields(sample.inputs):
        kind, array = getattr(sample.types.inputs, item.name), getattr(sample.inputs, item.name)
        if item.name in finer:
            array = array - BITS
        elif item.name not in constants and array is not None:
            array = _codes(rng, kind, array, steps)
            kind = _wide(kind, steps)
        types[item.name], arrays[item.name] = kind, array
    attrs: Any = sample.attrs
    if hasattr(attrs, "clamp"):
        low, high = attrs.clamp
        attrs = replace(attrs, clamp=(low << BITS, ((high + 1) << BITS) - 1))
    outputs = tuple(_wide(kind, steps) for kind in sample.types.outputs)
    return Sample(
        f"{sample.label}, int16",
        attrs,
        NodeTypes(replace(sample.types.inputs, **types), outputs),
        replace(sample.inputs, **arrays),
    )


def _wide(kind: Any, steps: int) -> Any:
    if isinstance(kind, tuple):
        return tuple(_wide(each, steps) for each in kind)
    assert isinstance(kind, TensorType)
    return replace(kind, dtype=DType.S16, encoding=_finer(kind.encoding, steps))


def _finer(encoding: Encoding, steps: int) -> Encoding:
    if isinstance(encoding, Pow2):
        return Pow2(tuple(frac + BITS for frac in encoding.frac))
    assert isinstance(encoding, Affine)
    return Affine((encoding.scale[0] / (1 << BITS),), encoding.zero * steps)


def _codes(rng: Rng, kind: Any, array: Any, steps: int) -> Any:
    """Longer codes of about the same reals."""
    if isinstance(kind, tuple):
        return tuple(_codes(rng, k, a, steps) for k, a in zip(kind, array, strict=True))
    fine = ((array - kind.zero) << BITS) + rng.integers(0, 1 << BITS, size=array.shape)
    return np.clip(fine + kind.zero * steps, DType.S16.low, DType.S16.high)
