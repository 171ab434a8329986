"""What a network remembers of its training: the content of a bundle's training.json, which a
`.isobit` file keeps, too. No times are in it, so that equal trainings give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isobit.api.manifest import SCHEMA, training_problems
from isobit.core.errors import FileDamaged
from isobit.ir.store import read_store
from isobit.ops.registry import load_ops

NOTE = "training"
"""Its entry among the notes of a `.isobit` file."""
CHANGED = (
    "The network was changed after this training: no accuracy is known of what it computes now."
)
_TIMES = ("seconds",)


def trained_content(
    history: Sequence[Mapping[str, Any]],
    *,
    accuracy: float | None,
    accuracy_on: str,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a network keeps of its training. history: as `make_report` takes it."""
    return {
        "schema": SCHEMA,
        "accuracy": accuracy,
        "accuracy_on": accuracy_on,
        "notes": list(notes),
        "classes": [],
        "confusion": [],
        "history": [{k: v for k, v in epoch.items() if k not in _TIMES} for epoch in history],
    }


def changed_since(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is left of it where the network computes something else by now: the accuracy was
    another network's.
    """
    notes = [note for note in content["notes"] if note != CHANGED]
    return {**content, "accuracy": None, "accuracy_on": "", "notes": [*notes, CHANGED]}


def trained_note(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the entry of a `.isobit` file that `read_trained_note` reads; none for no training."""
    return {NOTE: json.dumps(content)} if content else {}


def read_trained_note(notes: Mapping[str, str], place: Path) -> dict[str, Any]:
    """Return what the notes of a `.isobit` file say of a training, empty where they say nothing.

    Raises `FileDamaged` for what a report could not show.
    """
    if NOTE not in notes:
        return {}
    try:
        content = json.loads(notes[NOTE])
        found = list(training_problems(content)) if isinstance(content, dict) else ["no object"]
    except (ValueError, TypeError, RecursionError) as error:
        found = [str(error)]
    if found:
        raise FileDamaged(
            where=str(place),
            what="history of the training",
            want="what `isobit train` or `Model.save` writes",
            got="; ".join(found[:4]),
            fix="Save the model again.",
        )
    return dict(content)


def read_trained_file(path: Path) -> dict[str, Any]:
    """Return what a `.isobit` file says of its training; empty where it says nothing."""
    return read_trained_note(read_store(path, load_ops().signature).notes, path)
