"""What a training does, apart from its model and examples, and what of it decides the bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from isobit.train import checkpoint
from isobit.train.recipe.types import Augment, Distill, Optimizer, Run, Schedule

ELSEWHERE = ("checkpoint_every", "accelerator", "devices", "tensorboard", "int8_forward")
"""Options of a run that do not decide its bits."""
NO_CHANGE = Augment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training beside its model and examples: parts of a recipe."""

    run: Run
    optimizer: Optimizer
    schedule: Schedule
    augment: Augment = NO_CHANGE
    distill: Distill | None = None
    teacher: nn.Module | None = None
    """Returns logits [N, classes] of what the model takes; with `distill`."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """What else decides the bits, as values that JSON holds: where data and network are from."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the bits, as plain values by name."""
        found: dict[str, Any] = {}
        parts = {
            "": asdict(self.run),
            "optimizer.": asdict(self.optimizer),
            "schedule.": asdict(self.schedule),
            "augment.": asdict(self.augment),
            "distill.": {} if self.distill is None else asdict(self.distill),
        }
        for prefix, part in parts.items():
            for name, value in part.items():
                if prefix or name not in ELSEWHERE:
                    found[prefix + name] = _plain(value)
        if self.teacher is not None:
            found["distill.teacher"] = checkpoint.digest(self.teacher.state_dict())
        return {**found, **self.source}


def seeded(*parts: object) -> int:
    """Return a seed that follows from all parts: 63 bits of their SHA-256."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def _plain(value: object) -> object:
    """Return an option as a checkpoint holds it."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
