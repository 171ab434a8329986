"""How long `estimate(compile=False)` takes: median over fresh processes, in milliseconds.

    python bench/estimate.py [--processes 5]

The bar is 100 ms for the Fashion-MNIST network of bench/fashion.py; every process plans it 20 times
after one warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

SNIPPET = """
import sys, time
sys.path.insert(0, {folder!r})
import fashion
model = fashion.make("affine", 0)
model.estimate(compile=False)
times = []
for _ in range(20):
    began = time.perf_counter()
    model.estimate(compile=False)
    times.append(time.perf_counter() - began)
print(sorted(times)[10] * 1e3)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=5)
    options = parser.parse_args()
    code = SNIPPET.format(folder=str(Path(__file__).resolve().parent))
    found = []
    for _ in range(options.processes):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found.append(float(done.stdout))
    print(f"estimate(compile=False): median {statistics.median(found):.1f} ms of {found}")


if __name__ == "__main__":
    main()
