"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise FileUnwritable(
            where=str(path),
            what="cannot write",
            want="a writable folder with free space",
            got=error.strerror or str(error),
            fix="Choose another path, or change the folder's permissions.",
        ) from error
