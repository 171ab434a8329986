"""Values that a concatenation joins share one encoding: tied ranges where possible, else
`requantize` steps.

Codes of two encodings cannot stand side by side. A producer whose range is free simply takes the
range of all: no extra node, no extra rounding. What cannot move (a sigmoid's fixed encoding,
standardised pixels, the network input) is requantised to the shared encoding. Ties are transitive,
so a densely connected block has one range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isobit.core.types import TensorType
from isobit.ir.graph import Inputs, Value, map_inputs
from isobit.ops.base import EncodingRule, Op
from isobit.ops.registry import Registry
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs
from isobit.train.steps import Step

Ties = Mapping[str, tuple[Step, ...]]
"""For every step with a shared encoding, by name: all steps that share it, itself included."""


def tie(steps: Sequence[Step], source: Value, registry: Registry) -> tuple[tuple[Step, ...], Ties]:
    """Return the steps with the `requantize` steps that are needed, and which of them share an
    encoding.

    `source` is the network input. Step `c`, a concatenation, gets its k-th input from a new step
    `c_in<k>`.
    """
    tying = _Tying(source, registry)
    tying.names.update(value.name for step in steps for value in step.outputs)
    for step in steps:
        tying.add(step)
    return tuple(tying.steps), tying.groups()


class _Tying:
    """Steps so far; `leaders` is a union-find forest over the names of steps with a free range."""

    def __init__(self, source: Value, registry: Registry) -> None:
        self.registry = registry
        self.names = {source.name}
        self.types: dict[str, TensorType] = {source.name: source.type}
        self.steps: list[Step] = []
        self.producers: dict[str, Step] = {}
        self.leaders: dict[str, str] = {}

    def add(self, step: Step) -> None:
        if step.op.same_encoding and len({self._root(name) for name in step.activations}) > 1:
            step = self._share(step)
        self._append(step)

    def groups(self) -> Ties:
        by_name = {step.name: step for step in self.steps}
        members: dict[str, list[Step]] = {}
        for name in self.leaders:
            members.setdefault(self._leader(name), []).append(by_name[name])
        return {step.name: tuple(group) for group in members.values() for step in group}

    def _append(self, step: Step) -> None:
        self.steps.append(step)
        self.producers.update((value.name, step) for value in step.outputs)
        self.types.update((value.name, value.type) for value in step.outputs)

    def _root(self, name: str) -> str:
        """Return the value that decides the encoding of `name`: a step's, or the network input."""
        step = self.producers.get(name)
        if step is None:
            return name
        if step.op.rule(step.attrs) is not EncodingRule.SAME:
            return step.name  # outputs of one operator have one range
        return self._root(step.activations[0])

    def _share(self, step: Step) -> Step:
        """Tie the producers of a step's inputs, requantising those that have no free range."""
        renamed: dict[str, str] = {}
        roots: list[str] = []
        for position, name in enumerate(dict.fromkeys(step.activations)):
            root = self._root(name)
            if not _has_free_range(self.producers.get(root)):
                root = renamed[name] = self._requantize(step, position, name)
            roots.append(root)
            self.leaders.setdefault(root, root)
            self.leaders[self._leader(root)] = self._leader(roots[0])
        inputs: Inputs[str] = map_inputs(step.inputs, lambda name: renamed.get(name, name))
        return replace(step, inputs=inputs)

    def _requantize(self, step: Step, position: int, name: str) -> str:
        own = f"{step.name}_in{position}"
        while own in self.names:
            own += "_"
        self.names.add(own)
        self._append(
            Step(
                op=self.registry.op("requantize"),
                inputs=RequantizeInputs(name),
                attrs=RequantizeAttrs(),
                outputs=(Value(own, self.types[name]),),
                location=step.location,
            )
        )
        return own

    def _leader(self, name: str) -> str:
        while self.leaders[name] != name:
            name = self.leaders[name]
        return name


def _has_free_range(step: Step | None) -> bool:
    """Whether a step's encoding follows from a range alone: standardised pixels have steps of their
    own kind.
    """
    if step is None or step.op.rule(step.attrs) is not EncodingRule.FREE:
        return False
    own: Any = step.op.choose_encoding
    plain: Any = Op.choose_encoding
    return bool(own.__func__ is plain.__func__)
