"""Options and markers of the whole test suite.

`--scale quick` (the default) is what `make test` runs; `full` adds cores, sizes and `slow` tests.
`--no-skip` makes a skip a failure: a machine that claims to run everything then proves it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

try:
    import hypothesis
except ModuleNotFoundError:
    pass  # only the tests that draw with it need it
else:
    # The same cases in every run, and no database file: a test's verdict depends on the code alone.
    hypothesis.settings.register_profile(
        "isobit", derandomize=True, deadline=None, database=None, print_blob=True
    )
    hypothesis.settings.load_profile("isobit")

DATA_FILES = {
    "mnist": ("mnist/train-images-idx3-ubyte*", "mnist/t10k-images-idx3-ubyte*"),
    "fashion-mnist": (
        "fashion-mnist/train-images-idx3-ubyte*",
        "fashion-mnist/t10k-images-idx3-ubyte*",
    ),
    "cifar10": ("cifar-10-batches-bin/data_batch_1.bin", "cifar-10-batches-bin/test_batch.bin"),
}
"""What must lie below ISOBIT_DATA, as patterns; `digits` is packed into isobit."""

MODEL_FILES = (
    "mlperf_tiny/models/kws_ref_model.tflite",
    "tflite_micro/hello_world_int8.tflite",
    "onnx/mnist_model_zoo.onnx",
)
"""Some of what must lie below ISOBIT_MODELS: models that other projects publish."""

ALLOWED_SKIP = "GPU"
"""A machine without an accelerator cannot run what needs one: the only skip `--no-skip` accepts."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("isobit")
    group.addoption("--scale", choices=("quick", "full"), default="quick", help="how much to test")
    group.addoption("--no-skip", action="store_true", help="a skip is a failure, except for a GPU")


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> str:
    """Return what was chosen: quick or full."""
    return str(request.config.getoption("--scale"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--scale") == "full":
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("data"):
        for name in marker.args:
            reason = why_absent(name)
            if reason:
                pytest.skip(reason)


def why_absent(name: str) -> str:
    """Return why the data set `name` cannot be used here, "" where it can."""
    if name == "digits":
        return ""
    if name == "tflite-micro":
        return "" if find_spec("tflite_micro") else "the package tflite-micro is not installed"
    if name == "litert":
        return "" if find_spec("ai_edge_litert") else "the package ai-edge-litert is not installed"
    if name == "q7":
        return _why_folder("ISOBIT_BASELINES", ("q7_vectors.npz", "q7_index.json"))
    if name == "models":
        return _why_folder("ISOBIT_MODELS", MODEL_FILES)
    if name in DATA_FILES:
        return _why_folder("ISOBIT_DATA", DATA_FILES[name])
    raise ValueError(
        f"no such data: {name!r}; there is {', '.join(sorted(DATA_FILES))}, "
        "digits, litert, models, q7, tflite-micro"
    )


def _why_folder(variable: str, patterns: tuple[str, ...]) -> str:
    folder = os.environ.get(variable)
    if not folder:
        return f"{variable} names no folder; it should hold {patterns[0]}"
    absent = [pattern for pattern in patterns if not any(Path(folder).glob(pattern))]
    return f"{variable}: no {', '.join(absent)} in that folder" if absent else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if item.config.getoption("--no-skip") and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if collector.config.getoption("--no-skip"):
        _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if ALLOWED_SKIP not in reason:
        report.outcome = "failed"
        report.longrepr = f"--no-skip: {reason}"
