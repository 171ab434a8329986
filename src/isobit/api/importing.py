"""Foreign models: read, rewritten by passes, written as `.isobit`; nothing here needs torch."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType

from isobit import targets
from isobit.core.arguments import Arguments, shown
from isobit.core.errors import BadArgument, FileDamaged
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

    Raises `FileMissing`, `FileDamaged`, `BadArgument`, `UnknownName`, `ToolMissing`, and every
    `Unsupported` of the model at once.
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
    known = {name for source, name in load_ops().rules if source == importer.FORMAT}
    unknown = tuple(name for name in found.operators if name not in known)
    return replace(found, format=importer.FORMAT, unknown=unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supported:
    """A foreign operator with a rule, and what was shown of it."""

    cases: int = 0
    """Single-operator models that agree with the format's own runtime; 0: none was recorded."""
    types: tuple[str, ...] = ()
    """Element types in them, as the format names them."""
    ours: tuple[str, ...] = ()
    """Operators here that it becomes, the most frequent first."""


def support() -> dict[str, dict[str, Supported]]:
    """Return the record that `tools/write_support.py` wrote, by format and foreign operator."""
    text = resources.files("isobit.importers").joinpath("support.json").read_text("utf-8")
    return {
        source: {
            name: Supported(
                cases=entry["cases"], types=tuple(entry["types"]), ours=tuple(entry["ours"])
            )
            for name, entry in found.items()
        }
        for source, found in json.loads(text)["sources"].items()
    }


def read_story(path: Path) -> Story:
    """Return the import history of a `.isobit` file, empty for one that was not imported."""
    notes = read_store(path, load_ops().signature).notes
    try:
        content = {key: json.loads(text) for key, text in notes.items() if key in STORY}
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    return checked_story(content, path)


STORY = ("names", "source", "passes")


def checked_story(content: object, place: Path) -> Story:
    """Return an import history that was read from a file at `place`, empty where it is empty.

    Raises `FileDamaged` for anything else than what `ImportedModel.story` gives.
    """
    if not isinstance(content, Mapping):
        raise _damaged(place, type(content).__name__)
    names, source = content.get("names", {}), content.get("source", {})
    passes = content.get("passes", [])
    for table in (names, source):
        if not (isinstance(table, dict) and all(isinstance(v, str) for v in table.values())):
            raise _damaged(place, shown(table))
    if not (isinstance(passes, list) and all(map(_is_run, passes))):
        raise _damaged(place, shown(passes))
    return Story(names=names, source=source, passes=passes)


def _is_run(run: object) -> bool:
    """Whether it is what `history` returns."""
    return (
        isinstance(run, dict)
        and isinstance(run.get("name"), str)
        and all(
            isinstance(run.get(kind), list) and all(map(_is_step, run[kind]))
            for kind in ("done", "kept")
        )
    )


def _is_step(step: object) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("node"), str)
        and isinstance(step.get("text"), str)
        and isinstance(step.get("data"), dict)
    )


def _damaged(place: Path, got: str) -> FileDamaged:
    return FileDamaged(
        where=str(place),
        what="history of the import",
        want="names, source and passes",
        got=got,
        fix="Import the model again.",
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
