"""ONNX's Resize and Upsample."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from isobit.core.types import AnyArray, IntArray
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Fixed, LogicalCall
from isobit.ops.onnx import done, image, image_shape, moved_codes, scale, target
from isobit.ops.resize_bilinear.op import ONE, lines
from isobit.ops.resize_nearest.op import ResizeAttrs, ResizeInputs, nearest
from isobit.ops.window import Pair

PIXELS = ((False, False), (False, True), (True, False))
"""align_corners, half_pixel_centers."""


@onnx("Resize", "Upsample")
def resize(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L]; rows and columns only; modes nearest and linear.

    The source of every output row and column is computed as ONNX defines it; what our operator
    can say with its options is imported, anything else refused.
    """
    x = image(call, call.activation())
    shape = image_shape(call.output().shape)
    if shape[:2] != x.shape[:2]:
        got = f"{list(x.shape)} to {list(shape)}"
        raise call.unsupported("axes", "rows and columns", got, "Resize images only.")
    size: Pair = (shape[2], shape[3])
    mode = call.option("mode", "nearest")
    if mode not in ("nearest", "linear") or call.option("antialias", 0):
        raise call.unsupported("mode", "nearest or linear", mode, "Use one of these.")
    sources = [_positions(call, x, size, axis) for axis in (0, 1)]
    for aligned, half in PIXELS:
        attrs = ResizeAttrs(size, aligned, half)
        if all(_agrees(call, mode, attrs, x, size, axis, sources[axis]) for axis in (0, 1)):
            break
    else:
        what = call.option("coordinate_transformation_mode", "half_pixel")
        got = f"{what}, {call.option('nearest_mode', 'round_prefer_floor')}"
        raise call.unsupported(
            "coordinates",
            "those of align_corners, half_pixel or asymmetric with floor",
            f"{got} from {x.shape[2:]} to {size}",
            "Resize by a whole factor.",
        )
    y = target(call, (1, x.shape[1], *size), like=x)
    op = "resize_nearest" if mode == "nearest" else "resize_bilinear"
    call.step(Fixed(op, lambda n: ResizeInputs(n[0]), attrs), [x], y)
    if mode == "linear" and not call.is_float:
        _bounded(call, x, attrs, sources)
    done(call, y)


def _bounded(call: LogicalCall, x: Operand, attrs: ResizeAttrs, want: list[AnyArray]) -> None:
    """Report how far TensorFlow Lite's interpolation is from the definition, at most.

    Its positions are whole 2^-10 pixels. An interpolated image changes by at most 255 codes per
    pixel along either axis, so positions that are off by `a` rows and `b` columns give a value that
    is off by at most 255 * (a + b), and by 1/2 more once it is rounded.
    """
    error = Fraction(0)
    for line, position, size in zip(
        lines(attrs, (1, *x.shape[2:], x.shape[1])), want, x.shape[2:], strict=True
    ):
        exact = np.clip(position, 0, size - 1)
        gap = np.abs(line.low + (line.high - line.low) * (line.weight / ONE) - exact)
        error += 255 * Fraction(float(gap.max()))
    out = call.output()
    if x.type.encoding == out.type.encoding:
        lsb = math.floor(error) + 1  # without an error still on a tie, away from zero here
    else:
        lsb = moved_codes((error + Fraction(1, 2)) * scale(call, x) / scale(call, out))
    call.lossy(lsb, "TensorFlow Lite's interpolation, rounded to the input's codes")


def _positions(call: LogicalCall, x: Operand, size: Pair, axis: int) -> AnyArray:
    """Return where the outputs along an axis lie on the input, in pixels, as ONNX defines it."""
    old, new = x.shape[2 + axis], size[axis]
    out = np.arange(new, dtype=np.float64)
    scale = _scale(call, axis) or new / old
    mode = call.option("coordinate_transformation_mode", _default(call))
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and new > 1):
        return (out + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        centre = old / 2 * (1 - new / (scale * old))
        return centre + (out + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return np.zeros(new)
    if mode == "align_corners":
        return out * (old - 1) / (new - 1) if new > 1 else np.zeros(new)
    if mode == "asymmetric":
        return out / scale
    raise call.unsupported(
        "coordinate_transformation_mode",
        "half_pixel, pytorch_half_pixel, align_corners or asymmetric",
        mode,
        "Export with one of these.",
    )


def _default(call: LogicalCall) -> str:
    return "asymmetric" if call.code == "Upsample" else "half_pixel"


def _scale(call: LogicalCall, axis: int) -> float:
    """Return the scale of rows (0) or columns (1) that is stored, or that `sizes` and a policy of
    the aspect ratio mean: one for all axes; 0.0 where the sizes themselves say it.
    """
    shape = call.activation().shape
    rank, own = len(shape), len(shape) - 2 + axis
    if rank == 3 and axis == 0:
        return 0.0
    axes = [call.axis(int(a), rank) for a in call.options.get("axes") or range(rank)]
    if own not in axes:
        return 0.0
    scales = _numbers(call, 1 if call.code == "Upsample" else 2, axes)
    if scales.size:
        return float(scales[axes.index(own)])
    sizes = _numbers(call, 3, axes)
    policy = call.option("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or not sizes.size:
        return 0.0
    if policy not in ("not_larger", "not_smaller"):
        want = "stretch, not_larger or not_smaller"
        raise call.unsupported("keep_aspect_ratio_policy", want, policy, "Give both sizes.")
    factors = [int(size) / shape[a] for size, a in zip(sizes, axes, strict=True)]
    return min(factors) if policy == "not_larger" else max(factors)


def _numbers(call: LogicalCall, index: int, axes: list[int]) -> AnyArray:
    """Return a stored input with one entry per axis, empty where it is left out."""
    given = call.optional(index)
    if given is None or given.data is None or given.data.size == 0:
        return np.empty(0)
    found = given.data.reshape(-1)
    if found.size != len(axes):
        want = f"{len(axes)} numbers"
        raise call.unsupported("scales or sizes", want, str(found.size), "Export it again.")
    return found


def _agrees(
    call: LogicalCall,
    mode: str,
    attrs: ResizeAttrs,
    x: Operand,
    size: Pair,
    axis: int,
    want: AnyArray,
) -> bool:
    """Whether our operator reads the same pixels along an axis."""
    old, new = x.shape[2 + axis], size[axis]
    if mode == "nearest":
        default = "floor" if call.code == "Upsample" else "round_prefer_floor"
        found = _rounded(want, call.option("nearest_mode", default))
        return bool(np.array_equal(np.clip(found, 0, old - 1), nearest(attrs, old, new)))
    aligned = attrs.align_corners and new > 1
    step = (old - 1) / (new - 1) if aligned else old / new
    offset = 0.5 if attrs.half_pixel_centers else 0.0
    ours = np.clip((np.arange(new) + offset) * step - offset, 0, old - 1)
    # Two float64 formulas of one coordinate, below 2^20 pixels: rounding stays under 1e-9.
    return bool(np.allclose(ours, np.clip(want, 0, old - 1), rtol=0, atol=1e-9))


def _rounded(position: AnyArray, mode: str) -> IntArray:
    match mode:
        case "floor":
            found = np.floor(position)
        case "ceil":
            found = np.ceil(position)
        case "round_prefer_ceil":
            found = np.floor(position + 0.5)
        case _:
            found = np.ceil(position - 0.5)
    return found.astype(np.int64)
