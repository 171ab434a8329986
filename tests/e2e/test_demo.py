"""`make demo`'s main job: at least 96 % on held-out digits, 0 differing values, all files there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isobit import data
from isobit.api.bundle import open_bundle
from isobit.core.errors import BundleDamaged, ValuesDiffer

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("demo") / "digits"
    done = subprocess.run(
        [sys.executable, "-m", "isobit", "demo", "--out", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_demo_meets_its_bar(demo: tuple[Path, dict[str, object]]) -> None:
    folder, found = demo
    assert found["schema"] == 1
    assert float(str(found["accuracy"])) >= 0.96
    assert found["differing"] == 0
    assert found["agreeing"] == found["images"] == 359
    assert int(str(found["compared"])) > 300_000
    page = (folder / "report.html").read_text()
    assert "0" in page and "values differ" in page


def test_folder_has_the_layout_that_users_rely_on(demo: tuple[Path, dict[str, object]]) -> None:
    folder, _ = demo
    names = [
        "digits.isobit",
        "manifest.json",
        "names.json",
        "CMakeLists.txt",
        "Makefile",
        "README.md",
        "golden/input.npy",
        "golden/golden.npz",
        "golden/torch.npz",
        "src/digits.h",
        "src/digits.c",
        "src/digits_data.h",
        "src/isobit_rt.h",
        "src/board/main.c",
        "src/board/firmware.ld",
    ]
    for name in names:
        assert (folder / name).is_file(), name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["name"] for entry in manifest["verified"]} == {
        "golden vectors",
        "torch",
        "host",
        "cortex-m4",
        "cortex-m0plus",
        "rv32imc",
    }
    assert all(entry["compared"] > 0 and entry["inputs_sha256"] for entry in manifest["verified"])


def test_deployed_c_reaches_the_accuracy_that_training_reported(
    demo: tuple[Path, dict[str, object]],
) -> None:
    folder, found = demo
    _, test = data.load("digits")
    ran = open_bundle(folder).run(test.images, "host")
    assert float(np.mean(ran.output.argmax(1) == test.labels)) == found["accuracy"]


def test_a_changed_weight_is_found(demo: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    import shutil

    folder, _ = demo
    copy = tmp_path / "digits"
    shutil.copytree(folder, copy)
    source = copy / "src" / "digits_data.h"
    text = source.read_text()
    opening = "= {\n    "
    place = text.index(opening, text.index("conv2d_3_w[")) + len(opening)
    value = text[place : text.index(",", place)]
    source.write_text(text[:place] + str(-int(value) or 1) + text[place + len(value) :])
    with pytest.raises(ValuesDiffer) as caught:
        open_bundle(copy).verify(on=["cortex-m4"])
    assert "%conv2d_3" in str(caught.value) and "test" not in str(caught.value)


def test_a_changed_network_file_is_refused(
    demo: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    import shutil

    folder, _ = demo
    copy = tmp_path / "digits"
    shutil.copytree(folder, copy)
    blob = bytearray((copy / "digits.isobit").read_bytes())
    blob[-1] ^= 1
    (copy / "digits.isobit").write_bytes(bytes(blob))
    with pytest.raises(BundleDamaged):
        open_bundle(copy)
