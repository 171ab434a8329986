from __future__ import annotations

import numpy as np
import pytest
import torch

from isobit.core.errors import BadAttribute, SeveralProblems
from isobit.core.types import Pow2
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.mirror_pad.op import Mirror, MirrorPad, MirrorPadAttrs, MirrorPadInputs
from isobit.ops.mirror_pad.reference import loops


@pytest.mark.parametrize(
    "attrs",
    [
        MirrorPadAttrs(()),
        MirrorPadAttrs(((-1, 0),)),
        MirrorPadAttrs(((0, 3),)),
        MirrorPadAttrs(((4, 0),), Mirror.SYMMETRIC),
    ],
)
def test_a_mirror_shows_what_there_is(attrs: MirrorPadAttrs) -> None:
    with pytest.raises(BadAttribute):
        MirrorPad.infer(attrs, MirrorPadInputs(sampling.kind((1, 3), Pow2((3,)))))


def test_all_axes_that_are_wrong_are_named_at_once() -> None:
    x = sampling.kind((1, 3, 3), Pow2((3,)))
    with pytest.raises(SeveralProblems) as found:
        MirrorPad.infer(MirrorPadAttrs(((3, 0), (0, 3))), MirrorPadInputs(x))
    assert len(found.value.problems) == 2


def test_reflect_is_torchs() -> None:
    x = np.random.default_rng(1).integers(-128, 128, size=(2, 4, 5, 3))
    attrs = MirrorPadAttrs(((1, 3), (2, 4), (0, 0)))
    got = MirrorPad.integer(attrs, None, MirrorPadInputs(x))  # type: ignore[arg-type]
    image = torch.tensor(x).permute(0, 3, 1, 2).float()
    want = torch.nn.functional.pad(image, (2, 4, 1, 3), mode="reflect")
    assert (torch.tensor(got).permute(0, 3, 1, 2) == want).all()


def test_channels_without_pads_are_one_run() -> None:
    x = sampling.kind((1, 4, 5, 3), Pow2((3,)))
    attrs = MirrorPadAttrs(((1, 1), (1, 1), (0, 0)))
    y = sampling.kind(MirrorPad.infer(attrs, MirrorPadInputs(x)).shape, Pow2((3,)))
    assert loops(attrs, NodeTypes(MirrorPadInputs(x), (y,))) == ([(4, 1, 1), (5, 1, 1)], 3)
