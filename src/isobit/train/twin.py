"""The trainable twin: a `torch.nn.Module` whose forward pass computes the chip's integers.

`Twin` owns the user's float network (parameters, `state_dict`), the frozen ranges and the steps.
`forward` quantises weights with the frozen encodings and runs every step's exact surrogate;
`export` writes the same integers into a graph. Both read one `Numbers` object per set of ranges, so
there is nothing to keep in step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from isobit.core.arguments import Arguments
from isobit.core.torch_sums import Between
from isobit.core.types import AnyArray, FloatArray, Shape, TensorType
from isobit.ir.graph import Graph, Inputs
from isobit.ops.dynamic import exponents
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import calibration, channels, norm_training, normalised, weights
from isobit.train.builder import Traced, place_of
from isobit.train.calibration import WeightRange, key_of
from isobit.train.dropout import apply_dropout
from isobit.train.export import export_graph
from isobit.train.forward import PLAIN, How, Mode, run_step
from isobit.train.graph_net import GraphNet
from isobit.train.guards import (
    keeping_dtypes,
    raw_values,
    require_carrier,
    require_scheme,
    require_unhooked,
    require_wide,
)
from isobit.train.numbers import InputDType, Numbers, decide_all
from isobit.train.places import Places
from isobit.train.ranges import RangeObserver, RangeOptions
from isobit.train.selftest import require_exact
from isobit.train.ste import centred_real, quantize_real
from isobit.train.steps import Step, group, last_read, pools_of
from isobit.train.ties import tie
from isobit.train.trace import trace

SCHEME = "isobit_scheme"
"""The scheme of a twin in its state_dict's metadata, which torch keeps beside the tensors."""


NO_WEIGHTS: Mapping[str, Tensor] = {}


class Twin(nn.Module):
    """Float network in, integers inside, de-quantised float outputs out.

    net: any module of `isobit.nn` layers and supported functions, on logical NCHW input of `input`
    = (C, H, W) or (features,). `forward(x)` takes raw values [N, *input] and returns de-quantised
    outputs. In training mode ranges are observed and updated every `ranges.update_every` steps and
    batch norms use the batch's statistics (`affine`) or move their running ones (`pow2`); in eval
    mode, and after `freeze()`, nothing changes and the forward is exactly the export's.

    A `GraphNet` instead of a module keeps the layout of its graph: inputs and outputs are NHWC.
    """

    steps_seen: Tensor
    is_frozen: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        input: Shape,  # the public name
        target: str,
        scheme: Scheme,
        name: str,
        ranges: RangeOptions | None = None,
        input_dtype: InputDType = InputDType.INT8,
    ) -> None:
        super().__init__()
        self.net = net
        self.input_shape = tuple(input)
        self.target_name = target
        self.scheme = scheme
        self.name = name
        self.options = ranges or RangeOptions()
        self.input_dtype = input_dtype
        self.channels_last = isinstance(net, GraphNet)
        """Whether inputs and outputs are in the graph's order of axes, not in torch's."""
        self.traced: Traced = (
            net.traced(name, target)
            if isinstance(net, GraphNet)
            else trace(net, self.input_shape, name, target)
        )
        self.places: Places | None = None
        require_unhooked(self)
        (source,) = self.traced.graph.inputs
        steps, self.carried = group(self.traced.graph, load_ops())
        self.steps, self.ties = tie(steps, source, load_ops())
        self.last_read = last_read(self.steps)
        self.weighted = [step for step in self.steps if issubclass(step.op, WeightedOp)]
        self.exponents = exponents(self.traced.graph, load_ops())
        consts = self.traced.graph.const_map()
        read = dict.fromkeys(name for step in self.steps for name in step.activations)
        self.pooled = pools_of(self.steps, self.outputs, self.traced.dropouts)
        self.filled = calibration.filled(self.steps)
        """Numbers that a value must have codes for, by its name."""
        self.stored = tuple(name for name in read if name in consts)
        """Constants that stand in an activation's place; only imported networks have such."""
        readers = [step for step in self.steps if source.name in step.activations]
        self.takes_pixels = bool(readers) and all(s.op.takes_pixels for s in readers)
        if input_dtype is InputDType.INT16:
            require_wide(self)
        self.register_buffer("is_frozen", torch.zeros((), dtype=torch.bool))
        self.observers = nn.ModuleDict()
        self.weight_ranges = nn.ModuleDict()
        calibration.place(self)
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        self.batch_statistics: dict[str, channels.Statistics] = {}
        """Statistics that the last training forward normalised with, by step name (`affine` batch
        norms).
        """
        self._numbers: Numbers | None = None
        self.register_load_state_dict_post_hook(_forget_numbers)  # type: ignore[no-untyped-call]  # torch's

    def parameter(self, const: str) -> Tensor:
        """Return a float constant's current value, differentiably where it is bound to a
        parameter.
        """
        binding = self.traced.bindings.get(const)
        if binding is None:
            data = self.traced.graph.const_map()[const].data
            return torch.tensor(data, dtype=torch.float32, device=self.device)
        value: Tensor = getattr(*place_of(self.net, binding.path))
        return binding.apply(require_carrier(self, binding.path, value))

    @property
    def device(self) -> torch.device:
        """The device of the parameters; of the twin's own state for a network without any."""
        return next((p.device for p in self.net.parameters()), self.is_frozen.device)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output values."""
        return tuple(self.carried.get(name, name) for name in self.traced.graph.outputs)

    def observer(self, name: str) -> RangeObserver | None:
        """Return the observer of a value, if its range is free."""
        key = key_of(name)
        found = self.observers[key] if key in self.observers else None  # noqa: SIM401  # no get
        assert found is None or isinstance(found, RangeObserver)
        return found

    def has_range(self, name: str) -> bool:
        """Whether the range of a value was ever set."""
        observer = self.observer(name)
        return observer is not None and bool(observer.frozen)

    def frozen_range(self, name: str) -> tuple[float, float]:
        """Return the range in force of a value, real units."""
        observer = self.observer(name)
        assert observer is not None
        return float(observer.frozen_low), float(observer.frozen_high)

    def frozen_largest(self, step: Step) -> FloatArray:
        """Return the largest weight magnitude per output channel, as it will be quantised."""
        holder = self.weight_ranges[key_of(step.name)]
        assert isinstance(holder, WeightRange)
        largest: FloatArray = holder.largest.cpu().numpy()
        return largest

    def missing_ranges(self) -> list[str]:
        """Names of activations whose range was never set."""
        return [key for key, o in self.observers.items() if not bool(o.frozen)]

    def update_ranges(self) -> None:
        """Freeze the ranges observed so far: from now on, until the next call, encodings are
        constant.
        """
        calibration.freeze_ranges(self)
        self.forget_numbers()

    def forget_numbers(self) -> None:
        """Decide encodings again when they are next asked for: ranges or statistics were set."""
        self._numbers = None

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or allow again) every update in training mode: ranges, batch-norm statistics, input
        statistics.
        """
        given = Arguments(f"Model {self.name!r}.freeze")
        given.flag("frozen", frozen)
        given.check()
        if frozen and not self.frozen:
            self.update_ranges()
        self.is_frozen.fill_(frozen)

    @property
    def frozen(self) -> bool:
        """Whether training mode updates nothing; part of the state."""
        return bool(self.is_frozen)

    def calibrate(self, x: Tensor | AnyArray) -> None:
        """Set every range from one batch of raw values [N, *input], layer by layer, and freeze
        them.

        Batch norms that never saw data take their statistics from this batch. Raises `BadRunInput`
        for values it cannot take, also where they are so small that no code could tell them apart,
        and `Diverged` where a range or a statistic leaves float32; then nothing was changed.
        """
        require_unhooked(self)
        calibration.calibrate(self, x)

    @property
    def numbers(self) -> Numbers:
        """Encodings and derived constants of the frozen ranges."""
        if self._numbers is None:
            self._numbers = decide_all(self, self.steps)
        return self._numbers

    def forward(self, x: Tensor | AnyArray) -> Tensor | tuple[Tensor, ...]:
        """Return de-quantised outputs [N, ...] for raw values [N, *input], computed in the chip's
        integers.

        Raises `BadRunInput` for values it cannot take, `NotTraceable` for hooks on inner layers,
        `BadArgument` for parameters that are not float32, in training what `calibrate` raises; then
        nothing was changed.
        """
        outputs = self._compute(x, self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def logits(self, x: Tensor | AnyArray) -> Tensor | tuple[Tensor, ...]:
        """Return what `forward` returns, but of an output that a softmax computes what goes into
        it: what cross entropy takes.

        Raises what `forward` raises.
        """
        softmaxes = {s.name: s.activations[0] for s in self.steps if s.op.name == "softmax"}
        outputs = self._compute(x, tuple(softmaxes.get(name, name) for name in self.outputs))
        return outputs[0] if len(outputs) == 1 else outputs

    def _compute(self, x: Tensor | AnyArray, names: tuple[str, ...]) -> tuple[Tensor, ...]:
        require_unhooked(self)
        updating = self.training and not self.frozen
        with torch.autocast(self.device.type, enabled=False):  # integers do not fit bfloat16
            raw = raw_values(self, x)
            observing = updating and calibration.advance(self, x)
            keep = (*names, *(self.exponents[n] for n in names if n in self.exponents))
            mode = Mode(updating, pooling=True, observing=observing, keep=keep)
            with calibration.all_or_nothing(self) if observing else nullcontext():
                values = self._run_raw(raw, mode)
            if updating:
                self.steps_seen.add_(1)
            return tuple(self._dequantize(name, values) for name in names)

    def _run_all(
        self, x: Tensor | AnyArray, *, training: bool = False, pooling: bool = False
    ) -> dict[str, Tensor]:
        return self._run_raw(raw_values(self, x), Mode(training, pooling))

    def _run_raw(self, raw: Tensor, mode: Mode = PLAIN) -> dict[str, Tensor]:
        """Run every step from checked raw values, channels last."""
        (source,) = self.traced.graph.inputs
        carriers = self.carriers(raw, self.numbers.types[source.name])
        if mode.observing:
            calibration.observe_input(self, raw)
        return self._run_carriers(source.name, carriers, mode)

    def _run_carriers(self, name: str, carriers: Tensor, mode: Mode = PLAIN) -> dict[str, Tensor]:
        """Run every step from the input's carriers (`code - zero`, NHWC)."""
        require_exact(carriers.device)
        values = {name: carriers, **self.stored_carriers(self.numbers, len(carriers))}
        if mode.training:
            apply_dropout(self, values, name)
        learning = self.training and torch.is_grad_enabled()
        this = norm_training.begin(self, self.numbers, moving=mode.training) if learning else None
        for step, names in zip(self.steps, self.last_read, strict=True):
            if step.name not in values:  # else a pool that ran inside the step before it
                self._run_one(step, values, mode, this)
            mode.drop(values, names)
        if this is not None:
            this.end()
        return values

    def _run_one(
        self,
        step: Step,
        values: dict[str, Tensor],
        mode: Mode,
        this: norm_training.Pass | None,
    ) -> None:
        """Run a step, and the pool behind it where that selects among its sums."""
        pool = self.pooled.get(step.name) if mode.pooling else None
        if mode.observing:
            calibration.observe_step(self, step, values)
        watch = calibration.watch_of(self, step) if mode.observing else None
        between = Between(None if pool is None else self.numbers.selection(pool), watch)
        run_step(self, step, self.numbers, values, How(pool or step, between, this))
        if mode.training:
            for value in (pool or step).outputs:
                apply_dropout(self, values, value.name)

    def carriers(self, raw: Tensor, kind: TensorType) -> Tensor:
        """Return raw values as the first step takes them: `code - zero`, float32."""
        return centred_real(raw, kind).float()

    def stored_carriers(self, numbers: Numbers, samples: int) -> dict[str, Tensor]:
        """Return the carriers of `stored`, the same for every sample."""
        found = {}
        for name in self.stored:
            carriers = self.carriers(self.parameter(name), numbers.types[name])
            found[name] = carriers.expand(samples, *carriers.shape[1:])
        return found

    def run_step(self, step: Step, numbers: Numbers, values: dict[str, Tensor]) -> None:
        """Add a step's outputs to `values`: carriers, channels last."""
        run_step(self, step, numbers, values)

    def operands(
        self,
        step: Step,
        numbers: Numbers,
        values: Mapping[str, Any],
        ready: Mapping[str, Tensor] = NO_WEIGHTS,
    ) -> Inputs[Any]:
        """Return a step's inputs as its surrogate takes them: carriers, and constants as integers.
        ready: weights that are rounded already, by step.
        """
        found: dict[str, Any] = {}
        for item in fields(step.inputs):
            name = getattr(step.inputs, item.name)
            if name is None:
                found[item.name] = None
            elif isinstance(name, tuple):
                found[item.name] = tuple(values[n] for n in name)
            elif item.name not in step.op.constants:
                found[item.name] = values[name]
            elif not issubclass(step.op, WeightedOp):
                found[item.name] = self.parameter(name).round()
        if issubclass(step.op, WeightedOp):
            found.update(weights.constants(self, step, numbers, ready))
        found.update(numbers.derived[step.name])
        if step.norm is not None and self.scheme is Scheme.AFFINE and numbers.derived[step.name]:
            folded = normalised.folded(self, step, numbers)
            whole = {"mult": folded.mult, "shift": folded.shift}
            found.update(
                {k: torch.as_tensor(v, device=found["w"].device).long() for k, v in whole.items()}
            )
            found["b"] = channels.tensor(folded.bias, found["w"])
        return type(step.inputs)(**found)

    def _dequantize(self, name: str, values: dict[str, Tensor]) -> Tensor:
        real = values[name] * self.numbers.step_of(name)
        if name in self.exponents:
            power = values[self.exponents[name]].detach().exp2()
            real = real * power.reshape(-1, *[1] * (real.dim() - 1))
        torch_order = real.dim() == 4 and not self.channels_last
        return real.permute(0, 3, 1, 2) if torch_order else real

    @torch.no_grad()
    def trace(self, x: Tensor | AnyArray) -> dict[str, AnyArray]:
        """Return the integer codes of every value, NHWC, keyed by graph value name, for raw values
        [N, *input].
        """
        return self._codes(self._run_all(x))

    def _codes(self, values: dict[str, Tensor]) -> dict[str, AnyArray]:
        types = self.numbers.types
        return {
            name: (tensor + types[name].zero).cpu().numpy().astype(types[name].dtype.numpy)
            for name, tensor in values.items()
            if name not in self.stored
        }

    @torch.no_grad()
    def quantize_input(self, x: Tensor | AnyArray) -> AnyArray:
        """Return raw values [N, *input] as the codes [N, *NHWC] that the chip's input buffer
        takes.
        """
        (source,) = self.traced.graph.inputs
        kind = self.numbers.types[source.name]
        codes: AnyArray = (
            quantize_real(raw_values(self, x), kind).cpu().numpy().astype(kind.dtype.numpy)
        )
        return np.ascontiguousarray(codes)

    @torch.no_grad()
    def export(self, *, untrained: bool = False) -> Graph:
        """Return the integer graph of the current parameters and frozen ranges.

        Raises `NoRange` for ranges that were never set, unless `untrained`, which takes them as
        they are (sizes do not depend on them); `BadWeights` for parameters that are not finite.
        """
        given = Arguments(f"Model {self.name!r}.export")
        given.flag("untrained", untrained)
        given.check()
        return export_graph(self, untrained=untrained)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Add the scheme to what a state_dict says of its modules beside their tensors."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, "_metadata", None)
        if metadata is not None:
            metadata[prefix[:-1]][SCHEME] = self.scheme.value

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Any, *rest: Any
    ) -> None:
        """Refuse the state of another scheme: the same tensors, another network.

        Ones without a scheme, of plain dictionaries and of versions that did not write it, load.
        """
        require_scheme(self, local_metadata.get(SCHEME, self.scheme.value))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move every tensor, as `to(device)`, `cuda` and their like ask; refuse to cast them
        (`half`, `double`, `to(dtype)`).
        """
        before = self.device
        result: Self = super()._apply(keeping_dtypes(self, fn), recurse)  # type: ignore[no-untyped-call]  # torch's
        if self.device != before:
            self.forget_numbers()  # their tensors are where the parameters were
        return result


def _forget_numbers(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Twin)
    module.forget_numbers()
