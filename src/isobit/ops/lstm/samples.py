"""The cases that every implementation of lstm is held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, Shape, TensorType
from isobit.ops import sampling
from isobit.ops.base import NodeTypes, Sample
from isobit.ops.lstm.op import FACTORS, GATES, LstmAttrs, LstmInputs, factors


def samples() -> Iterator[Sample[Any]]:
    """Yield the cases: with states first, then sequences that start from zero."""
    rng = np.random.default_rng(72)
    for label, rows, steps, sizes, attrs in _CASES:
        yield _sample(rng, label, (rows, steps), sizes, attrs)
    for label, rows, steps, sizes, attrs in _FRESH:
        yield _from_zero(_sample(rng, label, (rows, steps), sizes, attrs))


def _from_zero(sample: Sample[Any]) -> Sample[Any]:
    """The same node without states."""
    arrays: Any = sample.inputs
    types: LstmInputs[Any] = replace(sample.types.inputs, h=None, c=None)
    inputs: LstmInputs[Any] = replace(arrays, h=None, c=None)
    return replace(sample, types=NodeTypes(types, sample.types.outputs), inputs=inputs)


_CASES: tuple[tuple[str, int, int, tuple[int, int], LstmAttrs], ...] = (
    ("one step", 1, 1, (5, 6), LstmAttrs()),
    ("one step, clip", 1, 1, (7, 8), LstmAttrs(False, 1.5, (-6144, 6144), 12)),
    ("one step, rows", 3, 1, (4, 5), LstmAttrs(cell_frac=11)),
    ("sequence", 1, 5, (4, 3), LstmAttrs()),
    ("sequence, clip", 1, 4, (3, 5), LstmAttrs(False, 0.25, (-1024, 1024), 12)),
    ("rows", 2, 3, (5, 4), LstmAttrs(cell_frac=13)),
    ("rows, time first", 3, 4, (3, 4), LstmAttrs(True, cell_frac=14)),
    ("one cell", 1, 9, (2, 1), LstmAttrs(cell_frac=11)),
    ("another step of h", 2, 2, (4, 3), LstmAttrs()),
    ("gates beyond their ends", 2, 2, (9, 9), LstmAttrs()),
)
_FRESH: tuple[tuple[str, int, int, tuple[int, int], LstmAttrs], ...] = (
    ("one step from zero", 1, 1, (5, 6), LstmAttrs()),
    ("sequence from zero", 1, 6, (4, 3), LstmAttrs(cell_frac=13)),
    ("rows from zero", 3, 3, (3, 4), LstmAttrs(False, 0.5, (-2048, 2048), 12)),
    ("rows from zero, time first", 2, 4, (3, 5), LstmAttrs(True, cell_frac=11)),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    extent: tuple[int, int],
    sizes: tuple[int, int],
    attrs: LstmAttrs,
) -> Sample[Any]:
    (rows, steps), (inputs, size), batch = extent, sizes, 3
    ex, eh = Affine((0.02,), -9), Affine((0.0055 if "step of h" in label else 2.0**-7,), 4)
    ec = Affine((2.0**-attrs.cell_frac,), 0)
    # Sums of about 1.2 in both parts: gates open and close without saturating.
    part = 3.0 if "beyond" in label else 1.2
    wide = [part / (0.02 * 74 * 74 * np.sqrt(inputs)) * f for f in (0.9, 1.0, 1.3, 0.8)]
    back = [part / (eh.scale[0] * 74 * 74 * np.sqrt(size)) * f for f in (1.1, 0.7, 1.0, 0.9)]
    ew, er = (Affine(tuple(np.repeat(s, size).tolist()), 0, 0) for s in (wide, back))
    lead = (steps, rows) if attrs.time_major else (rows, steps)
    limit = int(min(3.0 * 2**attrs.cell_frac, 30000))
    pairs = factors(ex.scale[0], eh.scale[0], attrs.cell_frac, wide, back)
    spread = np.repeat(0.5 / (0.02 * np.asarray(wide)), size)
    arrays: LstmInputs[Any] = LstmInputs(
        x=sampling.codes(rng, (batch, *lead, inputs)),
        h=sampling.codes(rng, (batch, rows, size)),
        c=sampling.codes(rng, (batch, rows, size), -limit, limit),
        w=sampling.codes(rng, (GATES * size, inputs), -127, 127),
        r=sampling.codes(rng, (GATES * size, size), -127, 127),
        b=np.rint(rng.normal(size=GATES * size) * spread).astype(np.int64),
        mult=np.asarray([m for m, _ in pairs], dtype=np.int64),
        shift=np.asarray([s for _, s in pairs], dtype=np.int64),
    )
    h = sampling.kind((1, rows, size), eh)
    c = sampling.kind((1, rows, size), ec, DType.S16)
    types: LstmInputs[TensorType] = LstmInputs(
        x=sampling.kind((1, *lead, inputs), ex),
        h=h,
        c=c,
        w=sampling.kind((GATES * size, inputs), ew),
        r=sampling.kind((GATES * size, size), er),
        b=sampling.raw32(GATES * size),
        mult=sampling.raw32(FACTORS),
        shift=sampling.raw32(FACTORS),
    )
    y: Shape = (1, *lead, size)
    return Sample(label, attrs, NodeTypes(types, (sampling.kind(y, eh), h, c)), arrays)
