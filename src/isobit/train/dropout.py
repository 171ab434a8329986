"""Dropout in training: the user's module acts on the real values, and the result is codes again.

On the chip and in evaluation dropout is the identity, so it is no node of any graph. In training
the twin lets the module act on a value's real numbers `S * (q - Z)` and rounds the result back to
the value's own codes,

    q' = clamp(floor(dropout(S * (q - Z)) / S + 1/2) + Z)

with the gradient of `dropout`. A dropped number is the code Z exactly; one that the factor
1 / (1 - p) takes out of the range stops at its end. Ranges are observed without dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from isobit.core import fixed_torch as ft
from isobit.core.errors import IsobitError, NotTraceable, raise_all
from isobit.core.types import scale_of
from isobit.ir.graph import Node, operands
from isobit.ops.clamp.op import ClampAttrs
from isobit.ops.registry import load_ops
from isobit.train.modules import location_of
from isobit.train.ste import quantize_real

if TYPE_CHECKING:
    from isobit.train.twin import Twin


def dropouts_of(
    net: nn.Module,
    readers: Mapping[str, set[tuple[str, ...]]],
    nodes: Sequence[Node],
    used: set[str],
) -> dict[str, tuple[str, ...]]:
    """Return the paths of the dropout modules that act on each value of a graph.

    readers: for every value, through which modules each reader sees it. Refuses a value that some
    readers see without them, and a place from which dropout cannot move behind what the chip fuses
    into one node: training would compute something else than the user wrote.
    """
    found: dict[str, tuple[str, ...]] = {}
    errors: list[IsobitError] = []
    for name, ways in readers.items():
        paths = max(ways, key=len)
        if not paths or name not in used:
            continue
        module = net.get_submodule(paths[-1])
        where = f'"{paths[-1]}" ({location_of(module)})'.removesuffix(" ()")
        if len(ways) > 1:
            errors.append(
                NotTraceable(
                    where=where,
                    what="place of the dropout",
                    want="a value that everything reads through the dropout",
                    got=f"{name}, which is also read without it",
                    fix="Move the dropout to a place before or after the branch.",
                )
            )
        errors.extend(_fused(where, name, module, nodes))
        found[name] = paths
    raise_all(errors)
    return found


def _fused(
    where: str, name: str, module: nn.Module, nodes: Sequence[Node]
) -> Iterator[IsobitError]:
    """Refuse what is absorbed into the node before the dropout although it follows it.

    A clamp around 0 may be exchanged with masks and factors above 1, where the result is clamped to
    the same range again; nothing else may.
    """
    for node in nodes:
        if name not in operands(node.inputs):
            continue
        if load_ops().op(node.op).selects:
            yield from _fused(where, node.output.name, module, nodes)
        around_0 = isinstance(node.attrs, ClampAttrs) and node.attrs.low <= 0 <= node.attrs.high
        masks = not isinstance(module, nn.AlphaDropout)
        if node.op == "batch_norm" or (node.op == "clamp" and not (around_0 and masks)):
            yield NotTraceable(
                where=where,
                what="place of the dropout",
                want="after batch norm and activation",
                got=f"before {node.op} {node.output.name}",
                fix="The chip computes those with the layer before them; move the dropout behind.",
            )


def apply_dropout(twin: Twin, values: dict[str, Tensor], name: str) -> None:
    """Replace the carriers of value `name` by dropped ones, where the network has dropout there."""
    for source, paths in twin.traced.dropouts.items():
        if twin.carried.get(source, source) == name:
            for path in paths:
                values[name] = _dropped(twin, values[name], name, path)


def _dropped(twin: Twin, carriers: Tensor, name: str, path: str) -> Tensor:
    module = twin.net.get_submodule(path)
    if not module.training:  # the user keeps it in eval mode: exactly the identity
        return carriers
    kind = twin.numbers.types[name]
    scale = float(scale_of(kind.encoding)[0])
    real = carriers * scale
    image = real.dim() == 4
    dropped: Tensor = module(real.permute(0, 3, 1, 2) if image else real)
    if image:
        dropped = dropped.permute(0, 2, 3, 1)
    codes = (quantize_real(dropped.detach(), kind) - kind.zero).to(carriers.dtype)
    return ft.straight_through(codes, dropped / scale)
