"""What a deployed folder says of itself: manifest.json and its like, read and checked once.

Every reader of these files takes them from here, so nothing behind it meets a missing or wrong key:
a file whose content is not what deployment writes is `BundleDamaged`, with every place in it that
is wrong. The wanted form of a part is the dataclass that it was written from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from isobit.core.arguments import shown
from isobit.core.errors import BundleDamaged
from isobit.plan.plan import Optimize
from isobit.report.report import Epoch
from isobit.run.compilers import Kind
from isobit.run.estimate import Estimate
from isobit.run.measure import LayerCost
from isobit.run.verify import Comparison

SCHEMA = 1
MANIFEST = "manifest.json"
TRAINING = "training.json"
"""File of a bundle that says how its network was trained; written by deployment of a network that
knows it, and by `record_training`.
"""

_MOST_SHOWN = 4
_LARGEST = 2**63
_SIGNED = ("zero", "golden", "other")
"""Integers that may be negative; all others count something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """What a program must know of an input or output."""

    name: str
    argument: str
    accessor: str
    c_type: str
    shape: tuple[int, ...]
    scale: float
    zero: int
    dynamic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hashes:
    content: str
    c: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified(Comparison):
    inputs_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    """manifest.json but for `import`, which `checked_story` checks."""

    schema: int
    isobit: str
    name: str
    target: str
    compiler: Kind
    compiler_version: str
    optimize: Optimize
    inputs: tuple[_Port, ...]
    outputs: tuple[_Port, ...]
    hashes: _Hashes
    sizes: Estimate
    layers: tuple[LayerCost, ...]
    verified: tuple[_Verified, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """training.json; of an epoch further keys may be there, classes and confusion may be empty."""

    schema: int
    accuracy: float | None
    accuracy_on: str
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    history: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    op: str
    source: str
    absorbed: tuple[str, ...]
    tensor: str = ""
    fused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    schema: int
    values: Mapping[str, _Name]


_ELSEWHERE: Mapping[type, str] = {Estimate: "layers"}
"""Fields that are not stored in the part itself."""
_OPEN = (Epoch,)
"""Parts that may have further keys."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the content of manifest.json in a folder. Raises `BundleDamaged` for any other."""
    file = path / MANIFEST
    if not file.is_file():
        raise damaged(path, f"no {MANIFEST}")
    content = _read_json(file)
    plain = {key: value for key, value in content.items() if key != "import"}
    _require(file, _wrong(plain, _Manifest, ""))
    return content


def read_training(file: Path) -> dict[str, Any]:
    """Return the content of training.json. Raises `BundleDamaged` for anything else."""
    content = _read_json(file)
    _require(file, training_problems(content))
    return content


def read_names(file: Path) -> dict[str, Any]:
    """Return the content of names.json. Raises `BundleDamaged` for anything else."""
    content = _read_json(file)
    _require(file, _wrong(content, _Names, ""))
    return content


def training_problems(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield every place of what would become training.json that a report could not show."""
    found = list(_wrong(content, _Training, ""))
    yield from found
    if found:
        return
    if content["accuracy"] is not None and not 0 <= content["accuracy"] <= 1:
        yield f"accuracy {content['accuracy']}"
    count = len(content["classes"])
    if [len(row) for row in content["confusion"]] != [count] * count:
        yield f"confusion not [{count}, {count}], a row and a column per class"


def listed_files(path: Path) -> set[str]:
    """Return the files that a folder's manifest lists; none where it is no manifest of a bundle.

    Less strict than `read_manifest`: a damaged bundle may be deployed again in its place.
    """
    try:
        content = _read_json(path / MANIFEST)
        files = content["hashes"]["files"]
        return set(files) if "isobit" in content and isinstance(files, dict) else set()
    except (BundleDamaged, KeyError, TypeError):
        return set()


def read_sources(path: Path) -> dict[str, str]:
    """Return the C that lies in a folder now, by its path `src/...`. Raises `BundleDamaged`."""
    files = {}
    for place in sorted(path.joinpath("src").rglob("*")):
        if place.is_file():
            try:
                text = place.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise damaged(place, f"unreadable ({error})") from error
            files[place.relative_to(path).as_posix()] = text
    return files


def edited_files(sources: Mapping[str, str], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which C files were changed, added or removed since deployment, in order of name."""
    deployed = {k: v for k, v in manifest["hashes"]["files"].items() if k.startswith("src/")}
    names = sorted({*deployed, *sources})
    now = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sources.items()}
    return tuple(name for name in names if deployed.get(name) != now.get(name))


def hash_files(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of all files below `src/`, names and contents."""
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        if name.startswith("src/"):
            digest.update(f"{name}\0{len(text)}\0{text}".encode())
    return digest.hexdigest()


def damaged(path: Path, got: str, fix: str = "Deploy again.") -> BundleDamaged:
    """Return the error for a folder, or a file in it, that is not what deployment wrote."""
    return BundleDamaged(
        where=str(path),
        what="bundle",
        want="a folder that `isobit deploy` wrote, complete",
        got=got,
        fix=fix,
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(file, f"not JSON ({error})") from error
    if not isinstance(content, dict):
        raise damaged(file, f"not an object: {shown(content)}")
    schema = content.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        got = "no schema number" if schema is None else f"schema {shown(schema)}"
        fix = "Use the version of isobit that wrote it, or deploy again."
        raise damaged(file, f"{got}; this version of isobit reads schema {SCHEMA}", fix)
    return content


def _require(file: Path, wrong: Iterator[str]) -> None:
    found = list(wrong)
    if found:
        more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        raise damaged(file, f"wrong content: {'; '.join(found[:_MOST_SHOWN])}{more}")


def _wrong(value: object, kind: Any, place: str) -> Iterator[str]:
    """Yield every place in a JSON value that is not of the form of a type.

    kind: a dataclass (an object with its fields), `tuple[X, ...]`, `Mapping[str, X]`, a union,
    `Literal`, an enumeration (its values), a key of `_KINDS`.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        yield from _wrong_object(value, kind, place)
    elif origin is UnionType:
        if all(any(_wrong(value, one, place)) for one in inner):
            yield from _wrong(value, inner[0], place)
    elif origin is tuple:
        if isinstance(value, list):
            for index, one in enumerate(value):
                yield from _wrong(one, inner[0], f"{place}[{index}]")
        else:
            yield f"{place}: want a list, got {shown(value)}"
    elif origin is Mapping:
        if isinstance(value, dict):
            for key, one in value.items():
                yield from _wrong(one, inner[1], f"{place}[{key!r}]")
        else:
            yield f"{place}: want an object, got {shown(value)}"
    elif isinstance(kind, EnumType) or origin is Literal:
        allowed = inner or tuple(one.value for one in kind)
        if value not in allowed:
            yield f"{place}: want {' or '.join(allowed)}, got {shown(value)}"
    elif not _is_scalar(value, kind, place):
        yield f"{place}: want {_KINDS[kind]}, got {shown(value)}"


_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}


def _wrong_object(value: object, kind: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: want an object, got {shown(value)}"
        return
    types = get_type_hints(kind)
    wanted = [field for field in fields(kind) if field.name != _ELSEWHERE.get(kind)]
    before = f"{place}." if place else ""
    for field in wanted:
        if field.name in value:
            yield from _wrong(value[field.name], types[field.name], f"{before}{field.name}")
        elif field.default is MISSING:
            yield f"no {before}{field.name}"
    if kind not in _OPEN:
        unknown = sorted(value.keys() - {field.name for field in wanted})
        yield from (f"unknown {before}{key}" for key in unknown)


def _is_scalar(value: Any, kind: type, place: str) -> bool:
    if kind is int:
        least = -_LARGEST if place.rpartition(".")[2] in _SIGNED else 0
        return type(value) is int and least <= value < _LARGEST
    if kind is float:  # a JSON number without a fraction is read as an integer
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) < _LARGEST  # NaN is not below anything
    return type(value) is kind
