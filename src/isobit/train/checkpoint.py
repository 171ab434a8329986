"""Checkpoints of a run: written whole or not at all, and read with a check of every byte.

A folder holds `last.ckpt` and `previous.ckpt`. A new one is written as `next.ckpt` beside them,
flushed to the disk and only then renamed, so at any moment one of the three is complete and newest.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isobit.core.errors import BadCheckpoint, FileMissing, FileUnwritable
from isobit.core.files import write_atomic

if sys.platform != "win32":  # which has no locks on folders
    import fcntl

NEXT, LAST, PREVIOUS = "next.ckpt", "last.ckpt", "previous.ckpt"
KEYS = ("identity", "model", "optimizer", "average", "progress", "history", "digest")
Tree = Mapping[str, Any]
"""Dictionaries, lists, tensors and plain numbers, as `state_dict` returns them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that the next step of a run depends on beside its data and options.

    Random draws are no part of it: they follow from the seed and the step.
    """

    identity: Tree
    """What decides the bits of the run: only the same run continues."""
    model: Tree
    optimizer: Tree
    average: Tree | None
    """The moving average of the weights, where the run has one."""
    progress: Tree
    """Steps taken, and the sums of the epoch so far."""
    history: list[Tree]
    """Completed epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint that was read, and what was wrong with newer ones."""

    checkpoint: Checkpoint
    path: Path
    notes: tuple[str, ...]


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a folder to write in while the body runs: it is made, and no other run takes it.

    A run finds out here, and not after its first epoch, that it could keep nothing. The lock is one
    on the folder itself, so that it needs no file, and the system takes it back from a process that
    was killed; what such a process left half written is removed. Windows and some network drives
    know no such lock: there two runs are not told apart. Raises `FileUnwritable`; then the folder
    is as it was.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # which no kill leaves behind
            pass
    except OSError as error:
        raise FileUnwritable(
            where=str(folder),
            what="cannot write",
            want="a writable folder with free space",
            got=error.strerror or str(error),
            fix="Choose another path, or change the folder's permissions.",
        ) from error
    lock = _lock(folder)
    try:
        if lock is not None:
            for left in folder.glob(f".{NEXT}.*"):
                left.unlink(missing_ok=True)
        yield
    finally:
        if lock is not None:
            os.close(lock)
        if is_new:
            with suppress(OSError):  # what is not empty stays
                folder.rmdir()


def _lock(folder: Path) -> int | None:
    """Return the open folder, locked until it is closed; None where there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # one that may be written, and not read
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return None
        raise FileUnwritable(
            where=str(folder),
            what="cannot write",
            want="a folder that no other run writes in",
            got="one of a run that has not ended",
            fix="Choose another folder, or wait for that run.",
        ) from error
    return handle


def save(folder: Path, state: Checkpoint) -> None:
    """Write a checkpoint; the one before becomes `previous.ckpt`.

    Raises `FileUnwritable`; then the checkpoints that were there are untouched.
    """
    stored: dict[str, Any] = {key: getattr(state, key) for key in KEYS if key != "digest"}
    stored["digest"] = digest(stored)
    stream = io.BytesIO()
    torch.save(stored, stream)
    write_atomic(folder / NEXT, stream.getvalue())
    try:
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        (folder / NEXT).replace(folder / LAST)
    except OSError as error:
        raise FileUnwritable(
            where=str(folder / LAST),
            what="cannot write",
            want="a folder whose files can be renamed",
            got=error.strerror or str(error),
            fix=f"The checkpoint is complete in {NEXT}, which resume reads.",
        ) from error


def load(folder: Path, check: Callable[[Path, Tree], None]) -> Found:
    """Return the newest complete checkpoint of a folder.

    check: called with the path and identity of a readable checkpoint; raises where it belongs to
    another run. Raises `FileMissing` where there is none, `BadCheckpoint` where none is readable.
    """
    paths = [folder / name for name in (NEXT, LAST, PREVIOUS) if (folder / name).is_file()]
    if not paths:
        raise FileMissing(
            where=str(folder / LAST),
            what="checkpoint",
            want="a folder that `fit(out=...)` wrote",
            got="nothing",
            fix="Start without resume.",
        )
    damaged: list[tuple[Path, str]] = []
    for path in paths:
        try:
            stored = _read(path)
        except _Unreadable as error:
            damaged.append((path, str(error)))
            continue
        check(path, stored["identity"])
        notes = tuple(f"{bad} is {why}: continuing from {path.name}" for bad, why in damaged)
        fields = {key: stored[key] for key in KEYS if key != "digest"}
        return Found(checkpoint=Checkpoint(**fields), path=path, notes=notes)
    path, why = damaged[0]
    raise foreign(path, why, "this run")


def foreign(path: Path, got: str, want: str) -> BadCheckpoint:
    """Return the refusal of a checkpoint that this run cannot continue."""
    return BadCheckpoint(
        where=str(path),
        what="checkpoint",
        want=f"one of {want}",
        got=got,
        fix="Resume with the same arguments, or start without resume.",
    )


def digest(tree: object) -> str:
    """Return the SHA-256 of a tree: of the bytes, dtypes and shapes of its tensors, and of
    everything else by its JSON text.
    """
    found = hashlib.sha256()
    for path, value in _leaves(tree, "$"):
        found.update(path.encode())
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            found.update(f"{plain.dtype}{list(plain.shape)}".encode())
            found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        else:
            found.update(json.dumps(value).encode())
    return found.hexdigest()


class _Unreadable(Exception):
    """A file that is no complete checkpoint; the message says why."""


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # its unpickler raises anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _Unreadable(f"unreadable ({reason})") from error
    if not isinstance(stored, dict) or set(stored) != set(KEYS):
        missing = sorted(set(KEYS) - set(stored)) if isinstance(stored, dict) else list(KEYS)
        raise _Unreadable(f"of another version, or of another program (without {missing})")
    if stored.pop("digest") != digest(stored):
        raise _Unreadable("unreadable (its content is not what was written)")
    return stored


def _leaves(tree: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield every tensor and plain value with where it is; empty containers count, too."""
    items: Iterable[tuple[object, object]]
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        yield path, tree
        return
    found = sorted(items, key=lambda item: str(item[0]))
    yield path, len(found)
    for key, value in found:
        yield from _leaves(value, f"{path}/{key}")
