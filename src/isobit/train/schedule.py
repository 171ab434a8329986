"""The learning rate as a pure function of the step: nothing to save, nothing to restore.

With base rate r, S steps in the run, W warm-up steps and s the step, counted from 0:

    s < W:      r * (s + 1) / W
    constant:   r
    step:       r * gamma^k,   k milestones m with round(m * S) <= s
    cosine:     r * (f + (1 - f) * (1 + cos(pi * (s - W) / (S - W))) / 2),   f = final_fraction

Cosine annealing: Loshchilov and Hutter, arXiv 1608.03983, without restarts; warm-up: Goyal et al.,
arXiv 1706.02677.
"""

from __future__ import annotations

import math

from isobit.core.arguments import Arguments
from isobit.train.recipe.types import LARGEST_RATE, Schedule


def rate(schedule: Schedule, base: float, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the learning rate of a step, in 0..base.

    base: above 0. step: 0..steps_per_epoch * epochs - 1. W is `warmup_epochs * steps_per_epoch`
    rounded to an integer, ties to even, and at most S. Milestones are found by rounding too, so
    that 0.7 of 10 steps is step 7 although 0.7 * 10 is more in binary. Raises `BadArgument` for
    every argument outside its range.
    """
    given = Arguments("schedule.rate")
    given.instance("schedule", schedule, Schedule, "a Schedule")
    base = given.number("base", base, above=0, at_most=LARGEST_RATE)
    per_epoch = given.integer("steps_per_epoch", steps_per_epoch, at_least=1)
    epochs = given.integer("epochs", epochs, at_least=1)
    steps = per_epoch * epochs
    step = given.integer("step", step, at_least=0, at_most=steps - 1)
    given.check()
    warmup = min(steps, round(schedule.warmup_epochs * per_epoch))
    if step < warmup:
        return base * (step + 1) / warmup
    match schedule.name:
        case "constant":
            return base
        case "step":
            passed = sum(round(m * steps) <= step for m in schedule.milestones)
            return base * schedule.gamma**passed
        case "cosine":
            final = schedule.final_fraction
            done = (step - warmup) / (steps - warmup)
            return base * (final + (1 - final) * (0.5 * (1 + math.cos(math.pi * done))))
