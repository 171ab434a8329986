"""One thread: these networks are too small for more, and threads only wait for each other.

Compiled kernels are on, as for a `Model`; some modules run everything without them, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from isobit.run.shared import shared_library
from isobit.train import native

BOTH = ("test_equality", "test_autograd", "test_observing", "test_ranges")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.split(".")[-1] in BOTH:
        metafunc.fixturenames.append("compiled")
        metafunc.parametrize("compiled", [True, False], indirect=True, ids=["kernels", "torch"])


@pytest.fixture(autouse=True)
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    native.offer(shared_library)
    native.allow(getattr(request, "param", True))
    yield
    native.allow(True)


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
