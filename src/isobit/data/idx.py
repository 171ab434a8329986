"""Data sets in the idx format of MNIST: one file of images and one of labels per split, gzipped.

An idx file is two zero bytes, a type byte (8: uint8), the number of dimensions, then every
dimension as a big-endian uint32, then the elements in C order (LeCun, Cortes and Burges, "The MNIST
database of handwritten digits", section "File formats").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isobit.core.errors import IsobitError, raise_all
from isobit.data.dataset import Dataset
from isobit.data.download import Job, download
from isobit.data.place import Place
from isobit.data.source import Forms, Published, collect, damaged, find, missing, read


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxFile:
    """A published `.gz` file; the file inside it is accepted under its name without `.gz`."""

    name: str
    size_bytes: int
    sha256: str
    plain_size_bytes: int
    plain_sha256: str

    def forms(self, folder: str) -> Forms:
        """Return both forms of the file, in `folder` below the root."""
        path = f"{folder}/{self.name}"
        return (
            Published(path=path, size_bytes=self.size_bytes, sha256=self.sha256),
            Published(
                path=path.removesuffix(".gz"),
                size_bytes=self.plain_size_bytes,
                sha256=self.plain_sha256,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxFiles:
    """The four files of an idx data set."""

    train_images: IdxFile
    train_labels: IdxFile
    test_images: IdxFile
    test_labels: IdxFile

    def all(self) -> tuple[IdxFile, ...]:
        """Return them in the order of their fields."""
        return (self.train_images, self.train_labels, self.test_images, self.test_labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    path: Path
    array: NDArray[np.uint8]
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxSource:
    """A data set in idx files, one channel, in the folder of its name; `mirrors` end in a slash."""

    name: str
    classes: tuple[str, ...]
    height: int
    width: int
    mirrors: tuple[str, ...]
    files: IdxFiles

    def load(self, place: Place, *, verified: bool) -> tuple[Dataset, Dataset]:
        """Return `(train, test)`, images [N, height, width, 1]."""
        wanted = tuple(file.forms(self.name) for file in self.files.all())
        if place.is_cache:
            self._fetch(place.root, wanted)
        shapes = ((self.height, self.width), (), (self.height, self.width), ())
        parts = collect(
            [
                partial(self._part, place.root, form, shape, verified)
                for forms, shape in zip(wanted, shapes, strict=True)
                if (form := find(place.root, forms)) is not None
            ],
            earlier=missing(
                self.name, place, wanted, f"Get them from {self.mirrors[0]} and place them there."
            ),
        )
        train, train_labels, test, test_labels = parts
        raise_all([*_mismatch(train, train_labels), *_mismatch(test, test_labels)])
        trusted = all(part.verified for part in parts)
        return (
            self._split("train", train, train_labels, trusted),
            self._split("test", test, test_labels, trusted),
        )

    def _fetch(self, root: Path, wanted: Sequence[Forms]) -> None:
        jobs = [
            Job(
                published=forms[0],
                urls=tuple(mirror + forms[0].file_name for mirror in self.mirrors),
                target=root / forms[0].path,
            )
            for forms in wanted
            if find(root, forms) is None
        ]
        if jobs:
            by_hand = (
                f"Check the network, or place {', '.join(job.published.file_name for job in jobs)} "
                f"in {root / self.name} (any copy: they are checked), or set ISOBIT_DATA to a "
                f"folder that has them in {self.name}/."
            )
            download(self.name, jobs, root, by_hand)

    def _part(self, root: Path, form: Published, shape: tuple[int, ...], verified: bool) -> _Part:
        content = read(root, form, verified=verified)
        blob = content.blob
        if form.path.endswith(".gz"):
            try:
                blob = gzip.decompress(blob)
            except (OSError, EOFError, zlib.error) as error:
                raise damaged(content.path, "gzip", "a whole gzip file", str(error)) from error
        array = parse_idx(content.path, blob, shape)
        if not shape and int(array.max()) >= len(self.classes):
            want = f"0..{len(self.classes) - 1}"
            raise damaged(content.path, "labels", want, f"a label {int(array.max())}")
        return _Part(path=content.path, array=array, verified=content.verified)

    def _split(self, split: str, images: _Part, labels: _Part, verified: bool) -> Dataset:
        return Dataset(
            images=images.array[..., np.newaxis],
            labels=labels.array.astype(np.int64),
            classes=self.classes,
            name=self.name,
            split=split,
            verified=verified,
        )


def _mismatch(images: _Part, labels: _Part) -> list[IsobitError]:
    if len(images.array) == len(labels.array):
        return []
    want = f"{len(images.array)}, as many as images in {images.path.name}"
    return [damaged(labels.path, "number of labels", want, str(len(labels.array)))]


def parse_idx(path: Path, blob: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the elements of an idx file of uint8, [N, *shape] with N >= 1, as a new array.

    Raises FileDamaged, naming `path`, for another type, shape or length.
    """
    dims = 1 + len(shape)
    magic = bytes((0, 0, 8, dims))
    header_bytes = 4 + 4 * dims
    if blob[:4] != magic or len(blob) < header_bytes:
        want = f"idx of uint8 with {dims} dimensions (magic {magic.hex()}, {header_bytes} bytes)"
        raise damaged(path, "header", want, f"{blob[:4].hex() or 'nothing'} ({len(blob)} bytes)")
    found: tuple[int, ...] = struct.unpack_from(f">{dims}I", blob, 4)
    if found[0] == 0 or found[1:] != shape:
        want = str(["N >= 1", *shape]).replace("'", "")
        raise damaged(path, "shape", want, str(list(found)))
    # math.prod, not NumPy: a damaged header may ask for more than int64 holds.
    wanted_bytes = header_bytes + math.prod(found)
    if len(blob) != wanted_bytes:
        want = f"{wanted_bytes} bytes for {list(found)}"
        raise damaged(path, "length", want, f"{len(blob)} bytes")
    return np.frombuffer(blob, np.uint8, offset=header_bytes).reshape(found).copy()
