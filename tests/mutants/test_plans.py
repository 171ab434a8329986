"""Known plans, and alignment on a core whose kernels need it."""

from __future__ import annotations

from isobit import targets
from isobit.plan.plan import make_plan
from property.graphs import draw

from .plans import alignment_problems, plan_problems


def test_known_plans() -> None:
    assert not list(plan_problems())


def test_buffers_and_scratch_are_aligned() -> None:
    target = targets.load("cortex-m4")
    for seed in range(40):
        assert not list(alignment_problems(make_plan(draw(seed).graph, target))), f"seed {seed}"
