"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isobit.core.errors import FileUnwritable


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` under a temporary name beside `path`, then rename it into place.

    Raises `FileUnwritable`; then nothing is left behind and an old file is untouched.
    """
    blob = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(blob)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as error:  # Ctrl-C leaves nothing behind either
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise FileUnwritable(
            where=str(path),
            what="cannot write",
            want="a writable folder with free space",
            got=error.strerror or str(error),
            fix="Choose another path, or change the folder's permissions.",
        ) from error


def write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Write everything beside `out`, then exchange: an interrupted write leaves the old folder.

    Raises `FileUnwritable`; then nothing was changed.
    """
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        temporary.chmod(0o755)
        for name, blob in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
        if out.exists():
            old = temporary.with_name(f"{temporary.name}.old")
            out.replace(old)
            try:
                temporary.replace(out)
            except OSError:
                old.replace(out)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.replace(out)
    except OSError as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise FileUnwritable(
            where=str(out),
            what="cannot write",
            want="a writable folder with free space",
            got=error.strerror or str(error),
            fix="Choose another path, or change the folder's permissions.",
        ) from error


def json_text(value: Any) -> str:
    """Return readable JSON that ends in a newline."""
    return json.dumps(value, indent=1, sort_keys=False) + "\n"


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return a .npy file's bytes."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return an .npz whose bytes depend on the content alone (zip members carry a fixed date)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, npy_bytes(array))
    return stream.getvalue()
