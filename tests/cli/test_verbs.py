"""Every verb does what it says; with --json one object is all there is on stdout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

import isobit
from isobit.cli import _root
from isobit.core.types import AnyArray
from isobit.train import native

from .conftest import SPEC, Outcome, Run

CONTEXT = click.Context(_root)
VERBS = list(_root.list_commands(CONTEXT))
WANTED = [
    "calibrate",
    "check",
    "demo",
    "deploy",
    "doctor",
    "explain",
    "new",
    "ops",
    "report",
    "run",
    "show",
    "targets",
    "train",
    "verify",
]


def test_the_verbs_are_there() -> None:
    assert set(WANTED) <= set(VERBS)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_complete(run: Run, verb: str) -> None:
    shown = run(*([verb] if verb else []), "--help")
    assert shown.code == 0 and shown.err == ""
    assert shown.out.startswith(f"Usage: isobit{' ' + verb if verb else ''}")
    assert not re.search(r"TODO|FIXME|XXX|lorem|<[a-z ]+>|\{\w*\}|\bNone\b", shown.out, re.I)
    if not verb:
        assert all(re.search(rf"^  {name}  +\w", shown.out, re.M) for name in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_json_and_says_what_it_does(verb: str) -> None:
    command = _root.get_command(CONTEXT, verb)
    assert command is not None and command.help
    assert command.help.splitlines()[0].endswith((".", ",", ":", ";")) or len(command.help) > 20
    assert any("--json" in parameter.opts for parameter in command.params)


def test_version(run: Run) -> None:
    assert run("--version").out == f"isobit, version {isobit.__version__}\n"


@pytest.mark.parametrize("name", [None, "cortex-m4", "host"])
def test_targets(run: Run, name: str | None) -> None:
    arguments = ["targets", *([name] if name else [])]
    found = run(*arguments, "--json").json["targets"]
    assert name is None or [t["name"] for t in found] == [name]
    shown = run(*arguments)
    assert shown.code == 0 and all(t["name"] in shown.out for t in found)


def test_ops_lists_what_each_target_has(run: Run) -> None:
    small = {op["name"]: op for op in run("ops", "--target", "cortex-m0plus", "--json").json["ops"]}
    large = {op["name"]: op for op in run("ops", "--target", "cortex-m4", "--json").json["ops"]}
    assert set(small) == set(large) >= {"conv2d", "linear", "max_pool2d"}
    assert set(small["conv2d"]["kernels"]) <= set(large["conv2d"]["kernels"])
    assert "Conv2d" in small["conv2d"]["layers"]
    (one,) = run("ops", "conv2d", "--json").json["ops"]
    assert one["name"] == "conv2d"
    assert "conv2d" in run("ops").out
    meanings = {name: str(row["summary"]) for name, row in small.items()}
    assert meanings["standardize"].endswith("pixels to int8, independent of the input.")
    assert meanings["transpose_conv2d"].endswith("at (p*sh + u - top, q*sw + v - left).")
    assert meanings["clamp"] == "clamp: y = min(max(x, low), high)."
    assert [name for name, text in meanings.items() if not text.endswith(".")] == []
    shown = " ".join(run("ops", "softmax").out.split())
    assert "over the last axis: the" in shown and "(docs/numerics.md)." in shown


def test_doctor(run: Run) -> None:
    found = run("doctor", "--json")
    tools = {tool["name"]: tool for tool in found.json["tools"]}
    assert tools["torch"]["found"]
    assert found.code == (0 if found.json["ok"] else 1)
    assert "torch" in run("doctor").out
    assert tools["qemu-system-arm"]["purpose"] == "second emulator; the only one for cortex-m55"
    assert tools["qemu-system-riscv32"]["purpose"] == "second emulator"
    assert tools["training kernels"]["found"].startswith(("for AVX2, in", "for AVX512, in"))


def test_doctor_says_why_there_are_no_kernels(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "attempt", lambda: native.Attempt(None, "codes of 5 x 3"))
    row = {tool["name"]: tool for tool in run("doctor", "--json").json["tools"]}["training kernels"]
    assert not row["found"] and row["fix"] == "cannot be used: codes of 5 x 3"


def test_check(run: Run, spec: Path, model: Path) -> None:
    untrained = run("check", spec, "--json")
    trained = run("check", model, "--json")
    assert untrained.code == trained.code == 0
    for key in ("ram_bytes", "flash_bytes", "instructions", "arena_bytes"):
        assert untrained.json[key] == trained.json[key] > 0, key
    shown = run("check", spec, "--no-compile")
    assert "arena" in shown.out and "instructions  " not in shown.out.split("\n\n")[0]
    assert "run function" not in shown.out


def test_layers_and_run_function_add_up(run: Run, model: Path) -> None:
    found = run("check", model, "--json").json
    lines = run("check", model).out.split("\n\n")[1].splitlines()[1:]
    numbers = [[int(word.replace(",", "")) for word in re.findall(r" ([\d,]+)\b", line)]
               for line in lines]  # fmt: skip
    *layers, remainder = numbers
    assert lines[-1].startswith("run function") and len(remainder) == 2
    code = sum(layer["code_bytes"] + layer["constant_bytes"] for layer in found["layers"])
    assert remainder[0] + code == found["flash_bytes"]
    counted = sum(layer["instructions"] or 0 for layer in found["layers"])
    assert abs(remainder[1] + counted - found["instructions"]) <= 1
    assert len(layers) == len(found["layers"])


def test_check_of_another_target(run: Run, model: Path) -> None:
    found = run("check", model, "--target", "cortex-m0plus", "--no-compile", "--json").json
    assert found["target"] == "cortex-m0plus"


def test_train_dry_run_writes_nothing(run: Run, spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.isobit"
    found = run(
        "train", spec, "--data", "digits", "--epochs", "3", "--out", out, "--dry-run", "--json"
    )
    assert found.json["images"] == 1438 and found.json["steps"] == 3 * 23
    assert list(tmp_path.iterdir()) == []
    shown = run("train", spec, "--data", "digits", "--dry-run")
    assert shown.out.startswith("10 epochs of 23 steps on 1,438 images")


def test_train_without_out_says_before_and_after_that_nothing_is_saved(
    run: Run, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["train", spec, "--data", "digits", "--epochs", "1", "--batch-size", "512"]
    shown = run(*options)
    assert shown.code == 0
    assert shown.err.count("nothing is saved without --out M.isobit") == 1
    assert shown.err.count("not saved: give --out M.isobit") == 1
    machine = run(*options, "--json")
    assert machine.json["saved"] is None and "not saved" in machine.err
    saved = run(*options, "--json", "--out", "m.isobit")
    assert saved.json["saved"] == "m.isobit" and "not saved" not in saved.err


def test_train_writes_model_and_run_and_resumes(run: Run, spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.isobit"
    options = [
        "train",
        spec,
        "--data",
        "digits",
        "--epochs",
        "1",
        "--batch-size",
        "512",
        "--out",
        out,
    ]
    first = run(*options, "--json")
    assert first.code == 0 and len(first.json["epochs"]) == 1
    assert first.json["data_verified"] is True
    assert sorted(p.name for p in (tmp_path / "m.run").iterdir()) == ["last.ckpt", "metrics.jsonl"]
    again = run(*options, "--resume", tmp_path / "m.run")
    assert again.code == 0 and "Next: isobit deploy" in again.out


def test_train_takes_a_folder_of_ones_own(run: Run, spec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        np.savez(
            folder / f"{split}.npz",
            images=rng.integers(0, 17, (40, 8, 8, 1), dtype=np.uint8),
            labels=np.arange(40) % 10,
        )
    found = run("train", spec, "--data", folder, "--epochs", "1", "--json")
    assert found.code == 0 and found.json["data_verified"] is None


def test_deploy_writes_the_project_and_again_the_same_bytes(
    run: Run, model: Path, deployed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    found = run("deploy", model, "--out", folder)
    assert found.code == 0 and f"Next: isobit verify {folder}" in found.out
    names = {p.relative_to(deployed) for p in deployed.rglob("*") if p.is_file()}
    assert names == {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    assert {
        Path("manifest.json"),
        Path("names.json"),
        Path("tiny.isobit"),
        Path("Makefile"),
    } <= names
    for name in names:
        assert (deployed / name).read_bytes() == (folder / name).read_bytes(), name
    replaced = run("deploy", model, "--out", folder, "--name", "other", "--json")
    assert replaced.code == 0
    assert (folder / "other.isobit").is_file() and not (folder / "tiny.isobit").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["again"], "nothing of the exchange is left"


def test_verify_proves_equality_and_records_it(run: Run, bundle: Path) -> None:
    found = run("verify", bundle, "--on", "host, cortex-m4", "--json")
    assert found.code == 0, found.err
    entries = {entry["name"]: entry for entry in found.json["verified"]}
    assert set(entries) == {"golden vectors", "host", "cortex-m4"}
    assert all(e["differing"] == 0 < e["compared"] for e in entries.values())
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert {entry["name"] for entry in manifest["verified"]} == set(entries)
    shown = run("verify", bundle, "--on", "host", "--samples", "3", "--seed", "5")
    assert shown.code == 0 and "host" in shown.out


def codes(model: Path, count: int = 3) -> AnyArray:
    graph = isobit.load(model)
    kind = graph.inputs[0].type  # type: ignore[union-attr]  # a file holds a graph
    rng = np.random.default_rng(0)
    shape = (count, *kind.shape[1:])
    return rng.integers(kind.dtype.low, kind.dtype.high + 1, shape).astype(kind.dtype.numpy)


def test_run_of_file_and_folder_agree(
    run: Run, model: Path, deployed: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", codes(model))
    outputs = []
    for number, subject in enumerate((model, deployed)):
        y, trace = tmp_path / f"y{number}.npy", tmp_path / f"t{number}.npz"
        found = run("run", subject, "--on", "host", "--input", tmp_path / "x.npy",
                    "--output", y, "--trace", trace, "--json")  # fmt: skip
        assert found.code == 0 and found.json["samples"] == 3
        assert np.array_equal(np.load(y), found.json["output"])
        with np.load(trace) as stored:
            assert len(stored.files) >= 2
        outputs.append(np.load(y))
    assert np.array_equal(*outputs)
    shown = run("run", deployed, "--input", tmp_path / "x.npy")
    assert shown.code == 0 and np.array_equal(json.loads(shown.out), outputs[0])
    assert "planned anew" not in shown.err


def test_a_run_elsewhere_says_that_the_folders_own_c_is_not_used(
    run: Run, model: Path, deployed: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", codes(model))
    words = ["--input", tmp_path / "x.npy"]
    shown = run("run", deployed, "--on", "host", *words)
    assert "C planned anew for host: the folder's own C is for cortex-m4" in shown.err
    assert run("run", deployed, "--on", "host", *words, "--json").json["replanned"] is True
    assert run("run", deployed, *words, "--json").json["replanned"] is False
    assert run("run", model, "--on", "host", *words, "--json").json["replanned"] is False


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("--output", "--trace"),
        ("--input", "--output"),
        ("--input", "--trace"),
        ("MODEL", "--output"),
    ],
)
def test_run_refuses_one_path_for_two_files(
    run: Run, model: Path, tmp_path: Path, first: str, second: str
) -> None:
    subject = tmp_path / "m.isobit"
    subject.write_bytes(model.read_bytes())
    np.save(tmp_path / "x.npy", codes(model))
    (tmp_path / "sub").mkdir()
    places = {"--input": tmp_path / "x.npy", "MODEL": subject}
    shared = places.get(first, tmp_path / "y.npz")
    places[first], places[second] = shared, shared.parent / "sub" / ".." / shared.name
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    options = [word for name, path in places.items() if name != "MODEL" for word in (name, path)]
    problem = run("run", places["MODEL"], "--on", "host", *options, "--json").error("E105")
    assert problem["where"] == f"{first} and {second}"
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_show_round_trips_through_every_subject(
    run: Run, spec: Path, model: Path, deployed: Path
) -> None:
    texts = [run("show", subject).out for subject in (model, deployed)]
    assert texts[0] == texts[1] and texts[0].startswith("isobit 1")
    assert run("show", model, "--json").json["text"] == texts[0]
    assert "conv2d" in run("show", spec).out


def test_report_writes_one_page(run: Run, bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = run("report", bundle, "--out", page)
    assert shown.code == 0 and f"report: {page}" in shown.out
    assert page.read_text().lstrip().lower().startswith("<!doctype html")
    assert run("report", bundle, "--json").json["name"] == "tiny"


def test_explain_says_what_runs_each_node(
    run: Run, spec: Path, model: Path, deployed: Path
) -> None:
    found = run("explain", model, "--json").json
    assert found["target"] == "cortex-m4"
    nodes = {node["op"]: node for node in found["nodes"]}
    assert len(nodes["conv2d"]["absorbed"]) == 2
    assert [a.partition(" ")[2] for a in nodes["conv2d"]["absorbed"]] == ["(batch_norm)", "(clamp)"]
    assert nodes["reshape"]["kernel"] == "" and nodes["reshape"]["others"] == []
    for subject in (spec, deployed):
        assert run("explain", subject, "--json").json["nodes"] == found["nodes"]
    name = nodes["conv2d"]["name"]
    assert [n["name"] for n in run("explain", model, name, "--json").json["nodes"]] == [name]
    shown = run("explain", model)
    assert f"conv2d/{nodes['conv2d']['kernel']}" in shown.out and "also computes" in shown.out


def test_explain_gives_the_reason_of_every_other_kernel(run: Run, model: Path) -> None:
    kernels = {
        op["name"]: set(op["kernels"])
        for op in run("ops", "--target", "cortex-m4", "--json").json["ops"]
    }
    small = run("explain", model, "--target", "cortex-m0plus", "--json").json["nodes"]
    for node in small:
        others = {other["kernel"]: other["reason"] for other in node["others"]}
        assert all(others.values())
        if node["kernel"]:
            assert {node["kernel"], *others} >= kernels[node["op"]]
        for kernel, reason in others.items():
            if kernel.endswith("_dsp"):
                assert reason.startswith("needs ") and "dsp" in reason
    run("explain", model, "nothing", "--json").error("E104")


@pytest.mark.parametrize("template", ["cnn", "own_loop"])
def test_new_writes_a_project(run: Run, tmp_path: Path, template: str) -> None:
    folder = tmp_path / "a" / "project"
    found = run("new", folder, "--template", template, "--json")
    assert found.code == 0
    assert sorted(found.json["files"]) == sorted(p.name for p in folder.iterdir())
    readme = (folder / "README.md").read_text()
    assert "isobit deploy" in readme and len(readme.splitlines()) <= 10
    run("new", folder, "--json").error("E105")


def test_new_cnn_passes_check(run: Run, tmp_path: Path) -> None:
    assert run("new", tmp_path / "p").code == 0
    found = run("check", tmp_path / "p" / "spec.py", "--json")
    assert found.code == 0 and found.json["ram_bytes"] > 0
    trained = run(
        "train", tmp_path / "p" / "spec.py", "--data", "digits", "--epochs", "1", "--json"
    )
    assert trained.code == 0


def test_new_own_loop_trains(run: Run, tmp_path: Path) -> None:
    assert run("new", tmp_path / "p", "--template", "own_loop").code == 0
    done = isobit_process(tmp_path / "p", "train.py", "1")
    assert done.code == 0, done.err
    assert done.out.startswith("epoch 1: ")
    shown = run("show", tmp_path / "p" / "m.isobit")
    assert shown.code == 0 and "conv2d" in shown.out
    # One epoch is both the first, which sets the ranges, and the last, which would hold them.
    assert run("deploy", tmp_path / "p" / "m.isobit", "--out", tmp_path / "c").code == 0


def isobit_process(folder: Path, *arguments: str) -> Outcome:
    root = str(Path(isobit.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_process_exit_codes_and_streams(tmp_path: Path) -> None:
    ok = isobit_process(tmp_path, "-m", "isobit", "targets", "--json")
    assert ok.code == 0 and ok.err == "" and ok.json["targets"]
    failed = isobit_process(tmp_path, "-m", "isobit", "show", "nothing.isobit")
    assert failed.code == 1 and failed.out == ""
    assert failed.err.startswith("E101 nothing.isobit\n")
    usage = isobit_process(tmp_path, "-m", "isobit", "chekc")
    assert usage.code == 2 and usage.out == "" and "Did you mean `check`?" in usage.err


def test_a_specification_that_prints_does_not_disturb_json(tmp_path: Path) -> None:
    (tmp_path / "spec.py").write_text("print('building')\n" + SPEC)
    found = isobit_process(tmp_path, "-m", "isobit", "check", "spec.py", "--no-compile", "--json")
    assert found.code == 0 and found.json["name"] == "tiny"
    assert "building" in found.err


def test_the_command_line_needs_no_torch_to_deploy(model: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from isobit.cli import main\n"
        f"main(['deploy', {str(model)!r}, '--out', 'out', '--json'])\n"
    )
    found = isobit_process(tmp_path, "-c", script)
    assert found.code == 0, found.err
    assert found.json["sizes"]["ram_bytes"] > 0
