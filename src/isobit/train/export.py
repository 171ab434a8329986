"""From a twin to an integer graph: the constants are the very tensors that the forward pass
used.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isobit.core.dtypes import DType
from isobit.core.errors import BadWeights, NoRange, raise_all
from isobit.core.types import Affine, Raw, TensorType, scale_of
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.train import normalised
from isobit.train.numbers import Numbers
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


def export_graph(twin: Twin, *, untrained: bool) -> Graph:
    """Return the integer graph; see `Twin.export`."""
    if not untrained:
        _require_ranges(twin)
    _require_finite(twin)
    numbers = twin.numbers
    exporter = _Exporter(twin, numbers)
    nodes = tuple(exporter.node(step) for step in twin.steps)
    exporter.stored()
    (source,) = twin.traced.graph.inputs
    return Graph(
        name=twin.name,
        stage=Stage.INT,
        target=twin.target_name,
        inputs=(Value(source.name, numbers.types[source.name]),),
        consts=tuple(exporter.consts.values()),
        nodes=nodes,
        outputs=tuple(name for own in twin.outputs for name in _with_exponent(twin, own)),
    )


def _with_exponent(twin: Twin, name: str) -> tuple[str, ...]:
    """Return an output and, where its step is dynamic, the value that tells the step."""
    return (name, twin.exponents[name]) if name in twin.exponents else (name,)


class _Missing(dict[str, Any]):
    """Stands for activations while only constants are wanted."""

    def __missing__(self, key: str) -> None:
        return None


@dataclass
class _Exporter:
    twin: Twin
    numbers: Numbers
    consts: dict[str, Const] = field(default_factory=dict)

    def node(self, step: Step) -> Node:
        operands = self.twin.operands(step, self.numbers, _Missing())
        names: dict[str, Any] = {}
        for item in fields(step.inputs):
            name = getattr(step.inputs, item.name)
            if item.name in step.op.constants:
                names[item.name] = self._constant(
                    step, item.name, name, getattr(operands, item.name)
                )
            else:
                names[item.name] = name
        outputs = tuple(Value(v.name, self.numbers.types[v.name]) for v in step.outputs)
        inputs = type(step.inputs)(**names)
        return Node(step.op.name, inputs, self.numbers.attrs[step.name], outputs, step.location)

    def stored(self) -> None:
        """Add the constants that stand in an activation's place."""
        for name, carriers in self.twin.stored_carriers(self.numbers, 1).items():
            kind = self.numbers.types[name]
            codes = (carriers + kind.zero).cpu().numpy().astype(kind.dtype.numpy)
            self.consts[name] = Const(name, kind, codes, self.twin.traced.bindings[name].path)

    def _constant(self, step: Step, item: str, name: str | None, tensor: Any) -> str | None:
        if tensor is None or item in step.op.float_constants:
            return None
        own = f"{step.name}.{item}"
        kind = self._type(step, item, name or own)
        binding = self.twin.traced.bindings.get(name or "")
        array = tensor.detach().cpu().numpy().astype(kind.dtype.numpy)
        self.consts[own] = Const(
            own, kind.with_shape(array.shape), array, binding.path if binding else ""
        )
        return own

    def _type(self, step: Step, item: str, name: str) -> TensorType:
        kind = self.numbers.types.get(name) or TensorType((), DType.S32, Raw())
        if step.norm is None or item not in ("w", "b") or not isinstance(kind.encoding, Affine):
            return kind
        # Under a batch norm the multiplier holds gamma / sigma, so the folded weight is Sy * M / Sx
        # per code.
        folded = normalised.folded(self.twin, step, self.numbers)
        q = self.numbers.around(step)
        scale = folded.mult * np.exp2(-folded.shift) * float(scale_of(q.output.encoding)[0])
        if item == "w":
            scale = scale / float(scale_of(q.inputs.x.encoding)[0])
        encoding = replace(kind.encoding, scale=tuple(float(s) for s in scale))
        if item == "b":
            encoding = replace(encoding, axis=0 if scale.size > 1 else None)
        return replace(kind, encoding=encoding)


def _require_ranges(twin: Twin) -> None:
    missing = twin.missing_ranges()
    if missing:
        raise NoRange(
            where=twin.name,
            what="ranges",
            want="every activation observed at least once",
            got=f"{len(missing)} never seen: {', '.join(missing[:5])}",
            fix="Train it, or call model.calibrate(images); model.estimate() needs neither.",
        )


def _require_finite(twin: Twin) -> None:
    raise_all(
        [
            BadWeights(
                where=f'"{path}"',
                what="values",
                want="finite numbers",
                got=f"{int((~torch.isfinite(p)).sum())} of {p.numel()} are NaN or infinite",
                fix="Load a checkpoint from before training diverged.",
            )
            for path, p in twin.net.state_dict().items()
            if p.is_floating_point() and not bool(torch.isfinite(p).all())
        ]
    )
