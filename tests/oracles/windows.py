"""Where the taps of a sliding window lie."""

from __future__ import annotations


def output_size(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> int:
    """How many windows fit completely on the padded axis."""
    room = before + size + after - (dilation * (kernel - 1) + 1)
    assert room >= 0, "the window is larger than the padded image"
    return room // stride + 1


def taps_on_input(start: int, kernel: int, dilation: int, size: int) -> list[tuple[int, int]]:
    """The pairs (tap, position) of one axis that lie on the image and not on its padding."""
    return [
        (tap, start + tap * dilation) for tap in range(kernel) if 0 <= start + tap * dilation < size
    ]
