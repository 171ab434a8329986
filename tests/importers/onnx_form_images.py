"""Random forms of ONNX operators on images, and what adds an operator to a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import defs, helper

from .onnx_cases.base import info, ints, serialised

LARGEST = 1200

Shape = tuple[int, ...]


class Images:
    """A network in the making; every value is known for one input, and its shape with it."""

    rng: np.random.Generator
    opset: int
    values: dict[str, np.ndarray]
    nodes: list[Any]
    constants: dict[str, np.ndarray]

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def emit(self, code: str, inputs: list[str], count: int = 1, **options: Any) -> None:
        """Add a node if the definition accepts it, with a result of a useful size."""
        names = [f"v{len(self.nodes)}_{k}" for k in range(count)]
        node = helper.make_node(code, inputs, names, **options)
        known = {n: self.values[n] for n in dict.fromkeys(inputs) if n in self.values}
        stored = {n: self.constants[n] for n in dict.fromkeys(inputs) if n in self.constants}
        given = [info(n, v.shape) for n, v in known.items()]
        blob = serialised([node], given, [info(n, None) for n in names], stored, self.opset)
        try:
            defs.get_schema(code, self.opset)  # the runtime also knows what the definition does not
            found = theirs_of(blob, known)
        except Exception:  # onnx or onnxruntime refuses it; ours is not asked here
            return
        if any(v.size > LARGEST or not v.size or not np.isfinite(v).all() for v in found):
            return
        if max(float(np.abs(v).max()) for v in found) > 1e4:
            return
        self.nodes.append(node)
        self.values.update(zip(names, found, strict=True))

    def constant(self, data: Any) -> str:
        name, array = f"c{len(self.constants)}", np.asarray(data)
        self.constants[name] = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        return name

    def shape(self, x: str) -> Shape:
        return tuple(self.values[x].shape)

    def axis(self, x: str) -> int:
        """An axis, counted from either end where the opset allows it."""
        rank = max(len(self.shape(x)), 1)
        return int(self.rng.integers(-rank if self.opset >= 11 else 0, rank))

    def broadcast(self, x: str) -> np.ndarray:
        """Reals that broadcast to x, of any rank up to its own."""
        shape = self.shape(x)
        own = tuple(n if self.rng.random() < 0.6 else 1 for n in shape)
        own = own[int(self.rng.integers(len(own) + 1)) :]
        return self.rng.normal(size=own)

    def make_conv(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) not in (3, 4) or shape[0] != 1:
            return
        rank, channels = len(shape) - 2, shape[1]
        group = self.pick(*[g for g in range(1, channels + 1) if channels % g == 0])
        outputs = group * int(self.rng.integers(1, 3))
        kernel = [int(k) for k in self.rng.integers(1, 4, rank)]
        options: dict[str, Any] = {"group": group}
        if self.rng.random() < 0.5:
            options["strides"] = [int(s) for s in self.rng.integers(1, 4, rank)]
        if self.rng.random() < 0.3:
            options["dilations"] = [int(s) for s in self.rng.integers(1, 3, rank)]
        if self.rng.random() < 0.4:
            options["auto_pad"] = self.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        else:
            options["pads"] = [int(p) for p in self.rng.integers(0, 3, 2 * rank)]
        w = self.rng.normal(size=(outputs, channels // group, *kernel))
        names = [x, self.constant(w)]
        if self.rng.random() < 0.6:
            names.append(self.constant(self.rng.normal(size=outputs)))
        count = len(self.nodes)
        self.emit("Conv", names, **options)
        if len(self.nodes) > count and self.rng.random() < 0.4:
            bias = self.rng.normal(
                size=self.pick((outputs, *(1,) * rank), (1, outputs, *(1,) * rank), (1,))
            )
            self.emit("Add", [self.nodes[-1].output[0], self.constant(bias)])

    def make_deconv(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) not in (3, 4) or shape[0] != 1:
            return
        rank, outputs = len(shape) - 2, int(self.rng.integers(1, 4))
        kernel = [int(k) for k in self.rng.integers(1, 4, rank)]
        options: dict[str, Any] = {}
        if self.rng.random() < 0.6:
            options["strides"] = [int(s) for s in self.rng.integers(1, 4, rank)]
        form = int(self.rng.integers(3))
        if form == 0:
            options["auto_pad"] = self.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        elif form == 1:
            options["pads"] = [int(p) for p in self.rng.integers(0, 2, 2 * rank)]
            options["output_padding"] = [int(p) for p in self.rng.integers(0, 2, rank)]
        w = self.rng.normal(size=(shape[1], outputs, *kernel))
        names = [x, self.constant(w), self.constant(self.rng.normal(size=outputs))]
        self.emit("ConvTranspose", names[: int(self.rng.integers(2, 4))], **options)

    def make_pool(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) not in (3, 4) or shape[0] != 1:
            return
        rank, code = len(shape) - 2, self.pick("MaxPool", "AveragePool")
        options: dict[str, Any] = {"kernel_shape": [int(k) for k in self.rng.integers(1, 4, rank)]}
        if self.rng.random() < 0.6:
            options["strides"] = [int(s) for s in self.rng.integers(1, 4, rank)]
        if self.rng.random() < 0.3:
            options["auto_pad"] = self.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        else:
            options["pads"] = [int(p) for p in self.rng.integers(0, 2, 2 * rank)]
        if self.opset >= 10 and self.rng.random() < 0.3:
            options["ceil_mode"] = 1
        if code == "AveragePool" and self.rng.random() < 0.5:
            options["count_include_pad"] = 1
        self.emit(code, [x], **options)

    def make_global(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) in (3, 4) and shape[0] == 1:
            self.emit(self.pick("GlobalAveragePool", "GlobalMaxPool"), [x])

    def make_norm(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) < 2 or shape[0] != 1:
            return
        channels = shape[1]
        numbers = [self.constant(self.rng.normal(size=channels)) for _ in range(3)]
        numbers.append(self.constant(self.rng.uniform(0.5, 2.0, size=channels)))
        form = int(self.rng.integers(5))
        if form < 2:
            self.emit("BatchNormalization", [x, *numbers], **self.pick({}, {"epsilon": 0.1}))
        elif form == 2 and len(shape) > 2:
            self.emit("InstanceNormalization", [x, *numbers[:2]], epsilon=0.01)
        elif form == 3 and self.opset >= 17:
            axis = self.axis(x)
            own = shape[axis % len(shape) :]
            scale = [self.constant(self.rng.normal(size=own)) for _ in range(2)]
            self.emit(
                "LayerNormalization",
                [x, *scale[: int(self.rng.integers(1, 3))]],
                axis=axis,
                epsilon=0.01,
            )
        elif form == 4:
            self.emit("LpNormalization", [x], axis=self.axis(x), p=2)

    def make_resize(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) != 4 or shape[0] != 1:
            return
        mode = self.pick("nearest", "linear")
        factors = [1.0, 1.0, *(float(self.pick(1.0, 2.0, 3.0, 1.5, 0.5)) for _ in range(2))]
        scales = self.constant(np.asarray(factors, np.float32))
        if self.opset < 10:
            self.emit("Upsample", [x, scales], mode=mode)
            return
        if self.opset == 10:
            self.emit("Resize", [x, scales], mode=mode)
            return
        options: dict[str, Any] = {
            "mode": mode,
            "coordinate_transformation_mode": self.pick(
                "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"
            ),
        }
        if mode == "nearest":
            options["nearest_mode"] = self.pick(
                "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"
            )
        empty = self.constant(np.zeros(0, np.float32)) if self.opset < 13 else ""
        if self.rng.random() < 0.5:
            self.emit("Resize", [x, empty, scales], **options)
        else:
            sizes = [1, shape[1], *(int(n) for n in self.rng.integers(1, 10, 2))]
            none = self.constant(np.zeros(0, np.float32)) if self.opset < 13 else ""
            self.emit("Resize", [x, empty, none, self.constant(ints(*sizes))], **options)

    def make_blocks(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) == 4 and shape[0] == 1 and shape[1] % 4 == 0:
            mode = {"mode": self.pick("DCR", "CRD")} if self.opset >= 11 else {}
            self.emit("DepthToSpace", [x], blocksize=2, **mode)
        elif len(shape) == 4 and shape[0] == 1:
            self.emit("SpaceToDepth", [x], blocksize=2)


def theirs_of(blob: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, feeds)]
