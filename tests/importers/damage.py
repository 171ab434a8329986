"""Damaged model files: which ones there are, how each is damaged, and what isobit makes of it.

Every damaged file is a function of a name and a seed::

    python -m importers.damage write "models:tflite_micro/hello_world_int8.tflite" 7 broken.tflite

(with tests/ on the path) writes one, so that a failure can be looked at alone.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from importers import damage_aware
from importers.cases import all_cases

Rng = np.random.Generator

SHARES = {"models": 99, "operators": 99, "isobit": 60, "onnx": 42}
"""Files of every group in the quick tier; the full tier has 5,000 in the same proportions."""
TOTALS = {"quick": 300, "full": 5000}
MODELS = (
    "mlperf_tiny/models/kws_ref_model.tflite",
    "mlperf_tiny/models/pretrainedResnet_quant.tflite",
    "tflite_micro/hello_world_int8.tflite",
    "tflite_micro/hello_world_float.tflite",
    "tflite_micro/micro_speech_quantized.tflite",
)
STORED = (
    "mlperf_tiny/models/kws_ref_model.tflite",
    "tflite_micro/hello_world_int8.tflite",
    "tflite_micro/hello_world_float.tflite",
)
"""Files from which .isobit files are made, besides the first case of every operator."""
EXTREMES = (
    *(0, 1, 2, 3, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 1 << 16, 1 << 24, 1 << 28, 1 << 30),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE),
    *(0x7FC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x00000001, 0x80000000),  # NaN, inf, limits
)


def groups() -> list[str]:
    """The groups that this installation can import."""
    onnx = find_spec("isobit.importers.onnx") is not None
    return [group for group in SHARES if group != "onnx" or onnx]


def count(group: str, scale: str) -> int:
    return SHARES[group] * TOTALS[scale] // sum(SHARES.values())


def names(group: str) -> list[str]:
    """The undamaged files of a group."""
    if group == "operators":
        return [f"operators:{code}-{c.label}" for code, found in all_cases().items() for c in found]
    if group == "onnx":
        found = sorted(_models().glob("onnx/*.onnx"))
        files = [f"onnx:{path.relative_to(_models()).as_posix()}" for path in found]
        return [*files, *(f"onnx:{name}" for name in _onnx_cases())]
    if group == "isobit":
        first = [f"operators:{code}-{found[0].label}" for code, found in all_cases().items()]
        return [f"isobit:{name}" for name in (*(f"models:{name}" for name in STORED), *first)]
    return [f"models:{name}" for name in MODELS]


@cache
def original(name: str) -> bytes:
    """The bytes of an undamaged file."""
    group, _, rest = name.partition(":")
    if group == "operators":
        labels = {f"{code}-{c.label}": c.blob for code, all_ in all_cases().items() for c in all_}
        return labels[rest]
    if group == "onnx" and rest in _onnx_cases():
        return _onnx_cases()[rest]
    if group != "isobit":
        return (_models() / rest).read_bytes()
    from isobit.api.importing import import_model

    with tempfile.TemporaryDirectory() as folder:
        foreign, path = Path(folder) / f"m{suffix(rest)}", Path(folder) / "m.isobit"
        foreign.write_bytes(original(rest))
        import_model(foreign, runtime=runtime(rest)).save(path)
        return path.read_bytes()


def runtime(name: str) -> str:
    """Whose arithmetic an undamaged file is held to."""
    runtimes = {
        f"operators:{code}-{c.label}": c.runtime for code, a in all_cases().items() for c in a
    }
    return runtimes.get(name, "tflm")


def suffix(name: str) -> str:
    group = name.partition(":")[0]
    return {"isobit": ".isobit", "onnx": ".onnx"}.get(group, ".tflite")


def drawn(group: str, amount: int) -> Iterator[tuple[str, int]]:
    """Yield (name, seed): the files in turn, in an order that mixes them."""
    listed = names(group)
    order = np.random.default_rng(zlib.crc32(group.encode())).permutation(len(listed))
    for seed in range(amount):
        yield listed[order[seed % len(listed)]], seed


def damaged(name: str, seed: int) -> bytes:
    """Return a damaged copy. One or two mutations, most of them aware of the format."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    blob = original(name)
    for _ in range(rng.integers(1, 3)):
        aware = damage_aware.MUTATORS[suffix(name)]
        chosen = aware if rng.random() < 0.8 else GENERIC
        blob = chosen[rng.integers(len(chosen))](blob, rng)
    return blob


def truncate(blob: bytes, rng: Rng) -> bytes:
    return blob[: rng.integers(len(blob))] if blob else blob


def flip_bits(blob: bytes, rng: Rng) -> bytes:
    found = bytearray(blob)
    for _ in range(rng.integers(1, 9) if found else 0):
        found[rng.integers(len(found))] ^= 1 << rng.integers(8)
    return bytes(found)


def random_bytes(blob: bytes, rng: Rng) -> bytes:
    found = bytearray(blob)
    start = int(rng.integers(len(found) + 1))
    new = rng.bytes(int(rng.integers(1, 17)))
    found[start : start + len(new)] = new
    return bytes(found)


def extreme_words(blob: bytes, rng: Rng) -> bytes:
    found = bytearray(blob)
    for _ in range(rng.integers(1, 4)):
        if len(found) >= 4:
            at = int(rng.integers(len(found) // 4)) * 4
            found[at : at + 4] = struct.pack("<I", EXTREMES[rng.integers(len(EXTREMES))])
    return bytes(found)


def duplicate(blob: bytes, rng: Rng) -> bytes:
    start, end = _range(blob, rng)
    at = int(rng.integers(len(blob) + 1))
    return blob[:at] + blob[start:end] + blob[at:]


def remove(blob: bytes, rng: Rng) -> bytes:
    start, end = _range(blob, rng)
    return blob[:start] + blob[end:]


def splice(blob: bytes, rng: Rng) -> bytes:
    """Overwrite a range with another one."""
    start, end = _range(blob, rng)
    at = int(rng.integers(len(blob) + 1))
    found = bytearray(blob)
    found[at : at + end - start] = blob[start:end]
    return bytes(found)


def clear(blob: bytes, rng: Rng) -> bytes:
    start, end = _range(blob, rng)
    return blob[:start] + bytes(end - start) + blob[end:]


def _range(blob: bytes, rng: Rng) -> tuple[int, int]:
    start = int(rng.integers(len(blob) + 1))
    return start, min(len(blob), start + int(2 ** rng.uniform(0, 10)))


GENERIC: tuple[Callable[[bytes, Rng], bytes], ...] = (
    truncate,
    flip_bits,
    random_bytes,
    extreme_words,
    duplicate,
    remove,
    splice,
    clear,
)


@cache
def _onnx_cases() -> dict[str, bytes]:
    """Single-operator models; none where the package that writes them is not installed."""
    if find_spec("onnx") is None:
        return {}
    from importers.onnx_cases import all_cases as all_onnx

    return {f"{code}-{i}": c.blob for code, a in all_onnx().items() for i, c in enumerate(a)}


def _models() -> Path:
    return Path(os.environ["ISOBIT_MODELS"])


if __name__ == "__main__":
    _, verb, wanted, number, place = sys.argv
    assert verb == "write"
    Path(place).write_bytes(damaged(wanted, int(number)))
