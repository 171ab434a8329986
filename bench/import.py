"""How long importing takes: median over fresh processes that cannot import torch, in seconds.

    python bench/import.py [FOLDER] [--processes 5]

FOLDER (or ISOBIT_MODELS) holds the MLPerf Tiny models below mlperf_tiny/models. A process is
`isobit import FILE -o M.isobit` from its start to its exit: Python, reading, passes, writing. The
bar is 2 s for each model. Writes results/import.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import isobit
from isobit.core.files import json_text, write_atomic

RESULTS = Path(__file__).resolve().parents[1] / "results"
BAR_SECONDS = 2.0
MODELS = {
    "kws": "kws_ref_model.tflite",
    "vww": "vww_96_int8.tflite",
    "ic": "pretrainedResnet_quant.tflite",
    "ad": "ad01_int8.tflite",
}
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # what the import system takes for "not installed"
from isobit.cli import main
main(sys.argv[1:])
"""


def measured(path: Path, processes: int) -> dict[str, Any]:
    """Import a file in fresh processes, after one that fills the caches of the disk."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        words = ["import", str(path), "-o", str(Path(folder) / "m.isobit"), "--json"]
        command = [sys.executable, "-c", WITHOUT_TORCH, *words]
        for _ in range(processes + 1):
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - began)
    found = json.loads(done.stdout)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": path.stat().st_size,
        "nodes": found["nodes"],
        "macs": found["macs"],
        "seconds": [round(s, 3) for s in seconds[1:]],
        "median_seconds": round(statistics.median(seconds[1:]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("ISOBIT_MODELS"))
    parser.add_argument("--processes", type=int, default=5)
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the FOLDER of the models, or set ISOBIT_MODELS")
    rows = {}
    for name, file in MODELS.items():
        path = Path(options.folder) / "mlperf_tiny" / "models" / file
        rows[name] = measured(path, options.processes)
        print(f"{name}: median {rows[name]['median_seconds']:.2f} s of {rows[name]['seconds']}")
    content = {
        "schema": 1,
        "isobit": isobit.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": "not importable",
        "bar_seconds": BAR_SECONDS,
        "models": rows,
    }
    write_atomic(RESULTS / "import.json", json_text(content))
    late = [name for name, row in rows.items() if row["median_seconds"] >= BAR_SECONDS]
    if late:
        sys.exit(f"not under {BAR_SECONDS} s: {', '.join(late)}")


if __name__ == "__main__":
    main()
