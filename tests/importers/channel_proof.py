"""Checks a proof of removed channels, from the TFLite file alone, in Python integers.

Nothing of isobit is imported. The proof says, for values of the network, which channels were kept
and which constant the others have. This file reads the model with the schema package, bounds every
channel of every tensor itself, one channel at a time, and returns what it cannot confirm:

- a channel said to be constant whose bounds do not meet, or meet at another code;
- a removed channel that is not constant and that some reader has a weight for;
- a removed constant that its reader cannot account for: not the zero point, and padded.

Operators of MobileNets: convolutions, average pools, reshapes, fully connected layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import tflite

Interval = tuple[int, int]


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    name: str
    scale: list[float]
    zero: int
    data: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    code: int
    inputs: list[int]
    output: int
    padded: bool
    relu: tuple[float, float]


def check(blob: bytes, removed: Mapping[str, tuple[Sequence[int], Mapping[int, int]]]) -> list[str]:
    """Return what is wrong with a proof: tensor name -> (kept channels, constants of others)."""
    tensors, operators, network_inputs, network_outputs = _read(blob)
    bounds: dict[int, list[Interval]] = {
        i: [(-128, 127)] * tensors[i].shape[-1] for i in network_inputs
    }
    for operator in operators:
        bounds[operator.output] = _bounds(operator, tensors, bounds)
    wrong = []
    number = {tensors[o.output].name: o.output for o in operators}
    gone = {
        number[name]: [c for c in range(tensors[number[name]].shape[-1]) if c not in set(kept)]
        for name, (kept, _) in removed.items()
    }
    for name, (_, constants) in removed.items():
        index = number[name]
        if index in network_outputs:
            wrong.append(f"{name}: an output lost channels")
        for channel in gone[index]:
            low, high = bounds[index][channel]
            if channel in constants and (low, high) != (constants[channel],) * 2:
                wrong.append(f"{name}[{channel}]: {constants[channel]} claimed, [{low}, {high}]")
            if channel not in constants and not _unread(channel, index, operators, tensors, gone):
                wrong.append(f"{name}[{channel}]: neither constant nor unread")
            if channel in constants:
                wrong += _unaccounted(name, channel, constants[channel], index, operators, tensors)
    return wrong


def _unread(
    channel: int,
    index: int,
    operators: list[Operator],
    tensors: list[Tensor],
    gone: Mapping[int, list[int]],
) -> bool:
    """Whether every reader ignores a channel: zero weights, or its own channel is gone too."""
    for operator in operators:
        if index not in operator.inputs:
            continue
        if operator.code in (
            tflite.BuiltinOperator.CONV_2D,
            tflite.BuiltinOperator.FULLY_CONNECTED,
        ):
            weights = tensors[operator.inputs[1]].data
            left = [o for o in range(weights.shape[0]) if o not in gone.get(operator.output, ())]
            if np.any(weights[left][..., channel]):
                return False
        elif channel not in gone.get(operator.output, ()):
            return False
    return True


def _unaccounted(
    name: str, channel: int, code: int, index: int, operators: list[Operator], tensors: list[Tensor]
) -> list[str]:
    """A padded reader sees the zero point at the border, so another constant is no constant sum."""
    return [
        f"{name}[{channel}]: {code} at a padded reader"
        for operator in operators
        if operator.code == tflite.BuiltinOperator.CONV_2D
        and index == operator.inputs[0]
        and operator.padded
        and code != tensors[index].zero
        and np.any(tensors[operator.inputs[1]].data[..., channel])
    ]


def _bounds(
    operator: Operator, tensors: list[Tensor], bounds: Mapping[int, list[Interval]]
) -> list[Interval]:
    source, out = operator.inputs[0], tensors[operator.output]
    if operator.code in (tflite.BuiltinOperator.AVERAGE_POOL_2D, tflite.BuiltinOperator.RESHAPE):
        # A mean of codes of an interval, rounded to a code, lies in it; a view has the same codes.
        assert out.shape[-1] == tensors[source].shape[-1]
        return list(bounds[source])
    if operator.code == tflite.BuiltinOperator.SOFTMAX:
        return [(-128, 127)] * out.shape[-1]
    x, w = tensors[source], tensors[operator.inputs[1]]
    bias = tensors[operator.inputs[2]].data if operator.inputs[2] >= 0 else None
    found = []
    for channel in range(out.shape[-1]):
        low = high = 0 if bias is None else int(bias[channel])
        for taken, weight in _taps(operator, w.data, channel, out.shape[-1], x.shape[-1]):
            ends = [bound - x.zero for bound in bounds[source][taken]]
            if operator.padded:
                ends.append(0)
            low += min(weight * end for end in ends)
            high += max(weight * end for end in ends)
        scale = w.scale[channel] if len(w.scale) > 1 else w.scale[0]
        mult, shift = _multiplier(x.scale[0] * scale / out.scale[0])
        limits = _limits(operator, out)
        found.append(
            tuple(
                min(max(out.zero + _double_rounding(acc, mult, shift), limits[0]), limits[1])
                for acc in (low, high)
            )
        )
    return found


def _taps(
    operator: Operator, w: np.ndarray, channel: int, outputs: int, inputs: int
) -> list[tuple[int, int]]:
    """Pairs (input channel, weight) of one output channel."""
    if operator.code == tflite.BuiltinOperator.DEPTHWISE_CONV_2D:
        taken = channel // (outputs // inputs)
        return [(taken, int(v)) for v in w[0, :, :, channel].reshape(-1)]
    own = w[channel].reshape(-1, inputs)
    return [(c, int(v)) for row in own for c, v in enumerate(row) if v]


def _limits(operator: Operator, out: Tensor) -> Interval:
    low, high = operator.relu
    scale = np.float32(out.scale[0])

    def code(bound: float) -> int:
        ratio = Fraction(float(np.float32(bound) / scale))
        return out.zero + math.floor(abs(ratio) + Fraction(1, 2)) * (1 if ratio >= 0 else -1)

    first = -128 if low == -math.inf else max(-128, code(low))
    return first, 127 if high == math.inf else min(127, code(high))


def _multiplier(real: float) -> tuple[int, int]:
    mantissa, shift = math.frexp(real)
    mult = math.floor(mantissa * 2**31 + 0.5)
    return (mult // 2, shift + 1) if mult == 2**31 else (mult, shift)


def _double_rounding(acc: int, mult: int, shift: int) -> int:
    product = (acc << max(shift, 0)) * mult
    high = (product + (1 << 30)) >> 31
    right = max(-shift, 0)
    ratio = Fraction(high, 1 << right)
    return math.floor(abs(ratio) + Fraction(1, 2)) * (1 if ratio >= 0 else -1)


def _is_padded(options: object, tensors: list[Tensor], operator: object) -> bool:
    """Whether SAME puts anything around the input: a 1x1 kernel with stride 1 needs nothing."""
    if options.Padding() != tflite.Padding.SAME:
        return False
    x, w = (tensors[int(i)].shape for i in operator.InputsAsNumpy()[:2])
    y = tensors[int(operator.OutputsAsNumpy()[0])].shape
    strides = (options.StrideH(), options.StrideW())
    dilations = (options.DilationHFactor(), options.DilationWFactor())
    return any(
        (y[1 + a] - 1) * strides[a] + (w[1 + a] - 1) * dilations[a] + 1 > x[1 + a] for a in (0, 1)
    )


RELUS = {0: (-math.inf, math.inf), 1: (0.0, math.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
OPTIONS = {
    tflite.BuiltinOperator.CONV_2D: tflite.Conv2DOptions,
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: tflite.DepthwiseConv2DOptions,
    tflite.BuiltinOperator.FULLY_CONNECTED: tflite.FullyConnectedOptions,
}


def _read(blob: bytes) -> tuple[list[Tensor], list[Operator], list[int], list[int]]:
    model = tflite.Model.GetRootAs(blob, 0)
    graph = model.Subgraphs(0)
    types = {tflite.TensorType.INT8: np.int8, tflite.TensorType.INT32: np.int32}
    tensors = []
    for i in range(graph.TensorsLength()):
        t = graph.Tensors(i)
        shape = tuple(t.ShapeAsNumpy().tolist()) if t.ShapeLength() else (1,)
        raw = model.Buffers(t.Buffer()).DataAsNumpy()
        data = None
        if not isinstance(raw, int) and t.Type() in types:
            data = np.frombuffer(raw.tobytes(), types[t.Type()]).reshape(shape)
        q = t.Quantization()
        scale = q.ScaleAsNumpy().tolist() if q is not None and q.ScaleLength() else []
        zero = int(q.ZeroPointAsNumpy()[0]) if q is not None and q.ZeroPointLength() else 0
        tensors.append(Tensor(shape, t.Name().decode(), scale, zero, data))
    operators = []
    for i in range(graph.OperatorsLength()):
        o = graph.Operators(i)
        entry = model.OperatorCodes(o.OpcodeIndex())
        code = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        padded, relu = False, RELUS[0]
        if code in OPTIONS:
            options = OPTIONS[code]()
            options.Init(o.BuiltinOptions().Bytes, o.BuiltinOptions().Pos)
            relu = RELUS[options.FusedActivationFunction()]
            padded = hasattr(options, "Padding") and _is_padded(options, tensors, o)
        inputs = o.InputsAsNumpy().tolist()
        if code in OPTIONS and len(inputs) < 3:
            inputs.append(-1)
        operators.append(Operator(code, inputs, int(o.OutputsAsNumpy()[0]), padded, relu))
    return (
        tensors,
        operators,
        graph.InputsAsNumpy().tolist(),
        graph.OutputsAsNumpy().tolist(),
    )
