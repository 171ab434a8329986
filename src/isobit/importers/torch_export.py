"""PyTorch modules to graphs, through `torch.export`: float ones, and PT2E graphs on codes.

`torch_program` makes a module plain data, `torch_codes` a PT2E graph one in QDQ form. From there on
it is imported as an ONNX file is, with PyTorch's names of operators.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from isobit.core.errors import IsobitError, Unsupported, raise_all
from isobit.importers.base import Imported
from isobit.importers.onnx import Importer
from isobit.importers.onnx_codes import Work
from isobit.importers.onnx_file import FileModel
from isobit.importers.torch_bounds import gaps
from isobit.importers.torch_codes import FUSES, PRESERVING, Island, as_qdq
from isobit.importers.torch_program import trace
from isobit.ir.builder import clean_name
from isobit.ir.graph import Graph
from isobit.ops.check import check
from isobit.ops.foreign import Operand, Rule
from isobit.ops.logical import Note
from isobit.ops.registry import load_ops

if TYPE_CHECKING:
    import torch

FORMAT = "torch"
SHARED = frozenset({"Relu", "Clip", "QuantizeLinear"})
"""What `torch_codes` calls by ONNX's name."""
WRITTEN = ("float32", "int8", "uint8")
WEIGHTED = ("conv", "linear", "addmm", "mm.", "matmul")
"""How the names of operators begin that batch norms fold into."""


def read(
    module: torch.nn.Module, example_inputs: Sequence[torch.Tensor], *, name: str = ""
) -> Imported:
    """Return a module as a graph, nothing rewritten yet: of reals, or of codes for a PT2E graph.

    name: of the network; the module's class by default. Raises `BadArgument`, `NotTraceable`, and
    every `Unsupported` of the module at once.
    """
    known = {code for source, code in load_ops().rules if source == FORMAT}
    traced = trace(module, example_inputs, known)
    model = traced.model
    islands: list[Island] = []
    if model.coded:
        model, islands = as_qdq(model, traced.ranges)
    label = type(module).__name__
    reader = _Importer(model, name or clean_name(label))
    graph = reader.graph()
    check(graph)
    notes = list(reader.notes)
    notes.extend(_differences(reader, islands))
    source = {
        "format": FORMAT,
        "module": label,
        "notes": json.dumps([asdict(note) for note in notes], sort_keys=True),
    }
    return Imported(graph=graph, names=reader.names, source=source, notes=tuple(notes))


def _differences(reader: _Importer, islands: Sequence[Island]) -> Iterator[Note]:
    """Yield where torch computes with reals and we with codes, and by how much that can differ."""
    own: Counter[str] = Counter()
    for note in reader.notes:
        own[note.value] += note.lsb
    for island in islands:
        value = reader.operand(island.codes).value
        yield Note(value=value, kind="range", text=island.text)
    lsb = {island.codes: own[reader.operand(island.codes).value] for island in islands}
    for gap in gaps(reader.model, list(lsb), lsb) if islands else []:
        if gap.codes in reader.operands:
            text = (
                "torch computes with reals before it: "
                f"{gap.near} while these stay in the range of their codes, {gap.lsb} anywhere"
            )
            value = reader.operands[gap.codes].value
            yield Note(value=value, kind="lsb", text=text, lsb=gap.lsb)


class _Importer(Importer):
    """One module on its way to a graph."""

    preserving = PRESERVING
    fuses = FUSES

    def __init__(self, model: FileModel, name: str) -> None:
        super().__init__(_norms_marked(model), name)
        self.computed = set(self.coded.inputs)

    def graph(self) -> Graph:
        """Return the graph, or raise every refusal."""
        problems: list[IsobitError] = []
        for name in dict.fromkeys(self.model.outputs):
            if name not in self.model.values:  # the reader of the program has refused it
                problems.extend(self.model.problems)
        raise_all(problems)
        return super().graph()

    def rule(self, work: Work) -> Rule | None:
        """Return the rule of an operator, `None` where there is none."""
        rules = load_ops().rules
        return rules.get(("onnx" if work.code in SHARED else FORMAT, work.code))

    def unknown(self, work: Work) -> Unsupported:
        """Return the refusal of an operator without a rule."""
        return Unsupported(
            where=work.node.where,
            what="operator",
            want="one of `isobit ops --source torch`",
            got=work.code,
            fix=NEAREST.get(work.code.split(".")[0], "Rewrite it with supported operators."),
        )

    def refuse(self, name: str, what: str, want: str, got: str) -> Unsupported:
        """Return the refusal of a tensor; integers that are computed are places of maxima."""
        if what != "value" or not got.startswith(("int", "bool")):
            return super().refuse(name, what, want, got)
        return Unsupported(
            where=f'value "{name}"',
            what=what,
            want=want,
            got=got,
            fix="Return values only: indices, comparisons and counts are found on the host.",
        )

    def results(self, work: Work) -> tuple[Operand, ...]:
        """Return the outputs that rules may write: not the indices of maxima, and none of those
        without elements that torch declares.
        """
        found = [(name, self.model.values.get(name)) for name in work.outputs]
        return tuple(
            self.operand(name)
            for name, value in found
            if value is not None and value.dtype in WRITTEN and 0 not in value.shape
        )

    def operator(self, work: Work) -> None:
        """Let the operator's rule record its steps; refuse what reads a result it has none for."""
        if self.rule(work) is None:
            raise self.unknown(work)
        for name in work.inputs:
            if name and name not in self.model.constants and name not in self.computed:
                raise _uncomputed(work.node.where, name)
        first = len(self.steps)
        super().operator(work)
        written = {y.value for step in self.steps[first:] for y in step.ys}
        own = [name for name in work.outputs if name in self.operands]
        self.computed.update(name for name in own if self.operands[name].value in written)


def _norms_marked(model: FileModel) -> FileModel:
    """Return the model with `alone` set on batch norms that no operator with weights takes on."""
    producer = {name: node for node in model.nodes for name in node.outputs}
    reads = Counter(name for node in model.nodes for name in node.inputs)
    nodes = []
    for node in model.nodes:
        if "batch_norm" in node.code:
            x = node.inputs[0]
            before = producer.get(x)
            folds = before is not None and before.code.startswith(WEIGHTED)
            alone = not folds or reads[x] > 1 or x in model.outputs
            node = replace(node, options={**node.options, "alone": alone})
        nodes.append(node)
    return replace(model, nodes=nodes)


def _uncomputed(where: str, name: str) -> Unsupported:
    return Unsupported(
        where=where,
        what="value",
        want="the first result of an operator",
        got=f'"{name}", which has no counterpart here',
        fix="End the network before it; indices of maxima can be found on the host.",
    )


_CHOICE = "Write the choice as relu, clamp, leaky_relu, maximum or a product."
_BORDER = "Compute it on the host, before the network or behind it."
_RANDOM = "Leave it out in eval mode: `if self.training`."
NEAREST: dict[str, str] = {
    "_native_batch_norm_legit": "Use track_running_stats=True, and export in eval mode.",
    "layer_norm": "Train with batch normalisation, which folds into weights.",
    "group_norm": "Train with batch normalisation, which folds into weights.",
    "instance_norm": "Train with batch normalisation, which folds into weights.",
    "argmax": "End the network before it and take the largest output: the order is the same.",
    "argmin": "End the network before it and take the smallest output: the order is the same.",
    "topk": "End the network before it and choose on the host.",
    "sort": "End the network before it and sort on the host.",
    "median": "Use a mean or a maximum, or end the network before it.",
    "embedding": "Look the rows up on the host and make them the input.",
    "scaled_dot_product_attention": "There is no product of two activations yet; use convolutions.",
    "bmm": "There is no product of two activations yet; multiply by parameters.",
    "bilinear": "There is no product of two activations yet; multiply by parameters.",
    "cdist": "Compare by a product with constant rows: torch.nn.Linear.",
    "quantized_decomposed": "Quantise statically, with one scale per tensor or per channel of "
    "weights, as X86InductorQuantizer and XNNPACKQuantizer do.",
    "torchao": "Quantise statically with prepare_pt2e and convert_pt2e.",
    "where": _CHOICE,
    "masked_fill": _CHOICE,
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne", "sign", "logical_and"), _CHOICE),
    "einsum": "Write it as torch.nn.Linear or a 1x1 convolution.",
    "upsample_bicubic2d": 'Use mode="bilinear" or "nearest".',
    "_upsample_bilinear2d_aa": "Use antialias=False, or an average pool before.",
    "_upsample_bicubic2d_aa": 'Use mode="bilinear" without antialias, or an average pool before.',
    "max_pool2d_with_indices": "Use return_indices=False and upsample with F.interpolate.",
    "max_unpool2d": "Upsample with F.interpolate or a transposed convolution.",
    "fractional_max_pool2d": "Use a max pool with one stride.",
    **dict.fromkeys(("max_pool3d", "avg_pool3d"), "Use pools of two axes."),
    "im2col": "Use the convolution that would read the patches.",
    "cumsum": "Use a causal convolution.",
    **dict.fromkeys(("fft_rfft", "fft_fft", "stft"), _BORDER),
    **dict.fromkeys(("rand", "rand_like", "randn", "randn_like", "bernoulli"), _RANDOM),
    **dict.fromkeys(("exponential", "normal_functional", "empty_like"), _RANDOM),
}
"""The closest thing that can be imported."""
