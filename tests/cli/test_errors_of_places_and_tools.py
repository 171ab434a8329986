"""Folders that cannot be written, disks that are full, tools that are missing or fail: one clear
error, and nothing is left half-written.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from isobit.run import compilers, emulate, execute
from isobit.run.child import Finished

from .conftest import Run, files_below


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
