"""What files of several operators need: stored tensors kept apart, shapes that are computed, reals
inside integer networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.core.errors import IsobitError
from isobit.importers.base import Imported
from isobit.importers.folding import folded_integers
from isobit.importers.shapes import inferred
from isobit.importers.tflite import read, survey
from isobit.ops.foreign import Runtime
from isobit.run.golden import run_golden
from tflite_builder import Operator, Tensor, build

from .cases.base import activation, constant
from .litert import Litert
from .test_tflite_ops import inputs_of, same_values
from .tflm import Wheel

pytestmark = pytest.mark.data("tflite-micro")
Options = Mapping[str, Any]


def op(
    code: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    options: str = "",
    values: Options | None = None,
) -> Operator:
    return Operator(
        code=code,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        options=options,
        values=values or {},
    )


def file_of(
    folder: Path, tensors: Sequence[Tensor], operators: Sequence[Operator], outputs: Sequence[str]
) -> Path:
    """Write a file whose inputs are what no operator computes and nothing stores."""
    computed = {name for operator in operators for name in operator.outputs}
    inputs = [t.name for t in tensors if t.data is None and t.name not in computed]
    path = folder / "net.tflite"
    path.write_bytes(
        build(tensors=tensors, operators=operators, inputs=inputs, outputs=list(outputs))
    )
    return path


def hold(path: Path) -> Imported:
    """Hold every tensor that was imported to tflite-micro."""
    found = read(path)
    wheel, rng = Wheel(path.read_bytes()), np.random.default_rng(2)
    feeds = []
    for _ in range(6):
        kinds = [value.type for value in found.graph.inputs]
        feeds.append(
            tuple(
                rng.normal(size=kind.shape).astype(np.float32)
                if np.dtype(kind.dtype.numpy).kind == "f"
                else rng.integers(-128, 128, size=kind.shape).astype(np.int8)
                for kind in kinds
            )
        )
    ours = run_golden(found.graph, inputs_of(found.graph, feeds))
    value_of = {label: value for value, label in found.names.items()}
    for index, feed in enumerate(feeds):
        wheel.run(*feed)
        for name, want in wheel.tensors():
            if name in value_of:
                same_values(ours[value_of[name]][index], want, name)
    return found


def fixes(path: Path) -> list[str]:
    """Return what is wrong with a file that is refused."""
    problems = survey(path).problems
    with pytest.raises(IsobitError):
        read(path)
    return [problem.what for problem in problems]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_constants_whose_names_end_alike_stay_apart(dtype: str, tmp_path: Path) -> None:
    quantised: dict[str, Any] = {} if dtype == "float32" else {"scale": [0.02]}
    tensors = [activation(name, (1, 3), dtype=dtype) for name in ("x", "y", "z")]
    for label, numbers in (("a/batchnorm/mul", [1, 2, 3]), ("b/batchnorm/mul", [50, -60, 70])):
        tensors.append(constant(label, np.asarray(numbers), dtype, **quantised))
    operators = [
        op("MUL", ["x", "a/batchnorm/mul"], ["y"], "MulOptions"),
        op("MUL", ["y", "b/batchnorm/mul"], ["z"], "MulOptions"),
    ]
    hold(file_of(tmp_path, tensors, operators, ["z"]))


def test_shapes_that_the_file_computes_fold(tmp_path: Path) -> None:
    """What Flatten is with a dynamic batch, the size multiplied out."""
    tensors = [
        activation("x", (1, 4, 6)),
        activation("y", (1, 24)),
        *(Tensor(name=name, shape=(), dtype="int32") for name in ("batch", "rows", "all")),
        Tensor(name="shape", shape=(3,), dtype="int32"),
        Tensor(name="target", shape=(2,), dtype="int32"),
        *(constant(f"at{k}", [k]) for k in range(3)),
        constant("six", 6),
    ]
    shrink = {"ShrinkAxisMask": 1}
    operators = [
        op("SHAPE", ["x"], ["shape"], "ShapeOptions", {"OutType": 2}),
        op(
            "STRIDED_SLICE",
            ["shape", "at0", "at1", "at1"],
            ["batch"],
            "StridedSliceOptions",
            shrink,
        ),
        op(
            "STRIDED_SLICE", ["shape", "at1", "at2", "at1"], ["rows"], "StridedSliceOptions", shrink
        ),
        op("MUL", ["rows", "six"], ["all"], "MulOptions"),
        op("PACK", ["batch", "all"], ["target"], "PackOptions", {"ValuesCount": 2}),
        op("RESHAPE", ["x", "target"], ["y"], "ReshapeOptions"),
    ]
    found = read(file_of(tmp_path, tensors, operators, ["y"]))
    assert [node.op for node in found.graph.nodes] == ["reshape"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_stored_number_that_is_repeated_folds(dtype: str, tmp_path: Path) -> None:
    """What an unrolled loop of a dynamic batch starts from."""
    scale: Any = [] if dtype == "float32" else [0.05]
    tensors = [
        *(activation(name, (1, 4), dtype=dtype) for name in ("x", "zeros", "y")),
        constant("shape", [1, 4]),
        constant("number", 3, dtype, scale),
    ]
    operators = [
        op("FILL", ["shape", "number"], ["zeros"], "FillOptions"),
        op("ADD", ["x", "zeros"], ["y"], "AddOptions"),
    ]
    found = hold(file_of(tmp_path, tensors, operators, ["y"]))
    assert [node.op for node in found.graph.nodes] == ["add"]


def test_reals_that_are_joined_are_only_moved(tmp_path: Path) -> None:
    tensors = [
        *(activation(name, (1, 3), 0.1, 2) for name in ("a", "b")),
        *(activation(name, (1, 3), dtype="float32") for name in ("ra", "rb")),
        activation("y", (1, 6), dtype="float32"),
    ]
    operators = [
        op("DEQUANTIZE", ["a"], ["ra"]),
        op("DEQUANTIZE", ["b"], ["rb"]),
        op("CONCATENATION", ["ra", "rb"], ["y"], "ConcatenationOptions", {"Axis": 1}),
    ]
    hold(file_of(tmp_path, tensors, operators, ["y"]))


def dilated(folder: Path, *, stride: int = 1, padding: int = 1, crops: Any = ((0, 0),)) -> Path:
    """A convolution of every second pixel of a row, in a file that counts the images as one."""
    tensors = [
        activation("x", (1, 8, 2)),
        activation("blocks", (1, 4, 2)),
        activation("image", (1, 1, 4, 2)),
        activation("sums", (1, 1, 2, 3)),
        activation("row", (1, 2, 3)),
        activation("y", (1, 4 - sum(crops[0]), 3)),
        constant("block", [2]),
        constant("none", [[0, 0]]),
        constant("crops", crops),
        constant("axis", 1),
        constant("shape", [-1, 2, 3]),
        constant("w", np.arange(18).reshape(3, 1, 3, 2) - 9, "int8", [0.01] * 3),
    ]
    values = {"Padding": padding, "StrideH": stride, "StrideW": stride}
    operators = [
        op("SPACE_TO_BATCH_ND", ["x", "block", "none"], ["blocks"]),
        op("EXPAND_DIMS", ["blocks", "axis"], ["image"]),
        op("CONV_2D", ["image", "w"], ["sums"], "Conv2DOptions", values),
        op("RESHAPE", ["sums", "shape"], ["row"], "ReshapeOptions"),
        op("BATCH_TO_SPACE_ND", ["row", "block", "crops"], ["y"]),
    ]
    return file_of(folder, tensors, operators, ["y"])


def test_a_convolution_of_every_second_pixel_is_dilated(tmp_path: Path) -> None:
    graph = read(dilated(tmp_path, crops=[[1, 0]])).graph
    (node,) = [node for node in graph.nodes if node.op == "conv2d"]
    assert node.attrs.dilation == (1, 2)
    assert graph.type_map()[graph.outputs[0]].shape == (1, 3, 3)


@pytest.mark.parametrize("runtime", list(Runtime))
def test_a_result_that_the_runtime_would_not_give_has_a_note(
    runtime: Runtime, tmp_path: Path
) -> None:
    notes = read(dilated(tmp_path, crops=[[1, 0]]), runtime=runtime).notes
    wanted = {Runtime.TFLM: [("y", "runtime")], Runtime.LITERT: []}[runtime]
    assert [(note.value, note.kind) for note in notes] == wanted


@pytest.mark.parametrize("change", [{"stride": 2}, {"padding": 0}])
def test_other_groups_of_images_are_refused(change: dict[str, int], tmp_path: Path) -> None:
    assert set(fixes(dilated(tmp_path, **change))) == {"operator"}


@pytest.mark.parametrize(
    ("code", "inputs", "options", "want"),
    [
        ("ADD", ([2, 3], [4, 5]), {}, [6, 8]),
        ("SUB", ([2], [4]), {}, [-2]),
        ("MUL", ([2, 3], [4, 5]), {}, [8, 15]),
        ("DIV", ([-7], [2]), {}, [-3]),
        ("FLOOR_DIV", ([-7], [2]), {}, [-4]),
        ("FLOOR_MOD", ([-7], [2]), {}, [1]),
        ("MAXIMUM", ([2, 9], [4, 5]), {}, [4, 9]),
        ("MINIMUM", ([2, 9], [4, 5]), {}, [2, 5]),
        ("NEG", ([2, -9],), {}, [-2, 9]),
        ("CAST", ([2, 9],), {}, [2, 9]),
        ("GATHER", ([2, 9, 4], [2, 0]), {"axis": 0}, [4, 2]),
        ("FILL", ([3], 7), {}, [7, 7, 7]),
        ("RANGE", (1, 7, 2), {}, [1, 3, 5]),
        ("REDUCE_PROD", ([2, 3, 4], [0]), {"keep_dims": True}, [24]),
        ("BROADCAST_ARGS", ([1, 3], [2, 1]), {}, [2, 3]),
        ("EQUAL", ([2, 9], [2, 5]), {}, [1, 0]),
        ("NOT_EQUAL", ([2, 9], [2, 5]), {}, [0, 1]),
        ("LESS", ([2, 9], [4, 5]), {}, [1, 0]),
        ("LESS_EQUAL", ([2, 9], [2, 5]), {}, [1, 0]),
        ("GREATER", ([2, 9], [4, 5]), {}, [0, 1]),
        ("GREATER_EQUAL", ([2, 9], [2, 9]), {}, [1, 1]),
        ("SELECT", ([1, 0], [2, 9], [4, 5]), {}, [2, 5]),
        ("SELECT_V2", ([1, 0], [2, 9], [4, 5]), {}, [2, 5]),
    ],
)
def test_stored_integers_fold(code: str, inputs: Any, options: Options, want: list[int]) -> None:
    arrays = [np.asarray(x, dtype=np.int64) for x in inputs]
    found = folded_integers(code, arrays, options, (len(want),))
    assert found is not None and found.astype(int).tolist() == want


@pytest.mark.parametrize(
    ("code", "inputs"),
    [
        ("DIV", ([1], [0])),
        ("FLOOR_DIV", ([1], [0])),
        ("ADD", ([1, 2], [1, 2, 3])),
        ("ADD", ([1],)),
        ("GATHER", ([1, 2], [5])),
        ("RANGE", (0, 1 << 40, 1)),
        ("RANGE", (0, 1, 0)),
        ("FILL", ([1 << 30, 1 << 30], 1)),
        ("SOFTMAX", ([1],)),
    ],
)
def test_stored_integers_that_do_not_fit_stay(code: str, inputs: Any) -> None:
    arrays = [np.asarray(x, dtype=np.int64) for x in inputs]
    assert folded_integers(code, arrays, {}, (1,)) is None


def test_indices_of_every_batch_are_not_folded() -> None:
    arrays = [np.asarray([[1, 2], [3, 4]]), np.asarray([1, 0])]
    assert folded_integers("GATHER", arrays, {"axis": 1, "batch_dims": 1}, (2, 2)) is None


def test_a_condition_of_rows_is_not_broadcast() -> None:
    arrays = [np.asarray([1, 0]), np.asarray([[1, 2], [3, 4]]), np.zeros((2, 2), np.int64)]
    assert folded_integers("SELECT", arrays, {}, (2, 2)) is None


@pytest.mark.parametrize(
    ("code", "shapes", "data", "options", "want"),
    [
        ("RESHAPE", [(1, 8, 6), (2,)], [None, [-1, 6]], {}, (8, 6)),
        ("RESHAPE", [(1, 8, 6)], [None], {"new_shape": (1, 48)}, (1, 48)),
        ("RESHAPE", [(1, 8, 6), (2,)], [None, [-1, 7]], {}, None),
        ("RESHAPE", [(1, 8, 6), (2,)], [None, [-1, -1]], {}, None),
        ("RESHAPE", [(1, 8, 6), (2,)], [None, None], {}, None),
        ("FULLY_CONNECTED", [(8, 6), (5, 6)], [None, None], {}, (8, 5)),
        ("FULLY_CONNECTED", [(1, 8, 6), (5, 6)], [None, None], {"keep_num_dims": True}, (1, 8, 5)),
        ("FULLY_CONNECTED", [(8, 6), (5, 7)], [None, None], {}, None),
        ("ADD", [(8, 6), (6,)], [None, None], {}, (8, 6)),
        ("ADD", [(8, 6), (5,)], [None, None], {}, None),
        ("FILL", [(2,), ()], [[1, 6], 0], {}, (1, 6)),
        ("FILL", [(2,), ()], [None, 0], {}, None),
        ("CONV_2D", [(1, 8, 6, 2)], [None], {}, None),
        ("ADD", [], [], {}, None),
    ],
)
def test_shapes_that_follow_from_the_inputs(
    code: str, shapes: Any, data: Any, options: Options, want: Any
) -> None:
    arrays = [None if x is None else np.asarray(x) for x in data]
    assert inferred(code, shapes, arrays, options) == want


@pytest.mark.data("litert")
def test_what_is_reshaped_twice_is_still_read(tmp_path: Path) -> None:
    """LiteRT's default memory planner gives %y the codes of %s: `Litert` keeps tensors apart."""
    rows, flat, spread = (4, 6), (1, 24), (4, 1, 6)
    shapes = {"x": rows, "v": rows, "e": spread, "r": flat, "s": flat, "t": flat, "y": spread}
    tensors = [
        *(activation(name, shape, 0.05, 90, "uint8") for name, shape in shapes.items()),
        constant("axis", [1]),
        constant("shape", flat),
        constant("three", 3, "uint8", [0.05], [90]),
    ]
    slope = {"Alpha": 0.5}
    operators = [
        op("LEAKY_RELU", ["x"], ["v"], "LeakyReluOptions", slope),
        op("EXPAND_DIMS", ["v", "axis"], ["e"], "ExpandDimsOptions"),
        op("RESHAPE", ["e", "shape"], ["r"], "ReshapeOptions"),
        op("SUB", ["three", "r"], ["s"], "SubOptions"),
        op("LEAKY_RELU", ["s"], ["t"], "LeakyReluOptions", slope),
        op("MAXIMUM", ["e", "e"], ["y"], "MaximumMinimumOptions"),
    ]
    path = file_of(tmp_path, tensors, operators, ["t", "y"])
    found, x = read(path), np.random.default_rng(5).integers(0, 256, rows).astype(np.uint8)
    ours = run_golden(found.graph, inputs_of(found.graph, [(x,)]))
    theirs = dict(Litert(path.read_bytes(), keeps_all=True).run(x))
    compared = {value: name for value, name in found.names.items() if name in theirs}
    assert set(compared.values()) >= set(shapes) - {"x"}
    outputs = dict(Litert(path.read_bytes()).run(x))
    for value, name in compared.items():
        for runtime in (theirs, outputs):
            if name in runtime and name != "x":
                got = ours[value][0]
                if got.dtype == np.int8:  # uint8 inside a network is int8
                    got = (got.astype(np.int64) + 128).astype(np.uint8)
                same_values(got, runtime[name], name)
