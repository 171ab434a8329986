"""Memory that is used again: only when nobody holds it, in the order asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from isobit.core import fixed_torch
from isobit.core import torch_scratch as scratch

CPU = torch.device("cpu")
SIDE = 512
"""A square of so many float32 is a block worth keeping."""
needs_counts = pytest.mark.skipif(
    scratch._holders is None, reason="this torch does not say who holds a storage"
)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    scratch.release()
    yield
    scratch.release()


def square(dtype: torch.dtype = torch.float32) -> Tensor:
    return scratch.empty((SIDE, SIDE), dtype, CPU)


@needs_counts
def test_memory_is_used_again_when_its_last_holder_is_gone() -> None:
    first = square()
    place = first.data_ptr()
    second = square()
    assert second.data_ptr() != place
    part = first[3]
    del first
    assert square().data_ptr() != place, "a view holds it"
    del part
    assert square(torch.int32).data_ptr() == place, "of any dtype of that size"


@needs_counts
def test_what_a_gradient_needs_is_not_taken() -> None:
    x = torch.linspace(-3, 3, SIDE * SIDE, requires_grad=True)
    y = fixed_torch.floor_clamp(x * 2, -4, 4)
    loss = (y * y).sum()  # holds y, and inside it what the clamp saved
    del y
    for _ in range(8):
        square().fill_(float("nan"))
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


@needs_counts
def test_what_is_no_longer_asked_for_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LONGEST_IDLE", 3)
    square()
    assert list(scratch._blocks) == [SIDE * SIDE * 4]
    for rows in range(1, 6):
        scratch.empty((SIDE + rows, SIDE), torch.float32, CPU)
    assert SIDE * SIDE * 4 not in scratch._blocks
    assert set(scratch._blocks) == set(scratch._asked)


def test_small_tensors_are_torchs_own() -> None:
    scratch.empty((8,), torch.float32, CPU)
    assert not scratch._blocks


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 2, 1)])
def test_memory_order_is_that_of_the_other_tensor(axes: tuple[int, ...]) -> None:
    like = torch.zeros(8, 16, 32, 64).permute(axes)
    for dtype in (torch.float32, torch.float64, torch.int8):
        found = scratch.empty_like(like, dtype)
        assert (found.shape, found.stride(), found.dtype) == (like.shape, like.stride(), dtype)


def test_an_empty_batch_has_no_memory() -> None:
    assert scratch.empty((0, 4), torch.float32, CPU).shape == (0, 4)


@needs_counts
def test_threads_do_not_get_the_same_memory() -> None:
    wrong = []

    def work(number: int) -> None:
        for _ in range(300):
            mine = square().fill_(number)
            if not bool((mine == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


PAGES = """
import resource, torch
from isobit.core import torch_scratch
asked = torch_scratch.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for step in range(12):
    if step == 8:
        before = faults()
    held = [torch.ones(3 << 20) for _ in range(10)]
    del held
print(asked, faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted as Linux does")
def test_freed_memory_is_kept_once_it_is_asked_for() -> None:
    """126 MB in each of 12 rounds, more than glibc is sure to keep by itself; pages fetched in the
    last four.
    """
    found = {}
    for variables in ({}, {"MALLOC_TRIM_THRESHOLD_": "131072"}):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        ended = subprocess.run(
            [sys.executable, "-c", PAGES],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        asked, pages = ended.stdout.split()
        found[bool(variables)] = (asked == "True", int(pages))
    assert found[True][0] is False, "the user's own setting stands"
    assert found[True][1] > 4 * 30000, "all of it is fetched again where nothing is kept"
    if found[False][0]:  # glibc
        assert found[False][1] < 4 * 300
