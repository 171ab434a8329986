"""Reals that a quantised ONNX file stores beside codes: never cut to whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import helper

from isobit.core.errors import Unsupported
from isobit.importers.base import Imported
from isobit.importers.onnx import read
from isobit.run.golden import run_golden

from .onnx_cases.base import info, serialised

SCALE, ZERO = (np.float32(0.03), np.float32(0.04)), (np.int8(3), np.int8(-20))
SLOPES = np.asarray([0.25, -0.3, 1.7], np.float32).reshape(3, 1, 1)
OFFSETS = np.asarray([0.37, -1.21, 2.6], np.float32).reshape(3, 1, 1)
ALONE = np.asarray(0.37, np.float32)
MORE = np.linspace(-3, 3, 6, dtype=np.float32).reshape(1, 1, 2, 3)
PADS = np.asarray([0, 0, 1, 1, 0, 0, 0, 1])


def padded(x: Any, value: Any) -> Any:
    return np.pad(x, [(0, 0), (0, 0), (1, 0), (1, 1)], constant_values=value.item())


CASES: dict[str, tuple[str, np.ndarray, Callable[[Any, Any], Any], bool]] = {
    # label: operator, stored reals, meaning on exact numbers, whether rounded once
    "PRelu of channels": ("PRelu", SLOPES, lambda x, c: np.where(x >= 0, x, x * c), False),
    "PRelu": ("PRelu", ALONE, lambda x, c: np.where(x >= 0, x, x * c), False),
    "Max of channels": ("Max", OFFSETS, np.maximum, True),
    "Max": ("Max", ALONE, np.maximum, True),
    "Min": ("Min", OFFSETS, np.minimum, True),
    "Concat": ("Concat", MORE, lambda x, c: np.concatenate([x, c], 1), True),
    "Add of channels": ("Add", OFFSETS, lambda x, c: x + c, True),
    "Add": ("Add", ALONE, lambda x, c: x + c, False),
    "Sub": ("Sub", OFFSETS, lambda x, c: x - c, False),
    "Mul of channels": ("Mul", SLOPES, lambda x, c: x * c, False),
    "Mul": ("Mul", ALONE, lambda x, c: x * c, False),
    "Div": ("Div", ALONE, lambda x, c: x / c, True),
    "Pad": ("Pad", ALONE, padded, True),
    "Pad beyond the codes": ("Pad", np.asarray(-99, np.float32), padded, True),
}


def imported(code: str, stored: np.ndarray, folder: Path, *, quantised: bool = True) -> Imported:
    constants = {"s": SCALE[0], "z": ZERO[0], "t": SCALE[1], "u": ZERO[1], "c": stored}
    options = {"axis": 1} if code == "Concat" else {}
    names = ["d", "pads", "c"] if code == "Pad" else ["d", "c"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node(code, names, ["p"], **options),
    ]
    if quantised:
        nodes.append(helper.make_node("QuantizeLinear", ["p", "t", "u"], ["r"]))
        nodes.append(helper.make_node("DequantizeLinear", ["r", "t", "u"], ["y"]))
    blob = serialised(
        nodes,
        [info("x", (1, 3, 2, 3))],
        [info("y" if quantised else "p", None)],
        {**constants, **({"pads": PADS} if code == "Pad" else {})},
    )
    (folder / "case.onnx").write_bytes(blob)
    return read(folder / "case.onnx")


def exact(values: np.ndarray) -> np.ndarray:
    found = np.empty(values.size, dtype=object)
    found[:] = [Fraction(float(v)) for v in values.ravel()]
    return found.reshape(values.shape)


def wanted(codes: np.ndarray, stored: np.ndarray, meaning: Callable[[Any, Any], Any]) -> np.ndarray:
    """Return the codes of the definition: exact numbers, rounded to the nearest, ties to even."""
    x = (codes.astype(object) - int(ZERO[0])) * Fraction(float(SCALE[0]))
    rows = []
    for one in x:
        y = np.asarray(meaning(one[None], exact(stored)), dtype=object) / Fraction(float(SCALE[1]))
        flat = [min(max(round(v) + int(ZERO[1]), -128), 127) for v in y.ravel()]
        rows.append(np.asarray(flat).reshape(y.shape))
    return np.concatenate(rows)


@pytest.mark.parametrize("label", CASES)
def test_result_is_the_definition_up_to_what_is_noted(label: str, tmp_path: Path) -> None:
    code, stored, meaning, rounded_once = CASES[label]
    found = imported(code, stored, tmp_path)
    rng = np.random.default_rng(3)
    codes = rng.integers(-128, 128, size=(40, 3, 2, 3))
    codes[:2] = np.asarray([-128, 127]).reshape(2, 1, 1, 1)
    want = wanted(codes, stored, meaning)
    channels_last = found.graph.inputs[0].type.shape != (1, 3, 2, 3)
    fed = np.moveaxis(codes, 1, -1) if channels_last else codes
    got = run_golden(found.graph, fed.astype(np.int8))[found.graph.outputs[0]]
    got = np.moveaxis(got, -1, 1) if got.shape != want.shape else got
    proven = max((note.lsb for note in found.notes), default=0)
    assert len(set(want.ravel().tolist())) > 10
    assert np.abs(got.astype(np.int64) - want).max() <= proven
    if rounded_once:
        assert proven == 0


def test_stored_reals_without_a_result_to_be_codes_of_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        imported("Max", OFFSETS, tmp_path, quantised=False)
    (problem,) = caught.value.problems
    assert problem.code == "E208" and "damaged" not in problem.fix


def test_weights_that_stay_real_are_refused_with_a_remedy(tmp_path: Path) -> None:
    constants = {"s": SCALE[0], "z": ZERO[0], "t": SCALE[1], "u": ZERO[1]}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Pow", ["c", "d"], ["p"]),
        helper.make_node("QuantizeLinear", ["p", "t", "u"], ["y"]),
    ]
    blob = serialised(
        nodes, [info("x", (1, 3))], [info("y", None, 3)], {**constants, "c": ALONE.reshape(1, 1)}
    )
    (tmp_path / "case.onnx").write_bytes(blob)
    with pytest.raises(Unsupported) as caught:
        read(tmp_path / "case.onnx")
    (problem,) = caught.value.problems
    assert problem.got == "a constant" and "damaged" not in problem.fix
