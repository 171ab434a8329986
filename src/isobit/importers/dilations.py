"""Convolutions between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, as the dilated ones they are.

TensorFlow computes a dilated convolution so: every b-th pixel becomes an image of its own, an
ordinary convolution runs over all of them, and the images are put together again. With a dynamic
batch (the default of Keras) converters keep the three; the shapes in such a file are wrong, because
they count the images as one. One operator with its dilation times b computes the same sums in the
same order, of the same codes: space-to-batch pads with the zero point, as PAD does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isobit.core.types import AnyArray, Shape
from isobit.importers.flatbuffer import FlatModel, FlatOperator, FlatTensor, Quantization
from isobit.ops.window import Pair

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
VIEWS = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE")
POINTWISE = ("ADD", "SUB", "MUL", "RELU", "RELU6", "RELU_N1_TO_1", "PRELU", "LEAKY_RELU")
"""What may stand between the convolution and BATCH_TO_SPACE_ND: per element, or per channel."""
VALID = 1


def undilated(model: FlatModel) -> tuple[FlatModel, tuple[int, ...]]:
    """Return the model with every such group as PAD, a dilated convolution and SLICE; groups of
    another form stay as they are. And the results of those whose images the file counts as one:
    tflite-micro, which takes shapes from the file, computes something else there.
    """
    miscounted: list[int] = []
    readers = Counter(i for operator in model.operators for i in operator.inputs)
    readers.update(model.outputs)
    tensors, operators = list(model.tensors), list(model.operators)
    for start, operator in enumerate(model.operators):
        if operator.code == "SPACE_TO_BATCH_ND":
            group = _chain(model, start, readers)
            found = _Rewrite(tensors, operators, group).run() if group else None
            if found is not None:
                tensors, operators = found
                block = model.tensors[operator.inputs[1]].data
                images = 1 if block is None else int(np.prod(block))
                if model.tensors[operator.outputs[0]].shape[:1] != (images,):
                    miscounted.extend(model.operators[group[-1]].outputs)
    instead = replace(model, tensors=tuple(tensors), operators=tuple(operators))
    return instead, tuple(miscounted)


def _chain(model: FlatModel, start: int, readers: Mapping[int, int]) -> list[int]:
    """Return the positions from a SPACE_TO_BATCH_ND to its BATCH_TO_SPACE_ND, [] where there is
    none: each but the last computes what only the next one reads.
    """
    found = [start]
    while model.operators[found[-1]].code != "BATCH_TO_SPACE_ND":
        outputs = model.operators[found[-1]].outputs
        if len(outputs) != 1 or readers[outputs[0]] != 1:
            return []
        reads = (
            k
            for k in range(found[-1] + 1, len(model.operators))
            if model.operators[k].inputs[:1] == outputs
        )
        position = next(reads, None)
        known = (*CONVOLUTIONS, *VIEWS, *POINTWISE, "BATCH_TO_SPACE_ND")
        if position is None or model.operators[position].code not in known:
            return []
        found.append(position)
    return found


class _NoMatch(Exception):
    """The group has another form."""


@dataclass
class _Rewrite:
    """One group on its way; `shape` is that of the value reached so far."""

    tensors: Sequence[FlatTensor]
    operators: Sequence[FlatOperator]
    group: list[int]

    def run(self) -> tuple[list[FlatTensor], list[FlatOperator]] | None:
        """Return all tensors and operators with the group rewritten, `None` where it cannot be."""
        self.new, self.nodes = list(self.tensors), list(self.operators)
        self.convolved = False
        try:
            self.pad(self.group[0])
            for position in self.group[1:-1]:
                code = self.operators[position].code
                if code in CONVOLUTIONS:
                    self.convolve(position)
                elif code in VIEWS:
                    self.view(position)
                else:
                    self.point(position)
            self.crop(self.group[-1])
        except _NoMatch:
            return None
        return self.new, self.nodes

    def stored(self, index: int, shape: Shape) -> AnyArray:
        data = self.tensors[index].data if index >= 0 else None
        if data is None or data.dtype.kind != "i" or data.shape != shape:
            raise _NoMatch
        return data

    def frame(self, position: int) -> tuple[AnyArray, AnyArray]:
        """Return the block shape [M] and the paddings or crops [M,2] of an operator."""
        inputs = self.operators[position].inputs
        data = self.tensors[inputs[1]].data if len(inputs) == 3 and inputs[1] >= 0 else None
        if data is None:
            raise _NoMatch
        count = data.size
        block, sides = self.stored(inputs[1], (count,)), self.stored(inputs[2], (count, 2))
        if not count or block.min() < 1 or sides.min() < 0 or max(block.max(), sides.max()) > 4096:
            raise _NoMatch
        return block, sides

    def pad(self, position: int) -> None:
        operator = self.operators[position]
        self.block, sides = self.frame(position)
        x = self.tensors[operator.inputs[0]]
        rank, count = len(x.shape), len(self.block)
        if rank not in (3, 4) or count > rank - 2 or x.shape[0] != 1:
            raise _NoMatch
        pads = np.zeros((rank, 2), dtype=np.int32)
        pads[1 : count + 1] = sides
        self.shape: Shape = tuple(int(n) for n in np.asarray(x.shape) + pads.sum(axis=1))
        if any(size % b for size, b in zip(self.shape[1:], self.block, strict=False)):
            raise _NoMatch
        self.blocks: Shape = (1, *(int(b) for b in self.block), *(1,) * (rank - count - 1))
        self.write(position, "PAD", (operator.inputs[0], self.constant(pads)), {})

    def view(self, position: int) -> None:
        """An axis of size 1 comes or goes; the file's own shape says which."""
        was = self.tensors[self.operators[position].inputs[0]].shape
        now = self.tensors[self.operators[position].outputs[0]].shape
        if len(was) != len(self.shape):
            raise _NoMatch
        pairs = list(zip(self.shape, self.blocks, strict=True))
        for axis in range(1, 3):
            if (
                len(now) == len(was) + 1
                and now[axis] == 1
                and (*now[:axis], *now[axis + 1 :]) == was
            ):
                pairs.insert(axis, (1, 1))
                break
            gone = len(now) == len(was) - 1 and (*was[:axis], *was[axis + 1 :]) == now
            if gone and pairs[axis] == (1, 1):
                del pairs[axis]
                break
        else:
            raise _NoMatch
        self.shape, self.blocks = tuple(s for s, _ in pairs), tuple(b for _, b in pairs)
        self.write(position, "RESHAPE", self.operators[position].inputs[:1], {})

    def convolve(self, position: int) -> None:
        operator, options = self.operators[position], dict(self.operators[position].options)
        w = self.tensors[operator.inputs[1]] if len(operator.inputs) > 1 else None
        plain = (
            options.get("padding") == VALID
            and (options.get("stride_h", 1), options.get("stride_w", 1)) == (1, 1)
            and not self.convolved
        )
        if not plain or w is None or len(w.shape) != 4 or len(self.shape) != 4:
            raise _NoMatch
        names = ("dilation_h_factor", "dilation_w_factor")
        old: Pair = (int(options.get(names[0], 1)), int(options.get(names[1], 1)))
        dilation = tuple(d * b for d, b in zip(old, self.blocks[1:3], strict=True))
        size = [
            n - (k - 1) * d for n, k, d in zip(self.shape[1:3], w.shape[1:3], dilation, strict=True)
        ]
        channels = w.shape[0 if operator.code == "CONV_2D" else 3]
        if min(*size, *dilation) < 1:
            raise _NoMatch
        self.shape, self.convolved = (1, *size, channels), True
        options.update(zip(names, dilation, strict=True))
        self.write(position, operator.code, operator.inputs, options)

    def point(self, position: int) -> None:
        """The other operand is stored, one number or one per channel."""
        operator = self.operators[position]
        for index in operator.inputs[1:]:
            shape = self.tensors[index].shape if index >= 0 else ()
            if index < 0 or self.tensors[index].data is None or any(n != 1 for n in shape[:-1]):
                raise _NoMatch
        self.write(position, operator.code, operator.inputs, operator.options)

    def crop(self, position: int) -> None:
        operator = self.operators[position]
        block, sides = self.frame(position)
        y = self.tensors[operator.outputs[0]]
        rank, count = len(self.shape), len(block)
        blocks = (1, *(int(b) for b in block), *(1,) * (rank - count - 1))
        if blocks != self.blocks or not self.convolved:
            raise _NoMatch
        begin, size = np.zeros(rank, dtype=np.int32), np.asarray(self.shape, dtype=np.int32)
        begin[1 : count + 1] = sides[:, 0]
        size[1 : count + 1] -= sides.sum(axis=1).astype(np.int32)
        if size.min() < 1 or tuple(size.tolist()) != y.shape:
            raise _NoMatch
        inputs = (operator.inputs[0], self.constant(begin), self.constant(size))
        self.nodes[position] = replace(operator, code="SLICE", inputs=inputs, options={})

    def constant(self, data: AnyArray) -> int:
        """Append a stored tensor; return its index."""
        self.new.append(
            FlatTensor(
                name="",
                shape=data.shape,
                dtype="INT32",
                quantization=Quantization(),
                data=data.astype(np.int32),
                is_variable=False,
            )
        )
        return len(self.new) - 1

    def write(
        self, position: int, code: str, inputs: tuple[int, ...], options: Mapping[str, object]
    ) -> None:
        """Make an operator another one, and its output the value that now has `shape`."""
        operator = self.operators[position]
        index = operator.outputs[0]
        old = self.new[index]
        # Not the runtime's tensor any more, so it does not keep that name.
        self.new[index] = replace(old, name=f"{old.name} (dilated)", shape=self.shape)
        self.nodes[position] = replace(operator, code=code, inputs=inputs, options=dict(options))
