"""What SVDF and LSTM cannot be imported as, and what the refusals say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isobit.core.errors import IsobitError
from isobit.importers.tflite import read
from isobit.ops.foreign import Runtime
from tflite_builder import Tensor

from .cases.base import activation, constant, single

SVDF = {
    "x": activation("x", (1, 3), 0.04, 3),
    "w": constant("w", np.arange(12).reshape(4, 3), "int8", scale=[0.01]),
    "t": constant("t", np.arange(8).reshape(4, 2) * 300, "int16", scale=[1e-4]),
    "b": constant("b", np.arange(2), "int32", scale=[1e-7]),
    "state": Tensor(
        name="state", shape=(1, 8), dtype="int16", scale=(1e-3,), zero_point=(0,), variable=True
    ),
    "y": activation("y", (1, 2), 0.02, -5),
}
SVDF_VALUES = {"Rank": 2, "FusedActivationFunction": 0}
SVDF_REFUSED: tuple[tuple[dict[str, object], dict[str, object], str], ...] = (
    ({"b": None}, {}, "bias: want a constant [U], got none"),
    ({}, {"Rank": 3}, "rank a divisor of F"),
    ({}, {"Rank": 0}, "rank a divisor of F"),
    ({}, {"FusedActivationFunction": 3}, "fused activation: want NONE or RELU"),
    ({"state": {"zero_point": (7,)}}, {}, "the state's zero point 0"),
    ({"state": {"dtype": "int8"}}, {}, "both int8 or both int16"),
    ({"state": {"variable": False, "dtype": "int16"}}, {}, "got another tensor"),
    ({"state": {"shape": (1, 9)}}, {}, "a variable of 8 elements"),
    ({"w": {"scale": (0.1,) * 4, "zero_point": (0,) * 4}}, {}, "one scale"),
    ({"x": {"dtype": "int16"}}, {}, "types: want s8"),
)


def lstm() -> dict[str, Tensor | None]:
    """The inputs of a small LSTM by name, in the file's order."""
    tensors: dict[str, Tensor | None] = {"x": activation("x", (1, 2, 3), 0.03, -4)}
    for name, size in (("w", 3), ("r", 2)):
        for gate in "ifco":
            data = np.arange(2 * size).reshape(2, size)
            tensors[f"{name}_{gate}"] = constant(f"{name}_{gate}", data, "int8", scale=[0.01])
    tensors |= dict.fromkeys(("p_i", "p_f", "p_o"))
    for gate in "ifco":
        tensors[f"b_{gate}"] = constant(f"b_{gate}", np.arange(2), "int32", scale=[3e-4])
    tensors |= dict.fromkeys(("proj_w", "proj_b"))
    for name, dtype, scale, zero in (("h", "int8", 2.0**-7, 3), ("c", "int16", 2.0**-12, 0)):
        tensors[name] = Tensor(
            name=name, shape=(1, 2), dtype=dtype, scale=(scale,), zero_point=(zero,), variable=True
        )
    return tensors | dict.fromkeys(("norm_i", "norm_f", "norm_c", "norm_o"))


Y = activation("y", (1, 2, 2), 2.0**-7, 3)
LSTM_VALUES = {"FusedActivationFunction": 4, "CellClip": 0.0, "TimeMajor": False}
EXTRA = constant("extra", np.arange(2), "int16", scale=[0.01])
LSTM_REFUSED: tuple[tuple[dict[str, object], dict[str, object], str], ...] = (
    ({"p_f": EXTRA}, {}, "peephole weights: want none"),
    ({"proj_w": EXTRA}, {}, "projection: want none"),
    ({"norm_o": EXTRA}, {}, "layer normalisation: want none"),
    ({"w_i": None}, {}, "none (CIFG)"),
    ({}, {"FusedActivationFunction": 1}, "activation: want TANH"),
    ({}, {"DiagonalRecurrentTensors": True}, "full matrices"),
    ({"c": {"scale": (3e-4,)}}, {}, "a power of two"),
    ({"c": {"dtype": "int8"}}, {}, "types of h, c and weights"),
    ({"c": {"zero_point": (4,)}}, {}, "zero points of c and weights 0"),
    ({"r_c": {"zero_point": (4,)}}, {}, "zero points of c and weights 0"),
    ({"h": {"scale": (0.01,)}}, {}, "that of the hidden state"),
    ({"h": {"shape": (1, 3)}}, {}, "a variable of 2 elements"),
    ({"h": {"variable": False}}, {}, "got another tensor"),
    ({"w_o": {"data": np.zeros((2, 4), np.int8), "shape": (2, 4)}}, {}, "the same for all four"),
)


@pytest.mark.parametrize(("tensors", "values", "match"), SVDF_REFUSED)
def test_svdf(
    tensors: dict[str, object], values: dict[str, object], match: str, tmp_path: Path
) -> None:
    given = _changed(dict(SVDF), tensors)
    y = given.pop("y")
    assert y is not None
    blob = single("SVDF", "x", list(given.values()), [y], "SVDFOptions", SVDF_VALUES | values).blob
    _refused(blob, match, tmp_path)


@pytest.mark.parametrize(("tensors", "values", "match"), LSTM_REFUSED)
def test_lstm(
    tensors: dict[str, object], values: dict[str, object], match: str, tmp_path: Path
) -> None:
    given = list(_changed(lstm(), tensors).values())
    options = "UnidirectionalSequenceLSTMOptions"
    code = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    _refused(single(code, "x", given, [Y], options, LSTM_VALUES | values).blob, match, tmp_path)


def test_another_runtime_is_refused(tmp_path: Path) -> None:
    svdf = {name: tensor for name, tensor in SVDF.items() if name != "y"}
    files = (
        single("SVDF", "x", list(svdf.values()), [SVDF["y"]], "SVDFOptions", SVDF_VALUES),
        single(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            "x",
            list(lstm().values()),
            [Y],
            "UnidirectionalSequenceLSTMOptions",
            LSTM_VALUES,
        ),
    )
    for case in files:
        path = tmp_path / "taken.tflite"
        path.write_bytes(case.blob)
        read(path)
        with pytest.raises(IsobitError, match="runtime: want tflm"):
            read(path, runtime=Runtime.LITERT)


def _changed(
    tensors: dict[str, Tensor | None], changes: dict[str, object]
) -> dict[str, Tensor | None]:
    for name, change in changes.items():
        old = tensors[name]
        if isinstance(change, dict):
            assert old is not None
            tensors[name] = replace(old, **change)
        else:
            assert change is None or isinstance(change, Tensor)
            tensors[name] = change
    return tensors


def _refused(blob: bytes, match: str, folder: Path) -> None:
    path = folder / "refused.tflite"
    path.write_bytes(blob)
    with pytest.raises(IsobitError, match=re.escape(match)):
        read(path)
