"""PyTorch's operators that only give a tensor another shape, or a copy."""

from __future__ import annotations

from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.reshape.from_onnx import reshape


@aten(
    "view.default",
    "_unsafe_view.default",
    "unsqueeze.default",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
)
def view(call: LogicalCall) -> None:
    """The same elements in the same order; `flatten` and `reshape` are exported as it."""
    reshape(call)


@aten("clone.default", "alias.default", "detach.default", "_to_copy.default")
def unchanged(call: LogicalCall) -> None:
    """The value itself: copies, changes between float types; dropout is exported as a copy."""
    reshape(call)
