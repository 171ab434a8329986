"""Mutations that know a format: they keep its frame and damage what is inside."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable
from functools import lru_cache

import flatbuffers
import numpy as np
import tflite

Rng = np.random.Generator
Mutator = Callable[[bytes, Rng], bytes]

MOST = 1000
"""Tables of one kind that are looked for."""
WORDS = (0, 1, 2, 5, 0xFFFF, 1 << 20, 1 << 28, 1 << 30, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FLOATS = (0x7FC00000, 0x7F800000, 0xFF800000, 0x00000001, 0x7F7FFFFF, 0xBF800000)
NUMBERS = ("0", "1", "-1", "3", "255", "65536", "2147483648", "99999999999999999999", "")


# FlatBuffers: tables point back at their vtable, whose 16-bit entries say where each field is.


@lru_cache(maxsize=8)
def _tables(blob: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of all tables, and of all words that are not weights."""
    tables = []
    payload = np.zeros(len(blob) + 4, dtype=bool)
    for table, is_buffer in _walk(blob):
        tables.append(table.Pos)
        if is_buffer and table.Offset(4):
            start = table.Vector(table.Offset(4))
            payload[start : start + table.VectorLen(table.Offset(4))] = True
    words = tuple(at for at in range(0, len(blob) - 3, 4) if not payload[at])
    return tuple(tables), words


def _walk(blob: bytes) -> list[tuple[flatbuffers.table.Table, bool]]:
    """Return every table that can be reached, and whether it is a buffer."""
    found: list[tuple[flatbuffers.table.Table, bool]] = []
    try:
        model = tflite.Model.GetRootAs(blob, 0)
        found.append((model._tab, False))
        for i in range(min(model.OperatorCodesLength(), MOST)):
            found.append((model.OperatorCodes(i)._tab, False))
        for i in range(min(model.BuffersLength(), MOST)):
            buffer = model.Buffers(i)
            _ = buffer.DataLength()
            found.append((buffer._tab, True))
        graph = model.Subgraphs(0)
        found.append((graph._tab, False))
        for i in range(min(graph.TensorsLength(), MOST)):
            found.append((graph.Tensors(i)._tab, False))
            if graph.Tensors(i).Quantization() is not None:
                found.append((graph.Tensors(i).Quantization()._tab, False))
        for i in range(min(graph.OperatorsLength(), MOST)):
            found.append((graph.Operators(i)._tab, False))
            if graph.Operators(i).BuiltinOptions() is not None:
                found.append((graph.Operators(i).BuiltinOptions(), False))
    except Exception:  # a mutation before this one damaged the file: the walk ends there
        return found
    return found


def _table(blob: bytes, rng: Rng) -> int | None:
    tables, _ = _tables(blob)
    inside = [at for at in tables if 0 <= at <= len(blob) - 4]
    return inside[rng.integers(len(inside))] if inside else None


def _fields(blob: bytes, table: int) -> list[tuple[int, int]]:
    """Return (position of the vtable's entry, position of the field) of every present field."""
    (back,) = struct.unpack_from("<i", blob, table)
    vtable = table - back
    if not 0 <= vtable <= len(blob) - 4:
        return []
    (size,) = struct.unpack_from("<H", blob, vtable)
    entries = range(vtable + 4, min(vtable + size, len(blob) - 1), 2)
    offsets = [(at, struct.unpack_from("<H", blob, at)[0]) for at in entries]
    return [(at, table + o) for at, o in offsets if o and table + o <= len(blob) - 4]


def _put(blob: bytes, at: int, form: str, value: int) -> bytes:
    found = bytearray(blob)
    struct.pack_into(form, found, at, value)
    return bytes(found)


def _one_of(values: tuple[int, ...], rng: Rng) -> int:
    return int(values[rng.integers(len(values))])


def vtable_entry(blob: bytes, rng: Rng) -> bytes:
    """Another place for a field, or none."""
    table = _table(blob, rng)
    fields = _fields(blob, table) if table is not None else []
    if not fields:
        return blob
    at, _ = fields[rng.integers(len(fields))]
    return _put(blob, at, "<H", _one_of((0, 4, 6, 8, 12, 0x7FFF, 0xFFFF), rng))


def vtable_offset(blob: bytes, rng: Rng) -> bytes:
    """Another vtable for a table."""
    table = _table(blob, rng)
    if table is None:
        return blob
    near = int(rng.integers(-64, 64)) & 0xFFFFFFFF
    return _put(blob, table, "<I", near if rng.random() < 0.5 else _one_of(WORDS, rng))


def vector_length(blob: bytes, rng: Rng) -> bytes:
    """Another length for the vector, or vtable for the table, that a field points at."""
    field = _field(blob, rng)
    if field is None:
        return blob
    (jump,) = struct.unpack_from("<I", blob, field)
    at = field + jump
    return _put(blob, at, "<I", _one_of(WORDS, rng)) if at <= len(blob) - 4 else blob


def field_value(blob: bytes, rng: Rng) -> bytes:
    """Another value for a field: a scalar, or an offset that then points elsewhere."""
    field = _field(blob, rng)
    return blob if field is None else _put(blob, field, "<I", _one_of(WORDS + FLOATS, rng))


def vector_entry(blob: bytes, rng: Rng) -> bytes:
    """Another entry in a short vector: a dimension, a tensor's index, a scale, a zero point."""
    field = _field(blob, rng)
    if field is None:
        return blob
    (jump,) = struct.unpack_from("<I", blob, field)
    at = field + jump
    if at > len(blob) - 8:
        return blob
    (length,) = struct.unpack_from("<I", blob, at)
    entry = at + 4 + 4 * int(rng.integers(max(1, min(length, 8))))
    if entry > len(blob) - 4:
        return blob
    (old,) = struct.unpack_from("<I", blob, entry)
    new = (old + int(rng.integers(-3, 4))) & 0xFFFFFFFF
    return _put(blob, entry, "<I", new if rng.random() < 0.6 else _one_of(WORDS + FLOATS, rng))


def swap_words(blob: bytes, rng: Rng) -> bytes:
    """Exchange two words outside the weights."""
    _, words = _tables(blob)
    if len(words) < 2:
        return blob
    a, b = (int(words[i]) for i in rng.integers(len(words), size=2))
    found = bytearray(blob)
    found[a : a + 4], found[b : b + 4] = blob[b : b + 4], blob[a : a + 4]
    return bytes(found)


def structure_word(blob: bytes, rng: Rng) -> bytes:
    """Another value for a word outside the weights."""
    _, words = _tables(blob)
    if not words:
        return blob
    at = int(words[rng.integers(len(words))])
    return _put(blob, at, "<I", _one_of(WORDS + FLOATS, rng))


def _field(blob: bytes, rng: Rng) -> int | None:
    table = _table(blob, rng)
    fields = _fields(blob, table) if table is not None else []
    return fields[rng.integers(len(fields))][1] if fields else None


# .isobit: a length, a JSON header with the text of the graph in it, then the tensors.


def _opened(blob: bytes) -> tuple[dict[str, object], dict[str, object], bytes] | None:
    """Return the header, the metadata within, and the tensors; `None` for a frame too damaged."""
    try:
        size = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + size])
        inner = json.loads(header["__metadata__"]["isobit"])
        assert isinstance(inner["graphs"], dict)
    except Exception:  # a mutation before this one broke the frame: leave it as it is
        return None
    return header, inner, blob[8 + size :]


def _closed(header: dict[str, object], inner: dict[str, object], tail: bytes) -> bytes:
    text = json.dumps({**header, "__metadata__": {"isobit": json.dumps(inner)}}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tail


def _edited(blob: bytes, rng: Rng, edit: Callable[[str, Rng], str]) -> bytes:
    opened = _opened(blob)
    if opened is None:
        return blob
    header, inner, tail = opened
    graphs = inner["graphs"]
    assert isinstance(graphs, dict)
    for role in graphs:
        graphs[role] = edit(str(graphs[role]), rng)
    return _closed(header, inner, tail)


def text_number(blob: bytes, rng: Rng) -> bytes:
    """Another number in the text: a dimension, a stride, a scale, a zero point."""

    def edit(text: str, rng: Rng) -> str:
        found = list(re.finditer(r"-?\b\d+\b|0x[0-9a-f.p+-]+", text))
        if not found:
            return text
        one = found[rng.integers(len(found))]
        hexes = ("nan", "inf", "-inf", "0x0.0p+0", "0x1p+1023", "-0x1p-3")
        choices = hexes if one[0].startswith("0x") else NUMBERS
        return text[: one.start()] + choices[rng.integers(len(choices))] + text[one.end() :]

    return _edited(blob, rng, edit)


def text_line(blob: bytes, rng: Rng) -> bytes:
    """A line twice, missing, or elsewhere."""

    def edit(text: str, rng: Rng) -> str:
        lines = text.splitlines()
        if not lines:
            return text
        line = lines[rng.integers(len(lines))]
        if rng.random() < 0.6:
            lines.remove(line)
        if rng.random() < 0.6:
            lines.insert(int(rng.integers(len(lines) + 1)), line)
        return "\n".join(lines) + "\n"

    return _edited(blob, rng, edit)


def text_words(blob: bytes, rng: Rng) -> bytes:
    """Two words of the text exchanged: names, operators, attributes, types."""

    def edit(text: str, rng: Rng) -> str:
        words = re.split(r"(\W+)", text)
        a, b = (2 * int(i) for i in rng.integers((len(words) + 1) // 2, size=2))
        words[a], words[b] = words[b], words[a]
        return "".join(words)

    return _edited(blob, rng, edit)


def header_value(blob: bytes, rng: Rng) -> bytes:
    """Another value somewhere in the header: an offset, a shape, a type, a note."""
    opened = _opened(blob)
    if opened is None:
        return blob
    header, inner, tail = opened
    values: tuple[object, ...] = (None, [], {}, "", 0, -1, 1 << 62, "F64", "I8", [1 << 40], "[")
    value = values[rng.integers(len(values))]
    place = header if rng.random() < 0.6 else inner
    key = list(place)[rng.integers(len(place))]
    inside = place[key]
    if isinstance(inside, dict) and inside and rng.random() < 0.8:
        inside[list(inside)[rng.integers(len(inside))]] = value
    elif key != "__metadata__":
        place[key] = value
    return _closed(header, inner, tail)


def stored_value(blob: bytes, rng: Rng) -> bytes:
    """Another value in a stored tensor, the text's hash corrected: multipliers, shifts, tables."""
    opened = _opened(blob)
    if opened is None:
        return blob
    header, inner, tail = opened
    places = [
        (key, entry["data_offsets"])
        for key, entry in header.items()
        if isinstance(entry, dict) and "/" in key and _is_range(entry.get("data_offsets"))
    ]
    if not places:
        return blob
    key, (start, end) = places[rng.integers(len(places))]
    data = bytearray(tail[start:end])
    if len(data) >= 4:
        at = 4 * int(rng.integers(len(data) // 4))
        data[at : at + 4] = struct.pack("<I", _one_of(WORDS + FLOATS, rng))
    role, _, name = key.partition("/")
    digest = hashlib.sha256(data).hexdigest()[:12]
    graphs = inner["graphs"]
    if isinstance(graphs, dict) and role in graphs:
        line = rf"(const  %{re.escape(name)} : .* sha=)[0-9a-f]+"
        graphs[role] = re.sub(line, rf"\g<1>{digest}", str(graphs[role]))
    return _closed(header, inner, tail[:start] + bytes(data) + tail[end:])


def _is_range(value: object) -> bool:
    """Whether it is a place in the file, and not what a mutation put there."""
    return isinstance(value, list) and [type(v) for v in value] == [int, int] and min(value) >= 0


# ONNX: protocol buffers, nested fields of (tag, length or number).


def _fields_of(message: bytes) -> list[tuple[int, int, int, int]] | None:
    """Return (start, start of the content, end, wire type) of every field; `None` where the bytes
    are no message.
    """
    found, at = [], 0
    while at < len(message):
        tag, value = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, end = _varint(message, value)
        elif kind == 2:
            size, value = _varint(message, value)
            end = value + size
        elif kind in (1, 5):
            end = value + (8 if kind == 1 else 4)
        else:
            return None
        if end > len(message) or tag >> 3 == 0:
            return None
        found.append((at, value, end, kind))
        at = end
    return found


def _varint(blob: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(blob) and shift < 70:
        byte = blob[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return value, at


def _coded(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def proto_field(blob: bytes, rng: Rng) -> bytes:
    """A field with another value, twice, missing, or under another tag, somewhere in the tree; the
    lengths around it are corrected.
    """
    fields = _fields_of(blob)
    if not fields:
        return blob
    start, value, end, kind = fields[rng.integers(len(fields))]
    content = blob[value:end]
    if kind == 2 and _fields_of(content) and rng.random() < 0.9:
        tag, _ = _varint(blob, start)
        inner = proto_field(content, rng)
        return blob[:start] + _coded(tag) + _coded(len(inner)) + inner + blob[end:]
    match int(rng.integers(5)):
        case 0 if kind == 0:
            number = _one_of((*WORDS, *range(20), 1 << 63, (1 << 64) - 1), rng)
            return blob[:value] + _coded(number) + blob[end:]
        case 0 | 1 if content:
            at = int(rng.integers(len(content)))
            return blob[: value + at] + bytes([rng.integers(256)]) + blob[value + at + 1 :]
        case 2:
            return blob[:end] + blob[start:end] + blob[end:]
        case 3:
            return blob[:start] + blob[end:]
        case _:
            return (
                blob[:start] + bytes([blob[start] ^ int(rng.integers(1, 128))]) + blob[start + 1 :]
            )


MUTATORS: dict[str, tuple[Mutator, ...]] = {
    ".tflite": (
        vtable_entry,
        vtable_offset,
        vector_length,
        field_value,
        *(4 * [vector_entry]),
        *(2 * [swap_words]),
        structure_word,
    ),
    ".isobit": (
        *(2 * [text_number]),
        *(2 * [stored_value]),
        text_line,
        text_words,
        header_value,
    ),
    ".onnx": (proto_field,),
}
