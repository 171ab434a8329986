"""How operators of formats with other axes (ONNX, torch.export) become nodes: recorded first.

Such a format keeps images as NCHW and counts axes so; our kernels read NHWC. A rule therefore emits
no nodes. It records steps: the operator of ours, its operands with their foreign shapes, and how
the operator depends on the order of axes. `isobit.importers.layout` then chooses for every value in
which order it is stored, so that as few transpositions as possible remain, and emits the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError, Unsupported
from isobit.core.types import AnyArray, IntArray, Raw, Shape, TensorType
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Attrs, Inputs, Location, Stage
from isobit.ops.foreign import Operand

V = TypeVar("V")
Perm = tuple[int, ...]
UNKNOWN = Location()
Names = tuple[str, ...]
NHWC: Perm = (0, 2, 3, 1)
"""Stored axes of a foreign NCHW image."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where foreign axes are stored: stored axis i is foreign axis `perm[i]`, -1 the batch that a
    tensor without one gets in front.
    """

    perm: Perm

    def axis(self, foreign: int) -> int:
        """Return the stored axis of a foreign one."""
        return self.perm.index(foreign)

    def axes(self, foreign: Sequence[int]) -> tuple[int, ...]:
        """Return stored axes, ascending."""
        return tuple(sorted(self.axis(axis) for axis in foreign))

    def spread(self, values: Sequence[V]) -> tuple[V, ...]:
        """Return one value per foreign axis as one per stored axis after the batch."""
        return tuple(values[axis] for axis in self.perm[1:])


@dataclass(frozen=True, slots=True)
class View:
    """The same elements in the same foreign order under another shape. No node."""


@dataclass(frozen=True, slots=True)
class Permuted:
    """Foreign axes in another order: axis k of y is axis `perm[k]` of x. No node either."""

    perm: Perm


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Every order does, if all operands have it; operands are broadcast as NumPy does."""

    op: str
    inputs: Callable[[Names], Inputs[str]]
    attrs: Attrs


@dataclass(frozen=True, slots=True)
class Fixed:
    """Axes must be stored in one order, `x` for the operand, `y` for the first result; others keep
    the foreign one.
    """

    op: str
    inputs: Callable[[Names], Inputs[str]]
    attrs: Attrs
    x: Perm = NHWC
    y: Perm = NHWC


@dataclass(frozen=True, slots=True)
class Along:
    """Works along `axes`, which may be stored anywhere but in one piece; all operands and results
    alike.
    """

    op: str
    inputs: Callable[[Names], Inputs[str]]
    attrs: Callable[[Placed], Attrs]
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Last:
    """Works along the axis that is stored last. `rows`: it reads [1, rows, 1, features]."""

    op: str
    inputs: Callable[[Names], Inputs[str]]
    attrs: Attrs
    axis: int
    rows: bool = False


@dataclass(frozen=True, slots=True)
class Features:
    """A sum over all elements of x, one output per row of the weights: the weights take on the
    order of x and of y.

    inputs: called with the value [1, I], the foreign index of every stored feature of x, and that
    of every stored one of y.
    """

    op: str
    inputs: Callable[[str, IntArray, IntArray], Inputs[str]]
    attrs: Attrs


Kind = View | Permuted | Elementwise | Fixed | Along | Last | Features


CONSTANT = "Swap the operands, or compute what depends on constants only before you export."
"""What to do about a constant in an activation's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator over foreign shapes."""

    where: str
    kind: Kind
    xs: tuple[Operand, ...]
    ys: tuple[Operand, ...]
    location: Location = UNKNOWN
    """The line of the user's program, of formats that remember it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a reader of the imported graph should know of one value."""

    value: str
    kind: str
    """`transpose`: one had to stay; `lsb`: the result is not always the format's own; `border`: an
    input or output differs from the file's; `range`: a value that is real there has codes here;
    `weights`: the file's codes are reals here; `runtime`: the chosen runtime computes another one
    from this file.
    """
    text: str
    lsb: int = 0
    """Of kind `lsb`: the largest difference in codes for the operands' codes, proven."""
    perm: Perm = ()
    """Of kind `border`: stored axis i is axis `perm[i]` of the file; () where all stay."""


@dataclass(slots=True, kw_only=True)
class LogicalCall:
    """One operator of the foreign model, and the way to answer it. Shapes and axes are foreign."""

    code: str
    where: str
    """How errors name it: position, operator, first output."""
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    options: Mapping[str, Any]
    build: GraphBuilder
    steps: list[Step]
    notes: list[Note]
    bounds: tuple[float, float] = (-np.inf, np.inf)
    """Of an activation that integer graphs fuse: real numbers."""
    location: Location = UNKNOWN
    inherits: bool = False
    """Integer graphs: results are no codes of their own but exact values of the first operand's."""

    @property
    def is_float(self) -> bool:
        """Whether the graph computes with reals."""
        return self.build.stage is Stage.FLOAT

    def operand(self, index: int) -> Operand:
        """Return a required input."""
        found = self.optional(index)
        if found is None:
            raise self.unsupported("inputs", f"an input {index}", f"{len(self.inputs)} inputs")
        return found

    def optional(self, index: int) -> Operand | None:
        """Return an input, `None` where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def activation(self, index: int = 0) -> Operand:
        """Return an input that is computed at run time."""
        found = self.operand(index)
        if found.is_const:
            raise self.unsupported(
                f"input {index}", "a value computed at run time", "a constant", CONSTANT
            )
        return found

    def output(self, index: int = 0) -> Operand:
        """Return an output."""
        if index >= len(self.outputs):
            raise self.unsupported("outputs", f"an output {index}", str(len(self.outputs)))
        return self.outputs[index]

    def constant(self, index: int, what: str) -> AnyArray:
        """Return the data of an input that must be stored in the file."""
        data = self.operand(index).data
        if data is None:
            raise self.unsupported(
                what, "a constant", "a value computed at run time", "Fix it when you export."
            )
        return data

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option; raises `Unsupported` where it is missing and has no default."""
        value = self.options.get(name, default)
        if value is None:
            raise self.unsupported(f"option {name}", "a value", "none in the file")
        return value

    def unsupported(self, what: str, want: str, got: str, fix: str = "") -> IsobitError:
        """Return the refusal of this operator; files that are damaged do not get so far."""
        cure = fix or "Write it as is wanted in the source model, and export that again."
        return Unsupported(where=self.where, what=what, want=want, got=got, fix=cure)

    def axis(self, value: int, rank: int) -> int:
        """Return a foreign axis, negative ones counted from the end."""
        if not -rank <= value < rank:
            raise self.unsupported("axis", f"{-rank}..{rank - 1}", str(value))
        return value % rank

    def const(
        self, wanted: str, data: AnyArray, kind: TensorType | None = None, label: str = ""
    ) -> str:
        """Add a constant, by default raw int32; in float graphs a real."""
        like = self.outputs[0].type if self.is_float else TensorType((), DType.S32, Raw())
        name = f"{self.outputs[0].value}_{wanted}"
        return self.build.const(name, kind or like, np.asarray(data), label)

    def temp(self, wanted: str, shape: Shape, kind: TensorType) -> Operand:
        """Return a new value between two steps, of a foreign shape."""
        name = self.build.fresh(f"{self.outputs[0].value}_{wanted}")
        return Operand("", shape, kind.with_shape(shape), name)

    def step(self, kind: Kind, xs: Sequence[Operand], *ys: Operand) -> None:
        """Record a step; without `ys` it computes the outputs. Raises `Unsupported` for stored
        reals among codes: as codes they would be cut to whole numbers.
        """
        for x in xs:
            if x.data is not None and x.is_float and not self.is_float:
                raise self.unsupported(
                    "operands",
                    "codes with a scale in a quantised graph",
                    f"the reals {x.label or x.value}",
                    "Quantise this tensor too when you export.",
                )
        results = ys or self.outputs
        self.steps.append(
            Step(where=self.where, kind=kind, xs=tuple(xs), ys=results, location=self.location)
        )

    def viewed(self, x: Operand, shape: Shape, wanted: str = "view") -> Operand:
        """Return x under another foreign shape."""
        if x.shape == shape:
            return x
        if x.data is not None:
            return Operand(x.label, shape, x.type.with_shape(shape), x.value, x.data.reshape(shape))
        y = self.temp(wanted, shape, x.type)
        self.step(View(), [x], y)
        return y

    def lossy(self, lsb: int, text: str) -> None:
        """Report that codes may differ by up to `lsb` from the format's own definition."""
        if lsb:
            note = Note(value=self.outputs[0].value, kind="lsb", text=text, lsb=lsb)
            self.notes.append(note)
