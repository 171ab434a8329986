"""The trainable twin: a `torch.nn.Module` whose forward pass computes the chip's integers.

`Twin` owns the user's float network (parameters, `state_dict`), the frozen ranges and the steps. `forward`
quantises weights with the frozen encodings and runs every step's exact surrogate; `export` writes the same
integers into a graph. Both read one `Numbers` object per set of ranges, so there is nothing to keep in step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isobit.core.dtypes import DType
from isobit.core.errors import BadRunInput, BadWeights, NoRange, raise_all
from isobit.core.types import Affine, AnyArray, Encoding, Pow2, Raw, Shape, TensorType, scale_of
from isobit.ir.graph import Const, Graph, Inputs, Node, Stage, Value, map_inputs
from isobit.ops.base import EncodingRule, NodeTypes, Scheme, load_ops
from isobit.ops.clamp.op import clamp_codes
from isobit.ops.weighted import WeightedOp
from isobit.train import schemes
from isobit.train.ranges import RangeObserver, RangeOptions
from isobit.train.selftest import require_exact
from isobit.train.steps import Step, group
from isobit.train.trace import Traced, trace

_PIXELS = TensorType((), DType.U8, Affine((1.0,), 0))


class WeightRange(nn.Module):
    """The frozen largest magnitude per output channel."""

    largest: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("largest", torch.ones(channels, dtype=torch.float64))


@dataclass
class Numbers:
    """Everything that follows from the frozen ranges: types by value name, and per step its derived constants."""

    types: dict[str, TensorType]
    attrs: dict[str, Any]
    derived: dict[str, dict[str, Tensor]]


class Twin(nn.Module):
    """Float network in, integers inside, de-quantised float logits out.

    net: any module of `isobit.nn` layers and supported functions, on logical NCHW input of `input` = (C, H, W) or
    (features,). `forward(x)` takes raw values [N, *input] and returns de-quantised outputs. In training mode ranges
    are observed and updated every `ranges.update_every` steps; in eval mode nothing changes.
    """

    steps_seen: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        input: Shape,  # noqa: A002  # the public name
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
        self.steps, self.carried = group(self.traced.graph, load_ops())
        self.observers = nn.ModuleDict()
        self.weight_ranges = nn.ModuleDict()
        self._place_observers()
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        self.ranges_frozen = False
        self._numbers: Numbers | None = None
        self.register_load_state_dict_post_hook(_forget_numbers)

    # -------------------------------------------------------------------------------------- structure

    def _place_observers(self) -> None:
        (source,) = self.traced.graph.inputs
        readers = [step for step in self.steps if source.name in step.activations]
        self.takes_pixels = bool(readers) and all(s.op.name == "standardize" for s in readers)
        if not self.takes_pixels:
            self.observers[_key(source.name)] = RangeObserver(self.options)
        types = self.traced.graph.type_map()
        for step in self.steps:
            if step.op.encoding_rule is EncodingRule.FREE:
                self.observers[_key(step.name)] = RangeObserver(self.options)
            if issubclass(step.op, WeightedOp):
                w: Any = step.inputs
                channels = types[w.w].shape[step.op.channel_axis]
                self.weight_ranges[_key(step.name)] = WeightRange(channels)
                self._freeze_weights(step)

    def parameter(self, const: str) -> Tensor:
        """Return a float constant's current value, differentiably where it is bound to a parameter."""
        binding = self.traced.bindings.get(const)
        if binding is None:
            return torch.as_tensor(self.traced.graph.const_map()[const].data)
        holder, _, attribute = binding.path.rpartition(".")
        value: Tensor = getattr(self.net.get_submodule(holder), attribute)
        return binding.apply(value)

    # -------------------------------------------------------------------------------------- ranges

    def update_ranges(self) -> None:
        """Freeze the ranges observed so far: from now on, until the next call, encodings are constant."""
        with torch.no_grad():
            for observer in self.observers.values():
                assert isinstance(observer, RangeObserver)
                observer.freeze()
            for step in self.steps:
                self._freeze_weights(step)
        self._numbers = None

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or allow again) every update of ranges in training mode; the forward is then the export's."""
        if frozen and not self.ranges_frozen:
            self.update_ranges()
        self.ranges_frozen = frozen

    def _freeze_weights(self, step: Step) -> None:
        key = _key(step.name)
        if key in self.weight_ranges:
            inputs: Any = step.inputs
            assert isinstance(step.op, type) and issubclass(step.op, WeightedOp)
            w = self.parameter(inputs.w).detach().movedim(step.op.channel_axis, 0)
            holder = self.weight_ranges[key]
            assert isinstance(holder, WeightRange)
            holder.largest.copy_(w.abs().flatten(1).amax(1))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set every range from one batch of raw values [N, *input], layer by layer, and freeze them."""
        self._observe(x)
        self.update_ranges()

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        """Observe one batch: each step sees the integers its input will have under the ranges before it.

        Ranges that were never set are set on the way, so one call from nothing leaves a usable network.
        """
        build = _NumberBuilder(self)
        values = self._input_carriers(x, build)
        for step in self.steps:
            self._watch(step, values)
            observer = self.observers[_key(step.name)] if _key(step.name) in self.observers else None
            if observer is not None:
                assert isinstance(observer, RangeObserver)
                types, inputs = build.undecided(step, values)
                real = step.op.estimate(step.attrs, types, inputs)
                observer.observe(real.clamp(step.low, step.high), 1.0)
                if not bool(observer.frozen):
                    observer.freeze()
            build.decide(step)
            self._run(step, build.numbers, values)

    def _watch(self, step: Step, values: dict[str, Tensor]) -> None:
        path = self.traced.observers.get(step.name)
        if path is not None:
            module: Any = self.net.get_submodule(path)
            module.observe(values[step.activations[0]])

    @property
    def numbers(self) -> Numbers:
        """Encodings and derived constants of the frozen ranges."""
        if self._numbers is None:
            build = _NumberBuilder(self)
            build.input()
            for step in self.steps:
                build.decide(step)
            self._numbers = build.numbers
        return self._numbers

    # -------------------------------------------------------------------------------------- forward

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return de-quantised outputs [N, ...] for raw values [N, *input], computed in the chip's integers."""
        if self.training and not self.ranges_frozen:
            self._advance(x)
        values = self._run_all(x)
        outputs = tuple(self._dequantize(name, values) for name in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _advance(self, x: Tensor) -> None:
        """Observe and update on schedule; the first batch sets everything."""
        count = int(self.steps_seen)
        if count == 0:
            self.calibrate(x)
        else:
            if count % self.options.observe_every == 0:
                self._observe(x)
                self._numbers = None
            if count % self.options.update_every == 0:
                self.update_ranges()
        self.steps_seen += 1

    def _run_all(self, x: Tensor) -> dict[str, Tensor]:
        ((name, carriers),) = self._input_carriers(x, None).items()
        return self._run_carriers(name, carriers)

    def _run_carriers(self, name: str, carriers: Tensor) -> dict[str, Tensor]:
        """Run every step from the input's carriers (`code - zero`, NHWC)."""
        require_exact(carriers.device)
        values = {name: carriers}
        for step in self.steps:
            self._run(step, self.numbers, values)
        return values

    def _codes(self, values: dict[str, Tensor]) -> dict[str, AnyArray]:
        types = self.numbers.types
        return {
            name: (tensor + types[name].zero).cpu().numpy().astype(types[name].dtype.numpy)
            for name, tensor in values.items()
        }

    def _input_carriers(self, x: Tensor, build: _NumberBuilder | None) -> dict[str, Tensor]:
        (source,) = self.traced.graph.inputs
        if tuple(x.shape[1:]) != self.input_shape:
            raise BadRunInput(
                where=self.name,
                what="input shape",
                want=f"[N, {', '.join(map(str, self.input_shape))}]",
                got=str(list(x.shape)),
                fix="Images are (channels, height, width).",
            )
        x = x.to(torch.float32)
        if x.dim() == 4:
            x = x.permute(0, 2, 3, 1)
        if self.takes_pixels:
            if build is not None:
                build.input()
            return {source.name: x.round().clamp(0, 255)}
        observer = self.observers[_key(source.name)]
        assert isinstance(observer, RangeObserver)
        if build is not None:
            observer.observe(x, 1.0)
            if not bool(observer.frozen):
                observer.freeze()
            build.input()
        kind = (build.numbers if build else self.numbers).types[source.name]
        return {source.name: (quantize_real(x, kind) - kind.zero).float()}

    def _run(self, step: Step, numbers: Numbers, values: dict[str, Tensor]) -> None:
        inputs = self._operands(step, numbers, values)
        q = _node_types(step, numbers)
        result = step.op.surrogate(numbers.attrs[step.name], q, inputs)
        results = result if isinstance(result, tuple) else (result,)
        for value, tensor in zip(step.outputs, results, strict=True):
            values[value.name] = tensor

    def _operands(self, step: Step, numbers: Numbers, values: dict[str, Tensor]) -> Inputs[Any]:
        derived = numbers.derived[step.name]
        found: dict[str, Any] = {}
        for item in fields(step.inputs):
            name = getattr(step.inputs, item.name)
            if item.name in derived:
                found[item.name] = derived[item.name]
            elif name is None:
                found[item.name] = None
            elif isinstance(name, tuple):
                found[item.name] = tuple(values[n] for n in name)
            elif item.name in step.op.constants:
                found[item.name] = self._integer_constant(step, item.name, name, numbers)
            else:
                found[item.name] = values[name]
        return type(step.inputs)(**found)

    def _integer_constant(self, step: Step, field: str, name: str, numbers: Numbers) -> Tensor:
        """Return a parameter as integers, with a straight-through gradient."""
        value = self.parameter(name)
        if issubclass(step.op, WeightedOp) and field in ("w", "b"):
            kind = numbers.types[name]
            step_size = torch.as_tensor(scale_of(kind.encoding), device=value.device)
            if field == "w":
                axes = [-1 if i == step.op.channel_axis else 1 for i in range(value.dim())]
                low = -128 if self.scheme is Scheme.POW2 else -127
                return _ste_round(value, step_size.reshape(axes), low, 127)
            return _ste_round(value, step_size, -(2**30), 2**30)
        return value.round()

    def _dequantize(self, name: str, values: dict[str, Tensor]) -> Tensor:
        real = values[name] * float(scale_of(self.numbers.types[name].encoding)[0])
        return real.permute(0, 3, 1, 2) if real.dim() == 4 else real

    @property
    def _outputs(self) -> tuple[str, ...]:
        return tuple(self.carried.get(name, name) for name in self.traced.graph.outputs)

    # -------------------------------------------------------------------------------------- integers out

    @torch.no_grad()
    def trace(self, x: Tensor) -> dict[str, AnyArray]:
        """Return the integer codes of every value, NHWC, keyed by graph value name, for raw values [N, *input]."""
        training = self.training
        self.eval()
        try:
            values = self._run_all(x)
        finally:
            self.train(training)
        return self._codes(values)

    def quantize_input(self, x: Tensor) -> AnyArray:
        """Return raw values [N, *input] as the codes [N, *NHWC] that the chip's input buffer takes."""
        (source,) = self.traced.graph.inputs
        carriers = self._input_carriers(x, None)[source.name]
        kind = self.numbers.types[source.name]
        codes: AnyArray = (carriers + kind.zero).cpu().numpy().astype(kind.dtype.numpy)
        return np.ascontiguousarray(codes)

    @torch.no_grad()
    def export(self, *, untrained: bool = False) -> Graph:
        """Return the integer graph of the current parameters and frozen ranges.

        Raises `NoRange` for ranges that were never set, unless `untrained`, which takes them as they are (sizes do
        not depend on them); `BadWeights` for parameters that are not finite.
        """
        if not untrained:
            self._require_ranges()
        self._require_finite()
        numbers = self.numbers
        consts: dict[str, Const] = {}
        nodes = [self._export_step(step, numbers, consts) for step in self.steps]
        (source,) = self.traced.graph.inputs
        return Graph(
            name=self.name,
            stage=Stage.INT,
            target=self.target_name,
            inputs=(Value(source.name, numbers.types[source.name]),),
            consts=tuple(consts.values()),
            nodes=tuple(nodes),
            outputs=self._outputs,
        )

    def _export_step(self, step: Step, numbers: Numbers, consts: dict[str, Const]) -> Node:
        operands_ = self._operands(step, numbers, _Missing())
        names: dict[str, Any] = {}
        for item in fields(step.inputs):
            name, tensor = getattr(step.inputs, item.name), getattr(operands_, item.name)
            if item.name not in step.op.constants:
                names[item.name] = name
                continue
            keep = tensor is not None and item.name not in _FLOAT_ONLY.get(step.op.name, ())
            names[item.name] = own = f"{step.name}.{item.name}" if keep else None
            if own is not None:
                kind = numbers.types.get(name or own) or TensorType((), DType.S32, Raw())
                label = self.traced.bindings[name].path if name in self.traced.bindings else ""
                array = tensor.detach().cpu().numpy().astype(kind.dtype.numpy)
                consts[own] = Const(own, kind.with_shape(array.shape), array, label)
        outputs = tuple(Value(v.name, numbers.types[v.name]) for v in step.outputs)
        return Node(
            step.op.name,
            type(step.inputs)(**names),
            numbers.attrs[step.name],
            outputs,
            step.location,
        )

    def missing_ranges(self) -> list[str]:
        """Names of activations whose range was never set."""
        return [key for key, o in self.observers.items() if not bool(o.frozen)]

    def _require_ranges(self) -> None:
        missing = self.missing_ranges()
        if missing:
            raise NoRange(
                where=self.name,
                what="ranges",
                want="every activation observed at least once",
                got=f"{len(missing)} never seen: {', '.join(missing[:5])}",
                fix="Train it, or call model.calibrate(images); model.estimate() needs neither.",
            )

    def _require_finite(self) -> None:
        raise_all(
            [
                BadWeights(
                    where=f'"{path}"',
                    what="values",
                    want="finite numbers",
                    got=f"{int((~torch.isfinite(p)).sum())} of {p.numel()} are NaN or infinite",
                    fix="Load a checkpoint from before training diverged.",
                )
                for path, p in self.net.state_dict().items()
                if p.is_floating_point() and not bool(torch.isfinite(p).all())
            ]
        )


_FLOAT_ONLY = {"standardize": ("log2_scale",)}


class _Missing(dict[str, Any]):
    """Stands for activations while only constants are wanted."""

    def __missing__(self, key: str) -> None:
        return None


def _forget_numbers(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Twin)
    module._numbers = None


def _key(name: str) -> str:
    return name.replace(".", "_")


def quantize_real(x: Tensor, kind: TensorType) -> Tensor:
    """Return `clamp(floor(x / S + 1/2) + Z)` in float64: how a real input becomes codes."""
    scale = float(scale_of(kind.encoding)[0])
    return ((x.double() / scale + 0.5).floor() + kind.zero).clamp(kind.dtype.low, kind.dtype.high)


class _SteRound(torch.autograd.Function):
    """round(x / step) clamped; the gradient is 1 / step (ranges follow the weights, so clipping is rare)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
        inverse = (1.0 / step).to(x.dtype)
        ctx.save_for_backward(inverse)
        out = torch.empty_like(x)
        return torch.mul(x, inverse, out=out).round_().clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        return grads[0] * inverse, None, None, None


def _ste_round(x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
    result: Tensor = _SteRound.apply(x, step, low, high)  # type: ignore[no-untyped-call]  # torch's apply is untyped
    return result


def _node_types(step: Step, numbers: Numbers) -> NodeTypes[Any]:
    types = numbers.types
    inputs = map_inputs(step.inputs, lambda name: types[name])
    return NodeTypes(inputs, tuple(types[v.name] for v in step.outputs))


class _NumberBuilder:
    """Decides encodings step by step, in graph order."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.numbers = Numbers({}, {}, {})
        self.float_types = twin.traced.graph.type_map()

    def input(self) -> None:
        twin = self.twin
        (source,) = twin.traced.graph.inputs
        shape = source.type.shape
        if twin.takes_pixels:
            self.numbers.types[source.name] = _PIXELS.with_shape(shape)
        else:
            low, high = self._range(source.name)
            encoding = schemes.activation(twin.scheme, low, high)
            self.numbers.types[source.name] = TensorType(shape, DType.S8, encoding)

    def _range(self, name: str) -> tuple[float, float]:
        observer = self.twin.observers[_key(name)]
        assert isinstance(observer, RangeObserver)
        return float(observer.frozen_low), float(observer.frozen_high)

    def undecided(self, step: Step, values: dict[str, Tensor]) -> tuple[NodeTypes[Any], Inputs[Any]]:
        """Types and operands of a step whose output encoding is still open."""
        self._constant_types(step, None)
        self.numbers.derived[step.name] = {}
        q = NodeTypes(map_inputs(step.inputs, lambda n: self.numbers.types[n]), ())
        return q, self.twin._operands(step, self.numbers, values)

    def decide(self, step: Step) -> None:
        """Fix the step's output encoding, its constants' encodings and everything derived from them."""
        twin, types = self.twin, self.numbers.types
        activations = [types[name] for name in step.activations]
        encoding: Encoding
        if step.op.encoding_rule is EncodingRule.FREE:
            low, high = self._range(step.name)
            low, high = max(low, step.low), min(high, step.high)
            encoding = self._free_encoding(step, low, high)
        elif step.op.encoding_rule is EncodingRule.SAME:
            encoding = activations[0].encoding
        else:
            encoding = step.op.fixed_encoding(step.attrs, map_inputs(step.inputs, types.get), twin.scheme)
        for value in step.outputs:
            types[value.name] = TensorType(value.type.shape, DType.S8, encoding)
        self._constant_types(step, encoding)
        q = _node_types(step, self.numbers)
        consts = map_inputs(step.inputs, self._float_constant)
        attrs: Any
        attrs, derived = step.op.derive(step.attrs, q, twin.scheme, consts)
        if step.op.absorbs_clamp:
            attrs = replace(attrs, clamp=clamp_codes(q.output, step.low, step.high))
        device = next((p.device for p in twin.net.parameters()), torch.device("cpu"))
        self.numbers.attrs[step.name] = attrs
        self.numbers.derived[step.name] = {
            field: torch.as_tensor(np.asarray(array), device=device) for field, array in derived.items()
        }
        for field, array in derived.items():
            kind = TensorType(np.shape(array), DType.S32, Raw())
            types.setdefault(f"{step.name}.{field}", kind)

    def _float_constant(self, name: str) -> AnyArray | None:
        if name not in self.twin.traced.graph.const_map():
            return None
        value: AnyArray = self.twin.parameter(name).detach().cpu().double().numpy()
        return value

    def _free_encoding(self, step: Step, low: float, high: float) -> Encoding:
        twin, types = self.twin, self.numbers.types
        if step.op.name == "standardize":
            inputs: Any = step.inputs
            log2_scale = int(twin.parameter(inputs.log2_scale)[0])
            return schemes.pixel_step(twin.scheme, low, high, log2_scale)
        finest = None
        if twin.scheme is Scheme.POW2:
            inputs = step.inputs
            fracs = [e.frac[0] for e in (types[n].encoding for n in step.activations) if isinstance(e, Pow2)]
            finest = max(fracs)
            if issubclass(step.op, WeightedOp):
                frac = self._weight_encoding(step, None)
                assert isinstance(frac, Pow2)
                finest = fracs[0] + frac.frac[0]
        return schemes.activation(twin.scheme, low, high, finest)

    def _weight_encoding(self, step: Step, output: Encoding | None) -> Encoding:
        holder = self.twin.weight_ranges[_key(step.name)]
        assert isinstance(holder, WeightRange)
        largest = holder.largest.cpu().numpy()
        x = self.numbers.types[step.activations[0]].encoding
        scheme = self.twin.scheme
        if output is None and scheme is Scheme.AFFINE:
            return schemes.weights(scheme, largest, x, x, gain=largest)
        return schemes.weights(scheme, largest, x, output or x)

    def _constant_types(self, step: Step, output: Encoding | None) -> None:
        types, inputs = self.numbers.types, step.inputs
        for field in step.op.constants:
            name = getattr(inputs, field)
            if name is not None:
                types[name] = TensorType(self.float_types[name].shape, DType.S32, Raw())
        if issubclass(step.op, WeightedOp):
            weighted: Any = inputs
            encoding = self._weight_encoding(step, output)
            axis = step.op.channel_axis
            if isinstance(encoding, Affine):
                encoding = replace(encoding, axis=axis)
            types[weighted.w] = TensorType(self.float_types[weighted.w].shape, DType.S8, encoding)
            if weighted.b is not None:
                x = types[weighted.x].encoding
                shape = self.float_types[weighted.b].shape
                types[weighted.b] = TensorType(shape, DType.S32, _product(x, encoding))


def _product(x: Encoding, w: Encoding) -> Encoding:
    """Return the encoding of a bias: step `Sx * Sw[c]`."""
    if isinstance(x, Pow2) and isinstance(w, Pow2):
        return Pow2((x.frac[0] + w.frac[0],))
    scale = scale_of(x) * scale_of(w)
    return Affine(tuple(float(s) for s in scale), 0, 0 if scale.size > 1 else None)


__all__ = ["Numbers", "Twin", "WeightRange", "quantize_real"]
