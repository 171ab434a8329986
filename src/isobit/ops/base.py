"""What an operator, a layer and a kernel are.

An operator is a folder `ops/<name>/` with an `op.py` that defines one `Op` subclass; every other
`.py` in the folder is a kernel: a `Kernel` subclass beside its C source of the same stem (but
`torch_*.py`: torch code that the scan leaves alone). `isobit.ops.registry` finds both; nothing is
registered by hand.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError
from isobit.core.features import Feature
from isobit.core.types import AnyArray, Encoding, FloatArray, IntArray, Real, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import schemes
from isobit.ops.channels import ChannelRule
from isobit.ops.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A", bound=Attrs)
I = TypeVar("I", bound=Inputs[Any])  # the letter of the architecture page


@dataclass(frozen=True, slots=True)
class NodeTypes(Generic[I]):
    """The types around one node: `inputs` has the operator's fields, filled with `TensorType`."""

    inputs: I
    outputs: tuple[TensorType, ...]
    soft: tuple[bool, bool] = (False, False)
    """Torch only: whether the gradient passes the (low, high) clamp. A bound that only the observed
    range set passes it: blocked, a value of the right class stuck at the bottom of the range could
    never rise again.
    """

    @property
    def output(self) -> TensorType:
        """The only output's type."""
        (kind,) = self.outputs
        return kind


@dataclass(frozen=True, slots=True)
class Inferred:
    """What an operator says of one output. `encoding=None`: any encoding may be chosen (a range
    decides).
    """

    shape: Shape
    dtype: DType
    encoding: Encoding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Operations of one inference, counted by the definition of the operator, not by a kernel."""

    macs: int = 0
    """Multiply-accumulates, taps that fall on padding included (the field's convention)."""
    reads: int = 0
    """Elements read from the inputs, each counted once."""
    writes: int = 0
    """Elements written."""


@dataclass(frozen=True, slots=True)
class Sample(Generic[I]):
    """A reasoned test case: shared by contract tests, benchmarks, documentation and fuzzing.

    `label` says what the case is for. `types` are per-sample types (axis 0 = 1); `inputs` are
    integers of the carriers' ranges, constants included; activations may carry several samples on
    axis 0.
    """

    label: str
    attrs: Attrs
    types: NodeTypes[I]
    inputs: Inputs[Any]


class EncodingRule(Enum):
    """Where an output's encoding comes from when a float graph becomes an integer graph."""

    FREE = "free"
    """From an observed range."""
    SAME = "same"
    """Equal to the first activation input's: the operator only moves, selects or averages codes."""
    FIXED = "fixed"
    """From the operator itself, whatever the data (`fixed_encoding`)."""


class Op(Generic[A, I]):
    """One operator. Subclasses are never instantiated; every facet is a static method.

    Written as `class Conv2d(Op[Conv2dAttrs, Conv2dInputs[Any]], name="conv2d")`.
    """

    name: ClassVar[str]
    attrs_type: ClassVar[type[Attrs]]
    inputs_type: ClassVar[type[Inputs[Any]]]
    constants: ClassVar[tuple[str, ...]] = ()
    """Input fields that are constants, in field order; the others are activations."""
    float_constants: ClassVar[tuple[str, ...]] = ()
    """Those of them that only float graphs have."""
    encoding_rule: ClassVar[EncodingRule] = EncodingRule.SAME
    absorbs_clamp: ClassVar[bool] = False
    """Whether a following activation clamp becomes the `clamp` attribute."""
    absorbs_pad: ClassVar[bool] = False
    """Whether a `pad` of height and width before it, by real 0, becomes the `pad` attribute (top,
    left, bottom, right).
    """
    selects: ClassVar[bool] = False
    """Whether every output is one of the inputs of its channel, chosen by order, as a maximum is:
    it commutes with whatever grows with them, such as a clamp or a requantisation.
    """
    view: ClassVar[bool] = False
    """Whether the output is the input's bytes: both get one buffer and no code runs."""
    takes_any_encoding: ClassVar[bool] = False
    """Whether inputs may be affine in the scheme `pow2`: no arithmetic on codes, or one that
    subtracts zero points.
    """
    same_encoding: ClassVar[bool] = False
    """Whether every activation input must have the output's encoding (training makes it so,
    `train/ties`).
    """
    channels: ClassVar[ChannelRule | None] = None
    """What it does to channels; without a rule they all stay."""
    updates: ClassVar[Mapping[str, int]] = {}
    """Input fields that hold states (`ir.graph.State`), each with the position of the output that
    is the state of the next run. Meanings stay pure: states come in, next states go out. Kernels
    get one pointer, the output's, which holds the old state when they are called.
    """
    takes_wide: ClassVar[bool] = False
    """Whether calibration may give its activation codes of 16 bits: its output has them too if it
    only moves codes (`EncodingRule.SAME`), else 8 bits.
    """
    elementwise: ClassVar[bool] = False
    """Whether output element i depends on element i of the inputs alone (up to broadcasting)."""
    takes_pixels: ClassVar[bool] = False
    """Whether it takes raw pixels (u8, scale 1): a network input that only such operators read is
    not quantised.
    """

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name:
            cls.name = name
            bases = getattr(cls, "__orig_bases__", ())
            arguments = next(a for a in (getattr(base, "__args__", ()) for base in bases) if a)
            cls.attrs_type = arguments[0]
            if len(arguments) > 1:  # a family such as WeightedOp fixes its inputs once
                cls.inputs_type = getattr(arguments[1], "__origin__", arguments[1])

    @staticmethod
    def infer(attrs: A, types: I) -> Inferred | tuple[Inferred, ...]:
        """Shape and dtype rule. Raises `BadShape` or `BadAttribute`, every violation at once."""
        raise AssertionError("every operator defines infer")

    @staticmethod
    def integer(attrs: A, q: NodeTypes[I], inputs: I) -> IntArray | tuple[IntArray, ...]:
        """THE meaning: int64 codes in, int64 codes out."""
        raise AssertionError("every integer operator defines integer")

    @staticmethod
    def real(attrs: A, inputs: I) -> FloatArray | tuple[FloatArray, ...]:
        """The float64 meaning, for float graphs."""
        raise AssertionError("every operator defines real")

    @staticmethod
    def surrogate(attrs: A, q: NodeTypes[I], inputs: I) -> Tensor | tuple[Tensor, ...]:
        """Torch: the exact forward on integer-valued float carriers `q - zero`, with
        straight-through gradient.

        Constants arrive as integer-valued tensors; the result is again centred (`q - zero`).
        """
        raise AssertionError("every trainable operator defines surrogate")

    @staticmethod
    def estimate(attrs: A, q: NodeTypes[I], inputs: I) -> Tensor:
        """Torch: the real value of an `EncodingRule.FREE` output before rounding, from the same
        carriers.

        Ranges are observed on it; `q.outputs` may not be decided yet and must not be read.
        """
        raise AssertionError("every operator with a free encoding defines estimate")

    @staticmethod
    def cost(attrs: A, q: NodeTypes[I]) -> Cost:
        """Count operations from types alone."""
        raise AssertionError("every operator defines cost")

    @staticmethod
    def samples() -> Iterator[Sample[I]]:
        """Yield the cases every implementation is held to."""
        raise AssertionError("every operator defines samples")

    @classmethod
    def choose_encoding(
        cls, attrs: A, inputs: I, scheme: Scheme, consts: I, low: float, high: float
    ) -> Encoding:
        """Return the encoding of an `EncodingRule.FREE` output whose real values lie in `[low,
        high]`.

        `inputs` are the operands' types (outputs are not decided yet), `consts` the float graph's
        constants.
        """
        return schemes.activation(scheme, low, high, cls.finest_frac(attrs, inputs))

    @staticmethod
    def finest_frac(attrs: A, inputs: I) -> int | None:
        """Return the largest `pow2` frac the output may have so that no shift is negative; `None`:
        any.
        """
        return None

    @staticmethod
    def fixed_encoding(attrs: A, inputs: I, scheme: Scheme) -> Encoding:
        """Return the output encoding of an `EncodingRule.FIXED` operator."""
        raise AssertionError("only for EncodingRule.FIXED")

    @staticmethod
    def output_codes(
        attrs: A, encoding: Encoding, count: int
    ) -> tuple[tuple[DType, Encoding], ...]:
        """Return carrier and encoding of `count` outputs whose first one has `encoding`."""
        return ((DType.S8, encoding),) * count

    @staticmethod
    def constant_codes(
        attrs: A, inputs: I, scheme: Scheme, consts: I
    ) -> Mapping[str, tuple[DType, Encoding]]:
        """Return carrier and encoding of constants that `derive` makes codes with a step; what is
        not named gets raw integers. Arguments as in `choose_encoding`.
        """
        return {}

    @staticmethod
    def observed(attrs: A, largest: Sequence[float]) -> A:
        """Return attributes that follow from the largest magnitudes that the outputs of a float
        node have on examples.
        """
        return attrs

    @staticmethod
    def derive(
        attrs: A, q: NodeTypes[I], scheme: Scheme, consts: I
    ) -> tuple[A, Mapping[str, AnyArray]]:
        """Return integer attributes and the constants that follow from encodings: mult, shift,
        tables.

        `q` holds the encodings chosen for inputs and outputs, `consts` the float graph's constants.
        """
        return attrs, {}

    @classmethod
    def prove(cls, attrs: A, q: NodeTypes[I], consts: I, where: str) -> Sequence[IsobitError]:
        """Return what cannot be proven of an integer node from its actual constants: sums that may
        overflow.
        """
        return ()

    @staticmethod
    def identity(attrs: A, q: NodeTypes[I]) -> str:
        """Return why the only output is the first activation input, code by code; "" where it is
        not.
        """
        return ""

    @staticmethod
    def contiguous(attrs: A, q: NodeTypes[I]) -> bool:
        """Whether the bytes of all activation inputs in a row are those of all outputs in a row:
        then the planner may place them so, and no code runs.
        """
        return False

    @staticmethod
    def keeps_order(attrs: A, q: NodeTypes[I]) -> bool:
        """Whether along the last axis larger entries of x give no smaller entries of y: softmax."""
        return False

    @classmethod
    def permuted(cls, attrs: A, q: NodeTypes[I], perm: Shape) -> A | None:
        """Return attributes with which a transpose may change sides, bit for bit: `op(attrs)(
        transpose(x)) = transpose(op(result)(x))`, `None` where there are none. `q`: types of the
        left side. By default elementwise operators may, if their constants have one entry each.
        """
        sizes = [getattr(q.inputs, name) for name in cls.constants]
        plain = all(kind is None or kind.elements == 1 for kind in sizes)
        return attrs if cls.elementwise and not cls.view and plain else None

    @classmethod
    def rule(cls, attrs: A) -> EncodingRule:
        """Return where the output's encoding comes from; by default the same whatever the
        attributes.
        """
        return cls.encoding_rule

    @classmethod
    def outputs_of(cls, attrs: Any, types: Any) -> tuple[Inferred, ...]:
        """`infer`, always as a tuple."""
        inferred = cls.infer(attrs, types)
        return inferred if isinstance(inferred, tuple) else (inferred,)


@dataclass(frozen=True, slots=True)
class Packed:
    """A constant as a kernel reads it: an array, or (with `fields`) a C struct of int32 members.

    An empty array is an absent optional constant: the kernel gets a null pointer.
    """

    name: str
    data: AnyArray
    struct: str = ""
    fields: tuple[str, ...] = ()
    alignment_bytes: int = 0
    """At least the element's own alignment; more for kernels that load words or pairs."""


class Kernel:
    """One way to compute an operator on a core: the declaration beside `<stem>.c` (or `.S`).

    C convention: `static inline void <function>(<function>_geometry g, <activations>, <packed
    constants>, <outputs>[, void *scratch])`; a state that the operator updates is no activation
    here: its output holds the old state on entry and the new one on return. `g` holds literals that
    follow from shapes and number system alone; everything that training changes is data, so that an
    untrained network has the bytes of the trained one.
    """

    op: ClassVar[str]
    stem: ClassVar[str]
    folder: ClassVar[Path]
    function: ClassVar[str]
    features: ClassVar[frozenset[Feature]] = frozenset()
    headers: ClassVar[tuple[str, ...]] = ()
    """Files of `codegen/runtime` that the source includes, but `isobit_rt.h`, which every network
    has.
    """
    alignment_bytes: ClassVar[int] = 1
    """Alignment of every activation buffer the kernel touches."""
    data_independent: ClassVar[bool] = True
    """Whether the executed instructions are the same for every input and constant (a tested claim).
    """
    rank: ClassVar[int] = 0
    """Preference where two kernels have the same modelled cost; the reference is 0."""

    code_bytes: ClassVar[int] = 1000
    """Typical bytes of one instance, compiled for size. What does not say so counts as large."""

    def __init_subclass__(cls, op: str = "", function: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if op:
            cls.op, cls.function = op, function
            module = importlib.import_module(cls.__module__)
            cls.stem = cls.__module__.rsplit(".", 1)[-1]
            cls.folder = Path(str(module.__file__)).parent

    @classmethod
    def source(cls) -> Path:
        """The C or assembly file."""
        for suffix in (".c", ".S"):
            path = cls.folder / f"{cls.stem}{suffix}"
            if path.is_file():
                return path
        raise AssertionError(f"{cls.__module__} has no C source beside it")

    @staticmethod
    def when(attrs: Any, q: Any) -> str:
        """Return "" where the kernel is legal, else the reason it is not, as `want .., got ..`."""
        return ""

    @staticmethod
    def geometry(attrs: Any, q: Any) -> Mapping[str, int]:
        """Fields of the geometry struct, from shapes and encodings' kinds alone."""
        raise AssertionError("every kernel defines geometry")

    @staticmethod
    def pack(attrs: Any, q: Any, consts: Any) -> Sequence[Packed]:
        """Return the constants in call order; `consts` is the operator's Inputs, activations
        `None`.
        """
        return ()

    @staticmethod
    def scratch_bytes(attrs: Any, q: Any) -> int:
        """Working memory in the arena, dead after the call."""
        return 0

    @staticmethod
    def overlap_bytes(attrs: Any, q: Any) -> int | None:
        """How many bytes the output may lead the first activation input by, for shared memory.

        With input at address X and output at Y the call is correct if Y + d <= X, d the value
        returned: the most bytes written while an input byte at the same distance was still to be
        read. `None`: must not overlap. Further activation inputs must never overlap the output,
        unless `overlaps_all`.
        """
        return None

    gathers: ClassVar[bool] = False
    """Whether `<activations>` is one array of pointers `const void *const *xs`, `<outputs>` one
    `void *const *ys`.
    """

    overlaps_all: ClassVar[bool] = False
    """Whether `overlap_bytes` holds for every activation input (elementwise kernels)."""

    @staticmethod
    def cycles(attrs: Any, q: Any) -> float:
        """Rough modelled cycles on the kernel's slowest core; decides between kernels, never
        reported.
        """
        raise AssertionError("every kernel defines cycles")

    @classmethod
    def flash_bytes(cls, attrs: Any, q: Any) -> int:
        """Modelled bytes of flash beyond the node's own constants: the code of an instance, and
        what packing adds. Decides between kernels, never reported.
        """
        return cls.code_bytes


def is_float(kind: TensorType) -> bool:
    """Whether a tensor holds reals rather than codes."""
    return isinstance(kind.encoding, Real)
