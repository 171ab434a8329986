"""Random float networks of the forms that ONNX operators have had from opset 7 on: attributes that
became inputs, defaults that changed, negative axes, inputs left out, operands of any rank and on
either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .onnx_cases.base import info, ints, serialised
from .onnx_form_images import Images

STEPS = 8
OPSETS = (7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 21)
STARTS = ((1, 3, 6, 4), (1, 4, 5), (1, 12), (1, 2, 3, 4, 2), (6, 4), (10,), (2, 3, 4), (1, 4, 4, 4))


class Network(Images):
    """A network of all forms."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = OPSETS[seed % len(OPSETS)]
        self.x = self.rng.normal(size=STARTS[int(self.rng.integers(len(STARTS)))])
        self.values: dict[str, np.ndarray] = {"x": self.x.astype(np.float32)}
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        makers: list[Callable[[str], None]] = [
            getattr(self, name) for name in dir(self) if name.startswith("make_")
        ]
        tries = 0
        while len(self.nodes) < STEPS and tries < 60:
            tries += 1
            names = list(self.values)
            place = int(len(names) * math.sqrt(self.rng.random()))
            makers[int(self.rng.integers(len(makers)))](names[place])

    def make_pair(self, x: str) -> None:
        code = self.pick("Add", "Sub", "Mul", "Div", "Add", "Mul")
        shape = self.shape(x)
        others = [n for n, v in self.values.items() if v.shape == shape]
        other = self.pick(*others)
        if self.rng.random() < 0.5:
            data = self.broadcast(x)
            other = self.constant(np.sign(data) * (np.abs(data) + 0.3))
        elif self.rng.random() < 0.3:  # values of other shapes
            other = self.pick(*self.values)
        pair = [x, other] if self.rng.random() < 0.5 or code == "Div" else [other, x]
        if code == "Div" and self.rng.random() < 0.3 and pair[1] in self.constants:
            pair = pair[::-1]
        self.emit(code, pair)

    def make_several(self, x: str) -> None:
        code = self.pick("Sum", "Max", "Min", "Mean")
        names = [x]
        for _ in range(int(self.rng.integers(0, 3))):
            names.append(
                self.constant(self.broadcast(x))
                if self.rng.random() < 0.4
                else self.pick(*self.values)
            )
        self.rng.shuffle(names)
        self.emit(code, names)

    def make_clip(self, x: str) -> None:
        low, high = float(-self.rng.random()), float(self.rng.random())
        if self.opset < 11:
            options = self.pick({"min": low, "max": high}, {"max": high}, {"min": low}, {})
            self.emit("Clip", [x], **options)
            return
        names = [self.pick("", self.constant(np.float32(low))), self.constant(np.float32(high))]
        self.emit("Clip", [x, *names[: int(self.rng.integers(1, 3))]])

    def make_unary(self, x: str) -> None:
        code, options = self.pick(
            ("Relu", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("Elu", {"alpha": 0.7}),
            ("Elu", {}), ("Selu", {}), ("HardSigmoid", {}),
            ("HardSigmoid", {"alpha": 0.4, "beta": 0.3}), ("ThresholdedRelu", {"alpha": 0.0}),
            ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Softsign", {}), ("Neg", {}),
            ("Abs", {}), ("Identity", {}), ("HardSwish", {}), ("Dropout", {}), ("Erf", {}),
            ("Celu", {"alpha": 2.0}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}),
            ("Mish", {}), ("Exp", {}),
        )  # fmt: skip
        self.emit(code, [x], **options)

    def make_prelu(self, x: str) -> None:
        shape = self.shape(x)
        own = self.pick(  # the definition lets no slope be of a higher rank than x
            shape and (1,), (shape[1], *(1,) * (len(shape) - 2)) if len(shape) > 1 else shape, shape
        )
        self.emit("PRelu", [x, self.constant(self.rng.normal(size=own))])

    def make_pow(self, x: str) -> None:
        self.emit("Pow", [x, self.constant(np.float32(self.pick(2.0, 1.0, 3.0)))])

    def make_softmax(self, x: str) -> None:
        code = self.pick("Softmax", "Softmax", "LogSoftmax")
        if self.rng.random() < 0.4:
            self.emit(code, [x])
        else:
            self.emit(code, [x], axis=self.axis(x))

    def make_transpose(self, x: str) -> None:
        perm = self.rng.permutation(len(self.shape(x))).tolist()
        options = self.pick({}, {"perm": perm}, {"perm": perm}) if perm else {}
        self.emit("Transpose", [x], **options)

    def make_flatten(self, x: str) -> None:
        options = self.pick({}, {"axis": self.axis(x)})
        self.emit("Flatten", [x], **options)

    def make_reshape(self, x: str) -> None:
        shape = list(self.shape(x))
        form = int(self.rng.integers(4))
        wanted = [[0, -1], [-1], [0] * max(len(shape) - 1, 1) + [-1], [*shape[::-1]]][form]
        self.emit("Reshape", [x, self.constant(ints(*wanted))])

    def make_squeeze(self, x: str) -> None:
        ones = [a for a, n in enumerate(self.shape(x)) if n == 1]
        some = ones[: int(self.rng.integers(len(ones) + 1))]
        if self.opset >= 11:
            some = [a - len(self.shape(x)) if self.rng.random() < 0.4 else a for a in some]
        if self.opset >= 13:
            self.emit("Squeeze", [x, self.constant(ints(*some))] if some else [x])
        else:
            self.emit("Squeeze", [x], **({"axes": some} if some else {}))

    def make_unsqueeze(self, x: str) -> None:
        rank, count = len(self.shape(x)), int(self.rng.integers(1, 3))
        if rank + count > 5:
            return
        axes = self.rng.permutation(rank + count)[:count].tolist()
        if self.opset >= 11:
            axes = [a - rank - count if self.rng.random() < 0.4 else a for a in axes]
        else:
            axes = sorted(axes)
        if self.opset >= 13:
            self.emit("Unsqueeze", [x, self.constant(ints(*axes))])
        else:
            self.emit("Unsqueeze", [x], axes=axes)

    def make_reduce(self, x: str) -> None:
        code = self.pick(
            "ReduceSum", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1",
            "ReduceL2", "ReduceSumSquare",
        )  # fmt: skip
        rank = len(self.shape(x))
        if not rank:
            return
        count = int(self.rng.integers(1, rank + 1))
        axes = self.rng.permutation(rank)[:count].tolist()
        if self.opset >= 11:
            axes = [a - rank if self.rng.random() < 0.4 else a for a in axes]
        options: dict[str, Any] = self.pick({}, {"keepdims": 0}, {"keepdims": 1})
        by_input = self.opset >= (13 if code == "ReduceSum" else 18)
        form = int(self.rng.integers(4))
        if form == 0:
            self.emit(code, [x], **options)
        elif not by_input:
            self.emit(code, [x], axes=axes, **options)
        elif form == 1:
            noop = {"noop_with_empty_axes": int(self.rng.integers(2))}
            self.emit(code, [x, self.pick("", self.constant(ints()))], **options, **noop)
        else:
            self.emit(code, [x, self.constant(ints(*axes))], **options)

    def make_pad(self, x: str) -> None:
        rank = len(self.shape(x))
        pads = self.rng.integers(0, 3, 2 * rank)
        mode = self.pick("constant", "constant", "reflect")
        if self.opset < 11:
            if not rank:
                return  # an empty list as an attribute has no type
            options = {"value": 0.7} if self.rng.random() < 0.5 else {}
            self.emit("Pad", [x], pads=pads.tolist(), mode=mode, **options)
            return
        names = [x, self.constant(pads)]
        if self.rng.random() < 0.5:
            names.append(self.constant(np.float32(0.7)) if self.rng.random() < 0.7 else "")
        if self.opset >= 18 and self.rng.random() < 0.5:
            axis = self.axis(x)
            names[1] = self.constant(pads[:2])
            names = [*[*names, ""][:3], self.constant(ints(axis))]
        self.emit("Pad", names, mode=mode)

    def make_slice(self, x: str) -> None:
        shape, axis = self.shape(x), self.axis(x)
        size = shape[axis] if shape else 1
        start = int(self.rng.integers(-size - 1, size + 1))
        end = int(self.pick(2**31 - 1, -1, size, *self.rng.integers(-size - 1, size + 2, 2)))
        if self.opset < 10:
            self.emit("Slice", [x], starts=[start], ends=[end], axes=[axis])
            return
        step = int(self.pick(1, 1, 2, -1, -2, 3))
        if step < 0:
            start, end = end, self.pick(-(2**62), start)
        names = [x, self.constant(ints(start)), self.constant(ints(end))]
        more = [self.constant(ints(axis)), self.constant(ints(step))]
        self.emit("Slice", [*names, *more[: int(self.pick(0, 1, 2, 2))]])

    def make_split(self, x: str) -> None:
        shape, axis = self.shape(x), self.axis(x)
        size = shape[axis] if shape else 1
        first = int(self.rng.integers(1, max(size, 2)))
        sizes, axes = [first, size - first], self.pick({"axis": axis}, {})
        if self.rng.random() < 0.5:
            more = {"num_outputs": 2} if self.opset >= 18 else {}
            self.emit("Split", [x], 2, **axes, **more)
        elif self.opset >= 13:
            self.emit("Split", [x, self.constant(ints(*sizes))], 2, **axes)
        else:
            self.emit("Split", [x], 2, split=sizes, **axes)

    def make_concat(self, x: str) -> None:
        same = [n for n, v in self.values.items() if v.shape == self.values[x].shape]
        names = [x, *(self.pick(*same) for _ in range(int(self.rng.integers(0, 3))))]
        if self.rng.random() < 0.3:
            names.insert(0, self.constant(self.rng.normal(size=self.shape(x))))
        self.emit("Concat", names, axis=self.axis(x))

    def make_gather(self, x: str) -> None:
        shape = self.shape(x)
        if not shape:
            return
        axis = self.axis(x)
        low = -shape[axis] if self.opset >= 11 else 0
        indices = self.rng.integers(low, shape[axis], self.pick((), (1,), (1, 1)))
        if self.rng.random() < 0.3:
            indices = np.arange(shape[axis])[:: self.pick(1, 2, -1)]
        options = self.pick({}, {"axis": axis})
        if not options:
            indices = np.minimum(indices % shape[axis], shape[0] - 1)
            indices = indices if indices.size == 1 else np.arange(shape[0])
        if indices.size % 2 == 0 and self.rng.random() < 0.5:
            indices = indices.reshape(2, -1)
        self.emit("Gather", [x, self.constant(np.asarray(indices))], **options)

    def make_tile(self, x: str) -> None:
        repeats = self.rng.integers(1, 3, len(self.shape(x)))
        self.emit("Tile", [x, self.constant(repeats)])

    def make_expand(self, x: str) -> None:
        wanted = [
            int(self.rng.integers(1, 4)) if n == 1 else self.pick(n, 1) for n in self.shape(x)
        ]
        wanted = [1, *wanted] if self.rng.random() < 0.3 and len(wanted) < 4 else wanted
        if wanted:
            self.emit("Expand", [x, self.constant(ints(*wanted))])

    def make_gemm(self, x: str) -> None:
        shape = self.shape(x)
        if len(shape) != 2:
            return
        outputs, flip, back = int(self.rng.integers(1, 6)), int(self.rng.integers(2)), 0
        taps, rows = shape[1], shape[0]
        if self.rng.random() < 0.2:
            back, taps, rows = 1, shape[0], shape[1]
        w = self.rng.normal(size=(outputs, taps) if flip else (taps, outputs)) / math.sqrt(taps)
        own = self.pick((outputs,), (1,), (rows, outputs), (1, outputs), (rows, 1), ())
        names = [x, self.constant(w), self.constant(self.rng.normal(size=own))]
        names = names[:2] if self.opset >= 11 and self.rng.random() < 0.3 else names
        factors = self.pick({}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}, {"alpha": -1.5})
        self.emit("Gemm", names, transB=flip, transA=back, **factors)

    def make_matmul(self, x: str) -> None:
        shape, outputs = self.shape(x), int(self.rng.integers(1, 5))
        if not shape:
            return
        own = self.pick((shape[-1], outputs), (shape[-1],), (1, shape[-1], outputs))
        self.emit("MatMul", [x, self.constant(self.rng.normal(size=own))])
        if self.rng.random() < 0.5 and len(own) == 2 and self.nodes:  # a bias behind it
            name = self.nodes[-1].output[0]
            bias = self.rng.normal(size=self.pick((outputs,), (1, outputs), (1, 1, outputs), (1,)))
            self.emit("Add", [name, self.constant(bias)])

    def drop(self, refused: set[str]) -> None:
        """Take away the operators with such results, and all that read them."""
        kept = []
        for node in self.nodes:
            if refused & {*node.input, *node.output}:
                refused |= set(node.output)
            else:
                kept.append(node)
        self.nodes = kept

    def outputs(self) -> list[str]:
        """Return what nothing reads, and one more value."""
        used = {name for node in self.nodes for name in node.input}
        written = [name for node in self.nodes for name in node.output]
        return list(dict.fromkeys([*(n for n in written if n not in used), self.pick(*written)]))

    def blob(self, outputs: list[str]) -> bytes:
        given = [info("x", self.x.shape)]
        results = [info(name, None) for name in outputs]
        return serialised(self.nodes, given, results, self.constants, self.opset)
