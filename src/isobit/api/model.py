"""`Model`: a network that is a deployable from its first line and a `torch.nn.Module` that trains
to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from isobit import targets
from isobit.api.bundle import Bundle, write_bundle
from isobit.api.explain import absorbed_values
from isobit.core.errors import BadArgument, BadCheckpoint, raise_all
from isobit.core.types import AnyArray, Shape
from isobit.ir.graph import Graph
from isobit.ir.store import Stored, read_store, write_store
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.plan.plan import Optimize
from isobit.run.compilers import Kind
from isobit.run.estimate import Estimate, estimate
from isobit.train.ranges import RangeOptions
from isobit.train.twin import Twin


class Model(Twin):
    """A network for one target in one number system.

    net: a module of `isobit.nn` layers. input: (C, H, W) or (features,), torch's order, without the
    batch. target: a name of `isobit targets`. scheme: "affine" or "pow2". name: prefixes every C
    symbol.

    `model(x)` takes raw values [N, *input] (pixels 0..255) and returns de-quantised float outputs;
    gradients are straight-through. What the target cannot run or hold is refused here, with every
    reason.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        input: Shape,  # the public name
        target: str = "cortex-m4",
        scheme: str = "affine",
        name: str = "model",
        ranges: RangeOptions | None = None,
    ) -> None:
        if not isinstance(scheme, str) or scheme not in {s.value for s in Scheme}:
            raise BadArgument(
                where=f"Model {name!r}",
                what="scheme",
                want=" or ".join(s.value for s in Scheme),
                got=repr(scheme),
                fix="docs/numerics.md describes both.",
            )
        if not isinstance(net, nn.Module):
            raise BadArgument(
                where=f"Model {name!r}",
                what="net",
                want="a module, e.g. isobit.nn.Sequential(...)",
                got=type(net).__name__,
                fix="Pass an instance.",
            )
        sizes = tuple(input) if isinstance(input, tuple | list) else ()
        if len(sizes) not in (1, 3) or any(type(n) is not int or n < 1 for n in sizes):
            raise BadArgument(
                where=f"Model {name!r}",
                what="input",
                want="(channels, height, width) or (features,), positive integers",
                got=repr(input),
                fix="Give torch's shape without the batch, e.g. input=(1, 28, 28).",
            )
        if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
            raise BadArgument(
                where=f"Model {name!r}",
                what="name",
                want="a C identifier",
                got=repr(name),
                fix="Use ASCII letters, digits and underscores; the first is no digit.",
            )
        self.target = targets.load(target)
        super().__init__(
            net, input=sizes, target=target, scheme=Scheme(scheme), name=name, ranges=ranges
        )
        if not self.steps:
            raise BadArgument(
                where=f"Model {name!r}",
                what="network",
                want="at least one layer",
                got="none that computes anything",
                fix="Add layers, or check that forward calls them.",
            )
        raise_all(self.estimate(compile=False).problems())

    def estimate(
        self,
        *,
        compile: bool = True,  # the public name
        compiler: Kind = "zig",
        optimize: str = "speed",
        target: str | None = None,
        ram_limit: int = 0,
        flash_limit: int = 0,
    ) -> Estimate:
        """Return what the network needs, trained or not: bytes, instructions, modelled time.

        With `compile=False` only the plan is made (arena and constant bytes, exact, in
        milliseconds).
        """
        return estimate(
            self.export(untrained=True),
            targets.load(target) if target else self.target,
            compile=compile,
            compiler=compiler,
            optimize=Optimize(optimize),
            ram_limit=ram_limit,
            flash_limit=flash_limit,
        )

    def deploy(
        self,
        out: str | Path,
        *,
        compiler: Kind = "zig",
        optimize: str = "speed",
        samples: Tensor | AnyArray | None = None,
        ram_limit: int = 0,
        flash_limit: int = 0,
    ) -> Bundle:
        """Write the C project, golden vectors and manifest to the folder `out`; return the bundle.

        samples: raw values [N, *input] for the golden vectors; seeded random codes where absent.
        Their trace through torch is stored too, so that verification can compare it without torch.
        """
        graph = self.export()
        codes = None
        if samples is not None:
            codes = self.quantize_input(torch.as_tensor(np.asarray(samples)))
        return write_bundle(
            graph,
            self.target,
            Path(out),
            compiler=compiler,
            optimize=Optimize(optimize),
            inputs=codes,
            torch_trace=self.trace_codes,
            ram_limit=ram_limit,
            flash_limit=flash_limit,
            absorbed=absorbed_values(self.traced.graph),
        )

    def trace_codes(self, codes: AnyArray) -> dict[str, AnyArray]:
        """Return every value for input codes [N, *NHWC], computed by torch."""
        (source,) = self.traced.graph.inputs
        kind = self.numbers.types[source.name]
        centred = torch.as_tensor(codes.astype(np.int64) - kind.zero).float()
        with torch.no_grad():
            values = self._run_carriers(source.name, centred)
        return self._codes(values)

    def float_graph(self) -> Graph:
        """Return the network before quantisation with the current parameters, as float64
        constants.
        """
        graph = self.traced.graph
        consts = tuple(
            replace(const, data=self.parameter(const.name).detach().cpu().double().numpy())
            if const.name in self.traced.bindings
            else const
            for const in graph.consts
        )
        return replace(graph, consts=consts)

    def save(self, path: str | Path) -> None:
        """Write a `.isobit` file: the integer graph, the float graph, parameters and ranges."""
        extra = {
            f"state/{key}": value.detach().cpu().numpy() for key, value in self.state_dict().items()
        }
        graphs = {"int": self.export(untrained=True), "float": self.float_graph()}
        notes = {
            "scheme": self.scheme.value,
            "input": ",".join(map(str, self.input_shape)),
            "trained": str(not self.missing_ranges()).lower(),
        }
        write_store(Path(path), Stored(graphs, extra, notes))

    def restore(self, path: str | Path) -> None:
        """Load parameters and ranges that `save` wrote for the same network.

        Raises `BadCheckpoint` for another network's file; then nothing was changed.
        """
        stored = read_store(Path(path), load_ops().signature)
        state = {
            key.removeprefix("state/"): torch.from_numpy(value.copy())
            for key, value in stored.extra.items()
            if key.startswith("state/")
        }
        own = self.state_dict()
        other = sorted(
            {key for key in own.keys() | state.keys() if _shape(own, key) != _shape(state, key)}
        )
        written = stored.notes.get("scheme", self.scheme.value)
        if written != self.scheme.value:
            raise BadCheckpoint(
                where=str(path),
                what="scheme",
                want=self.scheme.value,
                got=written,
                fix=f"Build the model with scheme={written!r}.",
            )
        if other:
            key = other[0]
            raise BadCheckpoint(
                where=str(path),
                what=f"{len(other)} entries of the state, the first is {key}",
                want=_shape(own, key) or "nothing of this name",
                got=_shape(state, key) or "nothing",
                fix="Build the model with the same layers and scheme as the one that was saved.",
            )
        self.load_state_dict(state)


def _shape(state: Mapping[str, Tensor], key: str) -> str:
    # A .isobit file has no scalars: they come back as one element.
    return str(list(state[key].shape) or [1]) if key in state else ""
