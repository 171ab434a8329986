"""A deployed folder that was changed after it was written is noticed, whatever was changed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from isobit.cli.common.subject import read_spec
from isobit.run.compilers import cache_dir

from .conftest import Run


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
    assert [entry["name"] for entry in found] == ["golden vectors", "torch", "host"]
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
