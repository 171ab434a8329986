"""`load`: whatever isobit wrote, by path."""

from __future__ import annotations

from pathlib import Path

from isobit.api.bundle import Bundle, open_bundle
from isobit.core.arguments import Arguments
from isobit.ir.graph import Graph
from isobit.ir.store import read_store
from isobit.ops.registry import load_ops


def load(path: str | Path) -> Bundle | Graph:
    """Return the `Bundle` in a folder, or the integer graph of a `.isobit` file (needs no
    torch).

    Raises `BadArgument` for anything but a path, `FileMissing`, `FileDamaged`, `BundleDamaged`.
    """
    given = Arguments("load")
    place = given.path("path", path)
    given.check()
    if place.is_dir():
        return open_bundle(place)
    graphs = read_store(place, load_ops().signature).graphs
    return graphs.get("int", next(iter(graphs.values())))
