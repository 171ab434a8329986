"""What single files of the runtime cannot show: stored operands, masks that only TensorFlow has,
and refusals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.core.errors import IsobitError, Unsupported
from isobit.importers.tflite import read
from isobit.run.golden import run_golden
from tflite_builder import Operator, Tensor, build

from .cases import Case
from .cases.base import activation, constant, single
from .cases.movement import moved


def graph_of(blob: bytes, folder: Path) -> Any:
    path = folder / "case.tflite"
    path.write_bytes(blob)
    return read(path, name="case").graph


def test_a_computed_shape_is_computed_at_import(tmp_path: Path) -> None:
    """STRIDED_SLICE of a stored shape, PACK with a number, then RESHAPE to it."""
    tensors = [
        moved("x", (1, 6, 4)),
        constant("whole", [1, 6, 4]),
        constant("zero", [0]),
        constant("one", [1]),
        constant("free", -1),
        Tensor(name="batch", shape=(), dtype="int32"),
        Tensor(name="shape", shape=(2,), dtype="int32"),
        moved("y", (1, 24)),
    ]
    operators = [
        Operator(
            code="STRIDED_SLICE",
            inputs=("whole", "zero", "one", "one"),
            outputs=("batch",),
            options="StridedSliceOptions",
            values={"ShrinkAxisMask": 1},
        ),
        Operator(
            code="PACK",
            inputs=("batch", "free"),
            outputs=("shape",),
            options="PackOptions",
            values={"Axis": 0, "ValuesCount": 2},
        ),
        Operator(code="RESHAPE", inputs=("x", "shape"), outputs=("y",), options="ReshapeOptions"),
    ]
    blob = build(tensors=tensors, operators=operators, inputs=["x"], outputs=["y"])
    graph = graph_of(blob, tmp_path)
    assert [node.op for node in graph.nodes] == ["reshape"]
    assert not graph.consts


def test_stored_codes_are_moved_at_import(tmp_path: Path) -> None:
    """Both halves of a stored tensor are split and turned, then joined with an input."""
    codes = np.arange(12, dtype=np.int8).reshape(2, 6)
    quantised = {"scale": (0.05,), "zero_point": (3,)}
    tensors = [
        moved("x", (2, 3)),
        Tensor.constant("k", codes, **quantised),
        constant("axis", 1),
        constant("perm", [1, 0]),
        *(moved(name, (2, 3)) for name in ("left", "right")),
        moved("turned", (3, 2)),
        moved("y", (5, 2)),
        constant("back", [1, 0]),
        moved("xt", (3, 2)),
        moved("cut", (2, 2)),
        constant("begin", [1, 0]),
        constant("size", [2, 2]),
    ]
    operators = [
        Operator(
            code="SPLIT",
            inputs=("axis", "k"),
            outputs=("left", "right"),
            options="SplitOptions",
            values={"NumSplits": 2},
        ),
        Operator(code="TRANSPOSE", inputs=("right", "perm"), outputs=("turned",)),
        Operator(code="SLICE", inputs=("turned", "begin", "size"), outputs=("cut",)),
        Operator(code="TRANSPOSE", inputs=("x", "back"), outputs=("xt",)),
        Operator(
            code="CONCATENATION",
            inputs=("cut", "xt"),
            outputs=("y",),
            options="ConcatenationOptions",
            values={"Axis": 0},
        ),
    ]
    graph = graph_of(
        build(tensors=tensors, operators=operators, inputs=["x"], outputs=["y"]), tmp_path
    )
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    y = run_golden(graph, {"x": x.reshape(1, *graph.inputs[0].type.shape[1:])})["y"]
    want = np.concatenate([codes[:, 3:].T[1:3], x.T])
    assert (y.reshape(5, 2) == want).all()
    assert all(node.op in ("transpose", "concat", "reshape") for node in graph.nodes)


@pytest.mark.parametrize(
    ("index", "shape"),
    [
        ((Ellipsis, slice(1, 3)), (2, 3, 4)),
        ((slice(0, 1), Ellipsis), (2, 3, 4)),
        ((1, Ellipsis, slice(3, 0, -1)), (2, 3, 2, 4)),
        ((Ellipsis,), (2, 3)),
        ((np.newaxis, slice(None), 1), (2, 3)),
        ((slice(None), np.newaxis, slice(1, 2)), (2, 3)),
        ((Ellipsis, np.newaxis), (2, 3)),
        ((np.newaxis, Ellipsis, 0, np.newaxis), (2, 3, 2)),
        ((slice(1, 2),), (2, 3)),
    ],
)
def test_masks_of_tensorflow_are_numpys(
    index: tuple[Any, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """TFLM runs neither an ellipsis nor a new axis nor fewer entries than axes."""
    case = masked(index, shape)
    graph = graph_of(case.blob, tmp_path)
    x = np.arange(np.prod(shape), dtype=np.int8).reshape(shape)
    y = run_golden(graph, {"x": x.reshape(1, *graph.inputs[0].type.shape[1:])})["y"]
    assert (y.reshape(x[index].shape) == x[index]).all()


def masked(index: tuple[Any, ...], shape: tuple[int, ...]) -> Case:
    """STRIDED_SLICE with the masks that mean `x[index]`."""
    entries: dict[str, list[int]] = {"begin": [], "end": [], "strides": []}
    masks = dict.fromkeys(
        ("BeginMask", "EndMask", "ShrinkAxisMask", "EllipsisMask", "NewAxisMask"), 0
    )
    for position, entry in enumerate(index):
        bit, taken = 1 << position, slice(0, 0, 1)
        if entry is Ellipsis:
            masks["EllipsisMask"] |= bit
        elif entry is None:
            masks["NewAxisMask"] |= bit
        elif isinstance(entry, int):
            masks["ShrinkAxisMask"] |= bit
            taken = slice(entry, entry + 1, 1)
        else:
            taken = entry
            masks["BeginMask"] |= bit * (entry.start is None)
            masks["EndMask"] |= bit * (entry.stop is None)
        entries["begin"].append(taken.start or 0)
        entries["end"].append(taken.stop or 0)
        entries["strides"].append(taken.step or 1)
    inputs = [moved("x", shape), *(constant(name, data) for name, data in entries.items())]
    y = moved("y", np.empty(shape)[index].shape)
    return single("STRIDED_SLICE", "masks", inputs, [y], "StridedSliceOptions", masks)


def _slice(begin: int, size: int, out: int) -> Case:
    inputs = [moved("x", (6,)), constant("begin", [begin]), constant("size", [size])]
    return single("SLICE", "c", inputs, [moved("y", (out,))], "SliceOptions")


def _strided(begin: int, end: int, stride: int, out: tuple[int, ...], **masks: Any) -> Case:
    bounds = (("begin", begin), ("end", end), ("strides", stride))
    inputs = [moved("x", (6,)), *(constant(name, [value]) for name, value in bounds)]
    return single("STRIDED_SLICE", "c", inputs, [moved("y", out)], "StridedSliceOptions", masks)


def _pad(code: str, pads: Any, out: int, **values: Any) -> Case:
    options = {"PAD": "PadOptions", "MIRROR_PAD": "MirrorPadOptions"}[code]
    inputs = [moved("x", (3,)), constant("pads", [pads])]
    return single(code, "c", inputs, [moved("y", (out,))], options, values)


def _joined(second: Tensor, number: int = 0) -> Case:
    values = {"Axis": 1, "FusedActivationFunction": number}
    inputs = [moved("x", (1, 3)), second]
    return single(
        "CONCATENATION", "c", inputs, [moved("y", (1, 6))], "ConcatenationOptions", values
    )


COARSE = activation("coarse", (1, 3), 0.1, 3)
REFUSED = [
    ("a second scale", _joined(COARSE), 'encoding of "coarse"'),
    ("another carrier", _joined(activation("wide", (1, 3), 0.05, 3, "int16")), 'of "wide"'),
    ("a fused activation", _joined(moved("b", (1, 3)), 1), "fused activation"),
    ("a slice from behind", _slice(-3, 2, 2), "slice of axis 0"),
    ("a slice that is too long", _slice(4, 4, 4), "slice of axis 0"),
    ("another output", _slice(1, 2, 3), "shape of the output"),
    ("a stride of 0", _strided(0, 3, 0, (3,)), "stride that is not 0"),
    ("an index outside", _strided(9, 10, 1, (), ShrinkAxisMask=1), "slice of axis 0"),
    ("nothing taken", _strided(4, 2, 1, (1,)), "at least one element"),
    ("a relative end", _strided(1, 4, 1, (3,), Offset=True), "offset"),
    ("negative paddings", _pad("PAD", [-1, 2], 4), "paddings"),
    ("a mirror too small", _pad("MIRROR_PAD", [3, 0], 6, Mode=0), "paddings of axis 0"),
    ("an unknown mirror", _pad("MIRROR_PAD", [1, 0], 4, Mode=7), "mode"),
    (
        "an axis outside",
        single(
            "SPLIT",
            "c",
            [constant("axis", 2), moved("x", (4,))],
            [moved("a", (2,)), moved("b", (2,))],
            "SplitOptions",
            {"NumSplits": 2},
        ),
        "axis",
    ),
    (
        "parts that do not add up",
        single(
            "UNPACK",
            "c",
            [moved("x", (3, 2))],
            [moved("a", (2,)), moved("b", (2,))],
            "UnpackOptions",
            {"Axis": 0, "Num": 2},
        ),
        "shapes of the outputs",
    ),
    (
        "no permutation",
        single(
            "TRANSPOSE",
            "c",
            [moved("x", (3, 2)), constant("perm", [0, 0])],
            [moved("y", (3, 3))],
        ),
        "permutation",
    ),
    (
        "paddings known at run time",
        single(
            "PAD",
            "c",
            [moved("x", (3,)), activation("pads", (1, 2), 1.0, 0, "int32")],
            [moved("y", (4,))],
            "PadOptions",
        ),
        "a constant",
    ),
    (
        "an empty part",
        single(
            "SPLIT_V",
            "c",
            [moved("x", (6,)), constant("sizes", [0, 6]), constant("axis", 0)],
            [moved("a", (0,)), moved("b", (6,))],
            "SplitVOptions",
            {"NumSplits": 2},
        ),
        'shape of "a"',
    ),
]


@pytest.mark.parametrize(
    ("case", "words"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_cannot_be_moved_is_refused(case: Case, words: str, tmp_path: Path) -> None:
    with pytest.raises(IsobitError) as found:
        graph_of(case.blob, tmp_path)
    assert isinstance(found.value, Unsupported)
    assert words in str(found.value)
