"""Foreign models: read, rewritten by passes, written as `.isobit`; nothing here needs torch."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

from isobit import targets
from isobit.core.arguments import Arguments
from isobit.core.errors import BadArgument
from isobit.importers.base import Imported, Survey
from isobit.ir.graph import Graph, Stage
from isobit.ir.store import Stored, read_store, write_store
from isobit.ops.base import Cost
from isobit.ops.check import node_types
from isobit.ops.foreign import Runtime
from isobit.ops.registry import load_ops
from isobit.passes.base import PassRun, chosen, run_passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What an imported file remembers of its import."""

    names: Mapping[str, str]
    source: Mapping[str, str]
    passes: Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """An imported network after its passes."""

    graph: Graph
    names: Mapping[str, str]
    """Value -> tensor of the source file, values that passes removed included."""
    source: Mapping[str, str]
    """Format, file name, SHA-256, runtime."""
    passes: tuple[PassRun, ...]

    def story(self) -> Story:
        """Return the history as plain data."""
        return Story(
            names=dict(self.names),
            source=dict(self.source),
            passes=[history(run) for run in self.passes],
        )

    def save(self, path: str | Path) -> None:
        """Write a `.isobit` file with the history that `isobit explain` prints."""
        story = asdict(self.story())
        notes = {key: json.dumps(value, sort_keys=True) for key, value in story.items()}
        role = "int" if self.graph.stage is Stage.INT else "float"
        write_store(Path(path), Stored({role: self.graph}, notes=notes))


def history(run: PassRun) -> dict[str, object]:
    """Return what a pass did as plain data."""
    return {**asdict(run), "claim": run.claim.value}


def import_file(
    path: str | Path,
    *,
    runtime: str = "tflm",
    passes: Sequence[str] = (),
    name: str = "",
    target: str = "cortex-m4",
) -> Graph:
    """Return a foreign model as a graph; see `import_model`."""
    model = import_model(path, runtime=runtime, passes=passes, name=name, target=target)
    return model.graph


def import_model(
    path: str | Path,
    *,
    runtime: str = "tflm",
    passes: Sequence[str] = (),
    name: str = "",
    target: str = "cortex-m4",
) -> ImportedModel:
    """Read a foreign model and run passes on it.

    path: a .tflite file. runtime: "tflm" or "litert", whose arithmetic a TFLite file means. passes:
    names added to the default ones, with `-` in front taken from them. name: of the network, the
    file's by default.

    Raises `FileMissing`, `FileDamaged`, `BadArgument`, `UnknownName`, and every `Unsupported` of
    the model at once.
    """
    given = Arguments("import_file")
    place = given.path("path", path)
    chosen_runtime = given.choice("runtime", runtime, tuple(r.value for r in Runtime))
    if name:
        given.text("name", name)
    with given.collect():
        chip = targets.load(target)
    with given.collect():
        selected = chosen(tuple(passes))
    with given.collect():
        importer = _importer(place)
    given.check()
    found: Imported = importer.read(place, runtime=Runtime(chosen_runtime), name=name)
    graph, runs = run_passes(replace(found.graph, target=chip.name), selected)
    return ImportedModel(graph=graph, names=found.names, source=found.source, passes=runs)


def survey_file(path: str | Path, *, runtime: str = "tflm") -> Survey:
    """Return the operators of a foreign model and everything that cannot be imported.

    Raises `FileMissing`, `FileDamaged` and `BadArgument`, never `Unsupported`.
    """
    given = Arguments("import_file")
    place = given.path("path", path)
    chosen_runtime = given.choice("runtime", runtime, tuple(r.value for r in Runtime))
    with given.collect():
        importer = _importer(place)
    given.check()
    found: Survey = importer.survey(place, runtime=Runtime(chosen_runtime))
    return found


def read_story(path: Path) -> Story:
    """Return the import history of a `.isobit` file, empty for one that was not imported."""
    notes = read_store(path, load_ops().signature).notes
    return Story(
        names=json.loads(notes.get("names", "{}")),
        source=json.loads(notes.get("source", "{}")),
        passes=json.loads(notes.get("passes", "[]")),
    )


def total_cost(graph: Graph) -> Cost:
    """Return the operations of one inference."""
    registry = load_ops()
    costs = [registry.op(n.op).cost(n.attrs, node_types(graph, n)) for n in graph.nodes]
    return Cost(
        macs=sum(c.macs for c in costs),
        reads=sum(c.reads for c in costs),
        writes=sum(c.writes for c in costs),
    )


@cache
def _importers() -> dict[str, ModuleType]:
    """Return the importers by file suffix: the modules with `SUFFIXES`."""
    package = importlib.import_module("isobit.importers")
    modules = (
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(package.__path__, "isobit.importers.")
    )
    return {suffix: m for m in modules for suffix in getattr(m, "SUFFIXES", ())}


def _importer(path: Path) -> ModuleType:
    known = _importers()
    if path.suffix.lower() not in known:
        raise BadArgument(
            where=str(path),
            what="file",
            want="one that ends in " + " or ".join(sorted(known)),
            got=path.name,
            fix="Export the model to one of these formats.",
        )
    return known[path.suffix.lower()]
