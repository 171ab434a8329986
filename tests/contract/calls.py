"""A kernel call as memory: regions before it, what each must hold after it.

A `Call` is independent of where it runs. Runners place its regions (apart, flush against unmapped
pages, or between guard bytes), call the function and give the regions back; `problems` compares
them. Inputs and constants must be unchanged, outputs must be what `integer` says, scratch is random
before and free afterwards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isobit.core.dtypes import of_numpy
from isobit.ops.base import Kernel, NodeTypes, Op, Packed, Sample
from isobit.plan.plan import ALIGNMENT_BYTES

from . import cases


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes that a call may touch; `after`: what they must be then, None for scratch."""

    before: bytes
    after: bytes | None
    alignment_bytes: int
    what: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """An argument: a place in a region; region -1 is the null pointer."""

    region: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the function `contract_<entry>` with pointers."""

    label: str
    entry: int
    regions: tuple[Region, ...]
    pointers: tuple[Pointer, ...]


def problems(call: Call, results: tuple[bytes, ...]) -> Iterator[str]:
    """Say how a call's memory differs from what it must be."""
    for region, got in zip(call.regions, results, strict=True):
        if region.after is None or got == region.after:
            continue
        want = np.frombuffer(region.after, np.int8)
        have = np.frombuffer(got, np.int8)
        (where,) = np.nonzero(want != have)
        first = int(where[0])
        yield (
            f"{call.label}: {region.what}: {len(where)} of {len(want)} bytes differ, "
            f"first at {first}: want {want[first]}, got {have[first]}"
        )


def apart(
    op: type[Op[Any, Any]],
    kernel: type[Kernel],
    sample: Sample[Any],
    entry: int,
    *,
    at_most: int = 1 << 30,
) -> Iterator[Call]:
    """Yield one call per batch entry, every buffer a region of its own."""
    wanted = cases.integer(op, sample.attrs, sample.types, sample.inputs)
    rng = rng_of(sample.label)
    for n in range(min(cases.batches(op, sample.inputs), at_most)):
        regions, pointers = _constants(op, kernel, sample, rng)
        inputs = _inputs(op, kernel, sample, n)
        outputs = _outputs(kernel, sample.types, wanted, n, rng)
        outputs = _with_states(op, sample, outputs, n)
        scratch = _scratch(kernel, sample, rng)
        regions = [*inputs, *regions, *outputs, *scratch]
        yield Call(
            f"{sample.label} [{n}]",
            entry,
            tuple(regions),
            _numbered(
                [Pointer(0)] * len(inputs), pointers, [Pointer(0)] * (len(outputs) + len(scratch))
            ),
        )


def overlapping(
    op: type[Op[Any, Any]], kernel: type[Kernel], sample: Sample[Any], entry: int
) -> Iterator[Call]:
    """Yield calls whose output lies over an activation, as near as `overlap_bytes` allows and
    lower.

    Input at X, output at Y: Y + lead <= X. Y is rounded down to the alignment the planner gives,
    then lowered by one, two, five alignments and by half the input.
    """
    lead = kernel.overlap_bytes(sample.attrs, sample.types)
    if lead is None or len(sample.types.outputs) != 1:
        return
    wanted = cases.integer(op, sample.attrs, sample.types, sample.inputs)
    rng = rng_of(sample.label)
    n = cases.batches(op, sample.inputs) - 1
    inputs = _inputs(op, kernel, sample, n)
    (output,) = _outputs(kernel, sample.types, wanted, n, rng)
    alignment = max(inputs[0].alignment_bytes, output.alignment_bytes)
    least = _align(lead, alignment)
    for position in range(len(inputs) if kernel.overlaps_all else 1):
        size = len(inputs[position].before)
        lower = {0, alignment, 2 * alignment, 5 * alignment, _align(size // 2, alignment)}
        for extra in sorted(lower):
            regions, pointers = _constants(op, kernel, sample, rng)
            scratch = _scratch(kernel, sample, rng)
            shared = _shared(inputs[position], output, least + extra, alignment, rng)
            regions = [*inputs, *regions, *scratch]
            regions[position] = shared
            numbered = _numbered([Pointer(0)] * len(inputs), pointers, [Pointer(0)] * len(scratch))
            arguments = list(numbered)
            arguments[position] = Pointer(position, least + extra)
            arguments.insert(len(inputs) + len(pointers), Pointer(position))
            label = (
                f"{sample.label} [{n}], output {least + extra} (lead {lead}) below input {position}"
            )
            yield Call(label, entry, tuple(regions), tuple(arguments))


def rng_of(label: str) -> np.random.Generator:
    """A generator that depends on the case alone."""
    return np.random.default_rng(zlib.crc32(label.encode()))


def _shared(
    source: Region, output: Region, distance: int, alignment: int, rng: np.random.Generator
) -> Region:
    """Output at the start, input `distance` bytes behind it; only the output may change."""
    assert output.after is not None
    size = max(distance + len(source.before), len(output.before))
    before = bytearray(rng.bytes(size))
    before[distance : distance + len(source.before)] = source.before
    after = bytearray(before)
    after[: len(output.after)] = output.after
    return Region(bytes(before), bytes(after), alignment, "input and output together")


def _numbered(*groups: list[Pointer]) -> tuple[Pointer, ...]:
    """Number the regions of all pointers but null ones in order."""
    found, at = [], 0
    for pointer in (p for group in groups for p in group):
        found.append(Pointer(at) if pointer.region >= 0 else pointer)
        at += pointer.region >= 0
    return tuple(found)


def _inputs(
    op: type[Op[Any, Any]], kernel: type[Kernel], sample: Sample[Any], n: int
) -> list[Region]:
    kinds = cases.read_only(op, sample.types.inputs)
    found = []
    for i, (kind, array) in enumerate(zip(kinds, cases.nth(op, sample.inputs, n), strict=True)):
        blob = little(cases.stored(array, kind))
        alignment = max(kernel.alignment_bytes, kind.dtype.size_bytes)
        found.append(Region(blob, blob, alignment, f"input {i}"))
    return found


def _with_states(
    op: type[Op[Any, Any]], sample: Sample[Any], outputs: list[Region], n: int
) -> list[Region]:
    """The outputs that update a state: they hold the old one before the call."""
    found = list(outputs)
    for name, position in op.updates.items():
        kind, old = getattr(sample.types.inputs, name), getattr(sample.inputs, name)
        if old is None:  # the run starts from zero, whatever the buffer holds
            continue
        before = little(cases.stored(old[n : n + 1], kind))
        found[position] = replace(found[position], before=before, what=f"state {name}")
    return found


def packed_of(
    op: type[Op[Any, Any]], kernel: type[Kernel], sample: Sample[Any]
) -> tuple[Packed, ...]:
    """The kernel's constants."""
    consts = cases.consts_only(op, sample.types.inputs, sample.inputs)
    return tuple(kernel.pack(sample.attrs, sample.types, consts))


def _constants(
    op: type[Op[Any, Any]], kernel: type[Kernel], sample: Sample[Any], rng: np.random.Generator
) -> tuple[list[Region], list[Pointer]]:
    regions, pointers = [], []
    for packed in packed_of(op, kernel, sample):
        if not packed.data.size:
            pointers.append(Pointer(-1))
            continue
        pointers.append(Pointer(0))
        # Struct members are int32; arrays have their element's alignment unless the kernel wants
        # more.
        natural = 4 if packed.struct else of_numpy(packed.data.dtype).size_bytes
        blob = little(packed.data.astype(np.int32) if packed.struct else packed.data)
        regions.append(
            Region(blob, blob, max(natural, packed.alignment_bytes), f"constant {packed.name}")
        )
    return regions, pointers


def _outputs(
    kernel: type[Kernel],
    q: NodeTypes[Any],
    wanted: tuple[np.ndarray, ...],
    n: int,
    rng: np.random.Generator,
) -> list[Region]:
    found = []
    for i, (kind, array) in enumerate(zip(q.outputs, wanted, strict=True)):
        after = little(array[n : n + 1])
        alignment = max(kernel.alignment_bytes, kind.dtype.size_bytes)
        found.append(Region(rng.bytes(len(after)), after, alignment, f"output {i}"))
    return found


def _scratch(kernel: type[Kernel], sample: Sample[Any], rng: np.random.Generator) -> list[Region]:
    size = kernel.scratch_bytes(sample.attrs, sample.types)
    return [Region(rng.bytes(size), None, ALIGNMENT_BYTES, "scratch")] if size else []


def little(array: np.ndarray) -> bytes:
    """Little-endian bytes."""
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
