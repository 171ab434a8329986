"""What kernels declare."""

from __future__ import annotations

from isobit.ops.registry import load_ops

from .leads import lead_problems


def test_no_kernel_declares_more_than_recorded() -> None:
    assert not [problem for op in load_ops().ops for problem in lead_problems(op)]
