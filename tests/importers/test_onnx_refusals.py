"""What of ONNX is refused: all of it at once, in words that say what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

from isobit.api.importing import import_file, survey_file
from isobit.core.errors import (
    FileDamaged,
    FileMissing,
    IsobitError,
    ToolMissing,
)
from isobit.importers.onnx import read, survey

from .onnx_cases.base import (
    Case,
    Code,
    Stored,
    codes,
    info,
    ints,
    qdq,
    reals,
    serialised,
    single,
)

IMAGE = (1, 3, 6, 5)
X = Code(scale=0.047, zero=9)
Y = Code(scale=0.06, zero=-11)


def problems(blob: bytes, folder: Path) -> Sequence[Any]:
    path = folder / "case.onnx"
    path.write_bytes(blob)
    with pytest.raises(IsobitError) as caught:
        read(path)
    assert survey(path).problems == caught.value.problems
    return caught.value.problems


TWO = (reals("g", 3), reals("h", 3))


def refused(blob: bytes, folder: Path) -> str:
    (problem,) = problems(blob, folder)
    assert problem.code == "E208" and problem.fix
    return f"{problem.what}: {problem.got}"


def net(nodes: list[Any], constants: dict[str, np.ndarray] | None = None, **options: Any) -> bytes:
    return serialised(nodes, [info("x", IMAGE)], [info("y", None)], constants or {}, **options)


def test_every_unsupported_operator_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Hardmax", ["a"], ["c"]),
        helper.make_node("LRN", ["x"], ["d"], size=3),
        helper.make_node("Made", ["x"], ["e"], domain="somebody.else"),
        helper.make_node("Relu", ["c"], ["f"]),
        helper.make_node("Sum", ["d", "e", "f"], ["y"]),
    ]
    path = tmp_path / "net.onnx"
    path.write_bytes(net(nodes))
    with pytest.raises(IsobitError) as caught:
        import_file(path)
    found = [(problem.code, problem.got) for problem in caught.value.problems]
    assert found == [
        ("E208", "Hardmax"),
        ("E208", "LRN"),
        ("E208", "somebody.else.Made"),
    ]
    known = survey_file(path)
    assert known.operators == {
        "Hardmax": 1,
        "LRN": 1,
        "Made": 1,
        "Relu": 2,
        "Sum": 1,
    }
    assert len(known.problems) == 3


@pytest.mark.parametrize(
    ("case", "what"),
    [
        (single("MatMul", "two", [(1, 4, 5), (1, 5, 4)]), "weights: a value computed"),
        (single("Conv", "batch", [(2, 3, 6, 5), reals("w", 4, 3, 3, 3)]), "input: [2, 3, 6, 5]"),
        (single("MaxPool", "d", [IMAGE], kernel_shape=[2, 2], dilations=[2, 2]), "dilations"),
        (
            single("AveragePool", "d", [IMAGE], kernel_shape=[2, 2], dilations=[2, 1], opset=19),
            "dilations",
        ),
        (
            single("MaxPool", "i", [IMAGE], outputs=2, kernel_shape=[2, 2]),
            "value: int64",
        ),
        (
            single(
                "GroupNormalization", "u", [IMAGE, *[reals("g", 3)] * 2], num_groups=2, opset=21
            ),
            "num_groups: 2",
        ),
        *(
            (
                single(
                    code,
                    "cut",
                    [(1, 3, 12, 4)],
                    opset=18,
                    kernel_shape=[1, 2],
                    strides=[3, 1],
                    auto_pad=mode,
                ),
                f"auto_pad: {mode}",
            )
            for code in ("MaxPool", "AveragePool")
            for mode in ("SAME_UPPER", "SAME_LOWER")
        ),
        (single("Pad", "cut", [IMAGE, ints(0, 0, -1, 0, 0, 0, 0, 0)]), "pads"),
        (single("Pad", "edge", [IMAGE, ints(*[0] * 7, 1)], mode="edge"), "mode: edge"),
        (single("Pow", "pi", [IMAGE, np.asarray(3.14, np.float32)]), "exponent: [3.14"),
        (single("Selu", "own", [IMAGE], alpha=2.0), "alpha: 2.0"),
        (single("Div", "zero", [IMAGE, np.zeros(1, np.float32)]), "divisor: a zero"),
        (single("Gather", "uneven", [IMAGE, ints(0, 1, 4)], axis=2), "indices"),
        (single("Gather", "beyond the end", [IMAGE, ints(6)], axis=2), "indices"),
        (single("Gather", "beyond the start", [IMAGE, ints(-7)], axis=2), "indices"),
        (single("LpNormalization", "l1", [(1, 5)], p=1), "p: p=1"),
        (single("Expand", "batch", [(1, 3), ints(0, 3)]), "result"),
        (single("ThresholdedRelu", "1", [IMAGE]), "alpha: 1.0"),
        (
            single(
                "Resize",
                "cubic",
                [IMAGE, None, np.asarray([1, 1, 2, 2], np.float32)],
                mode="cubic",
            ),
            "mode: cubic",
        ),
        (
            single("Resize", "channels", [IMAGE, None, np.asarray([1, 2, 1, 1], np.float32)]),
            "axes",
        ),
        (
            single(
                "BatchNormalization", "t", [IMAGE, *[np.ones(3, np.float32)] * 4], training_mode=1
            ),
            "Training_mode",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_without_counterpart_are_refused(case: Case, what: str, tmp_path: Path) -> None:
    found = problems(case.blob, tmp_path)
    assert all(problem.code == "E208" and problem.fix for problem in found)
    assert any(what in f"{problem.what}: {problem.got}" for problem in found), found


@pytest.mark.parametrize(
    ("blob", "what"),
    [
        (qdq("Sigmoid", "bare", [(IMAGE, X)], None).blob, "value: reals"),
        (qdq("Clip", "off", [(IMAGE, X), np.asarray(-0.51, np.float32)], None).blob, "bounds"),
        (qdq("Sum", "three", [(IMAGE, X)] * 3, Y).blob, "inputs: 3"),
        (qdq("Div", "two", [(IMAGE, X), (IMAGE, X)], Y).blob, "two values computed"),
        (qdq("LogSoftmax", "l", [(IMAGE, X)], Y).blob, "operator"),
        (qdq("Mean", "two", [(IMAGE, X)] * 2, Y).blob, "operator"),
        (qdq("ReduceL2", "n", [(IMAGE, X)], Y).blob, "operator"),
        (qdq("Conv", "r", [(IMAGE, X), reals("w", 4, 3, 1, 1)], Y).blob, "weights"),
        (
            qdq(
                "MatMul",
                "inner axis",
                [((1, 4), X), Stored(data=codes("i", 4, 4), scale=np.full(4, 0.1), axis=0)],
                Y,
            ).blob,
            "scales of the weights",
        ),
        (
            qdq("Gemm", "a", [((1, 6), X), Stored(data=codes("g", 6, 4))], Y, alpha=2.0).blob,
            "alpha, beta",
        ),
        (qdq("Concat", "no", [(IMAGE, X), (IMAGE, Y)], None, axis=1).blob, "operands"),
        (qdq("Relu", "wide", [(IMAGE, Code(zero=0, dtype="int16"))], Y, opset=21).blob, "codes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_quantised_forms_without_exact_meaning_are_refused(
    blob: bytes, what: str, tmp_path: Path
) -> None:
    found = problems(blob, tmp_path)
    assert all(problem.code == "E208" and problem.fix for problem in found)
    assert any(what in f"{problem.what}: {problem.got}" for problem in found), found


def test_operators_of_reals_on_codes_are_refused(tmp_path: Path) -> None:
    """Relu of int8 is a maximum of codes and 0, whatever the zero point."""
    stored = {"s": np.float32(0.1), "z": np.asarray(5, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    assert "operands" in refused(net(nodes, stored), tmp_path)


def test_dynamic_quantisation_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    found = problems(net(nodes), tmp_path)
    assert any(problem.got == "DynamicQuantizeLinear" for problem in found)
    assert "static quantisation" in " ".join(problem.fix for problem in found)


def test_integer_products_need_a_quantised_end(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["y"]),
    ]
    stored = {"s": np.float32(0.1), "z": np.asarray(5, np.int8), "w": codes("w", 5, 4)}
    blob = serialised(nodes, [info("x", (1, 5))], [info("y", None, TensorProto.INT32)], stored)
    found = problems(blob, tmp_path)
    assert any("Cast, Mul by a constant" in problem.want for problem in found)


def test_one_tensor_with_two_encodings_is_refused(tmp_path: Path) -> None:
    stored = {"s": np.float32(0.1), "t": np.float32(0.2), "z": np.asarray(5, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "t", "z"], ["y"]),
    ]
    found = problems(net(nodes, stored), tmp_path)
    assert any("encodings" in problem.what for problem in found)


def test_dynamic_axes_but_the_batch_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    given = info("x", ["n", 3, "height", "width"])
    found = problems(serialised([node], [given], [info("y", None)], {}), tmp_path)
    assert [problem.got for problem in found] == ['axis 2 is "height"', 'axis 3 is "width"']


def test_an_input_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1, 2]))
    given = helper.make_value_info("x", kind)
    node = helper.make_node("SequenceLength", ["x"], ["y"])
    blob = serialised([node], [given], [info("y", None, TensorProto.INT64)], {})
    assert any("tensor" in problem.want for problem in problems(blob, tmp_path))


def test_an_output_that_is_a_constant_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Shape", ["x"], ["z"])]
    outputs = [info("y", None), info("z", None, TensorProto.INT64)]
    blob = serialised(nodes, [info("x", IMAGE)], outputs, {})
    assert "value: a constant" in refused(blob, tmp_path)


@pytest.mark.parametrize("opset", [1, 6])
def test_old_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    blob = net([helper.make_node("Relu", ["x"], ["y"])], opset=opset)
    assert refused(blob, tmp_path) == f"opset: opset {opset}"


def test_a_file_that_is_not_there_or_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read(tmp_path / "none.onnx")
    path = tmp_path / "text.onnx"
    for content in (b"", b"no model", b"\x00" * 100, bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(FileDamaged) as caught:
            read(path)
        assert caught.value.code == "E102"
        with pytest.raises(FileDamaged):
            survey(path)


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    blob = single("Conv", "plain", [IMAGE, reals("w", 4, 3, 3, 3)]).blob
    path = tmp_path / "cut.onnx"
    for end in range(1, len(blob), 7):
        path.write_bytes(blob[:end])
        with pytest.raises(FileDamaged):
            read(path)


def test_constants_that_contradict_their_shape_are_damaged(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(reals("w", 4, 3, 1, 1), "w")
    for dims in ([4, 3, 2, 2], [-4, 3, 1, 1], [1 << 40, 3, 1, 1]):
        del tensor.dims[:]
        tensor.dims.extend(dims)
        node = helper.make_node("Conv", ["x", "w"], ["y"])
        graph = helper.make_graph([node], "g", [info("x", IMAGE)], [info("y", None)], [tensor])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        path = tmp_path / "case.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(FileDamaged):
            read(path)


def test_a_value_that_nothing_computes_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "case.onnx"
    path.write_bytes(net([helper.make_node("Add", ["x", "missing"], ["y"])]))
    with pytest.raises(FileDamaged, match="missing"):
        read(path)


def test_external_data_outside_the_folder_is_damaged(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(reals("w", 4, 3, 1, 1), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [info("x", IMAGE)], [info("y", None)], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "case.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileDamaged, match="external data"):
        read(path)


def test_without_onnx_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case.onnx"
    path.write_bytes(net([helper.make_node("Relu", ["x"], ["y"])]))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolMissing) as caught:
        read(path)
    assert "isobit[onnx]" in str(caught.value)


def test_nothing_but_the_import_of_onnx_files_needs_onnx() -> None:
    script = (
        "import sys; sys.modules['onnx'] = None\n"
        "from isobit.api.importing import import_model\n"
        "from isobit.importers.tflite import read\n"
        "from isobit.ops.registry import load_ops\n"
        "assert ('onnx', 'Conv') in load_ops().rules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_float16_and_double_are_reals(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.asarray([1.5, -2.0, 0.5], np.float16), "c")
    node = helper.make_node("Mul", ["x", "c"], ["y"])
    given = info("x", (1, 3), TensorProto.FLOAT16)
    outputs = [info("y", None, TensorProto.FLOAT16)]
    graph = helper.make_graph([node], "g", [given], outputs, [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "case.onnx"
    path.write_bytes(model.SerializeToString())
    assert read(path).graph.consts[0].data.ravel().tolist() == [1.5, -2.0, 0.5]


def test_constants_larger_than_any_chip_are_refused_before_they_are_made(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    found = problems(net(nodes, {"s": ints(1 << 20, 1 << 20)}), tmp_path)
    assert any(problem.got == f"{1 << 40:,}" for problem in found)


def test_weights_of_four_bits_are_refused(tmp_path: Path) -> None:
    packed = helper.make_tensor("q", TensorProto.INT4, [4, 3, 1, 1], list(range(-6, 6)))
    scale = numpy_helper.from_array(np.asarray(0.1, np.float32), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [info("x", IMAGE)], [info("y", None)], [packed, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    found = problems(model.SerializeToString(), tmp_path)
    assert all(problem.code == "E208" for problem in found)
    assert any("int4" in problem.got for problem in found)


@pytest.mark.parametrize("code", ["Add", "Div", "Mul"])
@pytest.mark.parametrize("count", [1, 3])
def test_operators_of_other_domains_are_no_known_ones(
    code: str, count: int, tmp_path: Path
) -> None:
    node = helper.make_node(code, ["x"] * count, ["y"], domain="example.other")
    blob = serialised([node], [info("x", (1, 4))], [info("y", (1, 4))], {})
    assert refused(blob, tmp_path) == f"operator: example.other.{code}"
