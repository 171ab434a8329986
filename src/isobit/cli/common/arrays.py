"""Reading and writing .npy and .npz files for the command line."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isobit.core.errors import BadArgument, FileDamaged, FileMissing
from isobit.core.files import npy_bytes, npz_bytes, write_atomic
from isobit.core.types import AnyArray
from isobit.run.codes import Codes


def read_codes(path: Path) -> Codes:
    """Return the array of a .npy file, or those of an .npz file by name.

    Raises `FileMissing` or `FileDamaged`.
    """
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            # An archive is read here: its members are opened only when asked for.
            found = loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except FileNotFoundError as error:
        raise FileMissing(
            where=str(path),
            what="input",
            want="a .npy file, or an .npz file for several inputs",
            got="nothing",
            fix="Check the path.",
        ) from error
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise FileDamaged(
            where=str(path),
            what="input",
            want="a .npy file of numbers, or an .npz file of such",
            got=str(error) or type(error).__name__,
            fix="Write it with numpy.save or numpy.savez.",
        ) from error
    return found


def require_place(path: Path, outputs: Sequence[str]) -> None:
    """Raise `BadArgument` where `write_outputs` could not write these outputs to `path`."""
    if len(outputs) > 1 and path.suffix != ".npz":
        raise BadArgument(
            where=str(path),
            what="--output",
            want=f"an .npz file, which holds all of {', '.join(outputs)}",
            got=path.name,
            fix="Give it the suffix .npz.",
        )


def write_outputs(path: Path, outputs: Mapping[str, AnyArray]) -> None:
    """Write the only output as .npy, or to a path that ends in .npz all of them by name.

    Atomic. Raises `FileUnwritable`.
    """
    if path.suffix == ".npz":
        write_atomic(path, npz_bytes(outputs))
    else:
        (array,) = outputs.values()
        write_atomic(path, npy_bytes(array))
