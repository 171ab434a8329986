"""`Model`: a network that is a deployable from its first line and a `torch.nn.Module` that trains
to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from isobit import targets
from isobit.api.bundle import Bundle, content_hash
from isobit.api.deployment import write_bundle
from isobit.api.explain import absorbed_values
from isobit.api.provenance import PARTS
from isobit.api.trained import changed_since, read_trained_note, trained_content, trained_note
from isobit.core.arguments import Arguments, shown
from isobit.core.errors import BadArgument, BadCheckpoint, raise_all
from isobit.core.types import AnyArray, Shape
from isobit.ir.builder import clean_name
from isobit.ir.graph import Graph
from isobit.ir.store import Stored, read_store, write_store
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.passes.base import load_passes, run_passes
from isobit.run.codes import check_inputs
from isobit.run.compilers import Kind
from isobit.run.estimate import Estimate, check_options, estimate
from isobit.run.shared import shared_library
from isobit.train import native
from isobit.train.graph_net import GraphNet
from isobit.train.history import History
from isobit.train.numbers import InputDType
from isobit.train.ranges import RangeOptions
from isobit.train.refine import Refinement
from isobit.train.twin import Twin

NET = "a module, e.g. isobit.nn.Sequential(...)"


class Model(Twin):
    """A network for one target in one number system.

    net: a module of `isobit.nn` layers. input: (C, H, W) or (features,), torch's order, without the
    batch. target: a name of `isobit targets`. scheme: "affine" or "pow2". name: prefixes every C
    symbol. input_dtype: "int8", or "int16" for inputs whose 8-bit codes lose too much
    (docs/calibrate.md); raw pixels that a `Standardize` reads are u8 always.

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
        input_dtype: str = "int8",
    ) -> None:
        given = Arguments(f"Model {name!r}" if isinstance(name, str) else "Model")
        given.instance("net", net, nn.Module, NET, fix="Pass an instance.")
        chosen = given.member("scheme", scheme, Scheme, fix="docs/numerics.md describes both.")
        sizes = tuple(input) if isinstance(input, tuple | list) else ()
        if isinstance(net, GraphNet):
            sizes = net.input_shape
        elif len(sizes) not in (1, 3) or any(type(n) is not int or n < 1 for n in sizes):
            given.refuse(
                "input",
                "(channels, height, width) or (features,), positive integers",
                shown(input),
                "Give torch's shape without the batch, e.g. input=(1, 28, 28).",
            )
        if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
            given.refuse(
                "name",
                "a C identifier",
                shown(name),
                "Use ASCII letters, digits and underscores; the first is no digit.",
            )
        given.instance("ranges", ranges, RangeOptions | None, "RangeOptions or None")
        codes = given.member("input_dtype", input_dtype, InputDType)
        chip = _target(given, target)
        given.check()
        native.offer(shared_library)
        self.target = chip
        self.provenance: Mapping[str, str] = {}
        """Notes that `save` adds: where an imported network came from."""
        self._trained: Mapping[str, Any] = {}
        self._trained_content = ""
        """Hash of the integers that `_trained` is said of."""
        self.refinement: Refinement | None = None
        """What `isobit.calibrate(..., refine=STEPS)` did to it; not saved."""
        super().__init__(
            net,
            input=sizes,
            target=target,
            scheme=chosen,
            name=name,
            ranges=ranges,
            input_dtype=codes,
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

    @classmethod
    def from_graph(
        cls,
        graph: Graph,
        *,
        target: str = "",
        scheme: str = "affine",
        name: str = "",
        ranges: RangeOptions | None = None,
        input_dtype: str = "int8",
    ) -> Self:
        """Return the model of a float graph, e.g. of `isobit.import_file`, without ranges yet.

        Its weights are parameters, so it trains like any other model. Inputs and outputs are real
        values in the graph's own order of axes: x [N, *NHWC], not NCHW. target, name: the graph's
        own by default. Batch norms are folded first.

        Raises `BadArgument` for anything but a float graph of one input, `NoKernel` naming every
        operator that cannot be calibrated, `BadWeights`, `DoesNotFit`.
        """
        given = Arguments("Model.from_graph")
        given.instance("graph", graph, Graph, "a float graph, e.g. of isobit.import_file")
        given.check()
        folded, _ = run_passes(graph, [load_passes()["fold_batch_norm"]])
        net = GraphNet(folded)
        return cls(
            net,
            input=net.input_shape,
            target=target or graph.target or "cortex-m4",
            scheme=scheme,
            name=name or clean_name(graph.name),
            ranges=ranges,
            input_dtype=input_dtype,
        )

    @classmethod
    def from_file(cls, path: str | Path, *, target: str = "") -> Self:
        """Return the model of a foreign graph that `save` wrote, e.g. by `isobit calibrate`, with
        its parameters and ranges, ready to train on.

        Raises `BadArgument` for the file of a model with a module of its own: build that again and
        call `restore`. Raises `FileMissing`, `FileDamaged`, `BadCheckpoint`.
        """
        given = Arguments("Model.from_file")
        place = given.path("path", path)
        given.check()
        stored = read_store(place, load_ops().signature)
        if "layout" not in stored.notes:
            raise BadArgument(
                where=str(path),
                what="model",
                want="one of a foreign graph, that `isobit calibrate` wrote",
                got="one without calibration" if "int" not in stored.graphs else "one of a module",
                fix="Use isobit.calibrate for a float graph; for a module, build the same Model "
                "and call restore.",
            )
        scheme, codes = stored.notes["scheme"], stored.notes.get("input_dtype", "int8")
        model = cls.from_graph(
            stored.graphs["float"], target=target, scheme=scheme, input_dtype=codes
        )
        model.restore(place)
        model.provenance = {k: stored.notes[k] for k in PARTS if k in stored.notes}
        model.eval()
        return model

    def estimate(
        self,
        *,
        compile: bool = True,  # the public name
        compiler: Kind = "zig",
        optimize: str = "speed",
        target: str | None = None,
        ram_limit: int | None = None,
        flash_limit: int | None = None,
    ) -> Estimate:
        """Return what the network needs, trained or not: bytes, instructions, modelled time.

        With `compile=False` only the plan is made (arena and constant bytes, exact, in
        milliseconds). ram_limit, flash_limit: bytes, at least 1; None for what the target has.
        Raises `BadArgument`, `UnknownName`, `ToolMissing`, `CompileFailed`.
        """
        given = Arguments(f"Model {self.name!r}.estimate")
        given.flag("compile", compile)
        chosen = check_options(given, compiler, optimize, ram_limit, flash_limit)
        chip = self.target if target is None else _target(given, target)
        given.check()
        return estimate(
            self.export(untrained=True),
            chip,
            compile=compile,
            compiler=compiler,
            optimize=chosen,
            ram_limit=ram_limit,
            flash_limit=flash_limit,
        )

    def record_training(
        self, history: History, *, accuracy: float, accuracy_on: str, notes: Sequence[str] = ()
    ) -> None:
        """Keep how it was trained, for `save`, `deploy` and the report; `isobit.fit` calls this.

        accuracy: a fraction 0..1 of what `accuracy_on` names, by the integers that are exported
        now. notes: sentences that the reader of a report must see. Raises `BadArgument`.
        """
        given = Arguments(f"Model {self.name!r}.record_training")
        given.instance("history", history, History, "a History, as isobit.fit returns")
        accuracy = given.number("accuracy", accuracy, at_least=0, at_most=1)
        given.instance("accuracy_on", accuracy_on, str, "a string")
        given.check()
        epochs = [asdict(epoch) for epoch in history.epochs]
        self._keep(trained_content(epochs, accuracy=accuracy, accuracy_on=accuracy_on, notes=notes))

    @property
    def trained(self) -> dict[str, Any]:
        """How it was last trained, as `Bundle.training`: empty where nothing was recorded, without
        an accuracy where the integers have changed since.
        """
        if not self._trained:
            return {}
        same = self._content() == self._trained_content
        return dict(self._trained) if same else changed_since(self._trained)

    def _keep(self, trained: Mapping[str, Any]) -> None:
        self._trained = trained
        self._trained_content = self._content() if trained else ""

    def _content(self) -> str:
        return content_hash(self.export(untrained=True))

    def deploy(
        self,
        out: str | Path,
        *,
        compiler: Kind = "zig",
        optimize: str = "speed",
        samples: Tensor | AnyArray | None = None,
        ram_limit: int | None = None,
        flash_limit: int | None = None,
    ) -> Bundle:
        """Write the C project, golden vectors and manifest to the folder `out`; return the bundle.

        samples: raw values [N, *input] for the golden vectors; seeded random codes where absent.
        Their trace through torch is stored too, so that verification can compare it without torch.
        ram_limit, flash_limit: bytes, at least 1; None for what the target has. Raises
        `BadArgument`, `BadRunInput`, `NoRange`, `DoesNotFit`; then nothing was written.
        """
        given = Arguments(f"Model {self.name!r}.deploy")
        folder = given.path("out", out)
        chosen = check_options(given, compiler, optimize, ram_limit, flash_limit)
        given.check()
        graph = self.export()
        codes = None
        if samples is not None:
            values = samples.to(self.device) if isinstance(samples, Tensor) else samples
            codes = self.quantize_input(values)
        return write_bundle(
            graph,
            self.target,
            folder,
            compiler=compiler,
            optimize=chosen,
            inputs=codes,
            torch_trace=self.trace_codes,
            ram_limit=ram_limit,
            flash_limit=flash_limit,
            absorbed=absorbed_values(self.traced.graph),
            training=self.trained,
        )

    def trace_codes(self, codes: AnyArray) -> dict[str, AnyArray]:
        """Return every value for input codes [N, *NHWC], computed by torch.

        Raises `BadRunInput` for codes that the chip's input buffer cannot take.
        """
        (source,) = self.traced.graph.inputs
        kind = self.numbers.types[source.name]
        array = check_inputs(self.export(untrained=True), codes)[source.name]
        centred = torch.as_tensor(array.astype(np.int64) - kind.zero, device=self.device).float()
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
        """Write a `.isobit` file: the integer graph, the float graph, parameters and ranges, and
        how it was trained.

        Raises `BadArgument` for anything but a path, `FileUnwritable`.
        """
        given = Arguments(f"Model {self.name!r}.save")
        place = given.path("path", path)
        given.check()
        extra = {
            f"state/{key}": value.detach().cpu().numpy() for key, value in self.state_dict().items()
        }
        graphs = {"int": self.export(untrained=True), "float": self.float_graph()}
        notes = {
            "scheme": self.scheme.value,
            "input": ",".join(map(str, self.input_shape)),
            "trained": str(not self.missing_ranges()).lower(),
            **self.provenance,
            **trained_note(self.trained),
        }
        if self.channels_last:
            notes["layout"] = "nhwc"
        if self.input_dtype is not InputDType.INT8:
            notes["input_dtype"] = self.input_dtype.value
        write_store(place, Stored(graphs, extra, notes))

    def restore(self, path: str | Path) -> None:
        """Load what `save` wrote for the same network: parameters, ranges, how it was trained.

        Raises `FileDamaged`, `BadCheckpoint` for another network's file; then nothing was changed.
        """
        given = Arguments(f"Model {self.name!r}.restore")
        place = given.path("path", path)
        given.check()
        stored = read_store(place, load_ops().signature)
        state = {
            key.removeprefix("state/"): torch.from_numpy(value.copy())
            for key, value in stored.extra.items()
            if key.startswith("state/")
        }
        trained = read_trained_note(stored.notes, place)
        own = self.state_dict()
        other = sorted(
            {key for key in own.keys() | state.keys() if _shape(own, key) != _shape(state, key)}
        )
        for what, mine, none in (
            ("scheme", self.scheme.value, self.scheme.value),
            ("input_dtype", self.input_dtype.value, "int8"),
        ):
            written = stored.notes.get(what, none)
            if written != mine:
                raise BadCheckpoint(
                    where=str(path),
                    what=what,
                    want=mine,
                    got=written,
                    fix=f"Build the model with {what}={written!r}.",
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
        self._keep(trained)


def _target(given: Arguments, name: object) -> targets.Target:
    """Return the target called `name`; the host, and a problem of `given`, where there is none."""
    known = given.text("target", name, fix="`isobit targets` lists the names.")
    if known:
        with given.collect():
            return targets.load(known)
    return targets.load("host")


def _shape(state: Mapping[str, Tensor], key: str) -> str:
    # A .isobit file has no scalars: they come back as one element.
    return str(list(state[key].shape) or [1]) if key in state else ""
