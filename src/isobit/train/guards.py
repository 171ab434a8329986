"""What a twin refuses before it computes: values, dtypes and hooks that its integers cannot take.

Activations, weights and biases are integers in float32 tensors (docs/training.md). Half precision
holds integers to 2^11 only, so a cast network would train other numbers than the chip's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from isobit.core.arguments import shown
from isobit.core.errors import (
    BadArgument,
    BadCheckpoint,
    BadRunInput,
    Diverged,
    IsobitError,
    NoKernel,
    NotTraceable,
    raise_all,
)
from isobit.ops.schemes import Scheme, usable_range
from isobit.train.numbers import keeps_carrier
from isobit.train.places import places_of

if TYPE_CHECKING:
    from isobit.train.channels import Statistics
    from isobit.train.twin import Twin

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""Where torch keeps what `register_forward_hook` and its like were given."""


def as_reals(values: object, device: torch.device | None = None) -> Tensor | None:
    """Return a tensor or NumPy array of real numbers as float32, or None for anything else.

    A tensor keeps its gradient, and its device unless one is given; an array is copied.
    """
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biuf":
            return None
        with np.errstate(over="ignore"):  # infinities are refused where finite values are needed
            values = torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
    if not isinstance(values, Tensor) or values.layout is not torch.strided:
        return None
    if values.is_complex() or values.is_quantized:
        return None
    return values.to(torch.float32) if device is None else values.to(device, torch.float32)


def raw_values(twin: Twin, x: object) -> Tensor:
    """Check a batch of raw values [N, *input] and return it float32, channels last.

    Raises `BadRunInput` for anything but a tensor (on the twin's device) or NumPy array of at least
    one example of finite numbers.
    """
    found = as_reals(x, twin.device if isinstance(x, np.ndarray) else None)
    sizes = ", ".join(map(str, twin.input_shape))
    if found is None:
        raise _bad_input(
            twin,
            "input",
            f"a tensor or NumPy array of real numbers [N, {sizes}]",
            shown(x),
            "Pass raw values, e.g. torch.from_numpy(train.nchw()).",
        )
    if tuple(found.shape[1:]) != twin.input_shape or found.dim() == 0:
        raise _bad_input(
            twin,
            "input shape",
            f"[N, {sizes}]",
            str(list(found.shape)),
            _order_fix(twin, tuple(found.shape[1:])),
        )
    if len(found) == 0:
        raise _bad_input(
            twin, "input", "at least 1 example", "none", "Leave empty batches out of the loop."
        )
    if found.device != twin.device:
        raise _bad_input(
            twin,
            "input device",
            str(twin.device),
            str(found.device),
            "Move the values, or the model, with .to(device).",
        )
    if not _is_finite(found):
        raise _bad_input(
            twin,
            "input values",
            "finite numbers",
            f"{int((~torch.isfinite(found)).sum())} that are NaN or infinite",
            "Clean the data; nothing was learned from this batch.",
        )
    return found.permute(0, 2, 3, 1) if found.dim() == 4 and not twin.channels_last else found


def _is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite, in one pass: NaN makes both ends NaN."""
    low, high = torch.aminmax(values.detach())
    return math.isfinite(float(low)) and math.isfinite(float(high))


def _order_fix(twin: Twin, got: tuple[int, ...]) -> str:
    """Return what to do about examples of another shape."""
    if not twin.channels_last:
        return "Images are (channels, height, width)."
    if len(got) > 1 and (*got[1:], got[0]) == twin.input_shape:
        return "Move the channels last: np.moveaxis(x, 1, -1)."
    return "Leave the graph's order of axes as it is."


def _bad_input(twin: Twin, what: str, want: str, got: str, fix: str) -> BadRunInput:
    return BadRunInput(where=twin.name, what=what, want=want, got=got, fix=fix)


def require_range(twin: Twin, where: str, low: float, high: float, *, first: bool) -> None:
    """Check the moving range of a value, real units, before encodings are made from it.

    Raises `Diverged` where it is not finite and, if it is the first range of the value,
    `BadRunInput` where no step suits it. Later ranges may shrink to nothing, as those of a ReLU
    that died do.
    """
    shown_range = f"{low:g} to {high:g}"
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _no_number(twin, where, "observed range", shown_range)
    if first and not usable_range(twin.scheme, low, high):
        small = max(-low, high) < 1
        raise BadRunInput(
            where=f"{twin.name}, {where}",
            what="observed range",
            want=f"one that 8-bit codes of scheme {twin.scheme.value} can tell from 0"
            if small
            else f"one that 8-bit codes of scheme {twin.scheme.value} reach",
            got=shown_range,
            fix="Rescale the input so that its values are around 1, e.g. in other units.",
        )


def require_statistics(twin: Twin, where: str, found: Statistics) -> None:
    """Raise `Diverged` for running statistics of a batch norm that are not finite."""
    for what, values in (("mean", found.mean), ("variance", found.var)):
        if not np.isfinite(values).all():
            odd = int((~np.isfinite(values)).sum())
            got = f"{odd} of {values.size} that are NaN or infinite"
            raise _no_number(twin, where, f"running {what} of the batch norm", got)


def _no_number(twin: Twin, where: str, what: str, got: str) -> Diverged:
    return Diverged(
        where=f"{twin.name}, {where}",
        what=what,
        want="finite numbers in float32",
        got=got,
        fix="Rescale the input so that its values are around 1; in training also use a smaller "
        "learning rate.",
    )


def require_scheme(twin: Twin, written: object) -> None:
    """Refuse the state of a model of another scheme, whose ranges mean other integers."""
    if written != twin.scheme.value:
        raise BadCheckpoint(
            where=f"Model {twin.name!r}.load_state_dict",
            what="scheme",
            want=twin.scheme.value,
            got=shown(written),
            fix=f"Build the model with scheme={written!r}.",
        )


def require_wide(twin: Twin) -> None:
    """Refuse 16-bit codes of the input where something that reads them has no meaning for them.

    A batch norm in `affine` is one: its multipliers, of which the input's step is a factor, have
    too few bits left for channels of a small gamma.
    """
    (source,) = twin.traced.graph.inputs
    problems: list[IsobitError] = []
    if twin.takes_pixels:
        problems.append(
            BadArgument(
                where=f"Model {twin.name!r}",
                what="input_dtype",
                want="int8: the network standardises raw pixels, which are exact already",
                got="int16",
                fix="Leave it out.",
            )
        )
    wide = {source.name}
    for step in () if twin.takes_pixels else twin.steps:
        if not wide.intersection(step.activations):
            continue
        if keeps_carrier(step):
            wide.update(value.name for value in step.outputs)
        normed = step.norm is not None and twin.scheme is Scheme.AFFINE
        if normed or not step.op.takes_wide:
            problems.append(
                NoKernel(
                    where=f'{step.op.name} "{step.name}" ({step.location})',
                    what="input of 16 bits",
                    want="one that convolutions and linear layers read, behind nothing but moves",
                    got="a batch norm behind the layer, not folded" if normed else step.op.name,
                    fix="Calibrate the float graph, whose norms are folded: isobit.calibrate("
                    "model.float_graph(), ..)."
                    if normed
                    else 'Use an input of 8 bits, input_dtype="int8".',
                )
            )
    raise_all(problems)


def require_unhooked(twin: Twin) -> None:
    """Refuse hooks on modules of the network, which the twin's forward would never call.

    A hook that only watches could be left out, but `torch.nn.utils.prune` and the old `weight_norm`
    compute the weight in one: without it the twin would train stale weights.
    """
    if not places_of(twin).hooked:
        return
    raise_all(
        [
            NotTraceable(
                where=f'"{path}" of {twin.name}' if path else twin.name,
                what="hooks on a layer",
                want="none: the layer's own forward never runs, its integer operator does",
                got=kind.strip("_").replace("_", " "),
                fix="Remove them (prune.remove, handle.remove()), or hook the Model itself.",
            )
            for path, module in twin.net.named_modules()
            for kind in HOOKS
            if getattr(module, kind)
        ]
    )


def require_carrier(twin: Twin, path: str, value: Tensor) -> Tensor:
    """Return a parameter if it is float32, what integers travel in."""
    if value.dtype is not torch.float32:
        raise _bad_dtype(twin, f'"{path}"', value.dtype)
    return value


def _bad_dtype(twin: Twin, what: str, got: torch.dtype) -> BadArgument:
    return BadArgument(
        where=f"Model {twin.name!r}",
        what=f"dtype of {what}",
        want="torch.float32: it carries the chip's integers exactly",
        got=str(got),
        fix="Leave the dtype alone, or undo the cast with .float().",
    )


def keeping_dtypes(twin: Twin, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what `Module._apply` may do to every tensor of a twin: move it, not cast it.

    Raises `BadArgument` before anything is changed where `change` would cast float32. `.float()`
    leaves float32 as it is, and here also the ranges, which are float64.
    """
    cast = change(torch.zeros(())).dtype
    if cast is not torch.float32:
        raise _bad_dtype(twin, "parameters", cast)

    def moved(value: Tensor) -> Tensor:
        changed = change(value)
        if changed.dtype is value.dtype or value.dtype is not torch.float64:
            return changed
        return value.to(changed.device)

    return moved
