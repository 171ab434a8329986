"""`isobit calibrate`, and float networks at the verbs that need integers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from isobit import data, nn
from isobit.api.model import Model
from isobit.ir.store import Stored, read_store, write_store
from isobit.ops.registry import load_ops

from .conftest import Run


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    """A `.isobit` file as the import of a float model writes it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)
    )
    graph = Model(net, input=(1, 8, 8), name="tiny").float_graph()
    notes = {"source": '{"format": "tflite"}', "names": '{"relu_1": "net/relu"}', "passes": "[]"}
    write_store(tmp_path / "float.isobit", Stored({"float": graph}, notes=notes))
    return tmp_path / "float.isobit"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    train, _ = data.load("digits")
    np.save(tmp_path / "x.npy", train.images[:50].astype(np.float32))
    return tmp_path / "x.npy"


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_from_float_to_deployed(run: Run, floats: Path, examples: Path, scheme: str) -> None:
    out = floats.with_name("int.isobit")
    arguments = ["--data", examples, "--scheme", scheme, "--samples", 20, "--method", "mse"]
    found = run("calibrate", floats, "-o", out, *arguments, "--equalise", "--json").json
    assert found["scheme"] == scheme and found["agreement"]["examples"] == 20
    assert found["agreement"]["top1"] > 0.8
    folder = floats.with_name("project")
    assert run("deploy", out, "--out", folder).code == 0
    assert run("verify", folder, "--on", "host").code == 0
    stored = read_store(out, load_ops().signature)
    assert stored.notes["source"] == '{"format": "tflite"}'
    again = Model.from_file(out)
    assert again.provenance["source"] == stored.notes["source"]


def test_a_data_set_gives_its_training_images(run: Run, floats: Path) -> None:
    out = floats.with_name("int.isobit")
    shown = run("calibrate", floats, "-o", out, "--data", "digits")
    assert shown.code == 0 and "isobit deploy" in shown.out and out.is_file()


def test_refined_and_told(run: Run, floats: Path, examples: Path) -> None:
    out = floats.with_name("int.isobit")
    arguments = ["calibrate", floats, "-o", out, "--data", examples, "--refine", 6, "--seed", 3]
    found = run(*arguments, "--json").json["refinement"]
    assert (found["steps"], found["seed"], found["learned"], found["held"]) == (6, 3, 38, 12)
    assert found["after"]["error"] <= found["before"]["error"]
    shown = run(*arguments)
    assert "12 examples held out" in shown.out and "two searches of ranges and 6 steps" in shown.err
    plain = run("calibrate", floats, "-o", out, "--data", examples, "--json").json
    assert "refinement" not in plain


def test_an_input_of_16_bits(run: Run, floats: Path, examples: Path) -> None:
    out, folder = floats.with_name("int.isobit"), floats.with_name("project")
    arguments = ["calibrate", floats, "-o", out, "--data", examples]
    assert run(*arguments, "--json").json["input_dtype"] == "int8"
    shown = run(*arguments).out
    assert "affine, input s8" in shown and shown.startswith(f"{floats}: ")
    wide = [*arguments, "--input-dtype", "int16"]
    assert run(*wide, "--json").json["input_dtype"] == "int16"
    assert "affine, input s16" in run(*wide).out
    assert Model.from_file(out).input_dtype.value == "int16"
    assert run("deploy", out, "--out", folder).code == 0
    assert run("verify", folder, "--on", "host").code == 0
    (conv,) = [n for n in run("explain", out, "--json").json["nodes"] if n["op"] == "conv2d"]
    assert conv["kernel"] == "s16_to_s8"
    assert run(*arguments, "--input-dtype", "int32").code == 2


def test_names_of_tensors_are_carried_over(run: Run, floats: Path, examples: Path) -> None:
    out = floats.with_name("int.isobit")
    run("calibrate", floats, "-o", out, "--data", examples)
    names = read_store(out, load_ops().signature).notes["names"]
    graph = Model.from_file(out).export()
    assert names.count("net/relu") == 2  # of the ReLU, and of the convolution that now holds it
    assert any(f'"{node.output.name}": "net/relu"' in names for node in graph.nodes)


def test_explain_follows_tensors_through_the_calibration(
    run: Run, floats: Path, examples: Path
) -> None:
    """What the convolution computed before its ReLU is nobody's value any more, and is named."""
    stored = read_store(floats, load_ops().signature)
    conv = stored.graphs["float"].nodes[0].output.name
    notes = [{"value": "relu_1", "kind": "border", "text": "as it is", "lsb": 0, "perm": []}]
    names = {conv: "net/conv", "relu_1": "net/relu"}
    changed = {"names": json.dumps(names), "notes": json.dumps(notes)}
    write_store(floats, Stored(stored.graphs, notes={**stored.notes, **changed}))
    out = floats.with_name("int.isobit")
    assert run("calibrate", floats, "-o", out, "--data", examples, "--json").code == 0
    found = run("explain", out, "--json").json
    (node,) = [node for node in found["nodes"] if node["op"] == "conv2d"]
    assert (node["name"], node["tensor"], node["fused"]) == (conv, "net/relu", ["net/conv"])
    (gone,) = found["removed"]
    assert (gone["name"], gone["into"]) == ("relu_1", conv)
    assert [note["value"] for note in found["notes"]] == [conv]
    assert f"now part of %{conv}" in run("explain", out).out


def test_explain_of_a_float_network_tells_all_but_kernels(run: Run, floats: Path) -> None:
    found = run("explain", floats, "--json").json
    relu = next(node for node in found["nodes"] if node["tensor"] == "net/relu")
    assert not relu["kernel"] and not relu["others"] and found["notes"] == []
    shown = run("explain", floats).out
    assert "conv2d" in shown and "tensor net/relu" in shown and "no code" not in shown
    assert run("explain", floats, "nothing", "--json").error("E104")


@pytest.mark.parametrize("verb", ["deploy", "check"])
def test_float_networks_are_refused_with_the_command(run: Run, floats: Path, verb: str) -> None:
    rest = ["--out", floats.with_name("project")] if verb == "deploy" else []
    problem = run(verb, floats, *rest, "--json").error("E105")
    assert problem["got"] == "a float network"
    assert problem["fix"].startswith(f"isobit calibrate {floats} -o ")
    assert "--data" in problem["fix"]


def test_what_cannot_be_calibrated(run: Run, floats: Path, examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "int.isobit"
    run("calibrate", floats, "-o", out, "--data", examples)
    twice = run("calibrate", out, "-o", tmp_path / "b.isobit", "--data", examples, "--json")
    assert twice.error("E105")["got"] == "integers already"
    absent = run("calibrate", tmp_path / "no.isobit", "-o", out, "--data", examples, "--json")
    absent.error("E101")
    spec = tmp_path / "spec.py"
    spec.write_text("")
    run("calibrate", spec, "-o", out, "--data", examples, "--json").error("E105")


def test_wrong_options(run: Run, floats: Path, examples: Path, tmp_path: Path) -> None:
    wrong = run("calibrate", floats, "-o", tmp_path / "m.pt", "--data", examples, "--json")
    assert "m.isobit" in wrong.error("E105")["fix"]
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    many = ["calibrate", floats, "-o", tmp_path / "m.isobit", "--data", tmp_path / "two.npz"]
    assert "a, b" in run(*many, "--json").error("E105")["got"]
    np.save(tmp_path / "shape.npy", np.zeros((4, 1, 8, 8), dtype=np.float32))
    nchw = ["calibrate", floats, "-o", tmp_path / "m.isobit", "--data", tmp_path / "shape.npy"]
    assert "np.moveaxis(x, 1, -1)" in run(*nchw, "--json").error("E501")["fix"]
