"""`Model`: a network that is a deployable from its first line and a `torch.nn.Module` that trains to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isobit import targets
from isobit.api.bundle import Bundle, write_bundle
from isobit.core.errors import BadArgument, raise_all
from isobit.core.types import AnyArray, Shape
from isobit.ir.graph import Graph
from isobit.ir.store import Stored, write_store
from isobit.ops.base import load_ops
from isobit.ops.schemes import Scheme
from isobit.plan.plan import Optimize
from isobit.run.compilers import Kind
from isobit.run.estimate import Estimate, estimate
from isobit.train.ranges import RangeOptions
from isobit.train.twin import Twin


class Model(Twin):
    """A network for one target in one number system.

    net: a module of `isobit.nn` layers. input: (C, H, W) or (features,), torch's order, without the batch. target:
    a name of `isobit targets`. scheme: "affine" or "pow2". name: prefixes every C symbol.

    `model(x)` takes raw values [N, *input] (pixels 0..255) and returns de-quantised float outputs; gradients are
    straight-through. What the target cannot run or hold is refused here, with every reason.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        input: Shape,  # noqa: A002  # the public name
        target: str = "cortex-m4",
        scheme: str = "affine",
        name: str = "model",
        ranges: RangeOptions | None = None,
    ) -> None:
        if scheme not in {s.value for s in Scheme}:
            raise BadArgument(
                where=f"Model {name!r}",
                what="scheme",
                want=" or ".join(s.value for s in Scheme),
                got=repr(scheme),
                fix="docs/numerics.md describes both.",
            )
        if not name.isidentifier():
            raise BadArgument(
                where=f"Model {name!r}",
                what="name",
                want="a C identifier",
                got=repr(name),
                fix="Use letters, digits and underscores.",
            )
        self.target = targets.load(target)
        super().__init__(
            net, input=input, target=target, scheme=Scheme(scheme), name=name, ranges=ranges
        )
        raise_all(self.estimate(compile=False).problems())

    def estimate(
        self,
        *,
        compile: bool = True,  # noqa: A002  # the public name
        compiler: Kind = "zig",
        optimize: str = "speed",
        target: str | None = None,
        ram_limit: int = 0,
        flash_limit: int = 0,
    ) -> Estimate:
        """Return what the network needs, trained or not: bytes, instructions, modelled time.

        With `compile=False` only the plan is made (arena and constant bytes, exact, in milliseconds).
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

        samples: raw values [N, *input] for the golden vectors; seeded random codes where absent. Their trace
        through torch is stored too, so that verification can compare it without torch.
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
        )

    def trace_codes(self, codes: AnyArray) -> dict[str, AnyArray]:
        """Return every value for input codes [N, *NHWC], computed by torch."""
        (source,) = self.traced.graph.inputs
        kind = self.numbers.types[source.name]
        centred = torch.as_tensor(codes.astype(np.int64) - kind.zero).float()
        with torch.no_grad():
            values = self._run_carriers(source.name, centred)
        return self._codes(values)

    def save(self, path: str | Path) -> None:
        """Write a `.isobit` file: the integer graph, the float graph, parameters and ranges."""
        extra = {
            f"state/{key}": value.detach().cpu().numpy() for key, value in self.state_dict().items()
        }
        graphs: dict[str, Graph] = {"int": self.export(untrained=True), "float": self.traced.graph}
        notes = {
            "scheme": self.scheme.value,
            "input": ",".join(map(str, self.input_shape)),
            "trained": str(not self.missing_ranges()).lower(),
        }
        write_store(Path(path), Stored(graphs, extra, notes))

    def restore(self, path: str | Path) -> None:
        """Load parameters and ranges that `save` wrote for the same network."""
        from isobit.ir.store import read_store

        stored = read_store(Path(path), load_ops().signature)
        state: dict[str, Any] = {
            key.removeprefix("state/"): torch.from_numpy(value.copy())
            for key, value in stored.extra.items()
            if key.startswith("state/")
        }
        self.load_state_dict(state)
