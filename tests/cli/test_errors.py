"""Whatever is wrong, `isobit` answers with one clear error, exit code 1 or 2, and leaves nothing
half-written.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.cli.common.subject import read_spec
from isobit.run import compilers, emulate, execute
from isobit.run.child import Finished
from isobit.run.compilers import cache_dir

from .conftest import SPEC, Outcome, Run


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


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
        np.savez(stream, a=np.zeros(3))
    assert run("run", model, "--input", path, "--json").error("E102")["got"] == "an archive"
    with path.open("wb") as stream:
        np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    run("run", model, "--input", path, "--json").error("E102")
    run("run", model, "--input", tmp_path, "--json").error("E102")
    run("run", model, "--input", tmp_path / "nothing.npy", "--json").error("E101")


def test_unwritable_places(run: Run, spec: Path, model: Path, bundle: Path, tmp_path: Path) -> None:
    """A path below a regular file cannot be made, not even by root."""
    wall = tmp_path / "wall"
    wall.write_text("a file")
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8, 1), np.uint8))
    before = files_below(tmp_path)
    for arguments in (
        ["deploy", model, "--out", wall / "out"],
        ["new", wall / "project"],
        ["train", spec, "--data", "digits", "--epochs", "1", "--out", wall / "m.isobit"],
        ["run", model, "--on", "host", "--input", tmp_path / "x.npy", "--output", wall / "y.npy"],
        ["run", model, "--on", "host", "--input", tmp_path / "x.npy", "--trace", wall / "t.npz"],
        ["report", bundle, "--out", wall / "page.html"],
    ):
        run(*arguments, "--json").error("E103")
    assert files_below(tmp_path) == before


def test_a_full_disk_leaves_nothing(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = Path.write_bytes, []

    def fill(path: Path, data: bytes) -> int:
        calls.append(path)
        if "tiny.isobit" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    problem = run("deploy", model, "--out", tmp_path / "out", "--json").error("E103")
    assert problem["got"] == "No space left on device" and calls
    assert list(tmp_path.iterdir()) == []


def test_output_folder_with_foreign_files(
    run: Run, model: Path, bundle: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("years of work")
    problem = run("deploy", model, "--out", own, "--json").error("E105")
    assert "thesis.txt" in problem["got"] and "nothing was written" in problem["fix"]
    (own / "manifest.json").write_text('{"name": "a web page"}')
    run("deploy", model, "--out", own, "--json").error("E105")
    (bundle / "notes.txt").write_text("mine")
    assert "notes.txt" in run("deploy", model, "--out", bundle, "--json").error("E105")["got"]
    (bundle / "notes.txt").unlink()
    (bundle / "build").mkdir()
    (bundle / "build" / "tiny.o").write_bytes(b"made by make")
    assert run("deploy", model, "--out", bundle, "--json").code == 0
    (tmp_path / "file").write_text("")
    run("deploy", model, "--out", tmp_path / "file", "--json").error("E105")
    assert files_below(own) == {
        "thesis.txt": b"years of work", "manifest.json": b'{"name": "a web page"}'
    }  # fmt: skip


@pytest.mark.parametrize("name", ["my-net", "1st", "a b", "größe", "../x"])
def test_names_that_are_no_c_identifier(run: Run, model: Path, tmp_path: Path, name: str) -> None:
    run("deploy", model, "--out", tmp_path / "out", "--name", name, "--json").error("E105")
    assert list(tmp_path.iterdir()) == []


def test_train_out_must_be_an_isobit_file(run: Run, spec: Path, tmp_path: Path) -> None:
    arguments = ["train", spec, "--data", "digits", "--out", tmp_path / "m.pt", "--json"]
    assert "m.isobit" in run(*arguments).error("E105")["fix"]


@pytest.fixture
def fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled before counts."""
    empty = tmp_path_factory.mktemp("cache")
    for module in (compilers, execute):
        monkeypatch.setattr(module, "cache_dir", lambda: empty)


def test_missing_gcc(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for arguments in (["check", model], ["deploy", model, "--out", tmp_path / "out"]):
        problem = run(*arguments, "--compiler", "gcc", "--json").error("E401")
        assert "arm-none-eabi-gcc" in problem["want"] and "Or use zig" in problem["fix"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fresh_cache")
def test_missing_zig(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_package(monkeypatch, "ziglang")
    problem = run("check", model, "--json").error("E401")
    assert "pip install" in problem["fix"]
    assert run("check", model, "--no-compile", "--json").code == 0, "a plan needs no compiler"


def hide_package(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda wanted, *rest: None if wanted == name else find(wanted, *rest),
    )


def test_missing_unicorn(
    run: Run, model: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_package(monkeypatch, "unicorn")
    for arguments in (
        ["check", model],
        ["deploy", model, "--out", tmp_path / "out"],
        ["verify", bundle, "--on", "cortex-m4"],
    ):
        problem = run(*arguments, "--json").error("E401")
        assert "unicorn" in problem["want"] and "isobit[emulate]" in problem["fix"]
    assert not (tmp_path / "out").exists()
    assert run("verify", bundle, "--on", "host", "--json").code == 0


def test_missing_torch(run: Run, spec: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "torch")
    for arguments in (["check", spec], ["train", spec, "--data", "digits"]):
        assert "isobit[train]" in run(*arguments, "--json").error("E401")["fix"]
    assert run("check", model, "--no-compile", "--json").code == 0


def test_a_killed_emulator_is_reported(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_below(bundle)
    for module, core in ((emulate, "cortex-m4"), (execute, "host")):
        with monkeypatch.context() as patch:
            dead = Finished(code=-9, stdout=b"", stderr=b"")
            patch.setattr(module, "run_child", lambda *a, dead=dead, **k: dead)
            problem = run("verify", bundle, "--on", core, "--json").error("E502")
            assert "SIGKILL" in problem["got"]
    assert files_below(bundle) == before


def test_a_compiler_that_fails_is_quoted(run: Run, bundle: Path) -> None:
    source = bundle / "src" / "tiny.c"
    source.write_text(source.read_text() + "\nint broken(void) { return oops; }\n")
    problem = run("verify", bundle, "--on", "cortex-m4", "--json").error("E402")
    assert "oops" in problem["got"] and "tiny.c" in problem["got"]


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


def test_resume_of_something_else(run: Run, spec: Path, tmp_path: Path) -> None:
    arguments = ["train", spec, "--data", "digits", "--resume"]
    run(*arguments, tmp_path, "--json").error("E101")
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    run(*arguments, tmp_path, "--json").error("E604")


def test_every_deleted_file_is_noticed(run: Run, bundle: Path) -> None:
    names = json.loads((bundle / "manifest.json").read_text())["hashes"]["files"]
    assert len(names) > 10
    for name in names:
        blob = (bundle / name).read_bytes()
        (bundle / name).unlink()
        assert name in run("verify", bundle, "--on", "host", "--json").error("E504")["got"]
        (bundle / name).write_bytes(blob)
    (bundle / "manifest.json").unlink()
    run("verify", bundle, "--on", "host", "--json").error("E504")


@pytest.mark.parametrize("name", ["golden/input.npy", "tiny.isobit", "names.json"])
def test_changed_files_are_noticed(run: Run, bundle: Path, name: str) -> None:
    path = bundle / name
    path.write_bytes(path.read_bytes()[:-20])
    verb = ["explain", bundle] if name == "names.json" else ["verify", bundle, "--on", "host"]
    assert path.name in run(*verb, "--json").error("E504")["where"]


def test_a_changed_trace_of_torch_is_noticed(
    run: Run, spec: Path, model: Path, tmp_path: Path
) -> None:
    trained = read_spec(spec)
    trained.restore(model)
    folder = trained.deploy(tmp_path / "tiny").path
    found = run("verify", folder, "--on", "host", "--json").json["verified"]
    assert [entry["name"] for entry in found] == ["torch", "host"]
    path = folder / "golden" / "torch.npz"
    path.write_bytes(path.read_bytes()[:-20])
    run("verify", folder, "--on", "host", "--json").error("E504")
    path.unlink()
    run("verify", folder, "--on", "host", "--json").error("E504")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"hashes": {}}',
        '{"hashes": {"content": 1, "files": 3}}',
        "\x00\xff",
    ],
)
def test_damaged_manifest(run: Run, bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_bytes(content.encode("latin-1"))
    for verb in ("verify", "report", "show", "explain"):
        run(verb, bundle, "--json").error("E504")


@pytest.mark.parametrize("change", [("optimize", "luck"), ("hashes", None), ("name", "other")])
def test_changed_manifest(run: Run, bundle: Path, change: tuple[str, Any]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[change[0]] = change[1]
    path.write_text(json.dumps(manifest))
    run("verify", bundle, "--on", "host", "--json").error("E504")


def test_another_network_in_the_bundle_is_noticed(
    run: Run, spec: Path, bundle: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.isobit"
    trained = ["train", spec, "--data", "digits", "--epochs", "1", "--batch-size", "512"]
    assert run(*trained, "--out", other).code == 0
    shutil.copy(other, bundle / "tiny.isobit")
    run("verify", bundle, "--on", "host", "--json").error("E504")


def test_edited_c_that_computes_something_else_is_found(run: Run, bundle: Path) -> None:
    """The bundle's own C runs on its own target: a wrong weight must show, with its first value."""
    source = bundle / "src" / "tiny_data.h"
    text = source.read_text()
    match = re.search(r"(int8_t[^=;{}]*=\s*\{\s*)(-?\d+)", text)
    assert match is not None, "no weights in the generated C"
    wrong = 100 if int(match[2]) < 0 else -100
    source.write_text(text[: match.start(2)] + str(wrong) + text[match.end(2) :])
    problem = run("verify", bundle, "--on", "cortex-m4", "--json").error("E503")
    assert problem["where"].startswith("cortex-m4, %")
    assert "golden model's" in problem["want"]
    shown = run("verify", bundle, "--on", "cortex-m4")
    assert shown.code == 1 and shown.err.startswith("E503 cortex-m4")


def test_the_compiler_cache_is_not_a_place_in_the_bundle(deployed: Path) -> None:
    assert not cache_dir().is_relative_to(deployed)
    assert not any(path.is_symlink() for path in deployed.rglob("*"))


def test_an_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("isobit.cli.show.read_graph", interrupt)
    found = run("show", "m.isobit")
    assert found.code == 130 and found.err.strip() == "interrupted" and found.out == ""
