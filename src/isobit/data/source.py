"""What a published data set is, and how its files are found and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from isobit.core.errors import FileDamaged, FileMissing, IsobitError, raise_all
from isobit.data.dataset import Dataset
from isobit.data.place import Place

T = TypeVar("T")


class Source(Protocol):
    """A published data set; a module of this package offers one as `DATASET`."""

    @property
    def name(self) -> str:
        """The name that `load` takes."""

    def load(self, place: Place, *, verified: bool) -> tuple[Dataset, Dataset]:
        """Return `(train, test)` from the files below `place`, or raise every problem at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One file as its publisher distributes it; `path` is below the root, with forward slashes."""

    path: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The last part of `path`."""
        return self.path.rpartition("/")[2]


Forms = tuple[Published, ...]
"""One published file in every form that is accepted (packed, unpacked), the preferred one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a file and whether they are the published ones."""

    path: Path
    blob: bytes
    verified: bool


def find(root: Path, forms: Forms) -> Published | None:
    """Return the first form that is a file below `root`."""
    return next((form for form in forms if _is_file(root / form.path)), None)


def missing(name: str, place: Place, wanted: Sequence[Forms], origin: str) -> list[FileMissing]:
    """Return one error that lists every file of `wanted` and which are absent, or nothing.

    `origin` is a sentence that says where to get them.
    """
    absent = [forms for forms in wanted if find(place.root, forms) is None]
    if not absent:
        return []
    error = FileMissing(
        where=str(place.root),
        what=f"files of data set {name}",
        want=", ".join(_either(forms) for forms in wanted),
        got=(
            f"no {', '.join(_either(forms) for forms in absent)}"
            if place.root.is_dir()
            else "no such folder"
        ),
        fix=(
            f"{origin} A folder that you name (root, ISOBIT_DATA) is never written to; "
            "without one they are downloaded into the cache."
        ),
    )
    return [error]


def read(root: Path, published: Published, *, verified: bool) -> Content:
    """Read one file and compare its SHA-256 with the published one.

    Raises FileDamaged if it cannot be read, or differs while `verified` is wanted.
    """
    path = root / published.path
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise damaged(path, "content", "a readable file", error.strerror or str(error)) from error
    digest = hashlib.sha256(blob).hexdigest()
    if verified and digest != published.sha256:
        raise FileDamaged(
            where=str(path),
            what="checksum",
            want=f"SHA-256 {published.sha256} ({published.size_bytes} bytes)",
            got=f"{digest} ({len(blob)} bytes)",
            fix=(
                "Delete it and fetch it again, or use it as it is with --unverified "
                "(verified=False); every result then says so."
            ),
        )
    return Content(path=path, blob=blob, verified=digest == published.sha256)


def damaged(path: Path, what: str, want: str, got: str) -> FileDamaged:
    """Return the error for a file whose structure is not what its format asks for."""
    fix = "Delete it and fetch it again."
    return FileDamaged(where=str(path), what=what, want=want, got=got, fix=fix)


def collect(steps: Iterable[Callable[[], T]], earlier: Sequence[IsobitError] = ()) -> list[T]:
    """Run every step and return their results, or raise the problems of all of them together."""
    results: list[T] = []
    problems = list(earlier)
    for step in steps:
        try:
            results.append(step())
        except IsobitError as error:
            problems.append(error)
    raise_all(problems)
    return results


def _either(forms: Forms) -> str:
    return " or ".join([forms[0].path, *(form.file_name for form in forms[1:])])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a parent folder that may not be entered
        return False
