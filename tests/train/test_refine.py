"""`calibrate(..., refine=STEPS)`: nearer to the float network, never further, and still exact."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import isobit
from isobit.api.calibrate import float_logits
from isobit.api.model import Model
from isobit.core.errors import BadArgument, IsobitError
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph, Value
from isobit.ir.store import Stored, to_bytes
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.run.golden import run_golden
from isobit.train import refine
from isobit.train.refine import Fidelity, Progress, Refinement
from isobit.train.refine import refine as bring_nearer

from .test_calibrate import SCHEMES, equal_everywhere, float_graph, grown, inputs, pixels

both = pytest.mark.parametrize("scheme", SCHEMES)


def bits(model: Model) -> bytes:
    return to_bytes(Stored({"int": model.export()}))


def rare(count: int = 64) -> AnyArray:
    """Digits, one pixel of one a hundred times as large as any other: its range costs every other
    value its precision.
    """
    x = pixels(count)
    x[5, 0, 0] = 1600.0
    return x


def rms(model: Model, graph: Graph, x: AnyArray) -> float:
    """How far the first logits are from those of the float network."""
    with torch.no_grad():
        own = model.logits(x)
    first = own[0] if isinstance(own, tuple) else own
    return float(np.sqrt(np.square(first.numpy() - float_logits(graph, x)[0]).mean()))


def told(model: Model) -> Refinement:
    assert model.refinement is not None
    return model.refinement


@pytest.mark.parametrize(("scheme", "less"), [("affine", 0.6), ("pow2", 0.9)])
def test_nearer_on_other_examples_and_equal_everywhere(
    scheme: str, less: float, tmp_path: Path
) -> None:
    graph, others = float_graph(), pixels(160)[96:]
    seen = rare(96) if scheme == "affine" else pixels(96)
    plain = isobit.calibrate(graph, seen, scheme=scheme)
    model = isobit.calibrate(graph, seen, scheme=scheme, refine=24)
    found = told(model)
    assert found.after.error < less * found.before.error
    assert found.after.top1 >= found.before.top1
    assert (found.learned, found.held, found.steps) == (72, 24, 24) and found.kept != "nothing"
    assert rms(model, graph, others) < less * rms(plain, graph, others)
    assert not model.training and not model.missing_ranges()
    equal_everywhere(model, others[:3], tmp_path / "out")
    model.save(tmp_path / "m.isobit")
    assert bits(Model.from_file(tmp_path / "m.isobit")) == bits(model)


def test_the_default_refines_nothing() -> None:
    graph, x = float_graph(), pixels(32)
    model = isobit.calibrate(graph, x)
    assert model.refinement is None
    assert bits(model) == bits(isobit.calibrate(graph, x, refine=0, seed=7))


def test_the_seed_decides_the_bits() -> None:
    graph, x = float_graph(), rare()
    one, two, other = (bits(isobit.calibrate(graph, x, refine=8, seed=s)) for s in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize("top1", [0.5, 1.0])
def test_nothing_better_is_undone(top1: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a larger error is kept nor, of a softmax, a rarer agreement in the class."""
    judged = iter(
        [Fidelity(error=0.1, top1=0.75)] + [Fidelity(error=1.5 * top1 - 0.7, top1=top1)] * 9
    )
    monkeypatch.setattr(refine._Target, "fidelity", lambda _: next(judged))
    graph, x = float_graph(), pixels(32)
    model = isobit.calibrate(graph, x, refine=4)
    assert told(model).kept == "nothing" and told(model).after == told(model).before
    assert bits(model) == bits(isobit.calibrate(graph, x))


def test_stopped_it_leaves_the_best_so_far() -> None:
    graph, x = float_graph(), rare()
    model = isobit.calibrate(graph, x)
    before = rms(model, graph, x)

    def stop(now: Progress) -> None:
        if now.stage == "weights":
            raise KeyboardInterrupt

    wanted = [torch.from_numpy(y).float() for y in float_logits(graph, x)]
    with pytest.raises(KeyboardInterrupt):
        bring_nearer(model, torch.from_numpy(x), wanted, steps=4, report=stop)
    assert rms(model, graph, x) < before
    assert not model.training


def test_it_says_its_cost_first_and_how_far_it_is() -> None:
    seen: list[Progress] = []
    isobit.calibrate(float_graph(), pixels(32), refine=6, report=seen.append)
    assert seen[0].done == 0 and seen[0].seconds > 0
    done = [now.done for now in seen]
    assert done == sorted(done) and done[-1] <= 1
    assert {now.stage for now in seen} == {"ranges", "weights"}
    assert all(math.isfinite(now.error) for now in seen)
    assert sum(now.stage == "weights" for now in seen) == 6


@both
def test_several_outputs_without_a_softmax(scheme: str, tmp_path: Path) -> None:
    build, _, x = grown(weights=2)
    build.output("r0")
    build.output(x)
    graph = build.graph()
    model = isobit.calibrate(graph, inputs(), scheme=scheme, refine=20)
    plain = isobit.calibrate(graph, inputs(), scheme=scheme)
    assert told(model).after.error <= told(model).before.error
    assert rms(model, graph, inputs()) <= 1.05 * rms(plain, graph, inputs())
    assert len(float_logits(graph, inputs())) == 2
    equal_everywhere(model, inputs()[:3], tmp_path / "out")


def test_float_logits_are_what_a_softmax_takes() -> None:
    graph, x = float_graph(), pixels(40)
    (found,) = float_logits(graph, x)
    assert np.array_equal(found, run_golden(graph, x)["classifier"])


def test_too_few_examples_and_wrong_arguments_are_refused() -> None:
    with pytest.raises(BadArgument, match="at least 8 examples to refine with"):
        isobit.calibrate(float_graph(), pixels(7), refine=1)
    with pytest.raises(BadArgument, match="at least 8 examples to refine with"):
        isobit.calibrate(float_graph(), pixels(64), samples=7, refine=1)
    with pytest.raises(IsobitError) as caught:
        isobit.calibrate(float_graph(), pixels(8), refine=-1, seed=-1, report="yes")  # type: ignore[arg-type]
    assert [problem.what for problem in caught.value.problems] == ["refine", "seed", "report"]


def test_a_range_that_a_pad_needs_is_left_alone() -> None:
    build, kind, x = grown()
    wide = Value("wide", kind.with_shape((1, 6, 6, 3)))
    attrs = PadAttrs(pads=((1, 1), (1, 1), (0, 0)), real=9.0)
    build.output(build.node("pad", PadInputs(x), attrs, wide))
    model = isobit.calibrate(build.graph(), inputs(), refine=2)
    assert all(ends[0] is not model.observers["c0"].frozen_high for ends in refine._ends(model))
    assert model.frozen_range("c0")[1] == 9.0
