"""What the rules of operators that only move codes share: one encoding, and which axis is which.

Such a rule works on our axes directly where the foreign axis 0 is the batch and stays whole, and
else in front of all foreign axes (`Call.boxed`); both forms are free views of each other.
"""

from __future__ import annotations

from isobit.core.types import Shape
from isobit.ops.foreign import Call, Operand


def require_one_encoding(call: Call, *operands: Operand) -> None:
    """Refuse unless `operands` and all outputs have one carrier and one encoding, and elements.

    Codes are copied, never rescaled: with two encodings a result would mean something else.
    """
    wanted = operands[0].type
    for operand in (*operands, *call.outputs):
        kind = operand.type
        if (kind.dtype, kind.encoding) != (wanted.dtype, wanted.encoding):
            raise call.unsupported(
                f'encoding of "{operand.label}"',
                f'that of "{operands[0].label}": {wanted.dtype.value} {wanted.encoding}',
                f"{kind.dtype.value} {kind.encoding}",
                "Convert the model again: converters give what is only moved one encoding.",
            )
        if 0 in operand.shape:
            raise call.unsupported(
                f'shape of "{operand.label}"', "elements", str(list(operand.shape)), "Drop it."
            )


def lead_of(operands: tuple[Operand, ...], touches_first: bool) -> int:
    """Return what to add to a foreign axis: 0 where axis 0 is the batch in all `operands` and stays
    whole, else 1.
    """
    are_ours = all(operand.shape == operand.type.shape for operand in operands)
    return 0 if are_ours and not touches_first else 1


def framed(call: Call, operand: Operand, lead: int) -> str:
    """Return the value whose axis k + `lead` is the foreign axis k."""
    return call.boxed(operand) if lead else call.value(operand)


def framed_shape(shape: Shape, lead: int) -> Shape:
    """Return the shape of what `framed` returns."""
    return (1, *(shape or (1,))) if lead else shape


def axis_of(call: Call, value: int, rank: int, what: str = "axis") -> int:
    """Return an axis counted from 0; refuses one outside the tensor."""
    rank = max(rank, 1)
    if not -rank <= value < rank:
        raise call.unsupported(what, f"{-rank}..{rank - 1}", str(value), "The file is damaged.")
    return value % rank


def numbers(call: Call, index: int, what: str, count: int) -> tuple[int, ...]:
    """Return a stored vector of `count` integers."""
    found = call.integers(index, what)
    if len(found) != count:
        raise call.unsupported(what, f"{count} numbers", str(found), "The file is damaged.")
    return found


def paddings(call: Call) -> tuple[tuple[int, int], ...]:
    """Return (before, after) of every foreign axis from input 1; a scalar counts as [1]."""
    x, y = call.operand(0), call.output()
    shape = x.shape or (1,)
    found = numbers(call, 1, "paddings", 2 * len(x.shape)) or (0, 0)
    pads = tuple(zip(found[::2], found[1::2], strict=True))
    padded = tuple(size + sum(pair) for size, pair in zip(shape, pads, strict=True))
    if min(found) < 0 or padded != (y.shape or (1,)):
        raise call.unsupported(
            "paddings",
            f"numbers >= 0 that make {list(y.shape)} of {list(x.shape)}",
            str(pads),
            "Negative padding is a SLICE.",
        )
    return pads
