"""Everything a report shows, gathered once as plain data; the renderings only render it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isobit import __version__
from isobit.core.errors import BadArgument, raise_all
from isobit.core.types import AnyArray, Shape, TensorType
from isobit.ir.graph import operands
from isobit.plan.arena import Buffer
from isobit.plan.plan import NodePlan, Plan
from isobit.run.estimate import Estimate
from isobit.run.measure import LayerCost
from isobit.run.verify import Comparison

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the network. `shape` is NHWC with batch 1; `tensor` as in `Step`."""

    name: str
    shape: Shape
    dtype: str
    tensor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node in execution order, with what it costs.

    `reads` and `writes` are activations by value name; `shape` (NHWC, batch 1) and `dtype` are the
    first output's. `source`: `file:line` where the user wrote it, "" where unknown. `tensor`: the
    first output's name in the file that was imported, "" where it has none.
    """

    index: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    shape: Shape
    dtype: str
    source: str
    cost: LayerCost
    tensor: str = ""

    @property
    def name(self) -> str:
        """The first output's name."""
        return self.cost.name

    @property
    def op(self) -> str:
        """The operator."""
        return self.cost.op

    @property
    def kernel(self) -> str:
        """The kernel; "view" where no code runs."""
        return self.cost.kernel

    @property
    def is_view(self) -> bool:
        """Whether the output is the input's bytes."""
        return self.kernel == "view"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """A stretch of the arena, alive from step `first` to step `last`, both included.

    `values`: every value that lies in it (views share their input's). Empty for scratch.
    """

    name: str
    offset: int
    size_bytes: int
    first: int
    last: int
    values: tuple[str, ...]

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.offset + self.size_bytes

    @property
    def is_scratch(self) -> bool:
        """Whether it is a kernel's working memory."""
        return not self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch did. Accuracies are fractions; validation runs the chip's integers."""

    epoch: int
    loss: float
    train_accuracy: float
    val_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """How often an example of class (row) was taken for class (column)."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def total(self) -> int:
        """Number of examples."""
        return sum(map(sum, self.counts))

    @property
    def right(self) -> int:
        """Number of examples on the diagonal."""
        return sum(row[i] for i, row in enumerate(self.counts))

    def errors(self) -> list[tuple[int, str, str]]:
        """Return (count, true class, answer) of every error that occurred, most frequent first."""
        pairs = [
            (count, self.classes[i], self.classes[j])
            for i, row in enumerate(self.counts)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One network on one target. Absent parts are `None` or empty; renderings leave them out.

    changed: the deployed C is not the one that was verified, so that nothing can be claimed of it.
    """

    name: str
    target: str
    target_title: str
    isobit: str
    estimate: Estimate
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: tuple[Step, ...]
    lifetimes: tuple[Lifetime, ...]
    peak_index: int
    comparisons: tuple[Comparison, ...] = ()
    changed: bool = False
    epochs: tuple[Epoch, ...] = ()
    confusion: Confusion | None = None
    accuracy: float | None = None
    accuracy_on: str = ""
    notes: tuple[str, ...] = ()
    hashes: tuple[tuple[str, str], ...] = ()

    @property
    def compared(self) -> int:
        """Single values compared with the golden model, over all executions."""
        return sum(c.compared for c in self.comparisons)

    @property
    def differing(self) -> int:
        """How many of them differ."""
        return sum(c.differing for c in self.comparisons)

    def result(self, comparison: Comparison) -> str:
        """Return in words what one execution showed, and whether that still holds."""
        if self.changed and comparison.content_hash and not comparison.replanned:
            return "changed"
        return "equal" if comparison.equal else "differs"

    @property
    def remainder_bytes(self) -> int | None:
        """Flash of no layer: the run function and compiler helpers; `None` if not compiled."""
        return self.estimate.remainder_bytes

    def to_json(self) -> dict[str, object]:
        """Return one JSON-able object: `schema` 1, keys in a fixed order, absent: `null` or `[]`.

        Counts are exact; means have 1 decimal, milliseconds 4, loss and accuracies (fractions) 6,
        seconds 3. `differing` of all executions is `null` where the C was changed since.
        """
        estimate = self.estimate
        return {
            "schema": SCHEMA,
            "name": self.name,
            "target": {
                "name": self.target,
                "title": self.target_title,
                "clock_hz": estimate.clock_hz,
            },
            "isobit": self.isobit,
            "compiler": estimate.compiler,
            "hashes": dict(self.hashes),
            "accuracy": _round(self.accuracy, 6),
            "accuracy_on": self.accuracy_on,
            "sizes": {
                "arena_bytes": estimate.arena_bytes,
                "stack_bytes": estimate.stack_bytes,
                "ram_bytes": estimate.ram_bytes,
                "ram_limit_bytes": estimate.ram_limit_bytes,
                "constant_bytes": estimate.constant_bytes,
                "flash_bytes": estimate.flash_bytes,
                "flash_limit_bytes": estimate.flash_limit_bytes,
                "macs": estimate.macs,
                "instructions": _round(estimate.instructions, 1),
                "instructions_max": estimate.instructions_max,
                "cycles": _round(estimate.cycles, 1),
                "cycle_model": estimate.cycle_model,
                "milliseconds": _round(estimate.milliseconds, 4),
            },
            "verified": {
                "compared": self.compared,
                "differing": None if self.changed else self.differing,
                "changed_since_verification": self.changed,
                "executions": [_comparison(c) for c in self.comparisons],
            },
            "inputs": [_port(port) for port in self.inputs],
            "outputs": [_port(port) for port in self.outputs],
            "layers": [_step(step) for step in self.steps],
            "peak_layer": self.peak_index,
            "buffers": [{**asdict(life), "values": list(life.values)} for life in self.lifetimes],
            "training": [_epoch(epoch) for epoch in self.epochs],
            "confusion": self.confusion
            and {
                "classes": list(self.confusion.classes),
                "counts": [list(row) for row in self.confusion.counts],
            },
            "notes": list(self.notes),
        }


def make_report(
    plan: Plan,
    estimate: Estimate,
    comparisons: Sequence[Comparison] = (),
    *,
    changed: bool = False,
    history: Sequence[Mapping[str, float]] = (),
    confusion: AnyArray | None = None,
    classes: Sequence[str] = (),
    accuracy: float | None = None,
    accuracy_on: str = "",
    notes: Sequence[str] = (),
    hashes: Mapping[str, str] | None = None,
    tensors: Mapping[str, str] | None = None,
) -> Report:
    """Gather a report of a plan (and its graph), an estimate, verification and training.

    estimate: of the same plan. changed: the deployed C is not the one that was verified. history:
    one mapping per epoch with `epoch`, `loss`, `train_accuracy`, `val_accuracy`, `learning_rate`,
    `seconds` (a line of metrics.jsonl); further keys are ignored. confusion: integer counts [K, K],
    true class by row, taken-for class by column; classes: its K names, class numbers where absent.
    accuracy: a fraction, the confusion's where absent; accuracy_on: the data it was measured on.
    notes: sentences the reader must see, such as data that could not be verified. hashes: label ->
    hash. tensors: value -> its name in the file that was imported.

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


def _epochs(history: Sequence[Mapping[str, float]], errors: list[BadArgument]) -> tuple[Epoch, ...]:
    names = Epoch.__slots__
    found = []
    for number, entry in enumerate(history, 1):
        missing = [name for name in names if name not in entry]
        if missing:
            errors.append(
                _bad(f"history, entry {number}", ", ".join(names), f"no {', '.join(missing)}")
            )
        else:
            values = {name: float(entry[name]) for name in names if name != "epoch"}
            found.append(Epoch(epoch=int(entry["epoch"]), **values))
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


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _port(port: Port) -> dict[str, object]:
    return {
        "name": port.name,
        "shape": list(port.shape),
        "dtype": port.dtype,
        "tensor": port.tensor,
    }


def _step(step: Step) -> dict[str, object]:
    cost = step.cost
    return {
        "index": step.index,
        "name": step.name,
        "op": step.op,
        "kernel": step.kernel,
        "reads": list(step.reads),
        "writes": list(step.writes),
        "shape": list(step.shape),
        "dtype": step.dtype,
        "source": step.source,
        "tensor": step.tensor,
        "macs": cost.macs,
        "live_bytes": cost.live_bytes,
        "constant_bytes": cost.constant_bytes,
        "code_bytes": cost.code_bytes,
        "shares_code_with": cost.shares_code_with,
        "instructions": _round(cost.instructions, 1),
        "cycles": _round(cost.cycles, 1),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    entry = asdict(comparison)
    if comparison.first is not None:
        entry["first"]["index"] = list(comparison.first.index)
    entry["edited"] = list(comparison.edited)
    return entry


def _epoch(epoch: Epoch) -> dict[str, object]:
    return {
        "epoch": epoch.epoch,
        "loss": round(epoch.loss, 6),
        "train_accuracy": round(epoch.train_accuracy, 6),
        "val_accuracy": round(epoch.val_accuracy, 6),
        "learning_rate": float(f"{epoch.learning_rate:.6g}"),
        "seconds": round(epoch.seconds, 3),
    }
