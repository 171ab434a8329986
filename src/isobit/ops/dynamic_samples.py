"""Samples that the dynamic operators share: one layer with every kind of input and bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Pow2, Raw, Shape, TensorType
from isobit.ops import sampling
from isobit.ops.base import NodeTypes, Sample
from isobit.ops.dynamic import (
    ENCODING,
    FINER_BIAS,
    LEAST_EXPONENT,
    MOST_EXPONENT,
    DynamicInputs,
    DynamicOp,
)
from isobit.ops.schemes import Scheme

X_FRAC, W_FRAC = 5, 7


def layer_samples(
    op: type[DynamicOp[Any]], rng: sampling.Rng, label: str, x: Shape, w: Shape, attrs: Any
) -> Iterator[Sample[Any]]:
    """Yield a layer with a fixed step; with exponents around the bias's; without a bias."""
    yield _sample(op, rng, label, x, w, attrs, exponents=None, bias=True)
    spread = np.asarray([-4 - FINER_BIAS, 9 - FINER_BIAS, -FINER_BIAS, 3, -40, 200])
    yield _sample(op, rng, f"{label}, chained", x, w, attrs, exponents=spread, bias=True)
    if "no bias" in label:
        yield _sample(op, rng, f"{label} at all", x, w, attrs, exponents=None, bias=False)
        yield _sample(op, rng, f"{label}, chained, none", x, w, attrs, spread, bias=False)
        ends = np.asarray([LEAST_EXPONENT, MOST_EXPONENT])  # those of the result saturate
        yield _sample(op, rng, f"{label}, chained, ends", x, w, attrs, ends, bias=False)


def _sample(
    op: type[DynamicOp[Any]],
    rng: sampling.Rng,
    label: str,
    x: Shape,
    w: Shape,
    attrs: Any,
    exponents: Any,
    bias: bool,
) -> Sample[Any]:
    chained = exponents is not None
    codes = sampling.codes(rng, x)
    codes[0] = codes[0] // 16  # a quiet example: another step than the others'
    channels = w[op.channel_axis]
    spread = int(np.sqrt(np.prod(w) // channels)) * 74 * 30
    scale = 1 << (FINER_BIAS - 2) if chained else 1
    arrays: DynamicInputs[Any] = DynamicInputs(
        x=codes,
        w=np.clip(np.rint(rng.normal(0, 30, size=w)), -127, 127).astype(np.int64),
        b=sampling.codes(rng, (channels,), -spread * scale, spread * scale) if bias else None,
        e=np.resize(exponents, (len(codes), 1)) if chained else None,
    )
    fine = Pow2((W_FRAC + (FINER_BIAS if chained else X_FRAC),))
    types: DynamicInputs[TensorType] = DynamicInputs(
        x=sampling.kind((1, *x[1:]), ENCODING if chained else Pow2((X_FRAC,))),
        w=sampling.kind(w, Pow2((W_FRAC,))),
        b=TensorType((channels,), DType.S32, fine) if bias else None,
        e=TensorType((1, 1), DType.S16, Raw()) if chained else None,
    )
    attrs, _ = op.derive(attrs, NodeTypes(types, ()), Scheme.POW2, None)
    outputs = tuple(
        TensorType(one.shape, one.dtype, one.encoding or Raw()) for one in op.infer(attrs, types)
    )
    return Sample(label, replace(attrs), NodeTypes(types, outputs), arrays)
