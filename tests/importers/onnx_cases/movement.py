"""Operators that move elements, and those that gather several into one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import helper

from .base import Case, Code, Stored, cases, codes, ints, qdq, reals, single

IMAGE = (1, 3, 6, 5)
X = Code(scale=0.047, zero=9)
Y = Code(scale=0.06, zero=-11)


@cases("Reshape")
def reshape(code: str) -> Iterator[Case]:
    for opset in (7, 13, 14):
        yield single(code, "flatten", [IMAGE, ints(1, -1)], opset=opset)
    yield single(code, "zero keeps", [IMAGE, ints(0, 0, 30)])
    yield single(code, "more axes", [IMAGE, ints(1, 3, 2, 3, 5)])
    yield single(code, "without batch", [IMAGE, ints(30, 3)])
    yield qdq(code, "kept", [(IMAGE, X), ints(1, -1)], None)
    yield qdq(code, "recoded", [(IMAGE, X), ints(1, -1)], Y)


@cases("Flatten")
def flatten(code: str) -> Iterator[Case]:
    for opset in (7, 11, 13):
        yield single(code, "axis 1", [IMAGE], opset=opset)
    yield single(code, "axis 0", [IMAGE], axis=0)
    yield single(code, "axis 2", [IMAGE], axis=2)
    yield single(code, "axis -1", [IMAGE], axis=-1)


@cases("Squeeze")
def squeeze(code: str) -> Iterator[Case]:
    yield single(code, "axes", [(1, 3, 1, 5)], opset=7, axes=[2])
    yield single(code, "all", [(1, 3, 1, 5)], opset=11)
    yield single(code, "axes", [(1, 3, 1, 5), ints(2)], opset=13)
    yield single(code, "batch", [(1, 3, 1, 5), ints(0)])
    yield single(code, "negative", [(1, 3, 1, 1), ints(-1, -2)])
    yield single(code, "all of ones", [(1, 1, 4)])


@cases("Unsqueeze")
def unsqueeze(code: str) -> Iterator[Case]:
    yield single(code, "front", [(3, 5)], opset=7, axes=[0])
    yield single(code, "two", [(3, 5)], opset=11, axes=[0, 3])
    for axis in (0, 1, 2, -1):
        yield single(code, f"axis {axis}", [(3, 5), ints(axis)])


@cases("Identity", "Dropout")
def nothing(code: str) -> Iterator[Case]:
    for opset in (7, 12, 13):
        for shape in (IMAGE, (1, 7)):
            yield single(code, f"{shape}", [shape], opset=opset)


@cases("Expand")
def expand(code: str) -> Iterator[Case]:
    for opset in (8, 13):
        yield single(code, "same", [IMAGE, ints(*IMAGE)], opset=opset)
        yield single(code, "ones", [(1, 7), ints(1, 1)], opset=opset)
        yield single(code, "more axes", [(3, 5), ints(1, 3, 5)], opset=opset)


@cases("Transpose")
def transpose(code: str) -> Iterator[Case]:
    for opset in (7, 13):
        yield single(code, "to NHWC", [IMAGE], opset=opset, perm=[0, 2, 3, 1])
    yield single(code, "default", [(4, 3)])
    yield single(code, "rows", [(1, 4, 7)], perm=[0, 2, 1])
    yield single(code, "batch moves", [(3, 1, 5)], perm=[1, 0, 2])
    yield single(code, "five axes", [(1, 2, 3, 4, 5)], perm=[0, 3, 1, 4, 2])
    yield qdq(code, "recoded", [(IMAGE, X)], Y, perm=[0, 3, 2, 1])


@cases("DepthToSpace")
def depth_to_space(code: str) -> Iterator[Case]:
    for opset in (11, 13):
        for mode in ("DCR", "CRD"):
            yield single(code, mode, [(1, 12, 2, 3)], opset=opset, blocksize=2, mode=mode)
    yield single(code, "three", [(1, 18, 2, 2)], blocksize=3)
    yield qdq(code, "kept", [((1, 8, 2, 2), X)], None, blocksize=2)


@cases("SpaceToDepth")
def space_to_depth(code: str) -> Iterator[Case]:
    for opset in (7, 13):
        yield single(code, "two", [(1, 3, 4, 6)], opset=opset, blocksize=2)
        yield single(code, "three", [(1, 2, 6, 3)], opset=opset, blocksize=3)
        yield single(code, "one", [(1, 2, 2, 3)], opset=opset, blocksize=1)


@cases("Concat")
def concat(code: str) -> Iterator[Case]:
    for opset in (7, 13):
        yield single(code, "channels", [IMAGE, (1, 2, 6, 5)], opset=opset, axis=1)
    yield single(code, "rows", [IMAGE, (1, 3, 2, 5)], axis=2)
    yield single(code, "features", [(1, 7), (1, 3), (1, 1)], axis=-1)
    yield single(code, "batch", [(1, 7), (1, 7)], axis=0)
    yield single(code, "stored", [IMAGE, reals("c", 1, 1, 6, 5)], axis=1)
    yield single(code, "one", [IMAGE], axis=1)
    yield qdq(code, "two encodings", [(IMAGE, X), (IMAGE, Y)], Y, axis=1)
    stored = Stored(data=codes("cc", 1, 1, 6, 5), scale=0.03)
    yield qdq(code, "stored", [(IMAGE, X), stored], Y, axis=1)


@cases("Split")
def split(code: str) -> Iterator[Case]:
    yield single(code, "old", [IMAGE], outputs=2, opset=7, axis=2)
    yield single(code, "sizes", [IMAGE], outputs=2, opset=11, axis=1, split=[1, 2])
    yield single(code, "sizes", [IMAGE, ints(1, 2)], outputs=2, axis=1)
    yield single(code, "features", [(1, 9), ints(4, 3, 2)], outputs=3, axis=-1)
    yield single(code, "even", [(1, 8)], outputs=4, opset=18, axis=1, num_outputs=4)
    yield single(code, "rows", [(4, 3), ints(1, 3)], outputs=2, axis=0)
    yield qdq(code, "kept", [(IMAGE, X), ints(1, 2)], Y, axis=1, outputs=2)


@cases("Slice")
def slice_(code: str) -> Iterator[Case]:
    yield single(code, "old", [IMAGE], opset=7, starts=[1, 0], ends=[3, 9], axes=[1, 2])
    big = 2**63 - 1
    for opset in (10, 13):
        bounds = [ints(1, 2), ints(3, big), ints(1, 3)]
        yield single(code, "two axes", [IMAGE, *bounds], opset=opset)
    yield single(code, "steps", [IMAGE, ints(0), ints(big), ints(2), ints(2)])
    yield single(code, "backwards", [IMAGE, ints(-1), ints(-big), ints(3), ints(-2)])
    yield single(code, "no axes", [(4, 7), ints(1, 2), ints(3, -1)])
    yield single(code, "nothing", [IMAGE, ints(0), ints(big), ints(1)])
    yield qdq(code, "kept", [(IMAGE, X), ints(1), ints(4), ints(2)], Y)


@cases("Gather")
def gather(code: str) -> Iterator[Case]:
    for opset in (7, 13):
        yield single(code, "one", [IMAGE, np.asarray(2, np.int64)], opset=opset, axis=1)
    yield single(code, "some", [IMAGE, ints(1, 3, 5)], axis=2)
    yield single(code, "backwards", [IMAGE, ints(4, 3, 2)], axis=3)
    yield single(code, "negative", [(1, 7), ints(-1)], axis=1)
    yield single(code, "rows", [(4, 7), np.asarray(-2, np.int64)], axis=0)


@cases("Pad")
def pad(code: str) -> Iterator[Case]:
    yield single(code, "old", [IMAGE], opset=7, pads=[0, 0, 1, 2, 0, 1, 0, 1])
    for mode in ("constant", "reflect"):  # the second has no use for a value, and may have one
        own = {"pads": [0, 0, 1, 2, 0, 1, 0, 1], "mode": mode, "value": 0.7}
        yield single(code, f"old, value, {mode}", [IMAGE], opset=10, **own)
    pads = ints(0, 0, 1, 2, 0, 1, 0, 1)
    for opset in (11, 13, 18):
        yield single(code, "zeros", [IMAGE, pads], opset=opset)
    yield single(code, "value", [IMAGE, pads, np.asarray(-1.5, np.float32)])
    yield single(code, "reflect", [IMAGE, pads], mode="reflect")
    yield single(code, "axes", [IMAGE, ints(1, 2), None, ints(2)], opset=18)
    yield single(code, "nothing", [IMAGE, ints(*[0] * 8)])
    yield qdq(code, "zeros", [(IMAGE, X), pads], X)
    yield qdq(code, "recoded", [(IMAGE, X), pads], Y)


@cases("MaxPool")
def max_pool(code: str) -> Iterator[Case]:
    for opset in (7, 10, 12):
        yield single(code, "plain", [IMAGE], opset=opset, kernel_shape=[2, 3], strides=[2, 1])
    yield single(code, "pads", [IMAGE], kernel_shape=[3, 3], pads=[1, 0, 1, 2], strides=[2, 2])
    yield single(code, "ceil", [IMAGE], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    both = {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "strides": [2, 2]}
    yield single(code, "ceil, a window less", [(1, 2, 6, 6)], **both, ceil_mode=1)
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield single(code, mode, [IMAGE], kernel_shape=[3, 2], strides=[2, 2], auto_pad=mode)
    yield single(code, "row", [(1, 3, 11)], kernel_shape=[3], strides=[2], pads=[1, 1])
    yield qdq(code, "kept", [(IMAGE, X)], None, kernel_shape=[2, 2])
    yield qdq(code, "recoded", [(IMAGE, X)], Y, kernel_shape=[2, 2])


@cases("AveragePool")
def average_pool(code: str) -> Iterator[Case]:
    for opset in (7, 10, 11, 19):
        yield single(code, "plain", [IMAGE], opset=opset, kernel_shape=[2, 3], strides=[2, 1])
    both = {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "strides": [2, 2]}
    yield single(code, "pads", [IMAGE], **both)
    yield single(code, "pads counted", [IMAGE], **both, count_include_pad=1)
    yield single(code, "ceil", [IMAGE], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, opset=19)
    counted = {"ceil_mode": 1, "count_include_pad": 1}
    yield single(code, "ceil, counted", [(1, 2, 6, 6)], **both, **counted, opset=19)
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield single(code, mode, [IMAGE], kernel_shape=[3, 2], strides=[2, 2], auto_pad=mode)
    yield single(code, "row", [(1, 3, 11)], kernel_shape=[3], strides=[2])
    yield qdq(code, "odd count", [(IMAGE, X)], X, kernel_shape=[3, 3])
    yield qdq(code, "even count", [(IMAGE, X)], X, kernel_shape=[2, 2])
    yield qdq(code, "recoded", [(IMAGE, X)], Y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@cases("GlobalAveragePool", "GlobalMaxPool")
def global_pools(code: str) -> Iterator[Case]:
    for opset in (7, 13, 22):
        yield single(code, "image", [IMAGE], opset=opset)
    yield single(code, "row", [(1, 3, 7)])
    yield single(code, "one pixel", [(1, 3, 1, 1)])
    yield qdq(code, "recoded", [(IMAGE, X)], Y)
    yield qdq(code, "same", [((1, 2, 3, 3), X)], X)


@cases("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
def reductions(code: str) -> Iterator[Case]:
    def some(
        label: str, shape: tuple[int, ...], opset: int, axes: list[int] | None, keep: int
    ) -> Case:
        first = 13 if code == "ReduceSum" else 18
        given = [shape] if axes is None or opset < first else [shape, ints(*axes)]
        options = {"axes": axes} if axes is not None and opset < first else {}
        return single(code, label, given, opset=opset, keepdims=keep, **options)

    yield some("image", IMAGE, 7, [2, 3], 1)
    yield some("image", IMAGE, 13, [2, 3], 0)
    yield some("image", IMAGE, 18, [-1, -2], 1)
    yield some("channels", IMAGE, 18, [1], 1)
    yield some("all", IMAGE, 18, None, 1)
    yield some("features", (1, 7), 18, [1], 0)
    yield some("rows", (4, 7), 18, [0], 0)
    yield some("batch", (1, 7), 18, [0], 1)
    axes = {"given": [(IMAGE, X)], "axes": [2, 3]} if code != "ReduceSum" else {}
    if axes:
        yield qdq(code, "image", axes["given"], Y, axes=axes["axes"], keepdims=1)
    else:
        yield qdq(code, "image", [(IMAGE, X), ints(2, 3)], Code(scale=1.1, zero=4), keepdims=0)
    if code in ("ReduceMean", "ReduceSum"):
        # Nothing is reduced, so that all that is left is the activation.
        relu = [helper.make_node("Relu", ["y0"], ["r0"])]
        clip = [helper.make_node("Clip", ["y0", "low", "high"], ["r0"])]
        limits = {"low": np.float32(-2.0), "high": np.float32(2.5)}
        axis = ints(2) if code == "ReduceSum" else None
        given = [((1, 40, 1), X), *([] if axis is None else [axis])]
        options = {"axes": [2]} if axis is None else {}
        for result, encoding in (("same", X), ("recoded", Y)):
            for keep in (0, 1):
                where, kept = f"{result}, keepdims {keep}", {**options, "keepdims": keep}
                yield qdq(code, f"one element, relu, {where}", given, encoding, after=relu, **kept)
                yield qdq(
                    code, f"one element, clip, {where}", given, encoding,
                    after=clip, constants=limits, **kept,
                )  # fmt: skip


@cases("Softmax")
def softmax(code: str) -> Iterator[Case]:
    for opset in (7, 11, 13):
        yield single(code, "features", [(1, 10)], opset=opset, axis=1)
    yield single(code, "last", [(1, 4, 10)], axis=-1)
    yield single(code, "channels", [IMAGE], axis=1)
    yield single(code, "rows", [IMAGE], axis=2)
    yield single(code, "all, old", [(1, 3, 4)], opset=11, axis=1)
    for scale in (0.05, 0.3):
        out = Code(scale=1 / 256, zero=-128)
        yield qdq(code, f"step {scale}", [((1, 10), Code(scale=scale, zero=4))], out, axis=1)
    yield qdq(code, "recoded", [((1, 10), X)], Code(scale=1 / 128, zero=-60), axis=1)


@cases("LpNormalization")
def lp_normalization(code: str) -> Iterator[Case]:
    for shape in ((1, 7), (1, 4, 5), (1, 3, 2, 4)):
        yield single(code, f"last {shape}", [shape])
        yield single(code, f"axis 1 {shape}", [shape], axis=1)


@cases("Resize")
def resize(code: str) -> Iterator[Case]:
    scales = np.asarray([1, 1, 2, 2], np.float32)
    none = np.zeros(0, np.float32)
    yield single(code, "old", [IMAGE, scales], opset=10, mode="nearest")
    floor = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    for opset in (11, 13, 19):
        yield single(code, "nearest", [IMAGE, none, scales], opset=opset, **floor)
    yield single(code, "nearest, half pixel", [IMAGE, none, scales])
    for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for sizes in (ints(1, 3, 12, 10), ints(1, 3, 4, 8)):
            options = {"mode": "linear", "coordinate_transformation_mode": mode}
            yield single(code, f"linear {mode} {sizes[2]}", [IMAGE, none, none, sizes], **options)
    yield qdq(code, "nearest", [(IMAGE, X), none, scales], X, **floor)


@cases("Upsample")
def upsample(code: str) -> Iterator[Case]:
    for factor in (1, 2, 3):
        scales = np.asarray([1, 1, factor, 2], np.float32)
        yield single(code, f"nearest {factor}", [IMAGE, scales], opset=9, mode="nearest")
        yield single(code, f"linear {factor}", [IMAGE, scales], opset=9, mode="linear")
