"""Messages between us and the emulator's process: a JSON header and binary blobs, length-prefixed.

    the magic | header length, u32 little-endian | header | the blobs, one after another

The header's key "blobs" lists their names and sizes in order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias, cast

MAGIC = b"isobit1\n"

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"


def pack(header: Mapping[str, Json], blobs: Mapping[str, bytes]) -> bytes:
    """Return one message. `unpack` is the inverse."""
    sizes: list[Json] = [[name, len(blob)] for name, blob in blobs.items()]
    text = json.dumps({**header, "blobs": sizes}).encode()
    return b"".join((MAGIC, len(text).to_bytes(4, "little"), text, *blobs.values()))


def unpack(message: bytes) -> tuple[dict[str, Json], dict[str, bytes]]:
    """Return the header and the blobs of a message.

    Raises `ValueError` if it is not one complete message.
    """
    start = len(MAGIC) + 4
    if len(message) < start or not message.startswith(MAGIC):
        raise ValueError("no message")
    at = start + int.from_bytes(message[len(MAGIC) : start], "little")
    if at > len(message):
        raise ValueError("cut short in the header")
    header = cast("dict[str, Json]", json.loads(message[start:at]))
    blobs: dict[str, bytes] = {}
    for name, size in cast("list[tuple[str, int]]", header.pop("blobs")):
        blobs[name] = message[at : at + size]
        at += size
    if at != len(message):
        raise ValueError(f"wants {at} bytes, has {len(message)}")
    return header, blobs
