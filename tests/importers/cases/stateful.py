"""SVDF and UNIDIRECTIONAL_SEQUENCE_LSTM: variables live from run to run, and the runs of a case
follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tflite_builder import Tensor

from .base import Case, activation, cases, constant, single

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
FLOAT = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Svdf:
    """An SVDF: sizes (inputs, filters, memory)."""

    label: str
    sizes: tuple[int, int, int]
    rank: int = 1
    batch: int = 1
    state: str = "int16"
    activation: int = NONE
    x_zero: int = 3
    y_zero: int = -5
    multiplier: float = 1.0
    """Of the output's scale: below 1 it saturates."""
    feature: float = 1.0
    """Of the state's scale: below 1 it saturates."""


SVDFS = (
    Svdf(label="rank 1", sizes=(4, 6, 3)),
    Svdf(label="rank 2", sizes=(5, 8, 4), rank=2),
    Svdf(label="rank 4, one unit", sizes=(7, 4, 5), rank=4),
    Svdf(label="relu", sizes=(6, 5, 3), activation=RELU, y_zero=-128),
    Svdf(label="relu, another zero point", sizes=(6, 5, 3), activation=RELU, y_zero=10),
    Svdf(label="no memory", sizes=(9, 6, 1), rank=2),
    Svdf(label="long memory", sizes=(3, 4, 11)),
    Svdf(label="one input", sizes=(1, 3, 2)),
    Svdf(label="batch", sizes=(4, 6, 3), batch=3, rank=2),
    Svdf(label="int8 state", sizes=(5, 6, 3), state="int8"),
    Svdf(label="int8 state, rank 2, relu", sizes=(6, 8, 4), rank=2, state="int8", activation=RELU),
    Svdf(label="int8 state, batch", sizes=(4, 4, 2), batch=2, state="int8", y_zero=127),
    Svdf(label="saturated state", sizes=(6, 5, 3), feature=0.1, x_zero=-128),
    Svdf(label="saturated int8 state", sizes=(6, 5, 3), feature=0.1, state="int8"),
    Svdf(label="saturated output", sizes=(6, 5, 3), multiplier=0.1, x_zero=127),
    Svdf(label="large scale", sizes=(12, 16, 8), rank=2, multiplier=40.0),
    Svdf(label="float", sizes=(4, 6, 3), state=FLOAT),
    Svdf(label="float, rank 2, relu6", sizes=(5, 8, 4), rank=2, state=FLOAT, activation=RELU6),
    Svdf(label="float, relu_n1_to_1", sizes=(3, 5, 2), state=FLOAT, activation=RELU_N1_TO_1),
    Svdf(label="float, batch, relu", sizes=(4, 6, 3), batch=2, state=FLOAT, activation=RELU),
)


@cases("SVDF")
def svdf(code: str) -> Iterator[Case]:
    rng = np.random.default_rng(17)
    for case in SVDFS:
        inputs, filters, memory = case.sizes
        is_float, units = case.state == FLOAT, filters // case.rank
        dtype = FLOAT if is_float else "int8"
        w = rng.integers(-127, 128, size=(filters, inputs))
        limit = 2000 if case.state == "int16" else 127
        t = rng.integers(-limit, limit + 1, size=(filters, memory))
        step = float(np.float32(0.04 * 0.01 * 74 * 74 * np.sqrt(inputs) * case.feature / 9000))
        step *= 1 if case.state == "int16" else 200
        step_t = 1e-4 if case.state == "int16" else 0.01
        spread = step * 9000 / (1 if case.state == "int16" else 200) / case.feature
        spread *= limit * step_t * np.sqrt(memory * case.rank) / 2
        b = rng.normal(size=units) * spread / 2
        x = activation("x", (case.batch, inputs), 0.04, case.x_zero, dtype)
        scale_y = float(spread / 40 * case.multiplier)
        y = activation("y", (case.batch, units), scale_y, case.y_zero, dtype)
        shape = (case.batch, filters * memory)
        if is_float:
            weights = [constant("w", w / 127, FLOAT), constant("t", t / 127, FLOAT)]
            weights.append(constant("b", rng.normal(size=units), FLOAT))
            state = Tensor(name="state", shape=shape, dtype=FLOAT, variable=True)
        else:
            weights = [
                constant("w", w, "int8", scale=[0.01]),
                constant("t", t, case.state, scale=[step_t]),
                constant("b", np.rint(b / (step * step_t)), "int32", scale=[step * step_t]),
            ]
            state = Tensor(
                name="state",
                shape=shape,
                dtype=case.state,
                scale=(step,),
                zero_point=(0,),
                variable=True,
            )
        values = {"Rank": case.rank, "FusedActivationFunction": case.activation}
        yield single(code, case.label, [x, *weights, state], [y], "SVDFOptions", values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lstm:
    """An LSTM: sizes (inputs, cells)."""

    label: str
    sizes: tuple[int, int]
    steps: int = 1
    batch: int = 1
    time_major: bool = False
    clip: float = 0.0
    cell_frac: int = 12
    x_zero: int = -4
    h_zero: int = 3
    h_scale: float = 2.0**-7
    gain: float = 1.0
    """Of the gates' sums: large ones saturate."""
    is_float: bool = False


LSTMS = (
    Lstm(label="one step", sizes=(4, 6)),
    Lstm(label="sequence", sizes=(5, 4), steps=7),
    Lstm(label="time first", sizes=(3, 5), steps=6, time_major=True),
    Lstm(label="one step, time first", sizes=(3, 5), time_major=True),
    Lstm(label="batch", sizes=(4, 3), steps=3, batch=2),
    Lstm(label="batch, time first", sizes=(4, 3), steps=3, batch=2, time_major=True),
    Lstm(label="batch, one step, time first", sizes=(4, 3), batch=3, time_major=True),
    Lstm(label="clip", sizes=(5, 4), steps=5, clip=0.75),
    Lstm(label="clip between codes", sizes=(5, 4), steps=4, clip=0.30003),
    Lstm(label="clip beyond the codes", sizes=(5, 4), steps=4, clip=100.0),
    Lstm(label="coarse cell", sizes=(6, 5), steps=4, cell_frac=9),
    Lstm(label="fine cell", sizes=(6, 5), steps=4, cell_frac=15, gain=3.0),
    Lstm(label="cell of 2^-13", sizes=(6, 5), steps=4, cell_frac=13),
    Lstm(label="saturated gates", sizes=(6, 5), steps=4, gain=40.0),
    Lstm(label="saturated sums", sizes=(6, 5), steps=4, gain=4000.0, x_zero=127),
    Lstm(label="saturated output", sizes=(4, 4), steps=5, h_scale=2.0**-9, h_zero=-128),
    Lstm(label="one cell", sizes=(1, 1), steps=3),
    Lstm(label="scale of the hidden state", sizes=(7, 6), steps=4, h_scale=0.0071, h_zero=-20),
    Lstm(label="float", sizes=(4, 6), is_float=True),
    Lstm(label="float, sequence, clip", sizes=(3, 5), steps=4, clip=0.4, is_float=True),
    Lstm(
        label="float, batch, time first",
        sizes=(3, 4),
        steps=3,
        batch=2,
        time_major=True,
        is_float=True,
    ),
)


@cases("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(code: str) -> Iterator[Case]:
    rng = np.random.default_rng(18)
    for case in LSTMS:
        inputs, cells = case.sizes
        dtype = FLOAT if case.is_float else "int8"
        lead = (case.steps, case.batch) if case.time_major else (case.batch, case.steps)
        x = activation("x", (*lead, inputs), 0.03, case.x_zero, dtype)
        y = activation("y", (*lead, cells), case.h_scale, case.h_zero, dtype)
        own, back, biases = [], [], []
        for gate in "ifco":
            for found, size, scale in ((own, inputs, 0.03), (back, cells, case.h_scale)):
                codes = rng.integers(-127, 128, size=(cells, size))
                step = 1.3 * case.gain / (scale * 74 * 74 * np.sqrt(size)) * rng.uniform(0.7, 1.3)
                name = f"{'w' if found is own else 'r'}_{gate}"
                found.append(
                    constant(name, codes / 200, FLOAT)
                    if case.is_float
                    else constant(name, codes, "int8", scale=[step])
                )
            bias = rng.normal(size=cells)
            if case.is_float:
                biases.append(constant(f"b_{gate}", bias, FLOAT))
                continue
            scale = 0.03 * float(own[-1].scale[0])
            codes = np.rint(bias * case.gain / scale)
            biases.append(constant(f"b_{gate}", codes, "int32", scale=[scale]))
        states = [
            Tensor(
                name=name,
                shape=(case.batch, cells),
                dtype=FLOAT if case.is_float else kind,
                scale=() if case.is_float else (scale,),
                zero_point=() if case.is_float else (zero,),
                variable=True,
            )
            for name, kind, scale, zero in (
                ("h", "int8", case.h_scale, case.h_zero),
                ("c", "int16", 2.0**-case.cell_frac, 0),
            )
        ]
        values = {
            "FusedActivationFunction": 4,
            "CellClip": case.clip,
            "TimeMajor": case.time_major,
        }
        given = [x, *own, *back, None, None, None, *biases, None, None, *states, *[None] * 4]
        options = "UnidirectionalSequenceLSTMOptions"
        yield single(code, case.label, given, [y], options, values)
