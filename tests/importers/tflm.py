"""The pinned tflite-micro wheel: what a TFLite file means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tflite


class Wheel:
    """An interpreter that keeps every tensor."""

    def __init__(self, blob: bytes) -> None:
        from tflite_micro.python.tflite_micro import runtime

        self._interpreter = runtime.Interpreter.from_bytes(
            blob,
            arena_size=len(blob) * 10 + (1 << 22),
            intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
        )
        self._graph = tflite.Model.GetRootAs(blob, 0).Subgraphs(0)

    def run(self, *inputs: np.ndarray) -> None:
        """Run once, on an array for each input of the file; variables keep what the run before
        left.
        """
        for index, x in enumerate(inputs):
            shape = self._interpreter.get_input_details(index)["shape"]
            self._interpreter.set_input(np.ascontiguousarray(x).reshape(shape), index)
        self._interpreter.invoke()

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what every operator wrote, by the tensor's name in the file, in order; then the
        variables.
        """
        for position in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(position)
            for index in operator.OutputsAsNumpy():
                name = self._graph.Tensors(int(index)).Name().decode()
                tensor = self._interpreter.GetTensor(int(index), 0)
                yield name, np.array(tensor["tensor_data"])

        for index in range(self._graph.TensorsLength()):
            if self._graph.Tensors(index).IsVariable():  # what it became in this run
                tensor = self._interpreter.GetTensor(index, 0)
                yield self._graph.Tensors(index).Name().decode(), np.array(tensor["tensor_data"])

    def output(self, index: int = 0) -> np.ndarray:
        return np.array(self._interpreter.get_output(index))


def models() -> Path:
    """The folder of real models."""
    return Path(os.environ["ISOBIT_MODELS"])
