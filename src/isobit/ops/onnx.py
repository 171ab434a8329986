"""What the rules of ONNX operators share: windows, weights, exact tables and multipliers.

ONNX defines a quantised operator by reals: codes stand for exact rational numbers, the result is
rounded to the nearest code, ties to even. `isobit.ops.exact` finds integers that say the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, AnyArray, IntArray, Raw, Real, Shape, TensorType
from isobit.ops.exact import half_even, match
from isobit.ops.foreign import Operand
from isobit.ops.logical import Elementwise, LogicalCall, View
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.window import Pair, Quad, Window

CODES = (-128, 127)


def scales(operand: Operand) -> list[Fraction]:
    """Return the exact scale, or one per channel."""
    return [Fraction(scale) for scale in operand.scales]


def scale(call: LogicalCall, operand: Operand) -> Fraction:
    """Return the exact scale of a tensor that has one; reals in a quantised graph have none."""
    if operand.is_float and not call.is_float:
        raise call.unsupported(
            "operands",
            "codes with a scale in a quantised graph",
            f"the reals {operand.label or operand.value}",
            "Quantise this tensor too: put QuantizeLinear and DequantizeLinear behind it.",
        )
    found = scales(operand)
    if len(found) != 1:
        raise call.unsupported(
            "scale", "one per tensor", f"{len(found)}", "Quantise activations per tensor."
        )
    return found[0]


def coded(call: LogicalCall, x: Operand) -> tuple[Operand, Fraction]:
    """Return stored reals as codes of a step of their own, and the largest error of one.

    Zeros and one magnitude, as single numbers are, get a step that a power of two brings to them:
    no error. Others get max|x| / 127. Whatever is no stored real is returned as it is.
    """
    if call.is_float or x.data is None or not x.is_float:
        return x, Fraction(0)
    reals = x.data.astype(np.float64)
    sizes = np.unique(np.abs(reals[reals != 0]))
    if not np.isfinite(reals).all():
        raise call.unsupported(
            "stored numbers", "finite ones", "NaN or infinity", "Export the model again."
        )
    largest = float(sizes.max(initial=0)) or 1.0
    step = largest / (64 if sizes.size < 2 else 127)
    if step < np.finfo(np.float64).tiny:
        raise call.unsupported("stored numbers", "normal ones", str(largest), "Leave them out.")
    exact = Fraction(step)
    codes = np.asarray([half_even(Fraction(v) / exact) for v in reals.ravel().tolist()])
    error = max(
        (
            abs(Fraction(v) - exact * int(q))
            for v, q in zip(reals.ravel().tolist(), codes, strict=True)
        ),
        default=Fraction(0),
    )
    data = codes.astype(np.int8).reshape(reals.shape)
    kind = TensorType(x.type.shape, DType.S8, Affine((step,), 0))
    return Operand(x.label, x.shape, kind, x.value, data), error


def moved_codes(error: Fraction) -> int:
    """Return by how many codes a result may change that is off by `error` steps before rounding."""
    return math.floor(error) + 1 if error else 0


def reach(x: Operand) -> int:
    """Return the largest centred code of the operand's type."""
    return max(127 - x.zero, x.zero + 128)


def code_of(bound: Fraction | float, y: Operand, step: Fraction) -> int:
    """Return the code of a real bound, within the carrier."""
    if math.isinf(bound):
        return CODES[bound > 0]
    return min(max(y.zero + half_even(Fraction(bound) / step), CODES[0]), CODES[1])


def code_bounds(call: LogicalCall, y: Operand) -> tuple[int, int]:
    """Return the fused activation as codes: rounding is monotone, so the bounds round alone."""
    step = scale(call, y)
    low, high = call.bounds
    if low > high:
        raise call.unsupported("bounds", "low <= high", f"{low}, {high}")
    return code_of(low, y, step), code_of(high, y, step)


def tabulated(
    call: LogicalCall,
    function: Callable[[Fraction], Fraction],
    x: Operand | None = None,
    y: Operand | None = None,
) -> None:
    """Record the table of a function of one code: exact, whatever the encodings."""
    x, y = x or call.activation(), y or call.output()
    sx, sy = scale(call, x), scale(call, y)
    low, high = code_bounds(call, y)
    entries = [
        min(max(y.zero + half_even(function(sx * (q - x.zero)) / sy), low), high)
        for q in range(CODES[0], CODES[1] + 1)
    ]
    kind = TensorType((), DType.S8, Raw())
    table = call.const("table", np.asarray(entries, dtype=np.int8), kind)
    call.step(Elementwise("lut", lambda n: LutInputs(n[0], table=table), LutAttrs("")), [x], y)


def stored_reals(call: LogicalCall, x: Operand) -> list[Fraction]:
    """Return the numbers that a stored tensor stands for, exactly; raises for NaN and infinity."""
    assert x.data is not None
    if not x.is_float:
        step = scale(call, x)
        return [step * (int(q) - x.zero) for q in x.data.reshape(-1)]
    if not np.isfinite(x.data).all():
        raise call.unsupported(
            "stored numbers", "finite ones", "NaN or infinity", "Export the model again."
        )
    return [Fraction(float(v)) for v in x.data.reshape(-1)]


def recoded(call: LogicalCall, x: Operand, like: TensorType) -> Operand:
    """Return x in the encoding of `like`; a table where they differ, exact up to its rounding."""
    if call.is_float or x.type.encoding == like.encoding:
        return x
    if x.data is not None:
        encoding = like.encoding
        assert isinstance(encoding, Affine)
        sy = Fraction(encoding.scale[0])
        values = [
            min(max(like.zero + half_even(real / sy), -128), 127) for real in stored_reals(call, x)
        ]
        data = np.asarray(values, dtype=np.int8).reshape(x.shape)
        return Operand(x.label, x.shape, like.with_shape(x.shape), x.value, data)
    y = call.temp("recoded", x.shape, like)
    tabulated(call, lambda v: v, x, y)
    return y


def finished(call: LogicalCall, y: Operand, index: int = 0) -> None:
    """Make a value the output `index`: another encoding and another shape if need be."""
    out = call.output(index)
    if not call.is_float and y.type.encoding != out.type.encoding:
        if y.shape == out.shape:
            tabulated(call, lambda v: v, y, out)
            return
        y = recoded(call, y, out.type)
    call.step(View(), [y], out)


def target(call: LogicalCall, shape: Shape, like: Operand | None = None) -> Operand:
    """Return where a step writes: the output itself, or a value before `finished`.

    like: the operand whose encoding the result keeps; by default the output's own is written.
    """
    out = call.output()
    kind = out.type if like is None else like.type
    if shape == out.shape and kind.encoding == out.type.encoding:
        return out
    return call.temp("before", shape, kind)


def done(call: LogicalCall, y: Operand) -> None:
    """Finish what `target` began."""
    if y is not call.output():
        finished(call, y)


# Windows


def image(call: LogicalCall, x: Operand) -> Operand:
    """Return x as [1,C,H,W]; a row [1,C,L] as an image of one row."""
    if len(x.shape) == 3 and x.shape[0] == 1:
        return call.viewed(x, (1, x.shape[1], 1, x.shape[2]))
    if len(x.shape) != 4 or x.shape[0] != 1:
        raise call.unsupported(
            "input", "[1,C,H,W] or [1,C,L]", str(list(x.shape)), "Export with a batch of 1."
        )
    return x


def image_shape(shape: Shape) -> Shape:
    """Return the shape of an image for that of an image or a row."""
    return (1, shape[1], 1, shape[2]) if len(shape) == 3 else shape


def pair(call: LogicalCall, name: str, rank: int, default: int = 1) -> Pair:
    """Return an option of one entry per image axis; `rank` of the foreign tensor."""
    values = tuple(call.option(name, (default,) * (rank - 2)))
    if len(values) != rank - 2 or min(values) < min(default, 1):
        raise call.unsupported(name, f"{rank - 2} numbers", str(values))
    return (default, values[0]) if rank == 3 else (values[0], values[1])


def _needed(size: int, step: int, extent: int) -> int:
    """Return the padding by ONNX's formula, negative where windows leave out what is at an end."""
    return (-(-size // step) - 1) * step + extent - size


def require_no_cut(call: LogicalCall, x: Operand, window: Window) -> None:
    """Refuse an `auto_pad` of a pool whose padding is negative on both ends. Convolutions pad by
    nothing there; but onnxruntime begins some forms of AveragePool behind the cut, and fails in the
    others and in MaxPool.
    """
    mode = call.option("auto_pad", "NOTSET")
    for axis in (0, 1):
        needed = _needed(x.shape[2 + axis], window.stride[axis], window.extent[axis])
        if mode.startswith("SAME") and needed < -1:
            raise call.unsupported("auto_pad", "a padding that is not negative", mode)


def padding(call: LogicalCall, x: Operand, window: Window) -> Quad:
    """Return `pads`, or what `auto_pad` means for an image x."""
    mode = call.option("auto_pad", "NOTSET")
    rank = len(call.activation().shape)
    if mode == "NOTSET":
        pads = tuple(call.option("pads", (0,) * (2 * (rank - 2))))
        if len(pads) != 2 * (rank - 2) or min(pads) < 0:
            raise call.unsupported("pads", f"{2 * (rank - 2)} numbers >= 0", str(pads))
        return (0, pads[0], 0, pads[1]) if rank == 3 else (pads[0], pads[1], pads[2], pads[3])
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise call.unsupported("auto_pad", "NOTSET, VALID, SAME_UPPER or SAME_LOWER", mode)
    before, after = [], []
    for axis in (0, 1):
        size, step = x.shape[2 + axis], window.stride[axis]
        total = max(0, _needed(size, step, window.extent[axis]))
        less = total // 2
        before.append(less if mode == "SAME_UPPER" else total - less)
        after.append(total - before[-1])
    return (before[0], before[1], after[0], after[1])


# Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The constants behind a weighted sum, one entry per output channel."""

    b: AnyArray | None
    mult: IntArray | None = None
    shift: IntArray | None = None
    label: str = ""
    """Of the bias, where it is the file's."""

    def names(self, call: LogicalCall, rows: IntArray | None = None) -> dict[str, str | None]:
        """Add the constants to the graph, in the order `rows`; return the fields of the inputs."""

        def stored(wanted: str, data: AnyArray | None) -> str | None:
            if data is None:
                return None
            found = data if rows is None or data.size == 1 else data[rows]
            return call.const(wanted, found, label=self.label if wanted == "b" else "")

        return {
            "b": stored("b", self.b),
            "mult": stored("mult", self.mult),
            "shift": stored("shift", self.shift),
        }


def centred(call: LogicalCall, w: Operand) -> AnyArray:
    """Return stored weights as reals or as codes with zero point 0, within -255..255."""
    if w.data is None:
        raise call.unsupported(
            "weights",
            "a constant",
            "a value computed at run time",
            "Products of two activations have no operator here.",
        )
    if call.is_float:
        return w.data.astype(np.float64)
    if w.type.dtype is not DType.S8:
        raise call.unsupported(
            "weights", "int8 or uint8", w.type.dtype.value, "Quantise weights to 8 bits."
        )
    codes: AnyArray = w.data.astype(np.int64) - w.zero
    return codes


def weight_type(call: LogicalCall, w: Operand, axis: int) -> TensorType:
    """Return the type of `centred` weights whose output channels run along `axis`."""
    if call.is_float:
        return TensorType((), DType.F64, Real())
    return TensorType((), DType.S8, Affine(w.scales, 0, axis if len(w.scales) > 1 else None))


def sums(
    call: LogicalCall, x: Operand, w: Operand, rows: AnyArray, bias: Operand | None, channel: int
) -> Sums:
    """Return bias, multipliers and shifts of weighted sums; `rows` [O, taps] are `centred`.
    `channel`: the axis of w that outputs run along.

    Integer graphs: M = Sx*Sw/Sy exactly; what cannot be matched is reported by `call.lossy`.
    """
    outputs = rows.shape[0]
    if bias is not None and bias.data is None:
        raise call.unsupported(
            "bias", "a constant", "a value computed at run time", "Add it in an operator after."
        )
    if call.is_float:
        if bias is None or not np.any(bias.data):
            return Sums(b=None)
        data = np.broadcast_to(np.asarray(bias.data).reshape(-1), (outputs,))
        return Sums(b=data, label=bias.label)
    along = w.type.encoding.axis if isinstance(w.type.encoding, Affine) else None
    if along not in (None, channel):
        raise call.unsupported(
            "scales of the weights",
            f"one, or one for every output: along axis {channel}",
            f"along axis {along}",
            "Quantise weights per output channel.",
        )
    y = call.output()
    steps = _accumulator_scales(call, x, w, outputs)
    betas = _betas(call, bias, steps)
    sy, codes = scale(call, y), code_bounds(call, y)
    largest = max(127 - x.zero, x.zero + 128)
    bounds = [int(total) * largest for total in np.abs(rows).sum(axis=1)]
    found = [
        match(step / sy, beta, codes, y.zero, bound)
        for step, beta, bound in zip(steps, betas, bounds, strict=True)
    ]
    lsb = max(factor.lsb for factor in found)
    count = sum(factor.lsb > 0 for factor in found)
    call.lossy(lsb, f"{count} of {outputs} channels have sums on a tie or between two codes")
    offsets = np.asarray([factor.offset for factor in found], dtype=np.int64)
    if int(np.abs(offsets).max(initial=0)) >= 1 << 31:
        raise call.unsupported("bias", "int32", str(int(offsets.max())), "Use a smaller bias.")
    return Sums(
        b=offsets.astype(np.int32) if offsets.any() else None,
        mult=np.asarray([factor.mult for factor in found], dtype=np.int32),
        shift=np.asarray([factor.shift for factor in found], dtype=np.int32),
    )


def _accumulator_scales(call: LogicalCall, x: Operand, w: Operand, outputs: int) -> list[Fraction]:
    """Return what one step of each channel's sum stands for."""
    given = call.options.get("accumulator_scale")
    if given is not None:
        found = [Fraction(float(s)) for s in np.asarray(given).reshape(-1)]
    else:
        sx = scale(call, x)
        found = [sx * sw for sw in scales(w)]
    if len(found) not in (1, outputs):
        raise call.unsupported("scales of the weights", f"1 or {outputs}", str(len(found)))
    return found * outputs if len(found) == 1 else found


def _betas(call: LogicalCall, bias: Operand | None, steps: Sequence[Fraction]) -> list[Fraction]:
    """Return the bias in steps of the sums: codes of its own scale, plain integers, or reals."""
    if bias is None:
        return [Fraction(0)] * len(steps)
    data = np.broadcast_to(np.asarray(bias.data).reshape(-1), (len(steps),))
    if bias.is_float:
        return [Fraction(float(v)) / step for v, step in zip(data, steps, strict=True)]
    if isinstance(bias.type.encoding, Raw):
        return [Fraction(int(v)) for v in data]
    own = scales(bias) * (len(steps) if len(bias.scales) == 1 else 1)
    return [
        # A converter stores float32(Sx * Sw) where the product is meant: what lies within the
        # rounding of that is the product.
        Fraction(int(v) - bias.zero) * (1 if _same(s, step) else s / step)
        for v, s, step in zip(data, own, steps, strict=True)
    ]


def _same(a: Fraction, b: Fraction) -> bool:
    return abs(a / b - 1) <= Fraction(1, 1 << 22)


def rescaled(
    call: LogicalCall,
    real: Fraction,
    bound: int,
    names: tuple[str, str] = ("mult", "shift"),
    error: Fraction = Fraction(0),
) -> dict[str, str]:
    """Return the constants of one multiplier for values of at most `bound`.

    error: by how many steps of y the operands' codes are off before rounding.
    """
    y = call.output()
    found = match(real, Fraction(0), code_bounds(call, y), y.zero, bound)
    text = f"the factor {float(real)!r} has ties, which half_even rounds down"
    if error:
        text = "stored reals are rounded to codes of their own step"
    call.lossy(found.lsb + moved_codes(error), text)
    numbers = zip(names, (found.mult, found.shift), strict=True)
    return {n: call.const(n, np.asarray([v], dtype=np.int32)) for n, v in numbers}
