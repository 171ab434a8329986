"""Compiled kernels as tests take them."""

from __future__ import annotations

import pytest
import torch

from isobit.train import native

needs_vectors = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in native.LEVELS,
    reason="kernels are compiled for CPUs with AVX2 or AVX512",
)


def kernels() -> native.Kernels:
    found = native.load()
    assert found is not None, "zig compiles them"
    return found
