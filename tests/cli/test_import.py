"""`isobit import`, and what other verbs then say of an imported network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.ir.store import Stored, read_store, to_bytes
from isobit.ops.registry import load_ops
from isobit.passes.base import load_passes
from tflite_builder import Operator, Tensor, build

from .conftest import Run, files_below


def tensor(name: str, shape: tuple[int, ...], dtype: str = "int8", **changes: Any) -> Tensor:
    quantised: dict[str, Any] = {"scale": (0.1,), "zero_point": (0,)} if dtype == "int8" else {}
    return Tensor(name=name, shape=shape, dtype=dtype, **{**quantised, **changes})


def two_steps(*, broken: bool = False) -> bytes:
    """RELU, MAX_POOL_2D; broken: between them an operator without a rule, a pool that overlaps
    nothing, and weights that are computed.
    """
    shape, half = (1, 4, 4, 2), (1, 2, 2, 2)
    tensors = [tensor("net/x", shape), tensor("net/act/Relu", shape), tensor("net/pool", half)]
    pool = {"StrideW": 2, "StrideH": 2, "FilterWidth": 2, "FilterHeight": 2, "Padding": 1}
    operators = [Operator(code="RELU", inputs=("net/x",), outputs=("net/act/Relu",))]
    source = "net/act/Relu"
    if broken:
        tensors += [tensor("net/order", shape), tensor("net/flat", (1, 32)), tensor("net/y", half)]
        operators += [
            Operator(code="BATCH_MATMUL", inputs=(source, source), outputs=("net/order",)),
            Operator(code="WHILE", inputs=("net/order",), outputs=("net/flat",)),
            Operator(
                code="FULLY_CONNECTED",
                inputs=("net/flat", "net/order"),
                outputs=("net/y",),
                options="FullyConnectedOptions",
            ),
        ]
        source = "net/order"
    operators.append(
        Operator(
            code="MAX_POOL_2D",
            inputs=(source,),
            outputs=("net/pool",),
            options="Pool2DOptions",
            values=pool,
        )
    )
    return build(tensors=tensors, operators=operators, inputs=["net/x"], outputs=["net/pool"])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.tflite"
    path.write_bytes(two_steps())
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.tflite"
    path.write_bytes(two_steps(broken=True))
    return path


def test_import_writes_a_network_that_other_verbs_take(
    run: Run, good: Path, tmp_path: Path
) -> None:
    out = tmp_path / "good.isobit"
    done = run("import", good, "-o", out, "--json")
    assert done.code == 0 and done.err == ""
    assert done.json["source"]["format"] == "tflite" and done.json["nodes"] == 2
    assert "max_pool2d" in run("show", out).out
    assert run("check", out, "--no-compile", "--json").code == 0
    shown = run("import", good, "-o", out).out
    assert shown.splitlines()[0] == "good.tflite: tflite, runtime tflm"
    assert f"{out}: 2 nodes on integers, 0 MACs" in shown
    assert "input %net_x: s8[1,4,4,2] affine(" in shown and '"net/x"' in shown
    for figure in ("arena_bytes", "constant_bytes"):
        assert f"{done.json[figure]:,} " in shown
    for verb in ("check", "deploy", "explain"):
        assert f"  isobit {verb} {out}" in shown


def test_integers_that_the_target_cannot_hold_are_imported_and_said(
    run: Run, tmp_path: Path
) -> None:
    path, shape = tmp_path / "net.tflite", (1, 600, 600, 1)
    relu = Operator(code="RELU", inputs=("x",), outputs=("y",))
    tensors = [tensor("x", shape), tensor("y", shape)]
    path.write_bytes(build(tensors=tensors, operators=[relu], inputs=["x"], outputs=["y"]))
    done = run("import", path, "-o", tmp_path / "m.isobit", "--target", "nucleo-l432kc")
    assert done.code == 0 and (tmp_path / "m.isobit").is_file()
    assert "does not fit: RAM: 360,000 bytes" in done.out


def test_a_dry_run_lists_operators_and_writes_nothing(run: Run, good: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    shown = run("import", good, "--dry-run")
    assert shown.code == 0 and shown.err == ""
    assert shown.out.splitlines()[0] == "good.tflite: tflite, 2 operators"
    assert re.search(r"^MAX_POOL_2D +1 +yes\s*$", shown.out, re.M)
    assert re.search(r"^RELU +1 +yes\s*$", shown.out, re.M)
    assert "Everything can be imported." in shown.out
    found = run("import", good, "--dry-run", "-o", tmp_path / "no.isobit", "--json")
    assert found.code == 0 and found.json["errors"] == [] and found.json["unknown"] == []
    assert found.json["operators"] == {"MAX_POOL_2D": 1, "RELU": 1}
    assert files_below(tmp_path) == before


def test_a_dry_run_gives_every_reason_and_the_nearest_rewrite(
    run: Run, bad: Path, tmp_path: Path
) -> None:
    before = files_below(tmp_path)
    shown = run("import", bad, "--dry-run")
    assert shown.code == 1
    assert "5 operators" in shown.out.splitlines()[0]
    assert re.search(r"^BATCH_MATMUL +1 +no\s*$", shown.out, re.M)
    assert re.search(r"^FULLY_CONNECTED +1 +yes\s*$", shown.out, re.M)
    assert "3 reasons why it cannot be imported:" in shown.out
    found = run("import", bad, "--dry-run", "--json")
    assert found.code == 1 and found.json["unknown"] == ["BATCH_MATMUL", "WHILE"]
    errors = found.json["errors"]
    assert [error["code"] for error in errors] == ["E208"] * 3
    places = ["1 BATCH_MATMUL", "2 WHILE", "3 FULLY_CONNECTED"]
    assert all(place in error["where"] for place, error in zip(places, errors, strict=True))
    assert all(all(error.values()) for error in errors)
    for error in errors:
        assert error["where"] in shown.out and f"nearest: {error['fix']}" in shown.out
    assert files_below(tmp_path) == before


def test_what_a_dry_run_lists_is_what_an_import_refuses(
    run: Run, bad: Path, tmp_path: Path
) -> None:
    listed = run("import", bad, "--dry-run", "--json").json["errors"]
    refused = run("import", bad, "-o", tmp_path / "no.isobit", "--json")
    assert refused.code == 1 and refused.json["errors"] == listed
    assert not (tmp_path / "no.isobit").exists()


def test_import_needs_a_file_to_write(run: Run, good: Path) -> None:
    done = run("import", good, "--json")
    assert done.code == 2 and "-o: want the file to write" in done.json["errors"][0]["got"]
    assert run("import", good).code == 2


def test_a_file_of_the_other_format_is_named(run: Run, good: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "model.onnx"
    wrong.write_bytes(good.read_bytes())
    found = run("import", wrong, "--dry-run", "--json").error("E105")
    assert "model.tflite" in found["fix"] and "TFLite" in found["got"]


def test_without_the_schema_it_says_what_to_install(
    run: Run, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    for words in (["--dry-run"], ["-o", tmp_path / "no.isobit"]):
        assert "pip install tflite" in run("import", good, *words, "--json").error("E401")["fix"]


def test_a_dry_run_of_no_model(run: Run, tmp_path: Path) -> None:
    assert run("import", tmp_path / "absent.tflite", "--dry-run", "--json").error("E101")
    path = tmp_path / "x.tflite"
    path.write_bytes(b"no model")
    assert run("import", path, "--dry-run", "--json").error("E102")
    assert run("import", tmp_path / "x.h5", "--dry-run", "--json").error("E105")


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in which passes fused, renamed, removed and kept: imported, not deployed."""
    from isobit.cli import main

    folder = tmp_path_factory.mktemp("fused")
    (folder / "net.tflite").write_bytes(four_steps())
    with pytest.raises(SystemExit) as caught:
        main(["import", str(folder / "net.tflite"), "-o", str(folder / "net.isobit"), "--json"])
    assert caught.value.code == 0
    return folder / "net.isobit"


def four_steps() -> bytes:
    """A RELU on the input, which must stay; PAD by nothing; a convolution, one channel of which is
    constant; RELU, which is fused into it.
    """
    shape, out = (1, 4, 4, 2), (1, 4, 4, 3)
    rng = np.random.default_rng(1)
    weights = rng.integers(-90, 90, size=(3, 1, 1, 2)).astype(np.int8)
    weights[1] = 0
    scales = {"scale": (0.01,), "zero_point": (0,)}
    bias = {"scale": (0.001,), "zero_point": (0,)}
    tensors = [
        tensor("net/x", shape),
        tensor("net/act/Relu", shape),
        Tensor.constant("net/pads", np.zeros((4, 2), dtype=np.int32)),
        tensor("net/padded", shape),
        Tensor.constant("net/conv/w", weights, **scales),
        Tensor.constant("net/conv/b", np.array([5, 100, -7], dtype=np.int32), **bias),
        tensor("net/conv/Conv2D", out),
        tensor("net/conv/Relu", out),
        Tensor.constant("net/head/w", rng.integers(-90, 90, (4, 48)).astype(np.int8), **scales),
        tensor("net/head/y", (1, 4), scale=(2.0,)),
    ]
    conv = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    operators = [
        Operator(code="RELU", inputs=("net/x",), outputs=("net/act/Relu",)),
        Operator(code="PAD", inputs=("net/act/Relu", "net/pads"), outputs=("net/padded",)),
        Operator(
            code="CONV_2D",
            inputs=("net/padded", "net/conv/w", "net/conv/b"),
            outputs=("net/conv/Conv2D",),
            options="Conv2DOptions",
            values=conv,
        ),
        Operator(code="RELU", inputs=("net/conv/Conv2D",), outputs=("net/conv/Relu",)),
        Operator(
            code="FULLY_CONNECTED",
            inputs=("net/conv/Relu", "net/head/w"),
            outputs=("net/head/y",),
            options="FullyConnectedOptions",
        ),
    ]
    return build(tensors=tensors, operators=operators, inputs=["net/x"], outputs=["net/head/y"])


def told(entry: dict[str, Any]) -> dict[str, bool]:
    return {one["by"]: one["done"] for one in entry["passes"]}


def test_explain_tells_what_passes_did_and_why_not(run: Run, fused: Path) -> None:
    found = run("explain", fused, "--json").json
    assert found["source"]["file"] == "net.tflite"
    nodes = {node["tensor"]: node for node in found["nodes"]}
    gone = {one["tensor"]: one for one in found["removed"]}
    assert told(nodes["net/act/Relu"]) == {"fuse_clamp": False}
    assert told(nodes["net/conv/Relu"])["fuse_clamp"] is True
    assert told(gone["net/padded"]) == {"drop_noop": True}
    assert "net/conv/Conv2D" in gone
    assert set(nodes) | set(gone) >= {"net/act/Relu", "net/padded", "net/conv/Relu", "net/head/y"}
    assert not set(nodes) & set(gone)
    shown = run("explain", fused).out
    kept = nodes["net/act/Relu"]["passes"][0]["text"]
    assert f"fuse_clamp: not rewritten: {kept}" in shown
    assert "computed no more" in shown and "tensor net/padded" in shown


@pytest.mark.parametrize("tensor_name", ["net/act/Relu", "net/conv/Relu", "net/padded"])
def test_explain_takes_the_names_of_the_file(run: Run, fused: Path, tensor_name: str) -> None:
    found = run("explain", fused, tensor_name, "--json").json
    (one,) = [*found["nodes"], *found["removed"]]
    assert one["tensor"] == tensor_name and one["passes"]
    again = run("explain", fused, one["name"], "--json").json
    assert again == found
    assert run("explain", fused, "net/nothing", "--json").error("E104")


def test_explain_of_a_folder_is_explain_of_the_file(run: Run, fused: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    assert run("deploy", fused, "--out", folder, "--json").code == 0
    assert run("explain", folder, "--json").json == run("explain", fused, "--json").json
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["import"]["passes"] = [{"name": 1}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "history" in run("explain", folder, "--json").error("E102")["what"]


def test_a_history_that_is_damaged_is_refused(run: Run, fused: Path, tmp_path: Path) -> None:
    stored = read_store(fused, load_ops().signature)
    path = tmp_path / "m.isobit"
    for key, text in (("names", "{"), ("names", "[]"), ("source", '{"a": 1}'), ("passes", "[1]")):
        path.write_bytes(to_bytes(Stored(stored.graphs, notes={**stored.notes, key: text})))
        assert "history" in run("explain", path, "--json").error("E102")["what"]


def test_explain_accounts_for_every_value_of_the_file(run: Run, fused: Path) -> None:
    """Computed, or gone with the pass after which nothing computed it and what does now."""
    found = run("explain", fused, "--json").json
    here = {node["tensor"]: node["name"] for node in found["nodes"]}
    gone = {one["tensor"]: one for one in found["removed"]}
    outputs = {"net/act/Relu", "net/padded", "net/conv/Conv2D", "net/conv/Relu", "net/head/y"}
    assert {*here, *gone} - {""} == outputs
    assert all(any(told["done"] for told in one["passes"]) for one in gone.values())
    (step,) = gone["net/conv/Conv2D"]["passes"]
    assert step["by"] == "fuse_clamp"
    assert step["text"] == f"now part of %{here['net/conv/Relu']}"


def test_explain_says_of_every_pass_why_it_did_nothing(run: Run, fused: Path) -> None:
    found = {one["name"]: one for one in run("explain", fused, "--json").json["passes"]}
    assert list(found) == list(load_passes())
    assert found["fuse_clamp"]["done"] == 1 and found["fuse_clamp"]["kept"] == 1
    assert all(bool(one["reason"]) == (one["done"] == 0) for one in found.values())
    assert found["elide_softmax"]["reason"].startswith("only on request")
    assert found["fold_batch_norm"]["reason"] == "only for float networks"
    shown = run("explain", fused).out
    assert "fuse_clamp: 1 rewritten, 1 left as they are" in shown
    assert all(f"  {name}: " in shown for name in found)


def test_explain_says_which_passes_were_left_out(run: Run, good: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.isobit"
    assert run("import", good, "-o", out, "--pass", "-fuse_clamp", "--json").code == 0
    found = {one["name"]: one for one in run("explain", out, "--json").json["passes"]}
    assert found["fuse_clamp"]["reason"] == "left out"


def test_explain_takes_apart_names_that_a_converter_joined(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    joined = "net/act/Relu;net/conv/BiasAdd;net/conv/Conv2D"
    tensors = [tensor("x", (1, 4)), tensor(joined, (1, 4))]
    relu = Operator(code="RELU", inputs=("x",), outputs=(joined,))
    path.write_bytes(build(tensors=tensors, operators=[relu], inputs=["x"], outputs=[joined]))
    assert run("import", path, "-o", tmp_path / "m.isobit", "--json").code == 0
    shown = run("explain", tmp_path / "m.isobit").out
    assert "tensor net/act/Relu\n    joined to it by the converter: net/conv/BiasAdd, net" in shown
    for name in (joined, *joined.split(";")):
        (one,) = run("explain", tmp_path / "m.isobit", name, "--json").json["nodes"]
        assert one["tensor"] == joined


def with_story(model: Path, path: Path, **parts: object) -> None:
    """Write the imported network with other parts of its history."""
    stored = read_store(model, load_ops().signature)
    changed = {key: json.dumps(value) for key, value in parts.items()}
    path.write_bytes(to_bytes(Stored(stored.graphs, notes={**stored.notes, **changed})))


def test_the_notes_of_the_import_are_shown(run: Run, fused: Path, tmp_path: Path) -> None:
    node = run("explain", fused, "--json").json["nodes"][0]["name"]
    note = {"value": node, "kind": "lsb", "text": "2 channels lie between", "lsb": 1, "perm": []}
    path, folder = tmp_path / "m.isobit", tmp_path / "net"
    for wrong in ([{"value": 1}], {}, [{**note, "lsb": "many"}]):
        with_story(fused, path, notes=wrong)
        assert "history" in run("explain", path, "--json").error("E102")["what"]
    with_story(fused, path, notes=[note])
    assert f"%{node}  lsb: 2 channels lie between" in run("explain", path).out
    found = run("explain", path, "--json").json["notes"]
    assert found == [{k: v for k, v in note.items() if k != "perm"}]
    assert run("deploy", path, "--out", folder, "--json").code == 0
    assert run("report", folder, "--json").json["import"]["notes"] == [
        f"%{node}, lsb: 2 channels lie between"
    ]
    assert "2 channels lie between" in (folder / "report.html").read_text()


def test_tensors_that_are_computed_on_the_way_are_named(
    run: Run, fused: Path, tmp_path: Path
) -> None:
    """Where an importer joined operators, and after a pass renamed their node."""
    nodes = {node["tensor"]: node for node in run("explain", fused, "--json").json["nodes"]}
    name = nodes["net/conv/Relu"]["name"]
    path, folder = tmp_path / "m.isobit", tmp_path / "net"
    with_story(fused, path, fused={"net/conv/Sum": "conv_Relu"})
    (one,) = run("explain", path, "net/conv/Sum", "--json").json["nodes"]
    assert one["name"] == name and one["fused"] == ["net/conv/Sum"]
    assert "stands also for tensors net/conv/Sum" in run("explain", path).out
    assert run("deploy", path, "--out", folder, "--json").code == 0
    values = json.loads((folder / "names.json").read_text())["values"]
    assert values[name]["tensor"] == "net/conv/Relu" and values[name]["fused"] == ["net/conv/Sum"]
    shown = {one["tensor"]: one for one in run("report", folder, "--json").json["import"]["values"]}
    assert shown["net/conv/Sum"]["told"] == [f"part of %{name}"]


def test_tensors_of_a_node_that_a_pass_removed_are_named(
    run: Run, fused: Path, tmp_path: Path
) -> None:
    path, folder = tmp_path / "m.isobit", tmp_path / "net"
    with_story(fused, path, fused={"net/conv/Sum": "conv_Conv2D"})
    found = {one["tensor"]: one for one in run("explain", path, "--json").json["removed"]}
    assert found["net/conv/Sum"]["passes"] == found["net/conv/Conv2D"]["passes"] != []
    (one,) = run("explain", path, "net/conv/Sum", "--json").json["removed"]
    assert one["name"] == "conv_Conv2D"
    assert run("deploy", path, "--out", folder, "--json").code == 0
    shown = {one["tensor"]: one for one in run("report", folder, "--json").json["import"]["values"]}
    assert shown["net/conv/Sum"]["told"] == shown["net/conv/Conv2D"]["told"] != []


def test_names_of_what_lost_channels_lead_to_the_file(
    run: Run, fused: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    assert run("deploy", fused, "--out", folder, "--json").code == 0
    values = json.loads((folder / "names.json").read_text())["values"]
    assert values["conv_Relu_kept"]["tensor"] == "net/conv/Relu"
    assert values["head_y"]["tensor"] == "net/head/y"


def test_show_draws_the_graph(run: Run, fused: Path, spec: Path, tmp_path: Path) -> None:
    picture = tmp_path / "net.svg"
    before = run("show", fused).out
    assert run("show", fused, "--svg", picture, "--json").json["svg"] == str(picture)
    drawn = picture.read_bytes()
    assert b"tensor net/head/y" in drawn and b"linear" in drawn
    assert str(picture) in run("show", fused, "--svg", picture).out
    assert picture.read_bytes() == drawn and run("show", fused).out == before
    assert run("show", spec, "--svg", tmp_path / "spec.svg", "--json").code == 0
    occupied = tmp_path / "folder"
    occupied.mkdir()
    assert run("show", fused, "--svg", occupied, "--json").error("E103")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "net.svg", "spec.svg"]


def test_show_takes_float_networks(run: Run, tmp_path: Path) -> None:
    tensors = [tensor(name, (1, 3), "float32") for name in "xy"]
    path = tmp_path / "net.tflite"
    relu = Operator(code="RELU", inputs=("x",), outputs=("y",))
    path.write_bytes(build(tensors=tensors, operators=[relu], inputs=["x"], outputs=["y"]))
    assert run("import", path, "-o", tmp_path / "net.isobit", "--json").json["stage"] == "float"
    assert "stage=float" in run("show", tmp_path / "net.isobit").out
    shown = run("import", path, "-o", tmp_path / "net.isobit").out
    assert "Next:\n  isobit calibrate" in shown and "deploy" not in shown
    assert "1 node on reals" in shown
    assert run("show", tmp_path / "net.isobit", "--svg", tmp_path / "net.svg").code == 0


def test_the_report_shows_the_names_of_the_file(run: Run, fused: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    assert run("deploy", fused, "--out", folder, "--json").code == 0
    found = run("report", folder, "--json").json
    named = {layer["tensor"] for layer in found["layers"]}
    assert {"net/act/Relu", "net/conv/Relu", "net/head/y"} <= named
    assert [port["tensor"] for port in found["inputs"]] == ["net/x"]
    page = (folder / "report.html").read_text()
    assert 'title="net/conv/Relu"' in page and "tensor net/conv/Relu" in page
    values = {one["tensor"]: one for one in found["import"]["values"]}
    here = [layer["name"] for layer in found["layers"]]
    assert values["net/head/y"]["value"] == here[-1] and values["net/padded"]["value"] is None
    order = [one["value"] for one in found["import"]["values"] if one["value"] in here]
    assert order == [name for name in here if name in order]
    assert "drop_noop: " in values["net/padded"]["told"][0]
    assert "Imported file" in page and "net/padded" in page
    assert page.count("run function</b>") == 1
