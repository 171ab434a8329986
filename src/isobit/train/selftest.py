"""Is this backend exact? Every operator's surrogate against its integer definition, once per device
and process.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from isobit.core.errors import NotExact
from isobit.core.types import TensorType
from isobit.ops.base import Op, Sample
from isobit.ops.registry import load_ops

_passed: set[str] = set()


def require_exact(device: torch.device) -> None:
    """Refuse a device whose arithmetic differs from the definition on any sample. Cached per
    device.
    """
    if str(device) in _passed:
        return
    for op in load_ops().ops.values():
        if op.surrogate is Op.surrogate:
            continue
        for sample in op.samples():
            bad, total = differing(op, sample, device)
            if bad:
                raise NotExact(
                    where=f"device {device}",
                    what=f"{op.name} ({sample.label})",
                    want="0 differing values",
                    got=f"{bad} of {total}",
                    fix="Train on another device, or report this with the torch version.",
                )
    _passed.add(str(device))


def differing(op: type[Op[Any, Any]], sample: Sample[Any], device: torch.device) -> tuple[int, int]:
    """Return how many values of a sample the surrogate computes differently, and how many there
    are.
    """
    with torch.no_grad():
        result = op.surrogate(sample.attrs, sample.types, carriers(op, sample, device))
    outputs = result if isinstance(result, tuple) else (result,)
    expected = op.integer(sample.attrs, sample.types, sample.inputs)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    bad = total = 0
    for tensor, array, kind in zip(outputs, wanted, sample.types.outputs, strict=True):
        codes = tensor.cpu().double().numpy() + kind.zero
        bad += int((codes != array).sum()) if codes.shape == array.shape else array.size
        total += array.size
    return bad, total


def carriers(op: type[Op[Any, Any]], sample: Sample[Any], device: torch.device) -> Any:
    """Return a sample's inputs as a surrogate takes them: activations centred, constants as
    integers.
    """

    def convert(array: Any, kind: TensorType | None, constant: bool) -> Any:
        if array is None:
            return None
        zero = 0 if constant or kind is None else kind.zero
        return torch.as_tensor(np.asarray(array) - zero, device=device).float()

    changes: dict[str, Any] = {}
    for item in fields(sample.inputs):
        value, kind = getattr(sample.inputs, item.name), getattr(sample.types.inputs, item.name)
        constant = item.name in op.constants
        if isinstance(value, tuple):
            changes[item.name] = tuple(
                convert(v, k, constant) for v, k in zip(value, kind, strict=True)
            )
        elif item.name.startswith(("mult", "shift")) and value is not None:
            changes[item.name] = torch.as_tensor(np.asarray(value), device=device)
        else:
            changes[item.name] = convert(value, kind, constant)
    return replace(sample.inputs, **changes)
