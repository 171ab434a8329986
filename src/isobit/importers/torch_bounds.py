"""How far codes may be from torch's where a PT2E graph leaves values real and here they have codes.

Between two quantisations torch computes reals; some of these values are codes here (`torch_codes`),
rounded, and cut to the range of the examples. The bound is an interval propagation over one such
region at a time, from torch's codes to torch's next codes, in float64, widened by more than it can
round. For every real value v of torch and ours u, for all codes that the region may read:

    `near`:  |u - v| <= near while no value leaves the range of its codes
    `far`:   |u - clip(v, cut)| <= far whatever is read
    `range`: v lies in it

A monotone function f maps a cut value to a cut value, f(clip(v, a, b)) = clip(f(v), f(a), f(b)),
so a range that ends where the next codes end anyway costs nothing; a sum does not, and there what
was cut off is added to `far`. Operators that are not known here have no bound: 255 codes.
O(nodes + weights).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isobit.core.types import AnyArray
from isobit.importers.onnx_file import FileModel, FileNode
from isobit.importers.torch_codes import REAL, WEIGHTED
from isobit.importers.torch_functions import FUNCTIONS, Range

CODES = 255
"""Largest difference of two codes."""
WIDER = 1 + 2.0**-30
"""More than float64 rounds in sums of 2^20 products."""
ANY: Range = (-math.inf, math.inf)
JOINS = ("cat.", "stack.", "maximum.", "minimum.")
MOVES = frozenset(
    {"view", "unsqueeze", "squeeze", "clone", "alias", "detach", "permute", "transpose", "t"}
    | {"slice", "select", "flip", "index", "index_select", "split", "split_with_sizes", "unbind"}
    | {"max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "amin"}
    | {"pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "expand", "repeat", "cat", "stack"}
    | {"maximum", "minimum", "upsample_nearest1d", "upsample_nearest2d"}
    | {"reflection_pad1d", "reflection_pad2d"}
)
"""Their results are values of their operands, chosen by position or size."""
AVERAGES = ("avg_pool1d.", "avg_pool2d.", "adaptive_avg_pool1d.", "adaptive_avg_pool2d.", "mean.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """What is known of one real value of torch, and of ours in its place."""

    range: Range
    near: float = 0.0
    far: float = 0.0
    cut: Range = ANY
    codes: Range | None = None
    """Where it stands for codes: the reals of the smallest and the largest."""
    step: float = 0.0

    @property
    def anywhere(self) -> float:
        """|u - v|, whatever is read."""
        return self.far + max(0.0, self.range[1] - self.cut[1], self.cut[0] - self.range[0])


UNKNOWN = Real(range=ANY, near=math.inf, far=math.inf)


@dataclass(frozen=True, slots=True)
class Gap:
    """Codes may differ by `lsb` from those of torch's real value, if the region reads torch's own
    codes; by `near` while every real value of the region lies in the range of its codes. `codes`:
    their name. What an operator itself is off (`own`) comes on top for the codes that it writes.
    """

    codes: str
    lsb: int
    near: int


def gaps(model: FileModel, islands: Sequence[str], own: Mapping[str, int]) -> list[Gap]:
    """Return where codes may differ because torch computes with reals before them.

    model: in QDQ form. islands: codes of values that torch leaves real. own: by how many codes an
    operator may differ for the codes that it reads, by the name of the codes that it writes.
    """
    return _Bounds(model, frozenset(islands), own).run()


class _Bounds:
    def __init__(self, model: FileModel, islands: frozenset[str], own: Mapping[str, int]) -> None:
        self.model, self.islands, self.own = model, islands, own
        self.known: dict[str, Real] = {}
        self.found: list[Gap] = []

    def run(self) -> list[Gap]:
        for node in self.model.nodes:
            if node.code == "QuantizeLinear":
                self.quantise(node)
            elif node.code == "DequantizeLinear":
                self.dequantise(node)
            else:
                found = self.operator(node)
                self.known.update((name, found) for name in node.outputs)
        return self.found

    def real(self, name: str) -> Real:
        """Return what is known of an operand; inputs of the network are any reals."""
        stored = self.model.constants.get(name)
        if stored is not None and stored.dtype.kind == "f" and stored.size:
            return Real(range=(float(stored.min()), float(stored.max())))
        if name in self.model.inputs:
            return Real(range=ANY)
        return self.known.get(name, UNKNOWN)

    # Borders of a region

    def coding(self, node: FileNode) -> tuple[float, Range] | None:
        """Return the step of a quantisation, and the reals of its first and last code."""
        numbers = [self.model.constants.get(name) for name in node.inputs[1:3]]
        if len(numbers) != 2 or any(n is None or n.size != 1 for n in numbers):
            return None
        scale, zero = (n for n in numbers if n is not None)
        step, own = float(np.float32(scale.reshape(()))), int(zero.reshape(()))
        first = 0 if zero.dtype == np.uint8 else -128
        return step, (step * (first - own), step * (first + 255 - own))

    def quantise(self, node: FileNode) -> None:
        codes, coding = node.outputs[0], self.coding(node)
        before = self.real(node.inputs[0])
        if coding is None:
            self.known[codes] = UNKNOWN
            return
        step, reach = coding
        if before.near or before.far or before.cut != ANY:
            self.found.append(Gap(codes, *_codes_apart(before, step, reach)))
        if codes not in self.islands:  # torch's codes: what comes is compared with ours from here
            self.known[codes] = Real(range=reach, codes=reach, step=step)
            return
        rounding = step * (0.5 + self.own.get(codes, 0))
        cut = _clip(before.cut, reach)
        self.known[codes] = Real(
            range=before.range,
            near=(before.near + rounding) * WIDER,
            far=(before.far + rounding) * WIDER,
            cut=cut,
            codes=reach,
            step=step,
        )

    def dequantise(self, node: FileNode) -> None:
        stored = self.model.constants.get(node.inputs[0])
        if stored is None:
            self.known[node.outputs[0]] = self.known.get(node.inputs[0], UNKNOWN)
            return
        reals = self.weights(node.outputs[0], node)
        self.known[node.outputs[0]] = Real(range=(float(reals.min()), float(reals.max())))

    def weights(self, name: str, node: FileNode | None = None) -> AnyArray:
        """Return stored reals, or what stored codes stand for."""
        if name in self.model.constants:
            return self.model.constants[name].astype(np.float64)
        found = node or next(n for n in self.model.nodes if name in n.outputs)
        if found.code != "DequantizeLinear":
            return np.asarray(math.inf)
        codes, scale, zero = (self.model.constants.get(n) for n in found.inputs[:3])
        if codes is None or scale is None or zero is None:
            return np.asarray(math.inf)
        axis = int(found.options.get("axis", 0))
        shape = [1] * codes.ndim
        if scale.size > 1:
            shape[axis] = scale.size
        wide = codes.astype(np.float64) - zero.astype(np.float64).reshape(-1)[0]
        result: AnyArray = wide * scale.astype(np.float64).reshape(shape if scale.size > 1 else ())
        return result

    # Operators

    def operator(self, node: FileNode) -> Real:
        """Return what an operator makes of its operands."""
        base = node.code.split(".")[0]
        xs = [self.real(name) for name in node.inputs if name]
        if not xs:
            return UNKNOWN
        if base in FUNCTIONS or node.code in ("Relu", "Clip"):
            return self.function(node, base, xs[0])
        if base in MOVES:
            return self.joined(node, xs) if node.code.startswith(JOINS) else xs[0]
        if base in ("pad", "constant_pad_nd"):
            return _padded(xs[0], float(node.options.get("value") or 0.0))
        if node.code.startswith(AVERAGES):
            return _linear(_with(xs[0], _hull(xs[0].range, (0.0, 0.0))), 1.0)
        if base in ("add", "sub", "mul"):
            return self.pair(node, base, xs)
        if base == "sum":
            terms = self.elements(node.inputs[0]) / max(self.elements(node.outputs[0]), 1)
            return _product(_linear(xs[0], 1.0), Real(range=(terms, terms)))
        if base == "softmax":
            return _lipschitz(xs[0], 0.5, (0.0, 1.0))
        if "batch_norm" in base:
            return self.norm(node, xs[0])
        if node.code.startswith(WEIGHTED):
            return self.weighted(node, xs[0])
        return UNKNOWN

    def function(self, node: FileNode, base: str, x: Real) -> Real:
        """Functions of one number, monotone where `f` is given."""
        if node.code in ("Relu", "Clip"):
            low, high = 0.0, math.inf
            if node.code == "Clip":
                low, high = (float(self.model.constants[n].reshape(())) for n in node.inputs[1:3])
            found = _monotone(x, lambda v: min(max(v, low), high), 1.0)
            return found if node.code == "Clip" else replace(found, codes=x.codes, step=x.step)
        function = FUNCTIONS[base](node.options)
        if function.monotone:
            return _monotone(x, function.value, function.steepest)
        return _tailed(x, function.value, function.steepest, function.least)

    def joined(self, node: FileNode, xs: list[Real]) -> Real:
        """Operands side by side, or the larger of each pair. A result without a quantisation of its
        own has the first operand's codes, and the others become these.
        """
        first, recoded = xs[0], xs
        if first.codes is not None and not self.is_quantised(node):
            recoded = [x if x.codes == first.codes else _recoded(x, first) for x in xs]
        reach = first.range
        for x in recoded:
            reach = _hull(reach, x.range)
        same = all(x.cut == first.cut for x in recoded)
        return replace(
            first,
            range=reach,
            near=max(x.near for x in recoded),
            far=max(x.far if same else x.anywhere for x in recoded),
            cut=first.cut if same else ANY,
        )

    def is_quantised(self, node: FileNode) -> bool:
        """Whether nothing but quantisations reads the result."""
        behind = [n.code for n in self.model.nodes if node.outputs[0] in n.inputs]
        alone = all(code == "QuantizeLinear" for code in behind)
        return bool(behind) and alone and node.outputs[0] not in self.model.outputs

    def elements(self, name: str) -> int:
        value = self.model.values.get(name)
        return math.prod(value.shape) if value else 0

    def pair(self, node: FileNode, base: str, xs: list[Real]) -> Real:
        """Return a sum, difference or product; torch keeps a Python number as `other`."""
        if float(node.options.get("alpha", 1)) != 1.0:
            return UNKNOWN
        if len(xs) == 1:
            other = float(node.options.get("other", math.nan))
            xs = [xs[0], UNKNOWN if math.isnan(other) else Real(range=(other, other))]
        a, b = xs
        if base == "mul":
            return _product(a, b)
        b = b if base == "add" else _mirrored(b)
        reach = (a.range[0] + b.range[0], a.range[1] + b.range[1])
        return Real(range=reach, near=a.near + b.near, far=a.anywhere + b.anywhere)

    def norm(self, node: FileNode, x: Real) -> Real:
        """Batch normalisation with running statistics, a factor and an offset per channel."""
        gamma, beta, mean, var = (
            self.weights(name) if name else np.asarray(default)
            for name, default in zip(node.inputs[1:5], (1.0, 0.0, 0.0, 1.0), strict=True)
        )
        factor = gamma / np.sqrt(var + float(node.options.get("eps", 1e-5)))
        offset = beta - mean * factor
        if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
            return UNKNOWN
        ends = np.stack([factor * x.range[0] + offset, factor * x.range[1] + offset])
        gain = float(np.abs(factor).max()) * WIDER
        reach = (float(ends.min()), float(ends.max()))
        return Real(range=reach, near=x.near * gain, far=_times(x.anywhere, gain))

    def weighted(self, node: FileNode, x: Real) -> Real:
        """Sums of products with stored weights: the largest row of their sizes bounds the error."""
        w = self.weights(node.inputs[1])
        before = self.model.constants.get(node.inputs[1].removesuffix(REAL))
        bias = np.zeros(1)
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = self.weights(node.inputs[2]).reshape(-1)
        if not w.ndim or not np.isfinite(bias).all() or not math.isfinite(x.range[1] - x.range[0]):
            return UNKNOWN
        transposed = node.code.startswith("conv_transpose")
        rows = (w.swapaxes(0, 1) if transposed else w).reshape(w.shape[transposed], -1)
        low, high = min(x.range[0], 0.0), max(x.range[1], 0.0)  # padding is 0
        above, below = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
        gain = float((above - below).max()) * WIDER
        lost = 0.0
        if before is not None:  # torch's weights; ours are codes of them, applied to our values
            change = np.abs(w - before.astype(np.float64))
            change = (change.swapaxes(0, 1) if transposed else change).reshape(len(rows), -1)
            lost = float(change.sum(1).max()) * WIDER
            gain += lost
            lost *= max(-low, high)
        reach = (
            float((above * low + below * high + bias).min()) - 1e-12,
            float((above * high + below * low + bias).max()) + 1e-12,
        )
        widest = (reach[0] - lost, reach[1] + lost)
        return Real(range=widest, near=x.near * gain + lost, far=x.anywhere * gain + lost)


def _codes_apart(x: Real, step: float, reach: Range) -> tuple[int, int]:
    """Return by how many codes a rounded value may differ: anywhere, and without a cut."""
    near = _moved(x.near / step)
    ends = (max(x.range[0], reach[0]), min(x.range[1], reach[1]))
    lost = max(0.0, ends[1] - x.cut[1], x.cut[0] - ends[0])
    far = _moved((x.far + lost) / step)
    return min(max(far, near), CODES), min(near, CODES)


def _moved(steps: float) -> int:
    """Return by how many codes a result may change that is off by `steps` before rounding."""
    if not steps:
        return 0
    return CODES if not steps < CODES else math.floor(steps * WIDER + 2.0**-30) + 1


def _hull(a: Range, b: Range) -> Range:
    return (min(a[0], b[0]), max(a[1], b[1]))


def _clip(a: Range, b: Range) -> Range:
    """Return the ends of clipping to `a` and then to `b`, which need not overlap."""
    return (min(max(a[0], b[0]), b[1]), min(max(a[1], b[0]), b[1]))


def _with(x: Real, reach: Range) -> Real:
    return replace(x, range=reach)


def _padded(x: Real, value: float) -> Real:
    """Return x with a border of one value, which the importer leaves exact: it is not cut."""
    lost = max(0.0, value - x.cut[1], x.cut[0] - value)
    return replace(x, range=_hull(x.range, (value, value)), far=max(x.far, lost))


def _recoded(x: Real, like: Real) -> Real:
    """Return x rounded to other codes."""
    assert like.codes is not None, "asked for where there are codes"
    half = like.step / 2
    cut = _clip(x.cut, like.codes)
    return Real(range=x.range, near=x.near + half, far=x.far + half, cut=cut)


def _mirrored(x: Real) -> Real:
    return Real(
        range=(-x.range[1], -x.range[0]),
        near=x.near,
        far=x.far,
        cut=(-x.cut[1], -x.cut[0]),
    )


def _linear(x: Real, gain: float) -> Real:
    """A mean: no cut survives it."""
    return Real(range=x.range, near=x.near * gain * WIDER, far=x.anywhere * gain * WIDER)


def _lipschitz(x: Real, slope: float, reach: Range) -> Real:
    width = reach[1] - reach[0]
    return Real(range=reach, near=min(x.near * slope, width), far=min(x.anywhere * slope, width))


def _product(a: Real, b: Real) -> Real:
    corners = [_times(p, q) for p in a.range for q in b.range]
    sizes = [max(abs(x.range[0]), abs(x.range[1])) for x in (a, b)]

    def error(ea: float, eb: float) -> float:
        return (_times(sizes[0], eb) + _times(sizes[1], ea) + _times(ea, eb)) * WIDER

    return Real(
        range=(min(corners), max(corners)),
        near=error(a.near, b.near),
        far=error(a.anywhere, b.anywhere),
    )


def _times(a: float, b: float) -> float:
    return a * b if a and b else 0.0


def _monotone(x: Real, f: Callable[[float], float], slope: float) -> Real:
    reach = (f(x.range[0]), f(x.range[1]))
    width = reach[1] - reach[0]
    return Real(
        range=reach,
        near=min(_times(x.near, slope), width),
        far=_times(x.far, slope),
        cut=_cut_by(x.cut, f),
    )


def _cut_by(cut: Range, f: Callable[[float], float]) -> Range:
    """Return a cut behind a monotone function; what is not cut stays so."""
    low = -math.inf if cut[0] == -math.inf else f(cut[0])
    high = math.inf if cut[1] == math.inf else f(cut[1])
    return (low, high)


def _tailed(x: Real, f: Callable[[float], float], slope: float, least: float) -> Real:
    """Return f of a cut value, where f falls from 0 to `least` and back below 0, and rises beyond.

    For v above a cut b >= 0 the result is cut at f(b); below 0 all results lie in `least`..0, which
    bounds what is lost.
    """
    low = least if x.range[0] < 0 else f(x.range[0])
    reach = (low, max(f(x.range[1]), 0.0))
    lost = 0.0 if x.cut[0] <= x.range[0] else max(f(x.cut[0]), 0.0) - least
    far, high = _times(x.far, slope) + lost, math.inf
    if x.cut[1] < x.range[1]:
        high = f(max(x.cut[1], 0.0))
        far += -least if x.cut[1] < 0 else 0.0
    return Real(range=reach, near=_times(x.near, slope), far=far, cut=(-math.inf, high))
