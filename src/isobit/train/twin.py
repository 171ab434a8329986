"""The trainable twin: a `torch.nn.Module` whose forward pass computes the chip's integers.

`Twin` owns the user's float network (parameters, `state_dict`), the frozen ranges and the steps.
`forward` quantises weights with the frozen encodings and runs every step's exact surrogate;
`export` writes the same integers into a graph. Both read one `Numbers` object per set of ranges, so
there is nothing to keep in step.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isobit.core.errors import BadRunInput
from isobit.core.types import AnyArray, FloatArray, Shape, TensorType, scale_of
from isobit.ir.graph import Graph, Inputs
from isobit.ops.base import EncodingRule
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train import norm, normalised
from isobit.train.builder import Traced
from isobit.train.export import export_graph
from isobit.train.numbers import NumberBuilder, Numbers, decide_all
from isobit.train.ranges import RangeObserver, RangeOptions
from isobit.train.selftest import require_exact
from isobit.train.ste import quantize_real, ste_round
from isobit.train.steps import Step, group
from isobit.train.ties import tie
from isobit.train.trace import trace


class WeightRange(nn.Module):
    """The frozen largest magnitude per output channel."""

    largest: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("largest", torch.ones(channels, dtype=torch.float64))


class Twin(nn.Module):
    """Float network in, integers inside, de-quantised float outputs out.

    net: any module of `isobit.nn` layers and supported functions, on logical NCHW input of `input`
    = (C, H, W) or (features,). `forward(x)` takes raw values [N, *input] and returns de-quantised
    outputs. In training mode ranges are observed and updated every `ranges.update_every` steps and
    batch norms use the batch's statistics (`affine`) or move their running ones (`pow2`); in eval
    mode, and after `freeze()`, nothing changes and the forward is exactly the export's.
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
    ) -> None:
        super().__init__()
        self.net = net
        self.input_shape = tuple(input)
        self.target_name = target
        self.scheme = scheme
        self.name = name
        self.options = ranges or RangeOptions()
        self.traced: Traced = trace(net, self.input_shape, name, target)
        (source,) = self.traced.graph.inputs
        steps, self.carried = group(self.traced.graph, load_ops())
        self.steps, self.ties = tie(steps, source, load_ops())
        readers = [step for step in self.steps if source.name in step.activations]
        self.takes_pixels = bool(readers) and all(s.op.name == "standardize" for s in readers)
        self.register_buffer("is_frozen", torch.zeros((), dtype=torch.bool))
        self.observers = nn.ModuleDict()
        self.weight_ranges = nn.ModuleDict()
        self._place_observers()
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        self.batch_statistics: dict[str, norm.Statistics] = {}
        """Statistics that the last training forward normalised with, by step name (`affine` batch
        norms).
        """
        self._numbers: Numbers | None = None
        self.register_load_state_dict_post_hook(_forget_numbers)  # type: ignore[no-untyped-call]  # torch's

    def _place_observers(self) -> None:
        (source,) = self.traced.graph.inputs
        if not self.takes_pixels:
            self.observers[_key(source.name)] = RangeObserver(self.options)
        types = self.traced.graph.type_map()
        for step in self.steps:
            if step.op.rule(step.attrs) is EncodingRule.FREE:
                self.observers[_key(step.name)] = RangeObserver(self.options)
            if issubclass(step.op, WeightedOp):
                w: Any = step.inputs
                channels = types[w.w].shape[step.op.channel_axis]
                self.weight_ranges[_key(step.name)] = WeightRange(channels)
                self._freeze_weights(step)

    def parameter(self, const: str) -> Tensor:
        """Return a float constant's current value, differentiably where it is bound to a
        parameter.
        """
        binding = self.traced.bindings.get(const)
        if binding is None:
            data = self.traced.graph.const_map()[const].data
            return torch.tensor(data, dtype=torch.float32, device=self.device)
        holder, _, attribute = binding.path.rpartition(".")
        value: Tensor = getattr(self.net.get_submodule(holder), attribute)
        return binding.apply(value)

    @property
    def device(self) -> torch.device:
        """The device of the parameters; the CPU for a network without any."""
        return next((p.device for p in self.net.parameters()), torch.device("cpu"))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output values."""
        return tuple(self.carried.get(name, name) for name in self.traced.graph.outputs)

    def observer(self, name: str) -> RangeObserver | None:
        """Return the observer of a value, if its range is free."""
        key = _key(name)
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
        holder = self.weight_ranges[_key(step.name)]
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
        with torch.no_grad():
            for observer in self.observers.values():
                assert isinstance(observer, RangeObserver)
                observer.freeze()
            for step in self.steps:
                self._freeze_weights(step)
                self._watcher(step, "freeze")
        self._numbers = None

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or allow again) every update in training mode: ranges, batch-norm statistics, input
        statistics.
        """
        if frozen and not self.frozen:
            self.update_ranges()
        self.is_frozen.fill_(frozen)

    @property
    def frozen(self) -> bool:
        """Whether training mode updates nothing; part of the state."""
        return bool(self.is_frozen)

    @torch.no_grad()
    def _freeze_weights(self, step: Step) -> None:
        key = _key(step.name)
        if key in self.weight_ranges:
            assert issubclass(step.op, WeightedOp)
            w = self._effective_weight(step).movedim(step.op.channel_axis, 0)
            holder = self.weight_ranges[key]
            assert isinstance(holder, WeightRange)
            holder.largest.copy_(w.abs().flatten(1).amax(1))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set every range from one batch of raw values [N, *input], layer by layer, and freeze
        them.

        Batch norms that never saw data take their statistics from this batch.
        """
        unset = [name for name in self.ties if not self.has_range(name)]
        norms = [normalised.module(self, step) for step in self.steps if step.norm is not None]
        fresh = [module for module in norms if int(module.num_batches_tracked) == 0]
        with torch.autocast(self.device.type, enabled=False):
            self._observe(x)
            self.update_ranges()
            if unset:
                # Steps that share an encoding did not know each other's ranges yet; what came after
                # saw wrong codes.
                for observer in self.observers.values():
                    assert isinstance(observer, RangeObserver)
                    observer.forget()
                for module in fresh:
                    module.num_batches_tracked.zero_()
                self._observe(x, again=True)
                self.update_ranges()

    @torch.no_grad()
    def _observe(self, x: Tensor, *, again: bool = False) -> None:
        """Observe one batch: each step sees the integers its input will have under the ranges
        before it.

        Ranges that were never set are set on the way, so one call from nothing leaves a usable
        network. `again`: the batch was seen before, by the modules that watch inputs.
        """
        build = NumberBuilder(self, self.numbers.finest if self.ties else None)
        (source,) = self.traced.graph.inputs
        raw = self._raw_input(x)
        observer = self.observer(source.name)
        if observer is not None:
            observer.observe(raw, 1.0, freeze=True)
        build.input()
        values = {source.name: self._carriers(raw, build.numbers.types[source.name])}
        for step in self.steps:
            if not again:
                self._watcher(step, "observe", values[step.activations[0]])
            if int(self.steps_seen) == 0:
                self._watcher(step, "freeze")
            observer = self.observer(step.name)
            if observer is not None:
                real = self._real_output(step, build, values)
                observer.observe(real.clamp(step.low, step.high), 1.0, freeze=True)
            build.decide(step)
            self._run(step, build.numbers, values, training=False)

    def _watcher(self, step: Step, method: str, *arguments: Tensor) -> None:
        """Call `observe(x)` or `freeze()` of the module that watches a step's input, if one
        does.
        """
        path = self.traced.observers.get(step.name)
        if path is not None:
            getattr(self.net.get_submodule(path), method)(*arguments)

    def _real_output(self, step: Step, build: NumberBuilder, values: dict[str, Tensor]) -> Tensor:
        """Return a step's output before rounding, real units."""
        if step.norm is None:
            types = build.prepare(step)
            inputs = self.operands(step, build.numbers, values)
            return step.op.estimate(step.attrs, types, inputs)
        assert issubclass(step.op, WeightedOp)
        inputs_: Any = step.inputs
        scale = float(scale_of(build.numbers.types[inputs_.x].encoding)[0])
        c = step.op.combine(step.attrs, values[inputs_.x] * scale, self.parameter(inputs_.w), None)
        learned = normalised.learned(self, step)
        c = c + learned.bias
        module = normalised.module(self, step)
        if int(module.num_batches_tracked) == 0 and not self.frozen:
            ones, none = torch.ones_like(learned.gamma), torch.zeros_like(learned.bias)
            plain = norm.Affine(ones, learned.beta, none, learned.eps)
            found = norm.batch_statistics(c, plain, ones.double())
            norm.update_running(module, found, c.numel() // c.shape[-1], 1.0)
            self._freeze_weights(step)
        running = normalised.running(self, step)
        return (c - running.mean) / (
            running.var + learned.eps
        ).sqrt() * learned.gamma + learned.beta

    @property
    def numbers(self) -> Numbers:
        """Encodings and derived constants of the frozen ranges."""
        if self._numbers is None:
            self._numbers = decide_all(self, self.steps)
        return self._numbers

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return de-quantised outputs [N, ...] for raw values [N, *input], computed in the chip's
        integers.
        """
        updating = self.training and not self.frozen
        with torch.autocast(self.device.type, enabled=False):  # integers do not fit bfloat16
            if updating:
                self._advance(x)
            values = self._run_all(x, training=updating)
            outputs = tuple(self._dequantize(name, values) for name in self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _advance(self, x: Tensor) -> None:
        """Observe and update on schedule; the first batch sets everything."""
        count = int(self.steps_seen)
        if count == 0:
            self.calibrate(x)
        else:
            if count % self.options.observe_every == 0:
                self._observe(x)
            if count % self.options.update_every == 0:
                self.update_ranges()
        self.steps_seen += 1

    def _run_all(self, x: Tensor, *, training: bool = False) -> dict[str, Tensor]:
        (source,) = self.traced.graph.inputs
        carriers = self._carriers(self._raw_input(x), self.numbers.types[source.name])
        return self._run_carriers(source.name, carriers, training=training)

    def _run_carriers(
        self, name: str, carriers: Tensor, *, training: bool = False
    ) -> dict[str, Tensor]:
        """Run every step from the input's carriers (`code - zero`, NHWC)."""
        require_exact(carriers.device)
        values = {name: carriers}
        for step in self.steps:
            self._run(step, self.numbers, values, training=training)
        return values

    def _raw_input(self, x: Tensor) -> Tensor:
        """Check a batch of raw values and return it channels last."""
        if tuple(x.shape[1:]) != self.input_shape:
            raise BadRunInput(
                where=self.name,
                what="input shape",
                want=f"[N, {', '.join(map(str, self.input_shape))}]",
                got=str(list(x.shape)),
                fix="Images are (channels, height, width).",
            )
        if not bool(torch.isfinite(x).all()):
            raise BadRunInput(
                where=self.name,
                what="input values",
                want="finite numbers",
                got=f"{int((~torch.isfinite(x)).sum())} that are NaN or infinite",
                fix="Clean the data; nothing was learned from this batch.",
            )
        x = x.to(torch.float32)
        return x.permute(0, 2, 3, 1) if x.dim() == 4 else x

    def _carriers(self, raw: Tensor, kind: TensorType) -> Tensor:
        return (quantize_real(raw, kind) - kind.zero).float()

    def _run(
        self, step: Step, numbers: Numbers, values: dict[str, Tensor], *, training: bool
    ) -> None:
        if step.norm is not None and self.training and torch.is_grad_enabled():
            values[step.name] = normalised.run(self, step, numbers, values, moving=training)
            return
        inputs = self.operands(step, numbers, values)
        result = step.op.surrogate(numbers.attrs[step.name], numbers.around(step), inputs)
        results = result if isinstance(result, tuple) else (result,)
        for value, tensor in zip(step.outputs, results, strict=True):
            values[value.name] = tensor

    def operands(self, step: Step, numbers: Numbers, values: dict[str, Any]) -> Inputs[Any]:
        """Return a step's inputs as its surrogate takes them: carriers, and constants as
        integers.
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
            found.update(self._weighted_constants(step, numbers))
        found.update(numbers.derived[step.name])
        if step.norm is not None and self.scheme is Scheme.AFFINE and numbers.derived[step.name]:
            folded = normalised.folded(self, step, numbers)
            found.update(mult=folded.mult, shift=folded.shift, b=folded.bias.float())
        return type(step.inputs)(**found)

    def _weighted_constants(self, step: Step, numbers: Numbers) -> dict[str, Any]:
        """Return w and b as integers with straight-through gradients."""
        assert issubclass(step.op, WeightedOp)
        inputs: Any = step.inputs
        w = self._effective_weight(step)
        sizes = torch.as_tensor(scale_of(numbers.types[inputs.w].encoding), device=w.device)
        axes = [-1 if i == step.op.channel_axis else 1 for i in range(w.dim())]
        low = -128 if self.scheme is Scheme.POW2 else -127
        found: dict[str, Any] = {"w": ste_round(w, sizes.reshape(axes), low, 127), "b": None}
        if step.norm is not None:
            if self.scheme is Scheme.POW2:
                learned, running = normalised.learned(self, step), normalised.running(self, step)
                slope = learned.gamma / (running.var + learned.eps).sqrt()
                found["b"] = self._bias(
                    learned.beta + (learned.bias - running.mean) * slope, numbers, f"{step.name}.b"
                )
        elif inputs.b is not None:
            found["b"] = self._bias(self.parameter(inputs.b), numbers, inputs.b)
        return found

    def _bias(self, value: Tensor, numbers: Numbers, const: str) -> Tensor:
        size = torch.as_tensor(scale_of(numbers.types[const].encoding), device=value.device)
        return ste_round(value, size, -(2**29), 2**29)

    def _dequantize(self, name: str, values: dict[str, Tensor]) -> Tensor:
        real = values[name] * float(scale_of(self.numbers.types[name].encoding)[0])
        return real.permute(0, 3, 1, 2) if real.dim() == 4 else real

    def _effective_weight(self, step: Step) -> Tensor:
        """Return the real weights that are quantised."""
        assert issubclass(step.op, WeightedOp)
        inputs: Any = step.inputs
        w = self.parameter(inputs.w)
        if step.norm is None:
            return w
        factor = normalised.weight_factor(self, step)
        return w * factor.reshape([-1 if i == step.op.channel_axis else 1 for i in range(w.dim())])

    @torch.no_grad()
    def trace(self, x: Tensor) -> dict[str, AnyArray]:
        """Return the integer codes of every value, NHWC, keyed by graph value name, for raw values
        [N, *input].
        """
        return self._codes(self._run_all(x))

    def _codes(self, values: dict[str, Tensor]) -> dict[str, AnyArray]:
        types = self.numbers.types
        return {
            name: (tensor + types[name].zero).cpu().numpy().astype(types[name].dtype.numpy)
            for name, tensor in values.items()
        }

    def quantize_input(self, x: Tensor) -> AnyArray:
        """Return raw values [N, *input] as the codes [N, *NHWC] that the chip's input buffer
        takes.
        """
        (source,) = self.traced.graph.inputs
        kind = self.numbers.types[source.name]
        codes: AnyArray = (
            quantize_real(self._raw_input(x), kind).cpu().numpy().astype(kind.dtype.numpy)
        )
        return np.ascontiguousarray(codes)

    @torch.no_grad()
    def export(self, *, untrained: bool = False) -> Graph:
        """Return the integer graph of the current parameters and frozen ranges.

        Raises `NoRange` for ranges that were never set, unless `untrained`, which takes them as
        they are (sizes do not depend on them); `BadWeights` for parameters that are not finite.
        """
        return export_graph(self, untrained=untrained)


def _forget_numbers(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Twin)
    module._numbers = None


def _key(name: str) -> str:
    return name.replace(".", "_")
