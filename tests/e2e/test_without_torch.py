"""Deploying, running and verifying work where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from e2e.nets import make, train_a_little
from isobit.api.bundle import Bundle

BLOCK = """
import sys
sys.modules["torch"] = None  # what the import system takes for "not installed"
from isobit.cli import main
main(sys.argv[1:])
"""

pytestmark = pytest.mark.xdist_group("without_torch")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model = make(6)
    train_a_little(model)
    deployed: Bundle = model.deploy(tmp_path_factory.mktemp("torchless") / "net6")
    return deployed


def isobit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_run_verify_report_and_deploy_need_no_torch(bundle: Bundle, tmp_path: Path) -> None:
    folder = str(bundle.path)
    verified = isobit("verify", folder, "--on", "host,cortex-m4,rv32imc", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = json.loads(verified.stdout)["verified"]
    assert [c["name"] for c in found][1:] == ["torch", "host", "cortex-m4", "rv32imc"]
    assert all(c["differing"] == 0 and c["compared"] > 0 for c in found)
    np.save(tmp_path / "x.npy", bundle.golden_inputs())
    ran = isobit("run", folder, "--on", "cortex-m4", "--input", str(tmp_path / "x.npy"), "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    again = isobit(
        "deploy",
        f"{folder}/net6.isobit",
        "--target",
        "cortex-m0plus",
        "--out",
        str(tmp_path / "m0"),
        "--json",
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert isobit("report", folder).returncode == 0
    assert isobit("show", folder).returncode == 0
    assert isobit("check", f"{folder}/net6.isobit", "--target", "cortex-m3").returncode == 0


def test_a_spec_says_that_it_needs_torch(tmp_path: Path) -> None:
    spec = tmp_path / "spec.py"
    spec.write_text("import isobit\nmodel = isobit.Model(None, input=(1,))\n")
    done = isobit("check", str(spec), "--json")
    assert done.returncode == 1
    (error,) = json.loads(done.stdout)["errors"]
    assert error["code"] == "E401" and "isobit[train]" in error["fix"]
