"""PyTorch's upsampling to the nearest pixel, and bilinear."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, image_axes, real
from isobit.ops.foreign import Operand, aten
from isobit.ops.logical import LogicalCall
from isobit.ops.resize_nearest.from_onnx import resize


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec")
def nearest(call: LogicalCall) -> None:
    """x: [N, C, H, W] or [N, C, L]."""
    _resized(call, mode="nearest", transformation="asymmetric", rounding="floor")


@aten("_upsample_nearest_exact1d.vec", "_upsample_nearest_exact2d.vec")
def nearest_exact(call: LogicalCall) -> None:
    """The same, counted from the centres of pixels."""
    _resized(call, mode="nearest", transformation="half_pixel", rounding="round_prefer_ceil")


@aten("upsample_linear1d.vec", "upsample_bilinear2d.vec")
def bilinear(call: LogicalCall) -> None:
    """`align_corners` as in torch; otherwise pixels have their centres at +1/2."""
    corners = bool(call.option("align_corners", False))
    transformation = "align_corners" if corners else "half_pixel"
    _resized(call, mode="linear", transformation=transformation, rounding="floor")


def _resized(call: LogicalCall, *, mode: str, transformation: str, rounding: str) -> None:
    image_axes(call)
    inputs: list[Operand | None] = [call.activation()]
    factors = call.options.get("scale_factors")
    if factors:  # torch samples by the factor that it was given, not by the ratio of the sizes
        scales = real(call, "scales", (2 + len(factors),), 1.0)
        assert scales.data is not None
        scales.data[2:] = factors
        inputs += [None, scales]
    resize(
        as_onnx(
            call,
            "Resize",
            inputs,
            mode=mode,
            coordinate_transformation_mode=transformation,
            nearest_mode=rounding,
        )
    )
