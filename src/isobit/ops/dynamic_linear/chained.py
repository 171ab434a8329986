"""The readable dynamic_linear of an input with an exponent: every core."""

from __future__ import annotations

from isobit.ops.dynamic_linear.reference import Reference


class Chained(Reference, op="dynamic_linear", function="dynamic_linear_s8_chained"):
    """As the reference; the unit of its sums is known at run time only."""

    chained = True
