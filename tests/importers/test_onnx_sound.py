"""ONNX files that contradict themselves are damaged, and the error says where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from isobit.api.importing import survey_file
from isobit.core.errors import FileDamaged

onnx = pytest.importorskip("onnx")


def model(nodes: Sequence[Any], output: str = "y", version: int = 17) -> Any:
    info = onnx.helper.make_tensor_value_info
    ports = [[info(name, onnx.TensorProto.FLOAT, [1, 3])] for name in ("x", output)]
    graph = onnx.helper.make_graph(nodes, "g", *ports)
    opset = onnx.helper.make_opsetid("", version)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    return onnx.helper.make_node(op, inputs, outputs)


CASES = {
    "undefined": ([("Add", ["x", "z"], ["y"])], "y", "node 0: reads 'z'"),
    "later": ([("Relu", ["z"], ["y"]), ("Relu", ["x"], ["z"])], "y", "node 0: reads 'z'"),
    "cycle": ([("Add", ["x", "y"], ["y"])], "y", "node 0: reads 'y'"),
    "twice": ([("Relu", ["x"], ["y"]), ("Exp", ["x"], ["y"])], "y", "node 1: computes 'y'"),
    "input": ([("Relu", ["x"], ["x"])], "x", "node 0: computes 'x'"),
    "no operator": ([("", ["x"], ["y"])], "y", "node 0: no operator"),
    "too many": ([("Relu", ["x", "x"], ["y"])], "y", "node 0: Relu with 2 inputs"),
    "too few": ([("Add", ["x"], ["y"])], "y", "node 0: Add with 1 inputs"),
    "left out": ([("Add", ["x", ""], ["y"])], "y", "node 0: Add without its input 1"),
    "no such output": ([("Relu", ["x"], ["y"])], "w", "output 'w'"),
}


@pytest.mark.parametrize("label", CASES)
def test_a_contradiction_is_named(label: str, tmp_path: Path) -> None:
    parts, output, words = CASES[label]
    path = tmp_path / "net.onnx"
    path.write_bytes(model([node(*part) for part in parts], output).SerializeToString())
    with pytest.raises(FileDamaged) as caught:
        survey_file(path)
    assert words in str(caught.value)


def test_a_version_that_no_operators_have(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    nodes = [node("Relu", ["x"], ["y"])]
    path.write_bytes(model(nodes, version=1 << 40).SerializeToString())
    with pytest.raises(FileDamaged, match="version"):
        survey_file(path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    blob = model([node("Relu", ["x"], ["y"])]).SerializeToString()
    path.write_bytes(blob.replace(b"Relu", b"Re\xfflu"[:4]))
    with pytest.raises(FileDamaged):
        survey_file(path)


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model([node("Relu", ["x"], ["y"])]).SerializeToString())
    assert survey_file(path).problems == ()
