"""What verbs work on: a SPEC.py that defines `model`, a `.isobit` file, or a deployed folder."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from isobit.api.bundle import Bundle, open_bundle
from isobit.core.errors import BadArgument, BadSpec, FileMissing, IsobitError, ToolMissing
from isobit.ir.graph import Graph
from isobit.ir.store import read_store
from isobit.ops.base import load_ops

if TYPE_CHECKING:
    from isobit.api.model import Model


def read_spec(path: Path) -> Model:
    """Run SPEC.py and return its module-level `model`. Raises `BadSpec`, or what building the model raised."""
    _require(path)
    try:
        from isobit.api.model import Model
    except ModuleNotFoundError as error:
        raise ToolMissing(
            where=str(path),
            what="package torch",
            want="installed: a SPEC.py builds a torch module",
            got="not installed",
            fix="pip install 'isobit[train]'",
        ) from error
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        names = runpy.run_path(str(path), run_name="isobit_spec")
    except IsobitError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise BadSpec(
            where=f"{path.name}:{last.lineno}" if Path(last.filename).name == path.name else path.name,
            what="running the specification",
            want="a module that runs",
            got=f"{type(error).__name__}: {error}",
            fix="Run it with python to see the whole traceback.",
        ) from error
    finally:
        sys.path.pop(0)
    model = names.get("model")
    if not isinstance(model, Model):
        raise BadSpec(
            where=path.name,
            what="name `model`",
            want="a module-level isobit.Model",
            got="nothing" if model is None else type(model).__name__,
            fix="Write `model = isobit.Model(net, input=(C, H, W), target=...)`.",
        )
    return model


def read_graph(path: Path) -> Graph:
    """Return the integer graph of a SPEC.py (untrained), a .isobit file or a deployed folder."""
    if path.suffix == ".py":
        return read_spec(path).export(untrained=True)
    if path.is_dir():
        return open_bundle(path).graph
    _require(path)
    graphs = read_store(path, load_ops().signature).graphs
    if "int" not in graphs:
        raise BadArgument(
            where=str(path),
            what="model",
            want="an integer network",
            got="a float network",
            fix=f"isobit calibrate {path.name} -o calibrated.isobit --data ...",
        )
    return graphs["int"]


def read_bundle(path: Path) -> Bundle:
    """Return a deployed folder."""
    return open_bundle(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise FileMissing(
            where=str(path),
            what="model",
            want="a SPEC.py, a .isobit file or a deployed folder",
            got="nothing" if not path.exists() else "a folder",
            fix="Check the path.",
        )
