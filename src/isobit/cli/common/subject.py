"""What verbs work on: a SPEC.py that defines `model`, a `.isobit` file, or a deployed folder."""

from __future__ import annotations

import contextlib
import importlib.util
import runpy
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from isobit.api.bundle import Absorbed, Bundle, open_bundle
from isobit.api.explain import absorbed_values
from isobit.api.provenance import Story, checked_story, read_story
from isobit.core.errors import (
    BadArgument,
    BadSpec,
    FileMissing,
    IsobitError,
    NoRange,
    ToolMissing,
)
from isobit.ir.graph import Graph
from isobit.ir.store import read_store
from isobit.ops.registry import load_ops

if TYPE_CHECKING:
    from isobit.api.model import Model


def require_torch(path: Path, why: str = "a SPEC.py builds a torch module") -> None:
    """Raise `ToolMissing` where something cannot run because torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise ToolMissing(
            where=str(path),
            what="package torch",
            want=f"installed: {why}",
            got="not installed",
            fix="pip install 'isobit[train]'",
        )


def read_spec(path: Path) -> Model:
    """Run SPEC.py and return its module-level `model`. Raises `BadSpec` for whatever stops it but
    an interrupt, or the `IsobitError` that building the model raised.
    """
    _require(path)
    require_torch(path)
    from isobit.api.model import Model

    sys.path.insert(0, str(path.parent.resolve()))
    try:
        # Results go to stdout: what a specification prints must not mix with them.
        with contextlib.redirect_stdout(sys.stderr):
            names = runpy.run_path(str(path), run_name="isobit_spec")
    except (IsobitError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a specification may raise, or exit, as it likes
        raise BadSpec(
            where=_line(error, path),
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


def _line(error: BaseException, path: Path) -> str:
    """Return the innermost line of the specification that was running, or does not parse."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{path.name}:{frame.lineno}" for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else path.name


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
            fix=f"isobit calibrate {path} -o {path.with_name(path.stem + '_int.isobit')} "
            "--data x.npy (real inputs, or the name of a data set).",
        )
    return graphs["int"]


def read_trained(path: Path) -> Graph:
    """Return the integer graph of a network whose ranges were all set.

    Raises `NoRange` for a .isobit file that was saved before, and for a SPEC.py that does not train
    or calibrate its model; what else `read_graph` raises.
    """
    if path.suffix == ".py":
        return read_spec(path).export()
    graph = read_graph(path)
    if path.is_file() and read_store(path, load_ops().signature).notes.get("trained") == "false":
        raise NoRange(
            where=str(path),
            what="ranges",
            want="every activation observed at least once",
            got="a model that was saved untrained",
            fix=f"Train it: isobit train SPEC.py --data NAME --out {path.name}; or call "
            "model.calibrate(images) before model.save. isobit check needs neither.",
        )
    return graph


def read_float_graph(path: Path) -> Graph:
    """Return the float graph of a .isobit file that has no integers yet."""
    _require(path)
    if path.suffix == ".isobit":
        graphs = read_store(path, load_ops().signature).graphs
        if "int" not in graphs:
            return graphs["float"]
    raise BadArgument(
        where=str(path),
        what="model",
        want="a .isobit file of a float network",
        got="integers already" if path.suffix == ".isobit" else path.name,
        fix="Import a float model first: isobit import model.tflite -o model.isobit",
    )


def read_stored(path: Path) -> Graph:
    """Return what `read_graph` does, and of a file that holds no integers the float graph."""
    if path.suffix == ".py" or not path.is_file():
        return read_graph(path)
    graphs = read_store(path, load_ops().signature).graphs
    return graphs["float"] if "float" in graphs and "int" not in graphs else read_graph(path)


def read_absorbed(path: Path) -> Absorbed:
    """Return which float values each node also computes; nothing for a file that does not know."""
    if path.suffix == ".py":
        return absorbed_values(read_spec(path).traced.graph)
    if path.is_dir():
        return open_bundle(path).absorbed
    floats = read_store(path, load_ops().signature).graphs.get("float")
    return absorbed_values(floats) if floats is not None else {}


def read_history(path: Path) -> Story:
    """Return where an imported network came from and what passes did; an empty story for others."""
    if path.suffix == ".py":
        return Story()
    if path.is_dir():
        return checked_story(open_bundle(path).manifest.get("import", {}), path)
    return read_story(path)


def read_bundle(path: Path) -> Bundle:
    """Return a deployed folder."""
    return open_bundle(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise FileMissing(
            where=str(path),
            what="model",
            want="a SPEC.py, a .isobit file or a deployed folder",
            got=_kind(path),
            fix="Check the path.",
        )


def _kind(path: Path) -> str:
    """Return what is where a file should be."""
    if path.is_dir():
        return "a folder"
    return "something that is not a regular file" if path.exists() else "nothing"
