"""Foreign models: read, rewritten by passes, written as `.isobit`; nothing here needs torch."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType

from isobit import targets
from isobit.api.provenance import Story
from isobit.core.arguments import Arguments
from isobit.core.errors import BadArgument
from isobit.importers.base import Imported, Survey
from isobit.ir.graph import Graph, Stage
from isobit.ir.store import Stored, write_store
from isobit.ops.base import Cost
from isobit.ops.check import node_types
from isobit.ops.foreign import Runtime
from isobit.ops.logical import Note
from isobit.ops.registry import load_ops
from isobit.passes.base import Pass, PassRun, chosen, run_passes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """An imported network after its passes."""

    graph: Graph
    names: Mapping[str, str]
    """Value -> tensor of the source file, values that passes removed included."""
    source: Mapping[str, str]
    """Format, file name, SHA-256, runtime."""
    passes: tuple[PassRun, ...]
    """Every pass that ran, in order."""
    notes: tuple[Note, ...] = ()
    """What the importer says of single values: transposes that stay, proven differences, inputs
    and outputs that are stored in another way. `value` is a name before the passes.
    """
    fused: Mapping[str, str] = field(default_factory=dict)
    """Tensor of the source that no value is -> the value whose node computes it on its way."""

    @classmethod
    def after_passes(
        cls, found: Imported, chip: targets.Target, selected: Sequence[type[Pass]]
    ) -> ImportedModel:
        """Run passes on what an importer returned, for a target."""
        graph, runs = run_passes(replace(found.graph, target=chip.name), selected)
        return cls(
            graph=graph,
            names=found.names,
            source={key: text for key, text in found.source.items() if key != "notes"},
            passes=runs,
            notes=found.notes,
            fused=found.fused,
        )

    def story(self) -> Story:
        """Return the history as plain data."""
        return Story(
            names=dict(self.names),
            fused=dict(self.fused),
            source=dict(self.source),
            passes=[history(run) for run in self.passes],
            notes=[asdict(note) for note in self.notes],
        )

    def save(self, path: str | Path) -> None:
        """Write a `.isobit` file with the history that `isobit explain` prints."""
        role = "int" if self.graph.stage is Stage.INT else "float"
        write_store(Path(path), Stored({role: self.graph}, notes=self.story().notes_as_text()))


def history(run: PassRun) -> dict[str, object]:
    """Return what a pass did as plain data."""
    plain = asdict(run)
    steps = {kind: list(plain[kind]) for kind in ("done", "kept")}
    return {**plain, **steps, "claim": run.claim.value}


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

    path: a .tflite or .onnx file. runtime: "tflm" or "litert", whose arithmetic a TFLite file
    means. passes: names added to the default ones, with `-` in front taken from them. name: of the
    network, the file's by default.

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
    return ImportedModel.after_passes(found, chip, selected)


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
        if not found.name.rpartition(".")[2].startswith("torch_")  # they read no files
    )
    return {suffix: m for m in modules for suffix in getattr(m, "SUFFIXES", ())}


def _importer(path: Path) -> ModuleType:
    known = _importers()
    suffix = path.suffix.lower()
    if suffix not in known:
        raise BadArgument(
            where=str(path),
            what="file",
            want="one that ends in " + " or ".join(sorted(known)),
            got=path.name,
            fix="Export the model to one of these formats.",
        )
    own = ".tflite" if _is_tflite(path) else suffix
    if known[own] is not known[suffix]:
        raise BadArgument(
            where=str(path),
            what="file",
            want=f"the format that {path.suffix} says",
            got="a TFLite file",
            fix=f"Rename it to {path.with_suffix('.tflite').name}.",
        )
    return known[suffix]


def _is_tflite(path: Path) -> bool:
    """Whether a file has the identifier of TFLite, which no other format has there."""
    if not path.is_file():  # to open a pipe would wait
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(8)[4:] == b"TFL3"
    except OSError:  # the importer says what is wrong with it
        return False
