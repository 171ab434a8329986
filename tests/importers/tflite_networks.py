"""Random TFLite networks: int8, uint8 or float32 operators over tensors that several others read,
stored on either side, of any rank, with extreme zero points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tflite_builder import Operator, Tensor, build

from .cases.base import activation, constant

STEPS = 10
LARGEST = 1500
STARTS = ((1, 5, 4, 3), (1, 6, 5), (1, 24), (1, 7, 6, 1), (6, 4), (12,), (1, 2, 3, 2, 2))
Shape = tuple[int, ...]


class Network:
    """A network in the making: named tensors, later ones read more often."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = ("int8", "uint8", "int8", "float32")[seed % 4]
        self.shift = 128 if self.dtype == "uint8" else 0
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.inputs = [self.tensor("x", STARTS[seed % len(STARTS)])]
        if self.rng.random() < 0.3:
            self.inputs.append(self.tensor("x2", self.inputs[0].shape))
        both: list[Callable[[Tensor], None]] = [
            self.pair, self.pair, self.pair, self.unary, self.unary, self.conv, self.conv,
            self.conv, self.pool, self.dense, self.dense, self.join, self.pad, self.reduce,
            self.reshape, self.reshape, self.turn, self.cut, self.split, self.pack, self.unpack,
            self.squeeze, self.softmax, self.resize, self.table, self.expand,
        ]  # fmt: skip
        makers = both if self.dtype == "float32" else [*both, self.requantize, self.stored]
        while len(self.operators) < STEPS:
            names = list(self.tensors)
            place = int(len(names) * math.sqrt(self.rng.random()))
            x = self.tensors[names[place]]
            if x.data is None:
                makers[int(self.rng.integers(len(makers)))](x)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def encoding(self) -> tuple[float, int]:
        """A scale and a zero point, now and then extreme ones."""
        scale = float(np.float32(2.0 ** self.rng.uniform(-7, 0)))
        zero = int(self.pick(0, -128, 127, *self.rng.integers(-128, 128, 4)))
        return scale, zero + self.shift

    def tensor(self, name: str, shape: Shape, like: Tensor | None = None) -> Tensor:
        """A new tensor, of an encoding of its own or of another's."""
        scale, zero = self.encoding()
        if like is not None and like.scale:
            scale, zero = like.scale[0], like.zero_point[0]
        self.tensors[name] = activation(name, shape, scale, zero, self.dtype)
        return self.tensors[name]

    def constant(self, data: Any, like: Tensor | None = None) -> str:
        """A stored tensor: of integers, or (with reals given) in the network's type."""
        name, array = f"c{len(self.tensors)}", np.asarray(data)
        if array.dtype.kind == "i":
            self.tensors[name] = constant(name, array)
        elif self.dtype == "float32":
            self.tensors[name] = constant(name, array, "float32")
        else:
            scale, zero = self.encoding() if like is None else (like.scale[0], like.zero_point[0])
            codes = self.rng.integers(-128, 128, array.shape) + self.shift
            self.tensors[name] = constant(name, codes, self.dtype, [scale], [zero])
        return name

    def emit(
        self,
        code: str,
        inputs: Sequence[str | None],
        shapes: Sequence[Shape],
        options: str = "",
        like: Tensor | None = None,
        **values: Any,
    ) -> None:
        if any(math.prod(shape) > LARGEST or len(shape) > 5 for shape in shapes):
            return
        names = [f"v{len(self.operators)}_{k}" for k in range(len(shapes))]
        for name, shape in zip(names, shapes, strict=True):
            self.tensor(name, shape, like)
        self.operators.append(
            Operator(
                code=code,
                inputs=tuple(inputs),
                outputs=tuple(names),
                options=options,
                values=values,
            )
        )

    # Operators

    def pair(self, x: Tensor) -> None:
        code, options = self.pick(
            ("ADD", "AddOptions"),
            ("SUB", "SubOptions"),
            ("MUL", "MulOptions"),
            ("MAXIMUM", ""),
            ("MINIMUM", ""),
        )
        if not 1 <= len(x.shape) <= 4:
            return
        same = [t.name for t in self.tensors.values() if t.shape == x.shape and not t.axis]
        other = self.pick(*same)
        if self.rng.random() < 0.4:
            kept = self.rng.random(len(x.shape)) < 0.6
            own = tuple(n if keep else 1 for n, keep in zip(x.shape, kept, strict=True))
            own = own[int(self.rng.integers(len(own))) :] if self.rng.random() < 0.3 else own
            like = x if code in ("MAXIMUM", "MINIMUM") else None
            other = self.constant(self.rng.normal(size=own), like)
        like = None
        if code in ("MAXIMUM", "MINIMUM"):
            like = x
            if self.tensors[other].scale[:1] + self.tensors[other].zero_point[:1] != (
                x.scale[:1] + x.zero_point[:1]
            ):
                other = x.name
        if self.tensors[other].dtype != self.dtype:
            return
        pair = [x.name, other] if self.rng.random() < 0.5 else [other, x.name]
        values = {} if not options else {"FusedActivationFunction": int(self.rng.integers(4))}
        self.emit(code, pair, [x.shape], options, like, **values)

    def unary(self, x: Tensor) -> None:
        code = self.pick("RELU", "RELU6", "LOGISTIC", "TANH", "LEAKY_RELU", "ABS", "HARD_SWISH")
        if code == "HARD_SWISH" and self.dtype == "float32":
            code = "ELU"
        like = x if code == "ABS" else None
        if code == "LEAKY_RELU":
            alpha = float(self.pick(0.1, 0.3, 1.5))
            self.emit(code, [x.name], [x.shape], "LeakyReluOptions", Alpha=alpha)
            return
        self.emit(code, [x.name], [x.shape], like=like)
        if self.operators and self.operators[-1].code == code:
            if code == "LOGISTIC":
                self.fix(x.shape, 1 / 256, -128)
            elif code == "TANH":
                self.fix(x.shape, 1 / 128, 0)

    def fix(self, shape: Shape, scale: float, zero: int) -> None:
        """Give the last result the only encoding that its operator may have."""
        if self.dtype != "float32":
            name = self.operators[-1].outputs[0]
            self.tensors[name] = activation(name, shape, scale, zero + self.shift, self.dtype)

    def table(self, x: Tensor) -> None:
        slopes = self.constant(self.rng.normal(size=x.shape[-1:]))
        if len(x.shape) in (2, 3, 4):
            self.emit("PRELU", [x.name, slopes], [x.shape])

    def conv(self, x: Tensor) -> None:
        if len(x.shape) != 4 or x.shape[0] != 1:
            return
        depthwise = bool(self.rng.random() < 0.4)
        channels = x.shape[3]
        kernel = tuple(int(k) for k in self.rng.integers(1, 4, 2))
        stride = (1, 1) if self.rng.random() < 0.6 else tuple(map(int, self.rng.integers(1, 4, 2)))
        dilation = tuple(map(int, self.rng.integers(1, 4, 2))) if stride == (1, 1) else (1, 1)
        same = bool(self.rng.random() < 0.6)
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        free = [n if same else n - e + 1 for n, e in zip(x.shape[1:3], extent, strict=True)]
        if min(free) < 1:
            return
        size = tuple(-(-f // s) for f, s in zip(free, stride, strict=True))
        multiplier = int(self.rng.integers(1, 4))
        outputs = channels * multiplier if depthwise else int(self.rng.integers(1, 6))
        shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels)
        values = {
            "StrideH": stride[0],
            "StrideW": stride[1],
            "DilationHFactor": dilation[0],
            "DilationWFactor": dilation[1],
            "Padding": 0 if same else 1,
            "FusedActivationFunction": int(self.rng.integers(4)),
        }
        if depthwise:
            values["DepthMultiplier"] = multiplier
        own = self.weights(x, shape, outputs, 3 if depthwise else 0)
        if depthwise and own[1] is None:  # tflite-micro's kernel cannot have it left out so
            del own[1]
        code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        self.emit(code, [x.name, *own], [(1, *size, outputs)], options, **values)

    def weights(self, x: Tensor, shape: Shape, outputs: int, axis: int) -> list[str | None]:
        """Weights and a bias, which may be left out or be of int32 limits."""
        name = f"w{len(self.tensors)}"
        fan = math.prod(shape) / max(outputs, 1)
        if self.dtype == "float32":
            w = self.rng.normal(size=shape) / math.sqrt(fan)
            self.tensors[name] = constant(name, w, "float32")
            self.tensors[f"{name}b"] = constant(
                f"{name}b", self.rng.normal(size=outputs), "float32"
            )
            return [name, f"{name}b"]
        count = outputs if self.rng.random() < 0.7 and not self.shift else 1
        scales = (2.0 ** self.rng.uniform(-9, -5, count)).astype(np.float32)
        codes = self.rng.integers(-127, 128, size=shape)
        if self.rng.random() < 0.3:  # channels that are all zeros, or one number
            codes[(*[slice(None)] * axis, int(self.rng.integers(shape[axis])))] = 0
        zeros = [0] * count
        if self.shift:
            codes += self.shift
            zeros = [int(self.pick(128, 121, 0, 255))]
        self.tensors[name] = constant(name, codes, self.dtype, scales.tolist(), zeros, axis)
        if self.rng.random() < 0.3 and not self.shift:
            return [name, None]
        limit = int(self.pick(10, 3000, 200000))
        bias = self.rng.integers(-limit, limit + 1, size=outputs)
        own = (np.float32(x.scale[0]) * scales).tolist()
        self.tensors[f"{name}b"] = constant(f"{name}b", bias, "int32", own)
        return [name, f"{name}b"]

    def dense(self, x: Tensor) -> None:
        if not x.shape:
            return
        outputs, taps = int(self.rng.integers(1, 7)), x.shape[-1]
        keep = len(x.shape) > 2 or bool(self.rng.random() < 0.3)
        values = {"KeepNumDims": keep, "FusedActivationFunction": int(self.rng.integers(4))}
        own = self.weights(x, (outputs, taps), outputs, 0)
        rows = (*x.shape[:-1], outputs) if keep else (math.prod(x.shape[:-1]), outputs)
        if len(x.shape) > 1:
            self.emit("FULLY_CONNECTED", [x.name, *own], [rows], "FullyConnectedOptions", **values)

    def pool(self, x: Tensor) -> None:
        if len(x.shape) != 4 or x.shape[0] != 1:
            return
        kernel = tuple(int(k) for k in self.rng.integers(1, 4, 2))
        stride = tuple(int(k) for k in self.rng.integers(1, 3, 2))
        same = bool(self.rng.random() < 0.5)
        free = [n if same else n - k + 1 for n, k in zip(x.shape[1:3], kernel, strict=True)]
        if min(free) < 1:
            return
        size = tuple(-(-f // s) for f, s in zip(free, stride, strict=True))
        values = {
            "FilterHeight": kernel[0],
            "FilterWidth": kernel[1],
            "StrideH": stride[0],
            "StrideW": stride[1],
            "Padding": 0 if same else 1,
            "FusedActivationFunction": int(self.rng.integers(4)),
        }
        code = self.pick("MAX_POOL_2D", "AVERAGE_POOL_2D")
        self.emit(code, [x.name], [(1, *size, x.shape[3])], "Pool2DOptions", x, **values)

    def join(self, x: Tensor) -> None:
        axis = int(self.rng.integers(-len(x.shape), len(x.shape))) if x.shape else 0
        if not x.shape or len(x.shape) > 4:
            return
        encoded = (x.shape, x.scale, x.zero_point)
        same = [
            t.name
            for t in self.tensors.values()
            if (t.shape, t.scale, t.zero_point) == encoded and t.dtype == self.dtype
        ]
        names = [x.name, *(self.pick(*same) for _ in range(int(self.rng.integers(0, 3))))]
        if self.rng.random() < 0.3:
            names.insert(0, self.constant(self.rng.normal(size=x.shape), x if x.scale else None))
        shape = list(x.shape)
        shape[axis] *= len(names)
        self.emit("CONCATENATION", names, [tuple(shape)], "ConcatenationOptions", x, Axis=axis)

    def pad(self, x: Tensor) -> None:
        if not 1 <= len(x.shape) <= 4:
            return
        pads = self.rng.integers(0, 3, (len(x.shape), 2)).astype(np.int32)
        shape = tuple(int(n) for n in np.asarray(x.shape) + pads.sum(axis=1))
        self.emit("PAD", [x.name, self.constant(pads)], [shape], "PadOptions", x)

    def reduce(self, x: Tensor) -> None:
        if len(x.shape) not in (2, 3, 4):
            return
        count = int(self.rng.integers(1, len(x.shape) + 1))
        axes = sorted(self.rng.permutation(len(x.shape))[:count].tolist())
        keep = bool(self.rng.random() < 0.5)
        code = self.pick("MEAN", "MEAN", "SUM", "REDUCE_MAX")
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes)
        written = [a - len(x.shape) if self.rng.random() < 0.3 else a for a in axes]
        like = x if code == "REDUCE_MAX" else None
        given = [x.name, self.constant(np.asarray(written, np.int32))]
        self.emit(code, given, [shape], "ReducerOptions", like, KeepDims=keep)

    def reshape(self, x: Tensor) -> None:
        count, sizes = math.prod(x.shape), []
        while count > 1 and len(sizes) < 3:
            divisors = [d for d in range(1, count + 1) if count % d == 0]
            sizes.append(self.pick(*divisors))
            count //= sizes[-1]
        shape = (1, *sizes, count) if self.rng.random() < 0.8 else (*sizes, count)
        given = [x.name, self.constant(np.asarray(shape, np.int32))]
        self.emit("RESHAPE", given, [shape], "ReshapeOptions", x)

    def squeeze(self, x: Tensor) -> None:
        ones = [a for a, n in enumerate(x.shape) if n == 1]
        if ones and len(x.shape) > 1:
            gone = self.pick(*ones)
            shape = tuple(n for a, n in enumerate(x.shape) if a != gone)
            self.emit("SQUEEZE", [x.name], [shape], "SqueezeOptions", x, SqueezeDims=[gone])

    def expand(self, x: Tensor) -> None:
        axis = int(self.rng.integers(len(x.shape) + 1))
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        given = [x.name, self.constant(np.asarray([axis], np.int32))]
        self.emit("EXPAND_DIMS", given, [shape], "ExpandDimsOptions", x)

    def turn(self, x: Tensor) -> None:
        perm = self.rng.permutation(len(x.shape))
        shape = tuple(x.shape[a] for a in perm)
        given = [x.name, self.constant(perm.astype(np.int32))]
        if x.shape:
            self.emit("TRANSPOSE", given, [shape], "TransposeOptions", x)

    def cut(self, x: Tensor) -> None:
        if not 1 <= len(x.shape) <= 4:
            return
        begin = [int(self.rng.integers(n)) for n in x.shape]
        if self.rng.random() < 0.5:
            size = [
                int(self.rng.integers(1, n - b + 1)) for n, b in zip(x.shape, begin, strict=True)
            ]
            given = [x.name, *(self.constant(np.asarray(v, np.int32)) for v in (begin, size))]
            self.emit("SLICE", given, [tuple(size)], "SliceOptions", x)
            return
        end, step, shape, mask = [], [], [], 0
        for axis, (n, b) in enumerate(zip(x.shape, begin, strict=True)):
            stride = int(self.pick(1, 1, 2, -1))
            last = n if stride > 0 else -n - 1
            step.append(stride)
            end.append(last)
            sizes = len(range(b, n, stride)) if stride > 0 else b + 1
            if self.rng.random() < 0.2 and stride == 1 and len(x.shape) - bin(mask).count("1") > 1:
                mask |= 1 << axis
                end[-1] = b + 1
            else:
                shape.append(sizes)
        given = [x.name, *(self.constant(np.asarray(v, np.int32)) for v in (begin, end, step))]
        self.emit(
            "STRIDED_SLICE", given, [tuple(shape)], "StridedSliceOptions", x, ShrinkAxisMask=mask
        )

    def split(self, x: Tensor) -> None:
        axes = [a for a, n in enumerate(x.shape) if n > 1]
        if not axes or len(x.shape) > 4:
            return
        axis = self.pick(*axes)
        n = x.shape[axis]
        count = self.pick(*[d for d in range(2, n + 1) if n % d == 0][:2])
        part = (*x.shape[:axis], n // count, *x.shape[axis + 1 :])
        given = [self.constant(np.asarray(axis, np.int32)), x.name]
        self.emit("SPLIT", given, [part] * count, "SplitOptions", x, NumSplits=count)

    def pack(self, x: Tensor) -> None:
        axis = int(self.rng.integers(len(x.shape) + 1))
        count = int(self.rng.integers(1, 3))
        shape = (*x.shape[:axis], count, *x.shape[axis:])
        if len(x.shape) < 4:
            self.emit(
                "PACK", [x.name] * count, [shape], "PackOptions", x, ValuesCount=count, Axis=axis
            )

    def unpack(self, x: Tensor) -> None:
        axes = [a for a, n in enumerate(x.shape) if n <= 3]
        if axes and len(x.shape) > 1:
            axis = self.pick(*axes)
            part = (*x.shape[:axis], *x.shape[axis + 1 :])
            parts = [part] * x.shape[axis]
            self.emit("UNPACK", [x.name], parts, "UnpackOptions", x, Num=len(parts), Axis=axis)

    def softmax(self, x: Tensor) -> None:
        if not x.shape:
            return
        before = len(self.operators)
        beta = float(self.pick(1.0, 0.5, 2.0))
        self.emit("SOFTMAX", [x.name], [x.shape], "SoftmaxOptions", Beta=beta)
        if len(self.operators) > before:
            self.fix(x.shape, 1 / 256, -128)

    def resize(self, x: Tensor) -> None:
        if len(x.shape) != 4 or x.shape[0] != 1:
            return
        size = tuple(int(n) for n in self.rng.integers(1, 9, 2))
        code, options = self.pick(
            ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
            ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
        )
        align, half = self.pick((False, False), (True, False), (False, True))
        given = [x.name, self.constant(np.asarray(size, np.int32))]
        shape = (1, *size, x.shape[3])
        self.emit(code, given, [shape], options, x, AlignCorners=align, HalfPixelCenters=half)

    def requantize(self, x: Tensor) -> None:
        self.emit("QUANTIZE", [x.name], [x.shape])

    def stored(self, x: Tensor) -> None:
        """An operator of a stored operand in front, of the lowest rank."""
        other = self.constant(np.zeros(()))
        if len(x.shape) < 5:
            self.emit("SUB", [other, x.name], [x.shape], "SubOptions")

    def drop(self, refused: set[str]) -> None:
        """Take away the operators with such results, and all that read them."""
        kept = []
        for operator in self.operators:
            if refused & {*operator.inputs, *operator.outputs}:
                refused |= set(operator.outputs)
            else:
                kept.append(operator)
        self.operators = kept

    def blob(self) -> bytes:
        read_names = {name for operator in self.operators for name in operator.inputs}
        written = [name for operator in self.operators for name in operator.outputs]
        # Every end of the network, and one value that something else reads too.
        outputs = [name for name in written if name not in read_names]
        outputs.append(self.pick(*written))
        return build(
            tensors=list(self.tensors.values()),
            operators=self.operators,
            inputs=[x.name for x in self.inputs],
            outputs=list(dict.fromkeys(outputs)),
        )
