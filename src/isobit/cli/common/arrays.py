"""Reading and writing .npy files for the command line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from isobit.core.errors import FileDamaged, FileMissing
from isobit.core.files import npy_bytes, write_atomic
from isobit.core.types import AnyArray


def read_array(path: Path) -> AnyArray:
    """Return the array of a .npy file. Raises `FileMissing` or `FileDamaged`."""
    try:
        with path.open("rb") as stream:  # np.load would leave an archive open
            array = np.load(stream, allow_pickle=False)
    except FileNotFoundError as error:
        raise FileMissing(
            where=str(path), what="input", want="a .npy file", got="nothing", fix="Check the path."
        ) from error
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise FileDamaged(
            where=str(path),
            what="input",
            want="a .npy file of numbers",
            got=str(error),
            fix="Write it with numpy.save.",
        ) from error
    if not isinstance(array, np.ndarray):
        raise FileDamaged(
            where=str(path), what="input", want="one array", got="an archive", fix="Use numpy.save."
        )
    return array


def write_array(path: Path, array: AnyArray) -> None:
    """Write a .npy file atomically."""
    write_atomic(path, npy_bytes(array))
