"""Everything a report shows, as plain data; the renderings only render it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from isobit.core.types import Shape
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
    """What one epoch did. Accuracies are fractions; validation runs the chip's integers, in a
    "float" phase the float network. `seconds`: None where it was not kept.
    """

    epoch: int
    loss: float
    train_accuracy: float
    val_accuracy: float
    learning_rate: float
    seconds: float | None = None
    phase: Literal["exact", "float"] = "exact"


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
class Fate:
    """What became of one value of an imported file.

    `tensor`: its name there, `joined`: the names of others that a converter joined to it. `value`:
    the value here that stands for it, "" where none does. `told`: what was done, in sentences.
    """

    tensor: str
    joined: tuple[str, ...]
    value: str
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an imported network came from: facts of the file, its values, notes of the import."""

    facts: tuple[tuple[str, str], ...]
    fates: tuple[Fate, ...]
    notes: tuple[str, ...] = ()


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
    origin: Origin | None = None

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation accuracy, the first of equals, among those of the
        last phase: a float network before it is not what is deployed.
        """
        last = self.epochs[-1].phase
        own = [epoch for epoch in self.epochs if epoch.phase == last]
        return max(own, key=lambda e: (e.val_accuracy, -e.epoch))

    @property
    def float_epochs(self) -> int:
        """How many epochs trained the float network."""
        return sum(epoch.phase == "float" for epoch in self.epochs)

    @property
    def seconds(self) -> float | None:
        """How long the training took; `None` where it was not kept."""
        kept = [epoch.seconds for epoch in self.epochs if epoch.seconds is not None]
        return sum(kept) if kept and len(kept) == len(self.epochs) else None

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
            "import": self.origin and _origin(self.origin),
        }


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


def _origin(origin: Origin) -> dict[str, object]:
    return {
        "source": dict(origin.facts),
        "values": [
            {
                "tensor": fate.tensor,
                "joined": list(fate.joined),
                "value": fate.value or None,
                "told": list(fate.told),
            }
            for fate in origin.fates
        ],
        "notes": list(origin.notes),
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
        "seconds": _round(epoch.seconds, 3),
        "phase": epoch.phase,
    }
