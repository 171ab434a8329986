"""Sliding windows: the shape rule, the gather and the memory-overlap bound that convolutions and
pools share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from isobit.core.errors import BadAttribute, BadShape, IsobitError
from isobit.core.types import AnyArray, Shape

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]
"""Padding as (top, left, bottom, right)."""
MOST_ELEMENTS = 1 << 26
"""Of a padded image: no microcontroller holds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A 2-D window over an NHWC tensor; `pad` is (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Rows and columns a window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))  # type: ignore[return-value]  # a pair stays a pair

    def problems(self, where: str, shape: Shape) -> list[IsobitError]:
        """Everything wrong with this window on an input of `shape` (NHWC)."""
        found: list[IsobitError] = []
        if len(shape) != 4:
            found.append(
                BadShape(
                    where=where,
                    what="input rank",
                    want="4 (N, H, W, C)",
                    got=f"{len(shape)} {list(shape)}",
                    fix="Give the network an image input (C, H, W).",
                )
            )
        for what, values, least in (
            ("kernel", self.kernel, 1),
            ("stride", self.stride, 1),
            ("dilation", self.dilation, 1),
            ("pad", self.pad, 0),
        ):
            if min(values) < least:
                found.append(
                    BadAttribute(
                        where=where,
                        what=what,
                        want=f"every entry >= {least}",
                        got=str(values),
                        fix="Correct the option.",
                    )
                )
        if not found and min(self.padded(shape)[i] - self.extent[i] for i in (0, 1)) < 0:
            found.append(
                BadShape(
                    where=where,
                    what="window",
                    want=f"at most the padded input, {self.padded(shape)}",
                    got=f"{self.extent} (kernel {self.kernel}, dilation {self.dilation})",
                    fix="Use a smaller kernel, more padding, or fewer strides before this layer.",
                )
            )
        if not found and math.prod(self.padded(shape)) * shape[3] > MOST_ELEMENTS:
            found.append(
                BadShape(
                    where=where,
                    what="padded input",
                    want=f"at most {MOST_ELEMENTS:,} elements",
                    got=f"{math.prod(self.padded(shape)) * shape[3]:,}",
                    fix="Use less padding, or a smaller input.",
                )
            )
        return found

    def padded(self, shape: Shape) -> Pair:
        """Rows and columns of the padded input."""
        top, left, bottom, right = self.pad
        return shape[1] + top + bottom, shape[2] + left + right

    def out_hw(self, shape: Shape) -> Pair:
        """Output rows and columns: floor((padded - extent) / stride) + 1."""
        rows, cols = self.padded(shape)
        return (rows - self.extent[0]) // self.stride[0] + 1, (
            cols - self.extent[1]
        ) // self.stride[1] + 1

    def gather(self, x: AnyArray, fill: Any) -> AnyArray:
        """Return a view [N, OH, OW, KH, KW, C] of `x` [N, H, W, C] padded with `fill`."""
        top, left, bottom, right = self.pad
        if any(self.pad):
            x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        view = sliding_window_view(x, self.extent, axis=(1, 2))
        view = view[
            :, :: self.stride[0], :: self.stride[1], :, :: self.dilation[0], :: self.dilation[1]
        ]
        result: AnyArray = view.transpose(0, 1, 2, 4, 5, 3)
        return result

    def inside(self, shape: Shape) -> AnyArray:
        """Return [OH, OW]: how many window positions lie on the input, not on padding."""
        ones = np.ones((1, shape[1], shape[2], 1), dtype=np.int64)
        counted: AnyArray = self.gather(ones, 0).sum(axis=(3, 4, 5))[0]
        return counted

    def geometry(self, x: Shape, y: Shape) -> dict[str, int]:
        """Fields every windowed kernel's geometry struct starts with."""
        return {
            "in_h": x[1],
            "in_w": x[2],
            "in_c": x[3],
            "out_h": y[1],
            "out_w": y[2],
            "out_c": y[3],
            "kernel_h": self.kernel[0],
            "kernel_w": self.kernel[1],
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "pad_top": self.pad[0],
            "pad_left": self.pad[1],
            "dilation_h": self.dilation[0],
            "dilation_w": self.dilation[1],
        }

    def overlap_bytes(self, x: Shape, y: Shape) -> int:
        """How far writes lead reads when output pixels are written in order, whole pixels at a
        time.

        After pixel p is begun, bytes up to `(p+1) * C_out` may have been written while the windows
        of p and of all later pixels are still to be read. int8 in, int8 out. O(OH * OW).
        """
        rows = np.clip(np.arange(y[1]) * self.stride[0] - self.pad[0], 0, x[1])
        cols = np.clip(np.arange(y[2]) * self.stride[1] - self.pad[1], 0, x[2])
        first = ((rows[:, None] * x[2] + cols[None, :]) * x[3]).ravel()
        still_needed = np.minimum.accumulate(first[::-1])[::-1]
        written = (np.arange(first.size) + 1) * y[3]
        return int(max(0, (written - still_needed).max()))


def pair(value: int | tuple[int, ...]) -> Pair:
    """Torch's convention: one int means both directions."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def symmetric(pad: Pair) -> Quad:
    """(rows, columns) of padding on both sides as (top, left, bottom, right)."""
    return (pad[0], pad[1], pad[0], pad[1])


def torch_padding(padding: str | int | tuple[int, ...], window: Window) -> Quad:
    """Torch's `padding` argument of a convolution as (top, left, bottom, right); "same" puts the
    odd one last.
    """
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        rows, cols = (extent - 1 for extent in window.extent)
        return (rows // 2, cols // 2, rows - rows // 2, cols - cols // 2)
    assert not isinstance(padding, str)
    return symmetric(pair(padding))


def ceil_extension(window: Window, shape: Shape) -> Quad:
    """Padding that makes floor division give torch's `ceil_mode` output shape.

    Torch drops a last window that would start in the right or bottom padding.
    """
    extra = []
    padded = window.padded(shape)
    for axis in (0, 1):
        size, before = shape[1 + axis], window.pad[axis]
        stride, extent = window.stride[axis], window.extent[axis]
        out = -(-(padded[axis] - extent) // stride) + 1
        if (out - 1) * stride >= size + before:
            out -= 1
        extra.append(max(0, (out - 1) * stride + extent - padded[axis]))
    top, left, bottom, right = window.pad
    return (top, left, bottom + extra[0], right + extra[1])
