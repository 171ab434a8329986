"""Image data sets, as the integers that their publishers wrote.

    from isobit import data

    train, test = data.load("mnist")

`digits` is packed into isobit and needs no network. The others are the publishers' own files, every
one compared with its published SHA-256 on every load. They are looked for in `root`, else in the
folder that the environment variable `ISOBIT_DATA` names, else in the cache
(`$XDG_CACHE_HOME/isobit/data`, `~/.cache/isobit/data`); only the cache is ever written to. Below
that folder the publishers' names are kept:

    mnist/train-images-idx3-ubyte.gz ...          or the unpacked files, without .gz
    fashion-mnist/train-images-idx3-ubyte.gz ...
    cifar-10-batches-bin/data_batch_1.bin ...
    cifar-100-binary/train.bin, test.bin

A data set is a module of this package with a module-level `DATASET`; adding one means adding that
file.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
from functools import cache
from pathlib import Path
from types import MappingProxyType

from isobit.core.arguments import Arguments
from isobit.core.errors import BadArgument, UnknownName
from isobit.data.dataset import Dataset, Indices
from isobit.data.folder import load_folder
from isobit.data.place import locate
from isobit.data.source import Source

__all__ = ["Dataset", "Indices", "load", "names"]


def names() -> tuple[str, ...]:
    """Every published data set that `load` knows, sorted."""
    return tuple(_sources())


def load(
    name: str | Path, root: str | Path | None = None, *, verified: bool = True
) -> tuple[Dataset, Dataset]:
    """Return `(train, test)`, every byte of it checked against what was published.

    `name` is one of `names()`, or your own folder with `train.npz` and `test.npz`, each holding
    `images` (uint8 [N, H, W, C]), `labels` (integers [N]) and optionally `classes` (strings). A
    string that is a published name means that data set even where a folder of that name exists;
    write `./mnist`, or a `Path`, for the folder.

    `verified=False` also accepts files that are not the published ones, after checking their
    structure; `Dataset.verified` is then False. It does not apply to your own folder, which nobody
    published: `Dataset.verified` is None there.

    Raises UnknownName, FileMissing, FileDamaged, DownloadFailed, FileUnwritable (of the cache) and
    BadArgument (`root` together with your own folder); several problems come as one error.

    >>> train, test = load("digits")
    >>> train
    Dataset(digits train: 1438 images 8x8x1, 10 classes, verified)
    """
    given = Arguments("isobit.data.load")
    want = "the name of a published data set, or the path of a folder"
    given.instance("name", name, str | os.PathLike, want, fix=f"One of {', '.join(names())}.")
    if root is not None:
        given.path("root", root)
    given.flag("verified", verified)
    given.check()
    source = _sources().get(name) if isinstance(name, str) else None
    if source is not None:
        return source.load(locate(root), verified=verified)
    path = given.path("name", name or ".").expanduser()
    given.check()
    is_named = isinstance(name, str) and not _looks_like_path(name)
    if name == "" or (is_named and not path.is_dir()):
        raise _unknown(str(name))
    if root is not None:
        raise BadArgument(
            where=f"isobit.data.load({str(name)!r})",
            what="root",
            want="no root, because the data is a folder of your own",
            got=str(root),
            fix="Leave root out, or give the name of a published data set.",
        )
    return load_folder(path)


@cache
def _sources() -> MappingProxyType[str, Source]:
    found: dict[str, Source] = {}
    for module in pkgutil.iter_modules(__path__):
        source: Source | None = getattr(
            importlib.import_module(f"{__name__}.{module.name}"), "DATASET", None
        )
        if source is not None:
            found[source.name] = source
    return MappingProxyType(dict(sorted(found.items())))


def _looks_like_path(name: str) -> bool:
    return "/" in name or "\\" in name or name in {".", "..", "~"}


def _unknown(name: str) -> UnknownName:
    close = difflib.get_close_matches(name.lower().replace("_", "-"), names(), n=1)
    hint = f'Did you mean "{close[0]}"? ' if close else ""
    return UnknownName(
        where=f"isobit.data.load({name!r})",
        what="data set",
        want=f"one of {', '.join(names())}, or a folder with train.npz and test.npz",
        got=name or "an empty name",
        fix=f"{hint}Give a published name or the path of a folder that exists.",
    )
