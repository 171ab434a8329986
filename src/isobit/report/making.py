"""Gathers a report of a plan, an estimate, verification and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from isobit import __version__
from isobit.core.errors import BadArgument, raise_all
from isobit.core.types import AnyArray, TensorType
from isobit.ir.graph import operands
from isobit.plan.arena import Buffer
from isobit.plan.plan import NodePlan, Plan
from isobit.report.report import Confusion, Epoch, Lifetime, Origin, Port, Report, Step
from isobit.run.estimate import Estimate
from isobit.run.measure import LayerCost
from isobit.run.verify import Comparison


def make_report(
    plan: Plan,
    estimate: Estimate,
    comparisons: Sequence[Comparison] = (),
    *,
    changed: bool = False,
    history: Sequence[Mapping[str, Any]] = (),
    confusion: AnyArray | None = None,
    classes: Sequence[str] = (),
    accuracy: float | None = None,
    accuracy_on: str = "",
    notes: Sequence[str] = (),
    hashes: Mapping[str, str] | None = None,
    tensors: Mapping[str, str] | None = None,
    origin: Origin | None = None,
) -> Report:
    """Gather a report of a plan (and its graph), an estimate, verification and training.

    estimate: of the same plan. changed: the deployed C is not the one that was verified. history:
    one mapping per epoch with `epoch`, `loss`, `train_accuracy`, `val_accuracy`, `learning_rate`,
    and where known `seconds` and `phase`, "exact" or "float" (a line of metrics.jsonl); further
    keys are ignored. confusion: integer counts [K, K], true class by row, taken-for class by
    column; classes: its K names, class numbers where absent.
    accuracy: a fraction, the confusion's where absent; accuracy_on: the data it was measured on.
    notes: sentences the reader must see, such as data that could not be verified. hashes: label ->
    hash. tensors: value -> its name in the file that was imported; origin: what became of them all.

    Raises `BadArgument` for pieces that do not belong together, all at once.
    """
    errors: list[BadArgument] = []
    if [c.name for c in estimate.layers] != [step.name for step in plan.nodes]:
        errors.append(_bad("estimate", "the layers of the plan", f"those of {estimate.name!r}"))
    epochs = _epochs(history, errors)
    table = None if confusion is None else _confusion(confusion, classes, errors)
    if accuracy is None and table is not None and table.total:
        accuracy = table.right / table.total
    if accuracy is not None and not 0 <= accuracy <= 1:
        errors.append(_bad("accuracy", "a fraction, 0 to 1", str(accuracy)))
    raise_all(errors)
    graph = plan.graph
    types = graph.type_map()
    known = tensors or {}
    return Report(
        name=graph.name,
        target=plan.target.name,
        target_title=plan.target.title,
        isobit=__version__,
        estimate=estimate,
        inputs=tuple(_make_port(value.name, value.type, known) for value in graph.inputs),
        outputs=tuple(_make_port(name, types[name], known) for name in graph.outputs),
        steps=tuple(
            _make_step(index, node, cost, plan, known)
            for index, (node, cost) in enumerate(zip(plan.nodes, estimate.layers, strict=True))
        ),
        lifetimes=_lifetimes(plan),
        peak_index=plan.peak_index if plan.nodes else 0,
        comparisons=tuple(comparisons),
        changed=changed,
        epochs=epochs,
        confusion=table,
        accuracy=accuracy,
        accuracy_on=accuracy_on,
        notes=tuple(notes),
        hashes=tuple((hashes or {}).items()),
        origin=origin,
    )


def _make_port(name: str, kind: TensorType, tensors: Mapping[str, str]) -> Port:
    return Port(name=name, shape=kind.shape, dtype=kind.dtype.value, tensor=tensors.get(name, ""))


def _make_step(
    index: int, step: NodePlan, cost: LayerCost, plan: Plan, tensors: Mapping[str, str]
) -> Step:
    node = step.node
    kind = node.outputs[0].type
    reads = dict.fromkeys(name for name in operands(node.inputs) if name in plan.buffers)
    return Step(
        index=index,
        reads=tuple(reads),
        writes=tuple(value.name for value in node.outputs),
        shape=kind.shape,
        dtype=kind.dtype.value,
        source=str(node.location),
        cost=cost,
        tensor=tensors.get(step.name, ""),
    )


def _lifetimes(plan: Plan) -> tuple[Lifetime, ...]:
    values: dict[str, list[str]] = {}
    buffers: dict[str, Buffer] = {}
    for value, buffer in plan.buffers.items():
        values.setdefault(buffer.name, []).append(value)
        buffers[buffer.name] = buffer
    for step in plan.nodes:
        if step.scratch is not None:
            buffers[step.scratch.name] = step.scratch
    ordered = sorted(buffers.values(), key=lambda b: (b.first, b.offset, b.name))
    return tuple(
        Lifetime(
            name=b.name,
            offset=b.offset,
            size_bytes=b.size_bytes,
            first=b.first,
            last=b.last,
            values=tuple(values.get(b.name, ())),
        )
        for b in ordered
    )


def _epochs(history: Sequence[Mapping[str, Any]], errors: list[BadArgument]) -> tuple[Epoch, ...]:
    names = [field.name for field in fields(Epoch) if field.default is MISSING]
    found = []
    for number, entry in enumerate(history, 1):
        where, phase = f"history, entry {number}", entry.get("phase", "exact")
        missing = [name for name in names if name not in entry]
        if missing:
            errors.append(_bad(where, ", ".join(names), f"no {', '.join(missing)}"))
        elif phase not in ("exact", "float"):
            errors.append(_bad(where, 'phase "exact" or "float"', repr(phase)))
        else:
            values = {name: float(entry[name]) for name in names if name != "epoch"}
            seconds = entry.get("seconds")
            kept = None if seconds is None else float(seconds)
            epoch = int(entry["epoch"])
            found.append(Epoch(epoch=epoch, **values, seconds=kept, phase=phase))
    return tuple(found)


def _confusion(
    counts: AnyArray, classes: Sequence[str], errors: list[BadArgument]
) -> Confusion | None:
    array = np.asarray(counts)
    names = tuple(classes) or tuple(map(str, range(len(array))))
    square = array.ndim == 2 and array.shape == (len(names), len(names))
    if not square or array.dtype.kind not in "iu" or (array < 0).any():
        want = f"counts (integers, 0 or more) [{len(names)}, {len(names)}], one row per class"
        errors.append(_bad("confusion", want, f"{array.dtype} {list(array.shape)}"))
        return None
    return Confusion(classes=names, counts=tuple(tuple(map(int, row)) for row in array))


def _bad(what: str, want: str, got: str) -> BadArgument:
    return BadArgument(
        where="report",
        what=what,
        want=want,
        got=got,
        fix="Pass the pieces of one and the same network; the docstring of make_report lists them.",
    )
