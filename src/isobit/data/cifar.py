"""Data sets in the binary format of CIFAR: records of label bytes and one 32x32 colour image.

A record is one byte per label, then 1024 red, 1024 green and 1024 blue values, each plane row by
row (Krizhevsky, "The CIFAR-10 dataset", section "Binary version"). CIFAR-100 has two labels: the
superclass, which is checked and dropped, then the class.
"""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isobit.core.errors import FileUnwritable
from isobit.core.files import write_atomic
from isobit.data.dataset import Dataset
from isobit.data.download import Job, download
from isobit.data.place import Place
from isobit.data.source import Published, collect, damaged, find, missing, read

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarSource:
    """A data set in CIFAR's binary format, from one archive.

    `label_limits` has one entry per label byte, the number of values it may have; the last label
    byte is the class.
    """

    name: str
    classes: tuple[str, ...]
    label_limits: tuple[int, ...]
    archive: Published
    urls: tuple[str, ...]
    train: tuple[Published, ...]
    test: tuple[Published, ...]

    def load(self, place: Place, *, verified: bool) -> tuple[Dataset, Dataset]:
        """Return `(train, test)`, images [N, 32, 32, 3], red first."""
        wanted = tuple((file,) for file in self.train + self.test)
        if place.is_cache:
            self._fetch(place.root)
        parts = collect(
            [
                partial(self._part, place.root, form, verified)
                for forms in wanted
                if (form := find(place.root, forms)) is not None
            ],
            earlier=missing(self.name, place, wanted, f"Unpack {self.urls[0]} there."),
        )
        trusted = all(part.verified for part in parts)
        train, test = parts[: len(self.train)], parts[len(self.train) :]
        return self._split("train", train, trusted), self._split("test", test, trusted)

    def _fetch(self, root: Path) -> None:
        absent = [file for file in self.train + self.test if find(root, (file,)) is None]
        if not absent:
            return
        by_hand = (
            f"Check the network, or fetch {self.archive.file_name} elsewhere and unpack it: "
            f"tar -xzf {self.archive.file_name} -C {root} (any copy: its files are checked), "
            f"or unpack it into another folder and set ISOBIT_DATA to that."
        )
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(prefix=f".{self.name}.", dir=root)
        except OSError as error:
            raise FileUnwritable(
                where=str(root),
                what="cannot write",
                want="a writable cache folder with free space",
                got=error.strerror or str(error),
                fix="Change its permissions, or set XDG_CACHE_HOME to another folder.",
            ) from error
        with folder as temporary:
            target = Path(temporary) / self.archive.file_name
            job = Job(published=self.archive, urls=self.urls, target=target)
            download(self.name, [job], root, by_hand)
            for file in absent:
                write_atomic(root / file.path, _member(target, file.path))

    def _part(self, root: Path, file: Published, verified: bool) -> _Part:
        content = read(root, file, verified=verified)
        record_bytes = len(self.label_limits) + _PIXELS
        if not content.blob or len(content.blob) % record_bytes:
            want = f"N * {record_bytes} bytes, N >= 1"
            raise damaged(content.path, "length", want, f"{len(content.blob)} bytes")
        records = np.frombuffer(content.blob, np.uint8).reshape(-1, record_bytes)
        for byte, limit in enumerate(self.label_limits):
            if int(records[:, byte].max()) >= limit:
                got = f"a label {int(records[:, byte].max())}"
                raise damaged(content.path, f"label byte {byte}", f"0..{limit - 1}", got)
        planes = records[:, len(self.label_limits) :].reshape(-1, 3, 32, 32)
        return _Part(
            images=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
            labels=records[:, len(self.label_limits) - 1].astype(np.int64),
            verified=content.verified,
        )

    def _split(self, split: str, parts: list[_Part], verified: bool) -> Dataset:
        return Dataset(
            images=np.concatenate([part.images for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            classes=self.classes,
            name=self.name,
            split=split,
            verified=verified,
        )


def _member(archive: Path, path: str) -> bytes:
    """Return one file of an archive. Only wanted names are read, so no path in it can escape."""
    got = "not a plain file"
    try:
        with tarfile.open(archive, "r:gz") as tar:
            stream = tar.extractfile(path)
            if stream is not None:
                return stream.read()
    except (KeyError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
        got = str(error)
    # Not the path of the archive: it is in a temporary folder that is about to vanish.
    raise damaged(Path(archive.name), "archive", f"a file {path} in it", got)
