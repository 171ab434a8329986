"""A deployed folder's report: everything its manifest knows, and what a training adds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.api.bundle import Absorbed, Bundle
from isobit.api.explain import notes_of, removed
from isobit.api.manifest import (
    MANIFEST,
    SCHEMA,
    TRAINING,
    damaged,
    edited_files,
    hash_files,
    read_sources,
    training_problems,
)
from isobit.api.provenance import Origin, Story, checked_story, first_of
from isobit.core.arguments import Arguments, shown
from isobit.core.files import json_text, write_atomic
from isobit.ir.graph import Graph
from isobit.report.making import make_report
from isobit.report.report import Fate, Report
from isobit.report.report import Origin as Shown
from isobit.run.estimate import Estimate
from isobit.run.measure import LayerCost
from isobit.run.verify import Comparison, Difference


def record_training(
    bundle: Bundle,
    *,
    history: Sequence[Mapping[str, Any]],
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    accuracy: float,
    accuracy_on: str,
    notes: Sequence[str] = (),
) -> None:
    """Keep in the bundle what its report shows of the training, instead of what the network itself
    knew; the manifest lists its hash.

    history: an entry per epoch as `make_report` takes it; confusion: a row per true class of counts
    per predicted class; accuracy: a fraction in 0..1. Raises `BadArgument`, `BundleDamaged`.
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
        "schema": SCHEMA,
        "accuracy": accuracy,
        "accuracy_on": accuracy_on,
        "notes": list(notes),
        "classes": list(classes),
        "confusion": table.tolist(),
        "history": [dict(epoch) for epoch in history],
    }
    for problem in training_problems(content):
        given.refuse("training", "what a report can show", problem)
    given.check()
    blob = json_text(content).encode()
    manifest = bundle.manifest
    manifest["hashes"]["files"][TRAINING] = hashlib.sha256(blob).hexdigest()
    write_atomic(bundle.path / TRAINING, blob)
    write_atomic(bundle.path / MANIFEST, json_text(manifest))


def bundle_report(bundle: Bundle) -> Report:
    """Return the report of a bundle: sizes and verification from its manifest, training where it
    was recorded.

    The folder's C is hashed again: where it is not what was verified, the report claims nothing.
    Raises `BundleDamaged`.
    """
    given = Arguments("bundle_report")
    given.instance("bundle", bundle, Bundle, "a Bundle, as isobit.load(folder) returns")
    given.check()
    manifest = bundle.manifest
    plan = bundle.network().plan
    story = checked_story(manifest.get("import", {}), bundle.path)
    layers = tuple(LayerCost(**layer) for layer in manifest["layers"])
    if [layer.name for layer in layers] != [step.name for step in plan.nodes]:
        raise damaged(bundle.path / MANIFEST, "layers of another network")
    sources = read_sources(bundle.path)
    edited, now = edited_files(sources, manifest), hash_files(sources)
    comparisons = [_comparison(entry) for entry in manifest["verified"]]
    training = bundle.training
    confusion = training.get("confusion") or None
    hashes = {"network": str(manifest["hashes"]["content"]), "C": str(manifest["hashes"]["c"])}
    return make_report(
        plan,
        Estimate(layers=layers, **manifest["sizes"]),
        comparisons,
        changed=_changed(comparisons, str(manifest["hashes"]["c"]), now),
        history=training.get("history", ()),
        confusion=None if confusion is None else np.asarray(confusion, dtype=np.int64),
        classes=training.get("classes", ()),
        accuracy=training.get("accuracy"),
        accuracy_on=training.get("accuracy_on", ""),
        notes=[
            *(f"{name} was edited since deployment." for name in edited),
            *training.get("notes", ()),
        ],
        hashes={**hashes, **({"C in the folder now": now} if edited else {})},
        tensors=Origin(story).tensors,
        origin=_origin(story, plan.graph, bundle.absorbed) if story.source else None,
    )


def _origin(story: Story, graph: Graph, absorbed: Absorbed) -> Shown:
    """Return what a report says of an import: every value of the file, in the order in which the
    nodes run that compute it or what became of it.
    """
    origin, types = Origin(story), graph.type_map()
    gone = {one.name: one for one in removed(graph, story, absorbed=absorbed)}
    places = [*(v.name for v in graph.inputs), *(v.name for n in graph.nodes for v in n.outputs)]
    order = {name: index for index, name in enumerate(places)}
    fates: dict[str, Fate] = {}
    place: dict[str, float] = {}

    def add(value: str, tensor: str, *, whole: bool) -> None:
        """Say what became of a tensor: of a value, or of a part of what its node does."""
        own = origin.final(value)
        steps, into = origin.told(own), own
        if own not in types:
            one = gone[value]
            steps, into = one.passes, one.into or origin.into(value, types)
        told = [f"{step.by}: {step.text}" for step in steps if step.done]
        if own in types and not whole:
            told = [f"part of %{own}"]
        elif own not in types and gone[value].into:
            told = [f"part of %{into}", *told]
        stands = own in types and whole
        if tensor in fates and not stands:
            return
        first, joined = first_of(tensor)
        fate = Fate(tensor=first, joined=joined, value=own if stands else "", told=tuple(told))
        fates[tensor] = fate
        place[tensor] = order.get(into, len(order)) - (0.0 if stands else 0.5)

    for value, tensor in story.names.items():
        add(value, tensor, whole=True)
    for tensor, value in story.fused.items():
        add(value, tensor, whole=False)
    ordered = sorted(fates, key=lambda tensor: place[tensor])
    notes = [f"%{note.value}, {note.kind}: {note.text}" for note in notes_of(story)]
    return Shown(
        facts=tuple(story.source.items()),
        fates=tuple(fates[tensor] for tensor in ordered),
        notes=tuple(notes),
    )


def _changed(comparisons: Sequence[Comparison], deployed: str, now: str) -> bool:
    """Whether the folder's C, whose hash is `now`, is not the C that was verified.

    What ran planned anew says nothing of the folder's C; then it must be the deployed one.
    """
    own = [c.content_hash for c in comparisons if c.content_hash and not c.replanned]
    return now not in own if own else bool(comparisons) and now != deployed


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    known = {key: value for key, value in entry.items() if key != "inputs_sha256"}
    first = known.pop("first", None)
    if first is not None:
        first = Difference(**{**first, "index": tuple(first["index"])})
    return Comparison(first=first, **{**known, "edited": tuple(known.get("edited", ()))})
