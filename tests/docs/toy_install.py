"""Install `tests/toy_wheel` offline: with pip where its build backend is here, else by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEEL = ROOT / "tests" / "toy_wheel"


def install(folder: Path) -> None:
    """Make `isobit_toy` and its entry points importable from `folder`."""
    if find_spec("hatchling") and find_spec("pip"):
        source = folder.parent / "toy_source"  # a build writes beside its sources
        shutil.copytree(WHEEL, source, ignore=shutil.ignore_patterns("__pycache__"))
        options = [
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--target",
            str(folder),
        ]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    else:
        by_hand(folder)


def by_hand(folder: Path) -> None:
    """Copy the package and write the `.dist-info` that pip would derive from pyproject.toml."""
    project = tomllib.loads((WHEEL / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(WHEEL / "src" / "isobit_toy", folder / "isobit_toy", ignore=ignored)
    info = folder / f"isobit_toy-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n", encoding="utf-8")
