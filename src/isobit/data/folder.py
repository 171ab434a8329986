"""Your own data: a folder with `train.npz` and `test.npz`."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isobit.core.errors import FileDamaged, FileMissing, raise_all
from isobit.data.dataset import Dataset
from isobit.data.source import collect

_CLASSES_MAX = 1 << 16
_FIX = "Write it with np.savez_compressed(path, images=images, labels=labels, classes=classes)."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    path: Path
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] | None


def load_folder(path: Path) -> tuple[Dataset, Dataset]:
    """Return `(train, test)` from `train.npz` and `test.npz` in `path`.

    Each holds `images` (uint8 [N, H, W, C], N >= 1, one H, W, C for both), `labels` (integers [N],
    from 0) and optionally `classes` (strings, the same in both). Without `classes` the classes are
    "0", "1", ... up to the largest label. `Dataset.verified` is None.

    Raises FileMissing and FileDamaged.
    """
    train_path, test_path = path / "train.npz", path / "test.npz"
    absent = [file.name for file in (train_path, test_path) if not file.is_file()]
    if absent:
        raise FileMissing(
            where=str(path),
            what="folder of your own data",
            want="train.npz and test.npz",
            got=f"no {' and no '.join(absent)}" if path.is_dir() else "no such folder",
            fix=_FIX,
        )
    train, test = collect([partial(_read, train_path), partial(_read, test_path)])
    classes = train.classes or test.classes or _numbered(train, test)
    raise_all(_disagreements(train, test, classes))
    name = path.resolve().name
    return _split("train", train, name, classes), _split("test", test, name, classes)


def _read(path: Path) -> _Part:
    want = "an npz file of plain arrays"
    try:
        # Opened here because np.load leaves a file open that it then refuses. Never pickles: an
        # object array in a file could run code.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise _damaged(path, "content", want, "a single npy array")
            with archive:
                arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, "content", want, str(error)) from error
    absent = [key for key in ("images", "labels") if key not in arrays]
    if absent:
        got = f"only {', '.join(arrays) or 'nothing'}"
        raise _damaged(path, "arrays", "images and labels", got)
    images, labels, classes = arrays["images"], arrays["labels"], arrays.get("classes")
    problems = []
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        got = f"{images.dtype} {list(images.shape)}"
        problems.append(_damaged(path, "images", "uint8 [N, H, W, C], none of them 0", got))
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        want = f"integers {list(images.shape[:1])}, one per image"
        problems.append(_damaged(path, "labels", want, f"{labels.dtype} {list(labels.shape)}"))
    elif labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < _CLASSES_MAX:
        got = f"{labels.min()}..{labels.max()}"
        problems.append(_damaged(path, "labels", f"0..{_CLASSES_MAX - 1}", got))
    if classes is not None and (classes.dtype.kind != "U" or classes.ndim != 1 or not len(classes)):
        got = f"{classes.dtype} {list(classes.shape)}"
        problems.append(_damaged(path, "classes", "one string per class", got))
    raise_all(problems)
    return _Part(
        path=path,
        images=images,
        labels=labels.astype(np.int64),
        classes=None if classes is None else tuple(str(text) for text in classes),
    )


def _numbered(train: _Part, test: _Part) -> tuple[str, ...]:
    return tuple(str(k) for k in range(1 + int(max(train.labels.max(), test.labels.max()))))


def _disagreements(train: _Part, test: _Part, classes: tuple[str, ...]) -> list[FileDamaged]:
    found = []
    if train.images.shape[1:] != test.images.shape[1:]:
        want = f"{list(train.images.shape[1:])}, as in train.npz"
        found.append(_damaged(test.path, "image shape", want, str(list(test.images.shape[1:]))))
    if train.classes and test.classes and train.classes != test.classes:
        want = f"{', '.join(train.classes)}, as in train.npz"
        found.append(_damaged(test.path, "classes", want, ", ".join(test.classes)))
    for part in (train, test):
        if int(part.labels.max()) >= len(classes):
            want = f"0..{len(classes) - 1}, one of {len(classes)} classes"
            found.append(_damaged(part.path, "labels", want, f"a label {int(part.labels.max())}"))
    return found


def _split(split: str, part: _Part, name: str, classes: tuple[str, ...]) -> Dataset:
    return Dataset(
        images=np.ascontiguousarray(part.images),
        labels=part.labels,
        classes=classes,
        name=name,
        split=split,
        verified=None,
    )


def _damaged(path: Path, what: str, want: str, got: str) -> FileDamaged:
    return FileDamaged(where=str(path), what=what, want=want, got=got, fix=_FIX)
