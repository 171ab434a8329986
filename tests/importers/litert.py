"""The pinned LiteRT's reference kernels (BUILTIN_REF): what a uint8 file means."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Litert:
    """An interpreter without delegates; with `keeps_all`, it yields every tensor.

    No tensor shares memory with another. With the default memory planner, a SUB of a scalar writes
    over its input where that is two reshapes (EXPAND_DIMS, RESHAPE) of a tensor that is still read:
    a later operator then reads the wrong one (as in google-ai-edge/LiteRT#8889 and #8928).
    """

    def __init__(self, blob: bytes, *, keeps_all: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=blob,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        self._keeps_all = keeps_all

    def run(self, *inputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Run once and yield every output, or every tensor, with its name in the file."""
        for detail, x in zip(self._interpreter.get_input_details(), inputs, strict=True):
            shape = tuple(detail["shape"])
            self._interpreter.set_tensor(detail["index"], np.asarray(x).reshape(shape))
        self._interpreter.invoke()
        every = self._interpreter.get_tensor_details
        for detail in every() if self._keeps_all else self._interpreter.get_output_details():
            yield detail["name"], np.array(self._interpreter.get_tensor(detail["index"]))
