"""`isobit ops --source`: what can be imported, from the record of what passed."""

from __future__ import annotations

import re

from .conftest import Run


def test_ops_lists_what_can_be_imported(run: Run) -> None:
    found = run("ops", "--source", "tflite", "--json").json
    rows = {row["name"]: row for row in found["ops"]}
    assert found["source"] == "tflite"
    assert rows["CONV_2D"]["cases"] >= 12 and "conv2d" in rows["CONV_2D"]["ours"]
    assert "int8" in rows["CONV_2D"]["types"]
    shown = run("ops", "--source", "tflite").out
    assert re.search(rf"^CONV_2D +{rows['CONV_2D']['cases']} .*int8.* conv2d", shown, re.M)
    (one,) = run("ops", "SOFTMAX", "--source", "tflite", "--json").json["ops"]
    assert one == rows["SOFTMAX"]
    other = run("ops", "conv2d", "--source", "tflite", "--json").error("E104")
    assert "`isobit ops --source tflite`" in other["fix"]
    for source in ("onnx", "torch"):
        assert isinstance(run("ops", "--source", source, "--json").json["ops"], list)
