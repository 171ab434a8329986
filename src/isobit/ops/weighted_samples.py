"""Samples of weighted operators in other number systems, made from those of int8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, Pow2, Raw, TensorType, scale_of
from isobit.ops import sampling
from isobit.ops.base import NodeTypes, Sample
from isobit.ops.weighted import WeightedInputs

WEIGHT_ZERO = 37
WIDER = 256
"""How many steps of int16 one of int8 is."""
FEWER_BITS = 15
"""About log2 of how much wider all codes of int16 spread than three of them."""


def others(rng: sampling.Rng, samples: Sequence[Sample[Any]]) -> Iterator[Sample[Any]]:
    """Yield a third of the samples with a zero point of the weights, and a third with activations
    of int16: both rules, and few enough for the memory of a small core; and some from int16 to
    int8.
    """
    chosen = [s for s in samples if s.types.inputs.mult is not None]
    for sample in chosen[::3]:
        yield _asymmetric(sample)
    for sample in chosen[1::3]:
        yield _widened(rng, sample)
    yield from _rare(rng, chosen, [s for s in samples if s.types.inputs.mult is None])


def _rare(
    rng: sampling.Rng, chosen: list[Sample[Any]], shifts: list[Sample[Any]]
) -> Iterator[Sample[Any]]:
    """What no converter writes but graph files may hold: a zero point of int16, powers of two in
    the other number systems; and unlike dilations with a zero point of the weights.
    """
    yield _moved(_widened(rng, chosen[1]), x=901, y=-350)
    without = [s for s in shifts if s.types.inputs.b is None]
    for sample in (without or shifts)[:1]:
        yield _asymmetric(sample)
        yield _widened(rng, sample)
    others_of = (s for i, s in enumerate(chosen) if i % 3)
    dilated = [s for s in others_of if len(set(getattr(s.attrs, "dilation", (1, 1)))) == 2]
    for sample in dilated[:1]:
        yield _asymmetric(sample)
    if hasattr(chosen[0].attrs, "dtype"):
        for sample in (*chosen[2::5], *shifts[1::4]):
            yield _narrowed(rng, sample)
        yield _moved(_narrowed(rng, chosen[4]), x=901)
        rounded = [s for s in chosen if getattr(s.attrs, "round", None) is Rounding.HALF_UP]
        for sample in [s for s in rounded if s.types.inputs.b is None][-1:]:
            yield _moved(_small(rng, _narrowed(rng, sample), 1), x=1)
        # Where a pixel grows in bytes as well, output may overtake input that is still to be read.
        growing = [s for s in rounded if s.types.output.shape[-1] > 4 * s.types.inputs.x.shape[-1]]
        for sample in growing[:1]:
            yield _small(rng, _narrowed(rng, sample), 0)


def _moved(sample: Sample[Any], **zeros: int) -> Sample[Any]:
    """With zero points of x and y, where given."""
    types: WeightedInputs[Any] = sample.types.inputs
    kinds = {"x": types.x, "y": sample.types.output}
    for name, zero in zeros.items():
        encoding: Any = kinds[name].encoding
        kinds[name] = replace(kinds[name], encoding=replace(encoding, zero=zero))
    moved = replace(sample.types, inputs=replace(types, x=kinds["x"]), outputs=(kinds["y"],))
    return replace(sample, label=f"{sample.label}, zero points", types=moved)


def _small(rng: sampling.Rng, sample: Sample[Any], zero: int) -> Sample[Any]:
    """From int16, only the codes next to a zero point of x, and the results as large: a 1 in a sum
    or in the zero point shows, and every byte of x that is lost.
    """
    arrays: Any = sample.inputs
    few = sampling.codes(rng, np.shape(arrays.x), zero - 1, zero + 1)
    b = None if arrays.b is None else arrays.b >> FEWER_BITS
    inputs: WeightedInputs[Any] = replace(arrays, x=few, b=b, shift=arrays.shift - FEWER_BITS)
    return replace(sample, label=f"{sample.label}, small sums", inputs=inputs)


def _asymmetric(sample: Sample[Any]) -> Sample[Any]:
    """The weights' codes moved with their zero point, as far as they stay int8."""
    types: WeightedInputs[Any] = sample.types.inputs
    arrays: Any = sample.inputs
    scale = tuple(float(s) for s in scale_of(types.w.encoding))
    w = replace(types.w, encoding=Affine(scale, WEIGHT_ZERO))
    codes = np.clip(arrays.w + WEIGHT_ZERO, -128, 127)
    return replace(
        sample,
        label=f"{sample.label}, asymmetric",
        types=replace(sample.types, inputs=replace(types, w=w)),
        inputs=replace(arrays, w=codes),
    )


def _narrowed(rng: sampling.Rng, sample: Sample[Any]) -> Sample[Any]:
    """int16 in and int8 out, as behind an input of 16 bits; the bias has 32 bits."""
    wide = _widened(rng, sample)
    types: WeightedInputs[Any] = wide.types.inputs
    attrs: Any = sample.attrs
    # The sums are 2^8 as large: with `tflite_double` shift is a left shift.
    finer = -8 if attrs.round is Rounding.TFLITE_DOUBLE and types.mult is not None else 8
    arrays: Any = wide.inputs
    inputs: WeightedInputs[Any] = replace(arrays, shift=arrays.shift + finer)
    b = None if types.b is None else replace(types.b, dtype=DType.S32)
    return Sample(
        f"{sample.label}, int16 to int8",
        replace(attrs, dtype=DType.S8),
        NodeTypes(replace(types, b=b), sample.types.outputs),
        inputs,
    )


def _widened(rng: sampling.Rng, sample: Sample[Any]) -> Sample[Any]:
    """int16 in and out, symmetric; the bias has 64 bits with `half_up`."""
    types: WeightedInputs[Any] = sample.types.inputs
    arrays: Any = sample.inputs
    attrs: Any = sample.attrs
    half_up = getattr(attrs, "round", None) is Rounding.HALF_UP

    def wide(kind: TensorType) -> TensorType:
        encoding = kind.encoding
        if isinstance(encoding, Pow2):
            return replace(kind, dtype=DType.S16, encoding=Pow2((encoding.frac[0] + 8,)))
        assert isinstance(encoding, Affine)
        return replace(kind, dtype=DType.S16, encoding=Affine((encoding.scale[0] / WIDER,), 0))

    bias = None
    if types.b is not None:
        dtype = DType.S64 if half_up else DType.S32
        bias = TensorType(types.b.shape, dtype, Raw())
    low, high = getattr(attrs, "clamp", (-128, 127))
    inputs: WeightedInputs[Any] = replace(
        arrays,
        x=sampling.codes(rng, np.shape(arrays.x), DType.S16.low, DType.S16.high),
        b=None if arrays.b is None else arrays.b * WIDER,
    )
    return Sample(
        f"{sample.label}, int16",
        replace(attrs, clamp=(low * WIDER, high * WIDER + WIDER - 1)),
        NodeTypes(replace(types, x=wide(types.x), b=bias), (wide(sample.types.output),)),
        inputs,
    )
