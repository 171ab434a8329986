"""What a network remembers of its import: read and checked once, and asked about its values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isobit.core.arguments import shown
from isobit.core.errors import FileDamaged
from isobit.ir.store import read_store
from isobit.ops.registry import load_ops

Plain = Mapping[str, object]
"""A JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What an imported file remembers of its import; everything empty for other networks."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Value of the importer's graph -> tensor of the source."""
    fused: Mapping[str, str] = field(default_factory=dict)
    """Tensor of the source that no value is -> the value whose node computes it on its way."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Format, file name, SHA-256, runtime."""
    passes: Sequence[Mapping[str, object]] = ()
    notes: Sequence[Mapping[str, object]] = ()
    """What the importer says of single values: `isobit.ops.logical.Note` as plain data."""

    def notes_as_text(self) -> dict[str, str]:
        """Return the entries of a `.isobit` file that `read_story` reads, in the file's order."""
        parts: dict[str, object] = {
            "names": dict(self.names),
            "fused": dict(self.fused),
            "source": dict(self.source),
            "passes": list(self.passes),
            "notes": list(self.notes),
        }
        return {key: json.dumps(value) for key, value in parts.items()}


PARTS = tuple(Story.__dataclass_fields__)


def read_story(path: Path) -> Story:
    """Return the import history of a `.isobit` file, empty for one that was not imported."""
    notes = read_store(path, load_ops().signature).notes
    try:
        content = {key: json.loads(text) for key, text in notes.items() if key in PARTS}
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    return checked_story(content, path)


def checked_story(content: object, place: Path) -> Story:
    """Return an import history that was read from a file at `place`, empty where it is empty.

    Raises `FileDamaged` for anything else than what `ImportedModel.story` gives.
    """
    if not isinstance(content, Mapping):
        raise _damaged(place, type(content).__name__)
    tables = {key: content.get(key, {}) for key in ("names", "fused", "source")}
    for table in tables.values():
        if not _is_text(table):
            raise _damaged(place, shown(table))
    lists = {"passes": _is_run, "notes": _is_note}
    for key, fits in lists.items():
        entries = content.get(key, [])
        if not (isinstance(entries, list) and all(map(fits, entries))):
            raise _damaged(place, shown(entries))
    return Story(**tables, **{key: content.get(key, []) for key in lists})


def _is_text(table: object) -> bool:
    return isinstance(table, dict) and all(isinstance(text, str) for text in table.values())


def _is_run(run: object) -> bool:
    """Whether it is what `isobit.api.importing.history` returns."""
    return (
        isinstance(run, dict)
        and isinstance(run.get("name"), str)
        and _is_text(run.get("gone", {}))
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


def _is_note(note: object) -> bool:
    return (
        isinstance(note, dict)
        and all(isinstance(note.get(key), str) for key in ("value", "kind", "text"))
        and type(note.get("lsb", 0)) is int
    )


def _damaged(place: Path, got: str) -> FileDamaged:
    return FileDamaged(
        where=str(place),
        what="history of the import",
        want=", ".join(PARTS),
        got=got,
        fix="Import the model again.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a pass did to a value when the network was imported, or, not `done`, why nothing."""

    by: str
    text: str
    done: bool


class Origin:
    """A story by the values that a network has now: passes rename values and leave them out."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._renames: dict[str, str] = {}
        self._told: dict[str, list[Told]] = {}
        self._into: dict[str, tuple[str, str]] = {}
        self.mentioned: dict[str, None] = {}
        """Every value that a pass says something of, in the order of the passes."""
        for run in story.passes:
            self._read(run)
        self.tensors: dict[str, str] = {}
        """Value -> tensor of the source, under the names before and after the passes."""
        for value, label in story.names.items():
            self.tensors.setdefault(self.final(value), label)
        self.tensors.update(story.names)

    def _read(self, run: Mapping[str, object]) -> None:
        name, gone = str(run["name"]), run.get("gone", {})
        for kind in ("done", "kept"):
            steps = run[kind]
            assert isinstance(steps, list)
            for step in steps:
                node, data = str(step["node"]), step["data"]
                self.mentioned[node] = None
                told = Told(by=name, text=str(step["text"]), done=kind == "done")
                self._told.setdefault(node, []).append(told)
                if kind == "done" and "value" in data:
                    self._renames[node] = str(data["value"])
        assert isinstance(gone, dict)
        for value, into in gone.items():
            self.mentioned[value] = None
            self._into.setdefault(value, (name, into))

    def final(self, value: str) -> str:
        """Return the name that a value has after the passes."""
        for _ in self._renames:  # as often as there can be new names
            value = self._renames.get(value, value)
        return value

    def told(self, value: str) -> tuple[Told, ...]:
        """Return what passes did to a value, under any of its names, and why they did nothing."""
        former = [old for old in self._renames if self.final(old) == value and old != value]
        found = [one for name in (*former, value) for one in self._told.get(name, ())]
        return tuple(dict.fromkeys(found))

    def gone(self, value: str, present: Mapping[str, object]) -> tuple[Told, ...]:
        """Return what became of a value that is not `present`: the pass after which nothing
        computed it, and the value that is computed instead.
        """
        told = self.told(value)
        if any(one.done for one in told) or value not in self._into:
            return told
        into = self.into(value, present)
        text = f"now part of %{into}" if into else "left out, with all that read it"
        return (*told, Told(by=self._into[value][0], text=text, done=True))

    def into(self, value: str, present: Mapping[str, object]) -> str:
        """Return the value behind a removed one that is `present`, "" where there is none."""
        for _ in self._into:  # what is behind it may have gone later
            if value in present or value not in self._into:
                break
            value = self.final(self._into[value][1])
        return value if value in present else ""

    def value(self, name: str) -> str:
        """Return the value that a tensor of the source, whole or joined to others by a converter,
        or a value before the passes, is now; the argument where it is none of them.
        """
        values: dict[str, str] = {}
        for value, label in self.story.names.items():
            values[label] = value
        for value, label in self.story.names.items():
            for part in label.split(";"):
                values.setdefault(part, value)
        for label, value in self.story.fused.items():
            values.setdefault(label, value)
        return self.final(values.get(name, name))

    def fused(self, value: str) -> tuple[str, ...]:
        """Return the tensors of the source that the node of a value computes on its way."""
        return tuple(t for t, own in self.story.fused.items() if self.final(own) == value)


def first_of(tensor: str) -> tuple[str, tuple[str, ...]]:
    """Return the first of the names that a converter joined with semicolons, and the others."""
    first, *others = tensor.split(";")
    return first, tuple(others)
