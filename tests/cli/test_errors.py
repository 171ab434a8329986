"""What is typed wrong, and files that are missing, damaged or mean nothing: one clear error, exit
code 1 or 2.
"""

from __future__ import annotations

import json
import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import SPEC, Outcome, Run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "Did you mean `check`?"),
        (["zzz"], "`isobit --help` lists the commands"),
        (["check"], "Missing argument 'MODEL'"),
        (["check", "m.isobit", "--nothing"], "No such option"),
        (["check", "m.isobit", "--optimize", "luck"], "'luck' is not one of"),
        (["check", "m.isobit", "--ram-limit", "ten"], "'ten' is not a number of bytes"),
        (["train", "spec.py"], "Missing option '--data'"),
        (["train", "spec.py", "--data", "digits", "--epochs", "0"], "not in the range"),
        (["train", "spec.py", "--data", "digits", "--learning-rate", "-1"], "not in the range"),
        (["verify", "b", "--samples", "0"], "not in the range"),
        (["verify", "b", "--samples", "2", "--seed", "-1"], "not in the range"),
        (["verify", "b", "--samples", "2", "--input", "x.npy"], "exclude each other"),
        (["verify", "b", "--on", "host,,cortex-m4"], "an empty name"),
        (["new", "p", "--template", "nothing"], "'nothing' is not one of"),
    ],
)
def test_usage_errors_exit_with_2(run: Run, arguments: list[str], said: str) -> None:
    shown = run(*arguments)
    assert shown.code == 2 and shown.out == ""
    assert said in shown.err and "Traceback" not in shown.err
    as_object = run(*arguments, "--json")
    assert as_object.code == 2
    (problem,) = as_object.json["errors"]
    assert said in problem["got"] and all(problem.values())


def test_text_errors_have_code_want_got_and_fix(run: Run) -> None:
    shown = run("show", "nothing.isobit")
    assert shown.code == 1 and shown.out == ""
    first, second, third = shown.err.splitlines()
    assert first == "E101 nothing.isobit"
    assert second.startswith("  model: want ") and ", got nothing." in second
    assert third == "  Check the path."


@pytest.mark.parametrize("verb", ["check", "show", "explain"])
@pytest.mark.parametrize("name", ["nothing.isobit", "nothing.py", "nothing"])
def test_missing_model(run: Run, tmp_path: Path, verb: str, name: str) -> None:
    run(verb, tmp_path / name, "--json").error("E101")


@pytest.mark.parametrize("verb", ["verify", "report"])
def test_missing_bundle(run: Run, tmp_path: Path, model: Path, verb: str) -> None:
    run(verb, tmp_path / "nothing", "--json").error("E101")
    run(verb, model, "--json").error("E101")
    (tmp_path / "empty").mkdir()
    run(verb, tmp_path / "empty", "--json").error("E504")


def test_unknown_target(run: Run, model: Path, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8, 1), np.uint8))
    for arguments in (
        ["targets", "cortex-m5"],
        ["ops", "--target", "cortex-m5"],
        ["check", model, "--target", "cortex-m5"],
        ["explain", model, "--target", "cortex-m5"],
        ["deploy", model, "--target", "cortex-m5", "--out", tmp_path / "out"],
        ["run", model, "--on", "cortex-m5", "--input", tmp_path / "x.npy"],
        ["verify", bundle, "--on", "host,cortex-m5"],
    ):
        problem = run(*arguments, "--json").error("E104")
        assert "cortex-m4" in problem["want"] and problem["got"] == "cortex-m5"
    assert not (tmp_path / "out").exists()


def test_unknown_operator(run: Run) -> None:
    assert "conv2d" in run("ops", "conv3d", "--json").error("E104")["want"]


@pytest.mark.parametrize(
    ("text", "line", "got"),
    [
        ("x = 1\nraise ValueError('no')\n", 2, "ValueError: no"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("model = (\n", 1, "SyntaxError"),
        ("import sys\nsys.exit(0)\n", 2, "SystemExit"),
        ("import surely_not_installed\n", 1, "ModuleNotFoundError"),
        ("net = 1\n", None, "nothing"),
        ("model = 3\n", None, "int"),
        ("import torch\nmodel = torch.nn.Linear(2, 2)\n", None, "Linear"),
        ("\x00", None, ""),
    ],
)
def test_bad_specification(run: Run, tmp_path: Path, text: str, line: int | None, got: str) -> None:
    path = tmp_path / "spec.py"
    path.write_text(text)
    for arguments in (["check", path], ["train", path, "--data", "digits"], ["show", path]):
        problem = run(*arguments, "--json").error("E108")
        assert got in problem["got"]
        assert problem["where"] == (f"spec.py:{line}" if line else "spec.py")


def test_specification_of_an_impossible_network_says_where(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "spec.py"
    path.write_text(SPEC.replace("nn.Linear(64, 10)", "nn.Linear(63, 10)"))
    problem = run("check", path, "--json").error("E203")
    assert "spec.py:12" in problem["where"]


def test_nan_weights(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "spec.py"
    path.write_text(SPEC + "model.net[1].weight.data[0] = float('nan')\n")
    assert "net.1" not in run("check", path, "--json").error("E205")["where"]
    path.write_text(SPEC.replace("model =", "net[1].weight.data[0] = float('nan')\nmodel ="))
    run("check", path, "--json").error("E205")


def test_truncated_model(run: Run, model: Path, tmp_path: Path) -> None:
    blob, path = model.read_bytes(), tmp_path / "cut.isobit"
    lengths = [*range(0, 64), *range(64, len(blob), max(1, len(blob) // 60)), len(blob) - 1]
    for length in lengths:
        path.write_bytes(blob[:length])
        run("show", path, "--json").error("E102")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_model_is_refused_or_works(
    run: Run, model: Path, tmp_path: Path, seed: int
) -> None:
    """Random bytes, mostly in the header where all structure is: a clean error or a network, never
    a traceback.
    """
    blob, path = model.read_bytes(), tmp_path / "mutated.isobit"
    rng = random.Random(seed)
    header = 8 + int.from_bytes(blob[:8], "little")
    for _ in range(60):
        changed = bytearray(blob)
        for _ in range(rng.choice((1, 1, 2, 8))):
            limit = len(blob) if rng.random() < 0.2 else header
            changed[rng.randrange(limit)] = rng.choice(
                (rng.randrange(256), rng.choice(b'0129-{}[]",:%sx'))
            )
        path.write_bytes(changed)
        for arguments in (["check", path, "--no-compile"], ["explain", path]):
            found = run(*arguments, "--json")
            assert found.code in (0, 1)
            assert found.code == 0 or all(p["code"] for p in found.json["errors"])


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("output %linear_5", "output %linear_5.w", "E202"),
        ("output %linear_5", "output %nothing", "E202"),
        ("reshape(%conv2d_1)", "reshape(%conv2d_2)", "E202"),
        ("stride=(2,2)", "stride=(0,2)", None),
        ("= linear(", "= linaer(", "E104"),
        ("isobit 1", "isobit 2", "E201"),
        ("target=cortex-m4", "target=cortex-m9", "E104"),
    ],
)
def test_a_file_that_parses_but_means_nothing(
    run: Run, model: Path, tmp_path: Path, old: str, new: str, code: str | None
) -> None:
    """The text is changed and the file put together again, so only its meaning is wrong."""
    blob = model.read_bytes()
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    content = json.loads(header["__metadata__"]["isobit"])
    text = content["graphs"]["int"]
    assert old in text
    content["graphs"]["int"] = new.join(text.rsplit(old, 1))
    header["__metadata__"]["isobit"] = json.dumps(content)
    text = json.dumps(header)
    text += " " * (-len(text) % 8)
    path = tmp_path / "m.isobit"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + blob[8 + size :])
    for verb in (["check", "--no-compile"], ["explain"]):
        found = run(*verb, path, "--json")
        assert found.code == 1
        codes = {problem["code"] for problem in found.json["errors"]}
        assert codes == {code} if code else codes <= {"E203", "E204"}


@pytest.mark.parametrize("option", ["--ram-limit", "--flash-limit"])
def test_what_does_not_fit_names_bytes_and_layers(
    run: Run, model: Path, tmp_path: Path, option: str
) -> None:
    for arguments in (["deploy", model, "--out", tmp_path / "out"], ["check", model]):
        problem = run(*arguments, option, "256", "--json").error("E302")
        assert "256 bytes" in problem["want"] and "too many" in problem["got"]
        assert "conv2d_1" in problem["fix"]
    assert list(tmp_path.iterdir()) == []
    both = run("check", model, "--ram-limit", "256", "--flash-limit", "256", "--json")
    assert [p["code"] for p in both.json["errors"]] == ["E302", "E302"]
    assert run("check", model, "--ram-limit", "100K", "--json").code == 0


def test_wrong_input_arrays(run: Run, model: Path, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    arrays: dict[str, Any] = {
        "shape": np.zeros((1, 1, 8, 8), np.uint8),
        "rank": np.zeros((8, 8, 1), np.uint8),
        "empty": np.zeros((0, 8, 8, 1), np.uint8),
        "dtype": np.zeros((1, 8, 8, 1), np.float32),
        "wide": np.zeros((1, 8, 8, 1), np.int64),
        "signed": np.zeros((1, 8, 8, 1), np.int8),
        "text": np.full((1, 8, 8, 1), "a"),
        "scalar": np.uint8(3),
    }
    for array in arrays.values():
        np.save(path, array)
        for arguments in (["run", model], ["run", bundle], ["verify", bundle, "--on", "host"]):
            problem = run(*arguments, "--input", path, "--json").error("E501")
            assert "uint8[N, 8, 8, 1]" in problem["want"]


def test_files_that_are_no_array(run: Run, model: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.npy"
    np.save(good, np.zeros((1, 8, 8, 1), np.uint8))
    blob = good.read_bytes()
    path = tmp_path / "x.npy"
    huge = blob.replace(b"(1, 8, 8, 1)", b"(1<<9, 8, 8)").replace(b"1<<9", b"9999")
    contents = [b"", b"no array", b"PK\x03\x04broken", blob[:20], blob[:-5], huge, b"\x80\x04N."]
    for content in contents:
        path.write_bytes(content)
        run("run", model, "--input", path, "--json").error("E102")
    with path.open("wb") as stream:
        np.savez_compressed(stream, a=np.arange(999))
    found = run("run", model, "--input", path, "--json").json["errors"]
    assert [(e["code"], e["got"]) for e in found] == [
        ("E501", "an array of this name"),
        ("E501", "no array"),
    ]
    archive = path.read_bytes()
    for content in (archive[:-40], archive[:200] + b"\0" * 99 + archive[299:]):
        path.write_bytes(content)
        run("run", model, "--input", path, "--json").error("E102")
    with path.open("wb") as stream:
        np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    run("run", model, "--input", path, "--json").error("E102")
    run("run", model, "--input", tmp_path, "--json").error("E102")
    run("run", model, "--input", tmp_path / "nothing.npy", "--json").error("E101")


@pytest.mark.parametrize("name", ["my-net", "1st", "a b", "größe", "../x"])
def test_names_that_are_no_c_identifier(run: Run, model: Path, tmp_path: Path, name: str) -> None:
    run("deploy", model, "--out", tmp_path / "out", "--name", name, "--json").error("E105")
    assert list(tmp_path.iterdir()) == []


def test_train_out_must_be_an_isobit_file(run: Run, spec: Path, tmp_path: Path) -> None:
    arguments = ["train", spec, "--data", "digits", "--out", tmp_path / "m.pt", "--json"]
    assert "m.isobit" in run(*arguments).error("E105")["fix"]


def test_unknown_data(run: Run, spec: Path) -> None:
    problem = run("train", spec, "--data", "digit", "--json").error("E104")
    assert 'Did you mean "digits"?' in problem["fix"]


def test_damaged_data_folder(run: Run, spec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    run("train", spec, "--data", folder, "--json").error("E101")
    for split in ("train", "test"):
        np.savez(
            folder / f"{split}.npz", images=np.zeros((4, 8, 8, 1), np.uint8), labels=np.arange(4)
        )
    (folder / "test.npz").write_bytes((folder / "test.npz").read_bytes()[:100])
    assert "test.npz" in run("train", spec, "--data", folder, "--json").error("E102")["where"]


def test_data_that_does_not_match_the_network(run: Run, spec: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for split in ("train", "test"):
        np.savez(
            folder / f"{split}.npz",
            images=np.zeros((24, 7, 8, 1), np.uint8),
            labels=np.arange(24) % 12,
        )
    found = run("train", spec, "--data", folder, "--json")
    assert found.code == 1
    assert [p["what"] for p in found.json["errors"]] == ["input (C, H, W)", "output"]


IMPORTED_SPEC = """\
import torch
import isobit

net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear({size}, 10))
graph = isobit.from_torch(net, torch.zeros(1, 1, {height}, 8), name="own")
model = isobit.Model.from_graph(graph)
"""


def test_data_for_an_imported_network_is_compared_by_its_own_axes(run: Run, tmp_path: Path) -> None:
    """Its images are [H, W, C], not torch's order."""
    spec = tmp_path / "spec.py"
    spec.write_text(IMPORTED_SPEC.format(size=72, height=8))
    done = run("train", spec, "--data", "digits", "--dry-run", "--json")
    assert done.code == 0 and done.json["images"] == 1438
    spec.write_text(IMPORTED_SPEC.format(size=60, height=7))
    problem = run("train", spec, "--data", "digits", "--dry-run", "--json").error("E105")
    assert problem["what"] == "input (H, W, C)"
    assert problem["want"].startswith("(8, 8, 1)") and problem["got"] == "(7, 8, 1)"


def test_resume_of_something_else(run: Run, spec: Path, tmp_path: Path) -> None:
    arguments = ["train", spec, "--data", "digits", "--resume"]
    run(*arguments, tmp_path, "--json").error("E101")
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    run(*arguments, tmp_path, "--json").error("E604")


def test_an_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("isobit.cli.show.read_stored", interrupt)
    found = run("show", "m.isobit")
    assert found.code == 130 and found.err.strip() == "interrupted" and found.out == ""


# Untrained models, odd specifications, limits of nothing


def _untrained(spec: Path, path: Path, images: int = 0) -> Path:
    """The network of a specification, saved as it is, or calibrated on a few images."""
    net = runpy.run_path(str(spec))["model"]
    if images:
        net.calibrate(np.random.default_rng(0).integers(0, 256, (images, 1, 8, 8)).astype("f4"))
    net.save(path)
    return path


@pytest.mark.parametrize("saved", [False, True], ids=["SPEC.py", ".isobit"])
def test_what_is_untrained_is_shown_but_not_deployed(
    run: Run, spec: Path, tmp_path: Path, saved: bool
) -> None:
    model = _untrained(spec, tmp_path / "m.isobit") if saved else spec
    out = tmp_path / "out"
    problem = run("deploy", model, "--out", out, "--json").error("E602")
    assert "calibrate" in problem["fix"] and "rain it" in problem["fix"]
    assert not out.exists()
    for arguments in (["check", model, "--no-compile"], ["show", model], ["explain", model]):
        assert run(*arguments, "--json").code == 0


def test_what_was_calibrated_is_deployed(run: Run, spec: Path, tmp_path: Path) -> None:
    model = _untrained(spec, tmp_path / "m.isobit", images=8)
    assert run("deploy", model, "--target", "host", "--out", tmp_path / "a", "--json").code == 0
    own = tmp_path / "spec.py"
    own.write_text(spec.read_text() + "model.calibrate(torch.rand(8, 1, 8, 8) * 255)\n")
    assert run("deploy", own, "--target", "host", "--out", tmp_path / "b", "--json").code == 0


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("raise BaseException('odd')", "BaseException: odd"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise GeneratorExit", "GeneratorExit"),
    ],
)
def test_whatever_a_specification_raises_is_an_error(
    run: Run, tmp_path: Path, line: str, got: str
) -> None:
    path = tmp_path / "odd.py"
    path.write_text(f"\n{line}\n")
    problem = run("check", path, "--json").error("E108")
    assert problem["where"] == "odd.py:2" and problem["got"].startswith(got)


@pytest.mark.parametrize("verb", ["check", "deploy"])
@pytest.mark.parametrize("option", ["--ram-limit", "--flash-limit"])
def test_a_limit_of_nothing_is_refused(
    run: Run, model: Path, tmp_path: Path, verb: str, option: str
) -> None:
    rest = ["--out", tmp_path / "out"] if verb == "deploy" else ["--no-compile"]
    problem = run(verb, model, option, "0", *rest, "--json").error("E105")
    assert problem["want"] == "an integer of at least 1" and problem["got"] == "0"
    assert "at least 1" in run(verb, "--help").out
    assert not (tmp_path / "out").exists()


def test_a_device_is_no_model(run: Run) -> None:
    problem = run("check", "/dev/null", "--json").error("E101")
    assert problem["got"] == "something that is not a regular file"
    assert run("check", "/dev", "--json").code == 1
