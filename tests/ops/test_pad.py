from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from isobit import Model, nn
from isobit.core.errors import BadAttribute, NotTraceable
from isobit.core.types import Affine, Pow2
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.pad.op import Pad, PadAttrs, PadInputs
from isobit.ops.schemes import Scheme
from ops.end_to_end import SCHEMES, Function, assert_moves_as_torch, assert_same_bits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pad_has_the_same_bits(scheme: str) -> None:
    net = nn.Sequential(
        nn.ZeroPad2d((1, 2, 0, 3)),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.ConstantPad2d(1, 0.0),
        nn.MaxPool2d(2),
    )
    graph = assert_same_bits(net, (3, 5, 4), scheme)
    assert [n.op for n in graph.nodes].count("pad") == 2


@pytest.mark.parametrize("pads", [(1, 2), (0, 0, 2, 1), (1, 0, 0, 2, 3, 1), (0, 0)])
def test_pads_are_torchs(pads: tuple[int, ...]) -> None:
    assert_moves_as_torch(Function(lambda x: functional.pad(x, pads)), (2, 3, 4))
    assert_moves_as_torch(Function(lambda x: functional.pad(x, pads[:2], value=0.0)), (6,))


def test_pad_of_a_flattened_image_is_in_torchs_order() -> None:
    assert_moves_as_torch(Function(lambda x: functional.pad(x.flatten(1), (1, 2))), (2, 3, 4))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: functional.pad(x, (1, -1)), "padding"),
        (lambda x: functional.pad(x, (1, 1), value=2.0), "value"),
        (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), "mode"),
        (lambda x: functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)), "padding"),
    ],
)
def test_what_cannot_be_padded_is_refused(function, words: str) -> None:
    with pytest.raises(NotTraceable, match=words):
        Model(Function(function), input=(4, 3, 3))


def test_pads_and_value_must_fit_the_input() -> None:
    x = PadInputs(sampling.kind((1, 5), Pow2((3,))))
    for attrs in (PadAttrs(()), PadAttrs(((0, -1),)), PadAttrs(((1, 1),), 128)):
        with pytest.raises(BadAttribute):
            Pad.infer(attrs, x)


@pytest.mark.parametrize(
    ("real", "code"),
    [(0.0, None), (0.26, 8), (-0.24, -2), (float("-inf"), -128), (float("inf"), 127), (99.0, 127)],
)
def test_a_real_value_becomes_its_nearest_code(real: float, code: int | None) -> None:
    x = sampling.kind((1, 5), Affine((0.05,), 3))
    attrs = PadAttrs(((1, 1),), real=real)
    y = sampling.kind(Pad.infer(attrs, PadInputs(x)).shape, x.encoding)
    found, constants = Pad.derive(attrs, NodeTypes(PadInputs(x), (y,)), Scheme.AFFINE, None)
    assert found.value == code and not constants
    padded = Pad.real(attrs, PadInputs(np.zeros((1, 5))))
    assert padded[0, 0] == padded[0, -1] == real


def test_padding_is_real_zero_for_any_zero_point() -> None:
    model = Model(nn.Sequential(nn.ZeroPad2d(1)), input=(1, 2, 2))
    model.train()
    model(torch.tensor([[[[3.0, 5.0], [4.0, 1.0]]]]))
    model.eval()
    y = model(torch.full((1, 1, 2, 2), 5.0))
    assert float(y[0, 0, 0, 0]) == 0.0 and float(y[0, 0, 1, 1]) == 5.0
