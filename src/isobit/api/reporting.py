"""A deployed folder's report: everything its manifest knows, and what a training adds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from isobit.api.bundle import Bundle
from isobit.api.explain import tensors_of
from isobit.api.importing import checked_story
from isobit.core.arguments import Arguments, shown
from isobit.core.files import write_atomic
from isobit.report.report import Report, make_report
from isobit.run.estimate import Estimate
from isobit.run.measure import LayerCost
from isobit.run.verify import Comparison, Difference

TRAINING = "training.json"
"""File of a bundle that says how its network was trained; written by `record_training`."""


def record_training(
    bundle: Bundle,
    *,
    history: Sequence[Mapping[str, float]],
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    accuracy: float,
    accuracy_on: str,
    notes: Sequence[str] = (),
) -> None:
    """Keep in the bundle what its report shows of the training.

    confusion: a row per true class of counts per predicted class; accuracy: a fraction in 0..1.
    Raises `BadArgument`.
    """
    given = Arguments("record_training")
    given.instance("bundle", bundle, Bundle, "a Bundle, as isobit.load(folder) returns")
    accuracy = given.number("accuracy", accuracy, at_least=0, at_most=1)
    given.instance("accuracy_on", accuracy_on, str, "a string")
    table = np.asarray(confusion) if isinstance(confusion, Sequence) else np.zeros(0)
    if table.shape != (len(classes), len(classes)) or table.dtype.kind != "i":
        want = f"integers [{len(classes)}, {len(classes)}], a row and a column per class"
        given.refuse("confusion", want, shown(confusion))
    given.check()
    content = {
        "schema": 1,
        "accuracy": accuracy,
        "accuracy_on": accuracy_on,
        "notes": list(notes),
        "classes": list(classes),
        "confusion": [list(row) for row in confusion],
        "history": [dict(epoch) for epoch in history],
    }
    write_atomic(bundle.path / TRAINING, json.dumps(content, indent=1) + "\n")


def bundle_report(bundle: Bundle) -> Report:
    """Return the report of a bundle: sizes and verification from its manifest, training where it
    was recorded.
    """
    given = Arguments("bundle_report")
    given.instance("bundle", bundle, Bundle, "a Bundle, as isobit.load(folder) returns")
    given.check()
    manifest = bundle.manifest
    layers = tuple(LayerCost(**layer) for layer in manifest["layers"])
    estimate = Estimate(layers=layers, **manifest["sizes"])
    training: dict[str, Any] = {}
    if (bundle.path / TRAINING).is_file():
        training = json.loads((bundle.path / TRAINING).read_text(encoding="utf-8"))
    confusion = training.get("confusion")
    return make_report(
        bundle.network().plan,
        estimate,
        [_comparison(entry) for entry in manifest["verified"]],
        history=training.get("history", ()),
        confusion=None if confusion is None else np.asarray(confusion),
        classes=training.get("classes", ()),
        accuracy=training.get("accuracy"),
        accuracy_on=training.get("accuracy_on", ""),
        notes=training.get("notes", ()),
        hashes={
            "network": str(manifest["hashes"]["content"]),
            "C": str(manifest["hashes"]["c"]),
            "compiler": str(manifest["compiler_version"]),
        },
        tensors=tensors_of(asdict(checked_story(manifest.get("import", {}), bundle.path))),
    )


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    known = {key: value for key, value in entry.items() if key != "inputs_sha256"}
    first = known.pop("first", None)
    if first is not None:
        first = Difference(**{**first, "index": tuple(first["index"])})
    return Comparison(first=first, **known)
