"""The `.isobit` file: one safetensors file whose only metadata entry is the IR text.

One entry, because safetensors keeps metadata in a hash map and the order of several would change
the bytes. A trainable model adds its float graph under the same entry and its parameters as
`train/...` tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from isobit.core.errors import BadArgument, FileDamaged, FileMissing
from isobit.core.files import write_atomic
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph
from isobit.ir.text import Signatures, parse_graph, print_graph, scale_tensors

_KEY = "isobit"


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of a `.isobit` file: graphs by role, and tensors that belong to no graph."""

    graphs: Mapping[str, Graph]
    extra: Mapping[str, AnyArray] = dataclass_field(default_factory=dict)
    notes: Mapping[str, str] = dataclass_field(default_factory=dict)


def to_bytes(stored: Stored) -> bytes:
    """Serialise; equal content gives equal bytes."""
    tensors: dict[str, AnyArray] = {}
    texts: dict[str, str] = {}
    for role, graph in sorted(stored.graphs.items()):
        texts[role] = print_graph(graph)
        for const in graph.consts:
            tensors[f"{role}/{const.name}"] = const.data
        for name, data in scale_tensors(graph).items():
            tensors[f"{role}/{name}"] = data
    for name, data in stored.extra.items():
        tensors[f"extra/{name}"] = np.ascontiguousarray(data)
    header = json.dumps(
        {"graphs": texts, "notes": dict(sorted(stored.notes.items()))}, sort_keys=True
    )
    return bytes(
        save({k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())}, {_KEY: header})
    )


def write_store(path: Path, stored: Stored) -> None:
    """Write a `.isobit` file atomically."""
    if path.suffix != ".isobit":
        raise BadArgument(
            where=str(path),
            what="file name",
            want="one that ends in .isobit",
            got=path.name,
            fix=f"Use {path.with_suffix('.isobit').name}.",
        )
    write_atomic(path, to_bytes(stored))


def read_store(path: Path, signatures: Signatures) -> Stored:
    """Read a `.isobit` file. Raises `FileMissing`, `FileDamaged`, `TextSyntax` or `BadGraph`."""
    if not path.is_file():
        raise FileMissing(
            where=str(path),
            what="model file",
            want="an existing .isobit file",
            got="a folder"
            if path.is_dir()
            else "something that is not a regular file"
            if path.exists()
            else "nothing",
            fix="Check the path; `isobit train --out M.isobit` writes one.",
        )
    return parse_store(path.read_bytes(), str(path), signatures)


def parse_store(blob: bytes, where: str, signatures: Signatures) -> Stored:
    """Rebuild what `to_bytes` wrote; `where` names the source in errors."""

    def damaged(got: str) -> FileDamaged:
        return FileDamaged(
            where=where,
            what="model file",
            want="a complete .isobit file (safetensors with isobit metadata)",
            got=got,
            fix="Copy or export it again.",
        )

    try:
        header, tensors = _read_safetensors(blob)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise damaged(f"{len(blob)} bytes that do not parse ({error})") from error
    graphs_text, notes = header.get("graphs"), header.get("notes", {})
    if not isinstance(graphs_text, dict) or not isinstance(notes, dict):
        raise damaged("metadata of another form")
    graphs = {}
    for role, text in graphs_text.items():
        own = {
            name.removeprefix(f"{role}/"): data
            for name, data in tensors.items()
            if name.startswith(f"{role}/")
        }
        graphs[role] = parse_graph(str(text), own, signatures)
    extra = {n.removeprefix("extra/"): d for n, d in tensors.items() if n.startswith("extra/")}
    return Stored(graphs, extra, notes)


def _read_safetensors(blob: bytes) -> tuple[dict[str, object], dict[str, AnyArray]]:
    from safetensors.numpy import load

    if len(blob) < 8:
        raise ValueError("shorter than its header")
    size = int.from_bytes(blob[:8], "little")
    if size > len(blob) - 8:
        raise ValueError("header longer than the file")
    metadata = json.loads(blob[8 : 8 + size]).get("__metadata__", {})
    header = json.loads(metadata[_KEY])
    if not isinstance(header, dict):
        raise ValueError("isobit metadata is not an object")
    return header, load(blob)
