"""The file gives back what was written, byte for byte; a damaged one is an error of ours, whatever
the damage.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isobit.core.errors import BadArgument, FileDamaged, FileMissing, IsobitError
from isobit.ir.store import Stored, parse_store, read_store, to_bytes, write_store
from isobit.ops.registry import load_ops

from . import graphs

SIGNATURE = load_ops().signature


def stored() -> Stored:
    extra = {
        "train/range": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 2), np.int64),
    }
    notes = {"made": "by a test", "ü": '"quoted" \\ and\nlines'}
    return Stored({"int": graphs.rich(), "float": graphs.floating()}, extra, notes)


def parse(blob: bytes) -> Stored:
    return parse_store(blob, "m.isobit", SIGNATURE)


def test_store_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "m.isobit"
    write_store(path, stored())
    found = read_store(path, SIGNATURE)
    assert found.graphs == stored().graphs
    assert found.notes == stored().notes
    assert found.extra.keys() == stored().extra.keys()
    for name, data in stored().extra.items():
        assert found.extra[name].dtype == data.dtype
        np.testing.assert_array_equal(found.extra[name], data)
    assert path.read_bytes() == to_bytes(stored()) == to_bytes(found)


def test_store_bytes_do_not_depend_on_order() -> None:
    first = stored()
    second = Stored(
        dict(reversed(first.graphs.items())),
        dict(reversed(first.extra.items())),
        dict(reversed(first.notes.items())),
    )
    assert to_bytes(first) == to_bytes(second)


def test_store_refuses_other_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match=r"Use m\.isobit"):
        write_store(tmp_path / "m.bin", stored())
    with pytest.raises(FileMissing, match="got nothing"):
        read_store(tmp_path / "m.isobit", SIGNATURE)
    with pytest.raises(FileMissing, match="got a folder"):
        read_store(tmp_path, SIGNATURE)


def test_every_truncation_is_refused() -> None:
    blob = to_bytes(stored())
    header = 8 + int.from_bytes(blob[:8], "little")
    ends = {
        *range(0, 40),
        *range(header - 30, header + 30),
        *range(0, len(blob), 37),
        len(blob) - 1,
    }
    for end in sorted(ends):
        with pytest.raises(FileDamaged, match=r"m\.isobit"):
            parse(blob[:end])
    with pytest.raises(FileDamaged):
        parse(blob + b"\0")


def test_a_mutated_file_never_fails_by_accident() -> None:
    """Either an error of ours, or the change was in bytes that no hash covers and that mean
    nothing.
    """
    rng = np.random.default_rng(11)
    blob = to_bytes(stored())
    header = 8 + int.from_bytes(blob[:8], "little")
    for number in range(3000):
        changed = bytearray(blob)
        # Half in the header, where structure is.
        limit = header if number % 2 else len(blob)
        for _ in range(rng.integers(1, 5)):
            changed[int(rng.integers(limit))] = int(rng.integers(256))
        try:
            parse(bytes(changed))
        except IsobitError:
            continue


def test_changed_constants_are_seen() -> None:
    graph = graphs.rich()
    blob = to_bytes(Stored({"int": graph}))
    weights = graph.const_map()["w0"].data.tobytes()
    at = blob.index(weights)
    for offset in (0, 7, len(weights) - 1):
        changed = bytearray(blob)
        changed[at + offset] ^= 0x10
        with pytest.raises(IsobitError, match="SHA-256"):
            parse(bytes(changed))


def with_header(change: object) -> bytes:
    """A file whose metadata was replaced."""
    blob = to_bytes(Stored({"int": graphs.floating()}))
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    header["__metadata__"] = change
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + blob[8 + size :]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        None,
        [],
        "isobit",
        {"isobit": ""},
        {"isobit": "[1]"},
        {"isobit": "{}"},
        {"isobit": 3},
        {"isobit": '{"graphs": [], "notes": {}}'},
        {"isobit": '{"graphs": {}, "notes": 3}'},
        {"isobit": '{"graphs": {"int": 3}, "notes": {}}'},
        {"isobit": '{"graphs": {"int": "isobit 1  stage=int  net=x  target="}}'},
        {"isobit": "[" * 100_000},
    ],
    ids=str,
)
def test_other_metadata_is_refused(metadata: object) -> None:
    with pytest.raises(IsobitError):
        parse(with_header(metadata))


def test_a_foreign_safetensors_file_is_refused() -> None:
    from safetensors.numpy import save

    with pytest.raises(FileDamaged):
        parse(bytes(save({"x": np.zeros(3)})))
