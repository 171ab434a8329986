"""Operators that move codes: joins, splits, paddings, other shapes, other orders of axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tflite_builder import Tensor

from .base import Case, activation, cases, constant, single

Shape = tuple[int, ...]
SCALE, ZERO = 0.05, 3
REFLECT, SYMMETRIC = 0, 1


def moved(name: str, shape: Sequence[int], dtype: str = "int8", zero: int = ZERO) -> Tensor:
    """An activation of the only encoding that a file of this module has for its dtype."""
    return activation(name, shape, SCALE, 0 if dtype == "int32" else zero, dtype)


def stored(name: str, shape: Shape, zero: int = ZERO) -> Tensor:
    """Random codes in the file."""
    codes = np.random.default_rng(len(name) + sum(shape)).integers(-128, 128, size=shape)
    return constant(name, codes, "int8", [SCALE], [zero])


JOINS: tuple[tuple[str, int, tuple[Shape, ...]], ...] = (
    ("channels", 3, ((1, 3, 4, 5), (1, 3, 4, 1), (1, 3, 4, 2))),
    ("channels from the end", -1, ((1, 3, 4, 2), (1, 3, 4, 3))),
    ("rows", 1, ((1, 2, 3, 4), (1, 5, 3, 4))),
    ("columns", 2, ((1, 2, 1, 3), (1, 2, 4, 3))),
    ("the first axis", 0, ((1, 3, 2), (1, 3, 2), (1, 3, 2))),
    ("unlike first axes", 0, ((2, 3), (1, 3))),
    ("vectors", 0, ((5,), (1,), (3,))),
    ("features", 1, ((1, 7), (1, 12))),
    ("rank 3", -2, ((2, 3, 5), (2, 4, 5))),
    ("rank 5", 3, ((1, 2, 3, 2, 4), (1, 2, 3, 1, 4))),
    ("one tensor", 1, ((1, 6),)),
    ("ten tensors", 1, tuple((1, k + 1) for k in range(10))),
)


@cases("CONCATENATION")
def concatenation(code: str) -> Iterator[Case]:
    def case(label: str, axis: int, xs: Sequence[Tensor], dtype: str = "int8") -> Case:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        values = {"Axis": axis}
        y = moved("y", shape, dtype, ZERO)
        return single(code, label, xs, [y], "ConcatenationOptions", values)

    for label, axis, shapes in JOINS:
        yield case(label, axis, [moved(f"x{i}", shape) for i, shape in enumerate(shapes)])
    x = moved("x", (1, 3, 4))
    yield case("with itself", 2, [x, x])
    yield case("a constant last", 1, [x, stored("k", (1, 2, 4))])
    yield case("a constant first", 0, [stored("k", (2, 3, 4)), x])
    for dtype in ("float32", "int32"):
        xs = [moved("a", (1, 3, 4), dtype), moved("b", (1, 2, 4), dtype)]
        yield case(dtype, 1, xs, dtype)


@cases("PACK")
def pack(code: str) -> Iterator[Case]:
    def case(label: str, axis: int, shape: Shape, count: int, dtype: str = "int8") -> Case:
        joined = list(shape)
        joined.insert(axis if axis >= 0 else len(shape) + 1 + axis, count)
        xs = [moved(f"x{i}", shape, dtype) for i in range(count)]
        values = {"Axis": axis, "ValuesCount": count}
        return single(code, label, xs, [moved("y", joined, dtype)], "PackOptions", values)

    yield case("first axis", 0, (3, 4), 2)
    yield case("first axis of one batch", 0, (1, 4), 3)
    yield case("after the batch", 1, (1, 5, 3), 2)
    yield case("last axis", 3, (1, 5, 3), 4)
    yield case("last axis from the end", -1, (1, 5, 3), 2)
    yield case("inside", -2, (2, 5, 3), 2)
    yield case("scalars", 0, (), 5)
    yield case("vectors", 0, (7,), 3)
    yield case("vectors as columns", 1, (7,), 3)
    yield case("one tensor", 1, (1, 3), 1)
    yield case("more than a kernel takes", 1, (1, 3), 19)
    yield case("rank 5", 2, (1, 2, 3, 2), 2)
    yield case("float32", 1, (2, 3), 2, "float32")
    yield case("int32", 0, (2,), 2, "int32")
    x = moved("x", (3,))
    values = {"Axis": 0, "ValuesCount": 2}
    y = moved("y", (2, 3))
    yield single(code, "with a constant", [stored("k", (3,)), x], [y], "PackOptions", values)


@cases("SPLIT")
def split(code: str) -> Iterator[Case]:
    def case(label: str, axis: int, shape: Shape, count: int, dtype: str = "int8") -> Case:
        part = list(shape)
        part[axis] //= count
        ys = [moved(f"y{i}", part, dtype) for i in range(count)]
        inputs = [constant("axis", axis), moved("x", shape, dtype)]
        return single(code, label, inputs, ys, "SplitOptions", {"NumSplits": count})

    yield case("channels", 3, (1, 3, 4, 6), 3)
    yield case("channels from the end", -1, (1, 3, 4, 6), 2)
    yield case("rows", 1, (1, 6, 4, 2), 2)
    yield case("columns", 2, (1, 3, 4, 3), 4)
    yield case("features", 1, (1, 20), 4)
    yield case("the first axis", 0, (4, 3, 2), 2)
    yield case("single rows of the first axis", 0, (3, 5), 3)
    yield case("a vector", 0, (8,), 2)
    yield case("a vector to elements", 0, (5,), 5)
    yield case("one part", 1, (1, 4), 1)
    yield case("more than a kernel writes", 1, (1, 38), 19)
    yield case("rank 3", 1, (2, 6, 3), 3)
    yield case("rank 5", 2, (1, 2, 4, 2, 3), 2)
    yield case("float32", 1, (1, 6), 3, "float32")
    yield case("int32", 0, (6,), 3, "int32")


@cases("SPLIT_V")
def split_v(code: str) -> Iterator[Case]:
    def case(
        label: str,
        axis: int,
        shape: Shape,
        sizes: Sequence[int],
        dtype: str = "int8",
        written: Sequence[int] = (),
    ) -> Case:
        parts = []
        for size in sizes:
            part = list(shape)
            part[axis] = size
            parts.append(part)
        ys = [moved(f"y{i}", part, dtype) for i, part in enumerate(parts)]
        inputs = [
            moved("x", shape, dtype),
            constant("sizes", list(written or sizes)),
            constant("axis", axis),
        ]
        return single(code, label, inputs, ys, "SplitVOptions", {"NumSplits": len(ys)})

    yield case("channels", 3, (1, 3, 4, 6), (2, 1, 3))
    yield case("channels from the end", -1, (1, 3, 4, 5), (4, 1))
    yield case("rows", 1, (1, 5, 3, 2), (1, 4))
    yield case("columns", 2, (1, 2, 6, 3), (1, 2, 3))
    yield case("features", 1, (1, 20), (9, 7, 4))
    yield case("the rest", 1, (1, 20), (9, 11), written=(9, -1))
    yield case("the first axis", 0, (5, 3), (2, 3))
    yield case("the first axis from the end", -2, (5, 3), (4, 1))
    yield case("a vector", 0, (8,), (1, 2, 5))
    yield case("one part", 0, (8,), (8,))
    yield case("more than a kernel writes", 1, (1, 30), (1,) * 16 + (2,) * 7)
    yield case("rank 5", 4, (1, 2, 2, 2, 5), (3, 2))
    yield case("float32", 1, (1, 6), (1, 5), "float32")
    yield case("int32", 0, (6,), (1, 5), "int32")


@cases("UNPACK")
def unpack(code: str) -> Iterator[Case]:
    def case(label: str, axis: int, shape: Shape, dtype: str = "int8") -> Case:
        part = list(shape)
        count = part.pop(axis)
        ys = [moved(f"y{i}", part, dtype) for i in range(count)]
        values = {"Axis": axis, "Num": count}
        return single(code, label, [moved("x", shape, dtype)], ys, "UnpackOptions", values)

    yield case("first axis", 0, (3, 4))
    yield case("the batch", 0, (1, 4, 3))
    yield case("after the batch", 1, (1, 3, 5))
    yield case("last axis", -1, (1, 3, 4))
    yield case("rows of an image", 1, (1, 3, 4, 2))
    yield case("columns of an image", 2, (1, 3, 4, 2))
    yield case("channels of an image", 3, (1, 3, 4, 2))
    yield case("inside", -2, (2, 5, 3))
    yield case("a vector", 0, (6,))
    yield case("features", 1, (1, 6))
    yield case("more than a kernel writes", 1, (1, 19, 2))
    yield case("to a batch of one", 1, (1, 4, 1))
    yield case("float32", 1, (2, 3), "float32")
    yield case("int32", 0, (4,), "int32")


Pairs = tuple[tuple[int, int], ...]
PADS: tuple[tuple[str, Shape, Pairs], ...] = (
    ("border", (1, 4, 5, 3), ((0, 0), (1, 1), (1, 1), (0, 0))),
    ("one side", (1, 4, 4, 5), ((0, 0), (0, 2), (3, 0), (0, 0))),
    ("channels", (1, 3, 4, 6), ((0, 0), (0, 0), (0, 0), (1, 2))),
    ("every axis but the batch", (1, 3, 4, 2), ((0, 0), (2, 1), (1, 3), (1, 1))),
    ("features", (1, 9), ((0, 0), (3, 4))),
    ("a vector", (7,), ((2, 5),)),
    ("first axis", (3, 4), ((1, 2), (0, 0))),
    ("rank 3", (3, 4, 5), ((2, 1), (0, 3), (1, 4))),
    ("rank 5", (1, 2, 3, 2, 4), ((0, 0), (1, 0), (0, 0), (1, 1), (2, 0))),
    ("nothing", (1, 5), ((0, 0), (0, 0))),
)


def padded(shape: Shape, pads: Pairs) -> Shape:
    return tuple(n + sum(pair) for n, pair in zip(shape, pads, strict=True))


@cases("PAD")
def pad(code: str) -> Iterator[Case]:
    def case(label: str, shape: Shape, pads: Pairs, dtype: str = "int8", zero: int = ZERO) -> Case:
        inputs = [moved("x", shape, dtype, zero), constant("pads", pads)]
        y = moved("y", padded(shape, pads), dtype, zero)
        return single(code, label, inputs, [y], "PadOptions")

    for label, shape, pads in PADS:
        yield case(label, shape, pads)
    yield case("the batch", (1, 2, 3), ((2, 1), (0, 0), (1, 0)))
    for zero in (-128, 127):
        yield case(f"zero point {zero}", (1, 3, 3, 2), ((0, 0), (1, 1), (1, 1), (0, 0)), zero=zero)
    yield case("float32", (1, 3, 4), ((0, 0), (1, 2), (0, 1)), "float32")
    yield case("int32", (3,), ((1, 2),), "int32")


@cases("PADV2")
def pad_v2(code: str) -> Iterator[Case]:
    def case(
        label: str, shape: Shape, pads: Pairs, value: float, dtype: str = "int8", zero: int = ZERO
    ) -> Case:
        scale = [SCALE] if dtype == "int8" else []
        fill = constant("value", [value], dtype, scale, [zero] if scale else [])
        inputs = [moved("x", shape, dtype, zero), constant("pads", pads), fill]
        y = moved("y", padded(shape, pads), dtype, zero)
        return single(code, label, inputs, [y], "PadV2Options")

    for index, (label, shape, pads) in enumerate(PADS):
        yield case(label, shape, pads, 17 * index - 100)
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    yield case("the zero point", (1, 3, 3, 2), border, 9, zero=9)
    yield case("the lowest code", (1, 3, 3, 2), border, -128)
    yield case("the highest code", (1, 3, 3, 2), border, 127)
    yield case("float32", (1, 3, 4), ((0, 0), (1, 2), (0, 1)), -7.625, "float32")
    yield case("float32 zero", (1, 3, 4), ((0, 0), (1, 2), (0, 1)), 0.0, "float32")


@cases("MIRROR_PAD")
def mirror_pad(code: str) -> Iterator[Case]:
    def case(
        label: str, shape: Shape, pads: Pairs, mode: int, dtype: str = "int8", index: str = "int32"
    ) -> Case:
        inputs = [moved("x", shape, dtype), constant("pads", pads, index)]
        y = moved("y", padded(shape, pads), dtype)
        return single(code, label, inputs, [y], "MirrorPadOptions", {"Mode": mode})

    for name, mode in (("reflect", REFLECT), ("symmetric", SYMMETRIC)):
        for label, shape, pads in PADS:
            if label == "rank 3":
                pads = ((2, 1), (0, 3), (1, 4))
            yield case(f"{name}, {label}", shape, _shown(shape, pads, mode), mode)
        most = tuple((n - 1 + mode, n - 1 + mode) for n in (1, 3, 4))
        yield case(f"{name}, as much as there is", (1, 3, 4), most, mode)
        yield case(f"{name}, float32", (2, 4), ((1, 0), (2, 3)), mode, "float32")
        yield case(f"{name}, int64 paddings", (2, 4), ((0, 1), (2, 3)), mode, index="int64")


def _shown(shape: Shape, pads: Pairs, mode: int) -> Pairs:
    """The pads, no larger than the mirror shows."""
    pairs = zip(shape, pads, strict=True)
    return tuple((min(a, n - 1 + mode), min(b, n - 1 + mode)) for n, (a, b) in pairs)


VIEWS: tuple[tuple[str, Shape, Shape], ...] = (
    ("flatten", (1, 3, 4, 5), (1, 60)),
    ("flatten without a batch", (1, 3, 4, 2), (24,)),
    ("to image", (1, 24), (1, 2, 3, 4)),
    ("to several rows", (1, 24), (6, 4)),
    ("from several rows", (6, 4), (1, 24)),
    ("to vector", (2, 3), (6,)),
    ("rank 5", (1, 12), (1, 2, 3, 1, 2)),
    ("from rank 5", (1, 2, 3, 1, 2), (1, 12)),
    ("to a scalar", (1, 1), ()),
    ("from a scalar", (), (1, 1)),
    ("the same", (1, 3, 4), (1, 3, 4)),
)


@cases("RESHAPE")
def reshape(code: str) -> Iterator[Case]:
    for label, shape, new in VIEWS:
        inputs = [moved("x", shape), constant("shape", np.asarray(new, np.int32))]
        yield single(code, label, inputs, [moved("y", new)], "ReshapeOptions")
    inputs = [moved("x", (1, 24)), constant("shape", [1, -1, 4])]
    yield single(code, "a free axis", inputs, [moved("y", (1, 6, 4))], "ReshapeOptions")
    values = {"NewShape": [6, 4]}
    x, y = moved("x", (1, 24)), moved("y", (6, 4))
    yield single(code, "the shape as an option", [x], [y], "ReshapeOptions", values)
    for dtype in ("float32", "int32"):
        inputs = [moved("x", (1, 6), dtype), constant("shape", [2, 3])]
        yield single(code, dtype, inputs, [moved("y", (2, 3), dtype)], "ReshapeOptions")


@cases("SQUEEZE")
def squeeze(code: str) -> Iterator[Case]:
    for label, shape, dims in (
        ("the batch", (1, 3, 4), (0,)),
        ("the first two", (1, 1, 6), (0, 1)),
        ("rows", (1, 1, 4, 3), (1,)),
        ("rows and columns", (1, 1, 1, 7), (1, 2)),
        ("channels", (1, 3, 4, 1), (3,)),
        ("channels from the end", (1, 3, 4, 1), (-1,)),
        ("an inner axis", (2, 1, 3), (1,)),
        ("all of them", (1, 1, 1), (0, 1, 2)),
        ("all there are", (1, 3, 1, 2), ()),
        ("the last of a vector", (5, 1), (1,)),
        ("rank 5", (1, 2, 1, 3, 1), (2, 4)),
    ):
        yield _squeezed(code, label, shape, dims, "int8")
    yield _squeezed(code, "float32", (1, 1, 6), (1,), "float32")
    yield _squeezed(code, "int32", (1, 1, 6), (1,), "int32")


def _squeezed(code: str, label: str, shape: Shape, dims: tuple[int, ...], dtype: str) -> Case:
    gone = {d % len(shape) for d in dims} or {i for i, n in enumerate(shape) if n == 1}
    left = tuple(n for i, n in enumerate(shape) if i not in gone)
    values = {"SqueezeDims": list(dims)}
    ends = ([moved("x", shape, dtype)], [moved("y", left, dtype)])
    return single(code, label, *ends, "SqueezeOptions", values)


@cases("EXPAND_DIMS")
def expand_dims(code: str) -> Iterator[Case]:
    for label, shape, axis, dtype in (
        ("in front of a vector", (6,), 0, "int8"),
        ("behind a vector", (6,), 1, "int8"),
        ("from the end", (6,), -1, "int8"),
        ("in front of a matrix", (2, 3), 0, "int8"),
        ("inside a matrix", (2, 3), 1, "int8"),
        ("after the batch", (1, 4, 3), 1, "int8"),
        ("a batch before the batch", (1, 4, 3), 0, "int8"),
        ("channels", (1, 4, 3), 3, "int8"),
        ("second from the end", (1, 4, 3), -2, "int8"),
        ("a scalar", (), 0, "int8"),
        ("rank 5", (1, 2, 3, 2), 2, "int8"),
        ("float32", (1, 5), 1, "float32"),
    ):
        new = list(shape)
        new.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
        inputs = [moved("x", shape, dtype), constant("axis", [axis])]
        yield single(code, label, inputs, [moved("y", new, dtype)], "ExpandDimsOptions")


@cases("TRANSPOSE")
def transpose(code: str) -> Iterator[Case]:
    for label, shape, perm, dtype in (
        ("to channels first", (1, 3, 4, 5), (0, 3, 1, 2), "int8"),
        ("to channels last", (1, 5, 3, 4), (0, 2, 3, 1), "int8"),
        ("rows and columns", (1, 4, 7, 2), (0, 2, 1, 3), "int8"),
        ("turned round", (2, 3, 4, 2), (3, 2, 1, 0), "int8"),
        ("a matrix", (3, 5), (1, 0), "int8"),
        ("a row", (1, 5), (1, 0), "int8"),
        ("a column", (5, 1), (1, 0), "int8"),
        ("the batch last", (1, 3, 4), (1, 2, 0), "int8"),
        ("exchange", (1, 6, 4), (0, 2, 1), "int8"),
        ("rank 3", (2, 3, 4), (2, 0, 1), "int8"),
        ("rank 5 with a batch", (1, 2, 3, 2, 4), (0, 4, 2, 1, 3), "int8"),
        ("rank 5", (2, 3, 2, 3, 2), (4, 2, 0, 3, 1), "int8"),
        ("nothing", (1, 3, 4), (0, 1, 2), "int8"),
        ("a vector", (4,), (0,), "int8"),
        ("float32", (2, 3, 4), (1, 0, 2), "float32"),
    ):
        inputs = [moved("x", shape, dtype), constant("perm", perm)]
        y = moved("y", [shape[i] for i in perm], dtype)
        yield single(code, label, inputs, [y], "TransposeOptions")
