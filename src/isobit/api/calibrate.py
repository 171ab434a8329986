"""`calibrate`: a float network as the chip's integers, from example inputs and without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isobit.api.model import Model
from isobit.core.arguments import Arguments, shown
from isobit.core.types import AnyArray, FloatArray
from isobit.data import Dataset
from isobit.ir.edit import Editor
from isobit.ir.graph import Graph, Stage
from isobit.ops.base import Op
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedInputs, WeightedOp
from isobit.passes.base import load_passes, run_passes
from isobit.run.golden import run_golden
from isobit.train.bias_correction import correct_biases
from isobit.train.fit import LARGEST_SEED
from isobit.train.numbers import InputDType
from isobit.train.ranges import RangeMethod, RangeOptions
from isobit.train.refine import LEAST_EXAMPLES, Report
from isobit.train.refine import refine as bring_nearer

SAMPLES = 512
"""Enough that another choice of examples changes the accuracy by less than 0.1 points."""
AT_ONCE = 32
"""Examples that the float network is evaluated on at once: bounds memory, changes nothing."""


def calibrate(
    graph: Graph,
    data: Dataset | Tensor | AnyArray,
    *,
    scheme: str = "affine",
    method: str = "minmax",
    samples: int = SAMPLES,
    bias_correction: bool = True,
    equalise: bool = False,
    input_dtype: str = "int8",
    refine: int = 0,  # the public name
    seed: int = 0,
    report: Report | None = None,
    target: str = "",
    name: str = "",
) -> Model:
    """Return a float graph as a model whose ranges follow from `data`; no label is needed.

    graph: float, e.g. of `isobit.import_file`. data: real values [N, *input] in the graph's own
    order of axes (NHWC), or a `Dataset`, whose raw pixels 0..255 are taken. samples: so many
    examples are used, evenly spread over `data`. scheme: "affine" or "pow2".

    method: how a range follows from the values observed. "minmax" holds all of them, "percentile"
    cuts 0.01 % on each side, "mse" takes the range of the smallest squared error. Weights always
    take the largest magnitude, per output channel in `affine`, per tensor in `pow2`.

    bias_correction: move every bias by the layer's mean error against the float graph.
    equalise: scale channels of neighbouring layers to like ranges first (pass `equalise`).

    input_dtype: codes of the network input. "int16" where values of very different size share it,
    so that one step of 8 bits leaves the small ones little; what reads it computes int8 as before.

    refine: after that, train the integers towards the float network's outputs for so many steps, 0
    for none; see `isobit.train.refine`. It needs at least 8 examples, holds out every fourth and
    keeps what is nearest to the float network there, at worst the start; `model.refinement` says
    what came of it. seed: 0..2^31-1, of the order of its examples. report: called with a `Progress`
    during it, first with what it will cost.

    The same model trains on (`isobit.fit`, or your own loop), deploys and is saved. It is in eval
    mode. Raises `BadArgument`, `BadRunInput`, and what `Model.from_graph` raises.
    """
    given = Arguments("calibrate")
    given.instance("graph", graph, Graph, "a float graph, e.g. of isobit.import_file")
    chosen = given.member("method", method, RangeMethod)
    count = given.integer("samples", samples, at_least=1)
    given.flag("bias_correction", bias_correction)
    given.flag("equalise", equalise)
    given.member("input_dtype", input_dtype, InputDType)
    refine_steps = given.integer("refine", refine, at_least=0)
    seed = given.integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
    given.function("report", report)
    values = _values(given, data)
    used = min(count, len(values))
    if refine_steps and not given.problems and used < LEAST_EXAMPLES:
        want = f"at least {LEAST_EXAMPLES} examples to refine with, a quarter of them held out"
        given.refuse("refine", want, str(used), "Give more examples, or leave it out.")
    given.check()
    x = spread(values, count)
    if graph.stage is Stage.FLOAT:
        if equalise:
            names = ("fold_batch_norm", "equalise")
            graph, _ = run_passes(graph, [load_passes()[name] for name in names])
        if bias_correction:
            graph = _with_biases(graph)
        graph = with_observed(graph, x)
    options = RangeOptions(method=chosen)
    model = Model.from_graph(
        graph, target=target, scheme=scheme, name=name, ranges=options, input_dtype=input_dtype
    )
    model.eval()
    model.calibrate(x)
    floats = model.float_graph()
    if bias_correction:
        correct_biases(model, x, channel_means(floats, x))
    if refine_steps:
        _refine(model, floats, x, refine_steps, seed, report)
    return model


def _refine(
    model: Model, floats: Graph, x: AnyArray, steps: int, seed: int, report: Report | None
) -> None:
    wanted = [torch.from_numpy(values).float() for values in float_logits(floats, x)]
    examples = torch.from_numpy(x.astype(np.float32))
    found = bring_nearer(model, examples, wanted, steps=steps, seed=seed, report=report)
    model.refinement = found


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the integers are from the float network on some examples, in the first output."""

    examples: int
    top1: float
    """Fraction of examples with the same largest element."""
    error: float
    """Root mean square of the difference."""
    largest: float
    """Largest magnitude in the float network, for comparison."""


def compare(model: Model, graph: Graph, x: AnyArray) -> Agreement:
    """Run a calibrated model and the float graph it came from on real inputs x [N, *input]."""
    x = x.astype(np.float32)
    with torch.no_grad():
        outputs = model(x)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    own = first.reshape(len(x), -1).cpu().numpy()
    real = run_golden(graph, x)[graph.outputs[0]].reshape(len(x), -1)
    return Agreement(
        examples=len(x),
        top1=float((own.argmax(axis=1) == real.argmax(axis=1)).mean()),
        error=float(np.sqrt(np.square(own - real).mean())),
        largest=float(np.abs(real).max()),
    )


def spread(values: AnyArray, count: int) -> AnyArray:
    """Return at most `count` examples, evenly spread, so that sorted data is seen whole."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)]


def float_logits(graph: Graph, x: AnyArray) -> list[FloatArray]:
    """Return the outputs [N, ...] of a float graph, of those that a softmax computes what goes into
    it, as `Twin.logits` does.
    """
    softmaxes: dict[str, Any] = {n.output.name: n.inputs for n in graph.nodes if n.op == "softmax"}
    names = [softmaxes[name].x if name in softmaxes else name for name in graph.outputs]
    parts: list[list[FloatArray]] = [[] for _ in names]
    for start in range(0, len(x), AT_ONCE):
        values = run_golden(graph, x[start : start + AT_ONCE].astype(np.float32))
        for found, name in zip(parts, names, strict=True):
            found.append(values[name])
    return [np.concatenate(found) for found in parts]


def channel_means(graph: Graph, x: AnyArray) -> dict[str, FloatArray]:
    """Return the mean of every output channel [C] of the operators with weights, by value name."""
    registry = load_ops()
    names = [n.output.name for n in graph.nodes if issubclass(registry.op(n.op), WeightedOp)]
    sums: dict[str, FloatArray] = {}
    for start in range(0, len(x), AT_ONCE):
        part = x[start : start + AT_ONCE].astype(np.float32)
        values = run_golden(graph, part)
        for name in names:
            value = values[name]
            own = value.reshape(len(part), -1, value.shape[-1]).mean(axis=1).sum(axis=0)
            sums[name] = sums.get(name, 0.0) + own
    return {name: total / len(x) for name, total in sums.items()}


def with_observed(graph: Graph, x: AnyArray) -> Graph:
    """Return a float graph whose operators know how large their outputs become on x [N, *input]:
    `Op.observed`, such as the scale of a cell state.
    """
    registry, plain = load_ops(), Op.observed
    nodes = [node for node in graph.nodes if registry.op(node.op).observed is not plain]
    if not nodes:
        return graph
    largest = {value.name: 0.0 for node in nodes for value in node.outputs}
    for start in range(0, len(x), AT_ONCE):
        values = run_golden(graph, x[start : start + AT_ONCE].astype(np.float32))
        for name, most in largest.items():
            largest[name] = max(most, float(np.abs(values[name]).max()))
    edit = Editor(graph)
    for node in nodes:
        found = [largest[value.name] for value in node.outputs]
        edit.replace(node, replace(node, attrs=registry.op(node.op).observed(node.attrs, found)))
    return edit.result()


def _values(given: Arguments, data: object) -> AnyArray:
    """Return examples [N, ...]; what is wrong with them goes to `given`, or is found by the
    model.
    """
    if isinstance(data, Dataset):
        return data.images
    if isinstance(data, Tensor):
        data = data.detach().cpu().numpy()
    if isinstance(data, np.ndarray) and data.ndim >= 1 and data.dtype.kind in "biuf" and len(data):
        return data
    want = "a Dataset, or real values [N, *input] as a tensor or NumPy array, N > 0"
    given.refuse("data", want, shown(data), "Pass examples that are like those the chip will see.")
    return np.zeros((1,))


def _with_biases(graph: Graph) -> Graph:
    """Return the graph with a bias of its own, of zeros where it had none, for every operator with
    weights.
    """
    registry, edit, consts = load_ops(), Editor(graph), graph.const_map()
    taken: set[str] = set()
    for node in graph.nodes:
        op, inputs = registry.op(node.op), node.inputs
        if not isinstance(inputs, WeightedInputs) or not issubclass(op, WeightedOp):
            continue
        if inputs.b is not None and inputs.b not in taken:
            taken.add(inputs.b)
            continue
        kind: Any = consts[inputs.w].type
        channels = kind.shape[op.channel_axis]
        data = np.zeros(channels) if inputs.b is None else consts[inputs.b].data
        b = edit.const(f"{node.output.name}.b", kind, data)
        edit.replace(node, replace(node, inputs=replace(inputs, b=b)))
    return edit.result()
