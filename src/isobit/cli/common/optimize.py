"""The option `--optimize` of every verb that plans."""

from __future__ import annotations

import click

from isobit.plan.plan import Optimize

optimize_option = click.option(
    "--optimize",
    type=click.Choice([o.value for o in Optimize]),
    default=Optimize.SPEED.value,
    show_default=True,
    help="Kernels with the fewest modelled cycles (speed); the smallest arena, then cycles (ram); "
    "the least flash, code compiled for size (flash); the fewest cycles that a quarter of a "
    "layer's bytes may buy (balanced).",
)
