"""The readable dynamic_depthwise_conv2d of an input with an exponent: every core."""

from __future__ import annotations

from isobit.ops.dynamic_depthwise_conv2d.reference import Reference


class Chained(
    Reference, op="dynamic_depthwise_conv2d", function="dynamic_depthwise_conv2d_s8_chained"
):
    """As the reference; the unit of its sums is known at run time only."""

    chained = True
