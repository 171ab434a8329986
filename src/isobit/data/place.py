"""Where data sets lie on this machine, and whether isobit may write there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from isobit.core.errors import BadArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder of data sets; only the cache (`is_cache`) is ever downloaded into."""

    root: Path
    is_cache: bool


def locate(root: str | Path | None) -> Place:
    """Return `root`, else the folder that ISOBIT_DATA names, else the cache of this user.

    The variable says only where the files are: which bytes are accepted does not depend on it.

    Raises BadArgument if no folder is named and the user has no home folder.
    """
    try:
        named = root if root is not None else os.environ.get("ISOBIT_DATA")
        if named:
            return Place(root=Path(named).expanduser(), is_cache=False)
        # The XDG specification says that a relative path here is to be ignored.
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():
            base = Path.home() / ".cache"
    except RuntimeError as error:
        raise BadArgument(
            where="isobit.data",
            what="folder of data sets",
            want="a home folder to keep a cache in",
            got=str(error),
            fix="Set ISOBIT_DATA to a folder that holds the data sets, or pass root.",
        ) from error
    return Place(root=base / "isobit" / "data", is_cache=True)
