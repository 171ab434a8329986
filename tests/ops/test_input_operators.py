"""What raw pixels go through first: `standardize`, `mean_image`, `per_image_standardize`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import nn as torch_nn

from isobit import Model, nn, targets
from isobit.codegen.network import generate
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, BadWeights
from isobit.core.types import Affine, Pow2, Raw, TensorType
from isobit.ir.graph import Graph, Node, Stage, Value
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.mean_image.op import MeanImage
from isobit.ops.per_image_standardize import factors, torch_factors
from isobit.ops.per_image_standardize.op import (
    PerImageStandardize,
    PerImageStandardizeAttrs,
    PerImageStandardizeInputs,
)
from isobit.ops.standardize.op import StandardizeAttrs, StandardizeInputs
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.train.adapting import adapt_inputs

from .end_to_end import SCHEMES, assert_same_bits

CORES = ("host", "cortex-m4", "cortex-m0plus", "rv32imc")
PIXELS = Affine((1.0,), 0)


def pixels(*shape: int, seed: int = 3) -> Tensor:
    """Raw images, each of another brightness and contrast."""
    rng = torch.Generator().manual_seed(seed)
    n = (shape[0], *[1] * (len(shape) - 1))
    middle = torch.randint(40, 200, n, generator=rng)
    spread = torch.randint(5, 60, n, generator=rng)
    return (middle + spread * torch.randn(shape, generator=rng)).round().clamp(0, 255)


@pytest.mark.parametrize("layer", ["MeanImage", "PerImageStandardize", "Standardize"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_network_has_the_same_bits_everywhere(scheme: str, layer: str) -> None:
    torch.manual_seed(4)
    net = torch_nn.Sequential(
        getattr(nn, layer)(),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )
    graph = assert_same_bits(net, (3, 8, 7), scheme, CORES, pixels(6, 3, 8, 7))
    assert graph.inputs[0].type.dtype is DType.U8
    assert graph.inputs[0].type.encoding == PIXELS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_codes_of_a_layer_are_standardized_too(scheme: str) -> None:
    """In the middle of a network its input is s8, and the gradient goes through both statistics."""
    torch.manual_seed(4)
    net = torch_nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.PerImageStandardize(), nn.Flatten(), nn.Linear(48, 3)
    )
    assert_same_bits(net, (1, 5, 6), scheme, ("host", "cortex-m0plus"))
    model = Model(net, input=(1, 5, 6), scheme=scheme, name="net")
    model.train()
    model(torch.randn(6, 1, 5, 6))[:, 0].sum().backward()
    grad = net[0].weight.grad
    assert isinstance(grad, Tensor)
    assert torch.isfinite(grad).all()
    assert (grad != 0).any()


def test_both_branches_may_take_the_pixels() -> None:
    class Net(torch_nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.MeanImage(), nn.PerImageStandardize()
            self.left, self.right = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.left(self.a(x)) + self.right(self.b(x))

    torch.manual_seed(4)
    graph = assert_same_bits(Net(), (1, 6, 5), "affine", ("host",), pixels(6, 1, 6, 5))
    assert graph.inputs[0].type.dtype is DType.U8


def run_op(x: TensorType, y: TensorType, attrs: PerImageStandardizeAttrs, codes: np.ndarray) -> str:
    """Golden model, torch and host C on one node; "" where they agree."""
    inputs = PerImageStandardizeInputs("x")
    node = Node("per_image_standardize", inputs, attrs, (Value("y", y),))
    graph = Graph(
        name="one",
        stage=Stage.INT,
        inputs=(Value("x", x),),
        consts=(),
        states=(),
        nodes=(node,),
        outputs=("y",),
    )
    golden = run_golden(graph, codes)["y"]
    network = generate(make_plan(graph, targets.load("host")), "test")
    ran = execute(network, build(network), codes).output
    q = NodeTypes(PerImageStandardizeInputs(x), (y,))
    carriers = torch.as_tensor(codes.astype(np.int64)).float()
    found = PerImageStandardize.surrogate(attrs, q, PerImageStandardizeInputs(carriers))
    bad = [
        name
        for name, other in (("C", ran), ("torch", found.numpy() + y.zero))
        if not np.array_equal(golden, other)
    ]
    return ", ".join(bad)


def test_extreme_images_of_the_largest_size() -> None:
    """2^20 pixels: half black, half white; one white speck on black and the reverse; constant."""
    shape = (1, 1024, 1024, 1)
    images = np.zeros((5, 1 << 20), dtype=np.uint8)
    images[0, ::2] = 255
    images[1, 12345] = 255
    images[2] = 255
    images[2, -1] = 0
    images[3] = 255
    images[4, 0] = 1
    codes = images.reshape(5, *shape[1:])
    x, y = sampling.kind(shape, PIXELS, DType.U8), sampling.kind(shape, Pow2((-4,)))
    attrs, _ = PerImageStandardize.derive(
        PerImageStandardizeAttrs(), NodeTypes(PerImageStandardizeInputs(x), (y,)), None, None
    )
    assert attrs == PerImageStandardizeAttrs(-4, 1 << 20)
    assert run_op(x, y, attrs, codes) == ""
    q = NodeTypes(PerImageStandardizeInputs(x), (y,))
    got = PerImageStandardize.integer(attrs, q, PerImageStandardizeInputs(codes.astype(np.int64)))
    real = PerImageStandardize.real(attrs, PerImageStandardizeInputs(codes.astype(np.float64)))
    assert np.abs(got - real / 16).max() <= 0.5 + 2.0**-20
    assert got.max() == 64  # sqrt(N - 1) deviations of 2^4
    assert not got[3].any()


@pytest.mark.parametrize("frac", [-4, 0, 5, 7])
def test_reciprocal_is_the_floor_of_floors(frac: int) -> None:
    """At perfect squares, next to them and at both ends; torch and the definition."""
    rng = np.random.default_rng(6)
    roots = [1, 2, 3, 2**26, 2**27 - 1, *rng.integers(1, 2**27, size=200).tolist()]
    variances = {v for r in roots for v in (r * r - 1, r * r, r * r + 1)} | {2**54 - 1}
    variances |= {2**n + d for n in range(54) for d in (-1, 0, 1)}
    values = sorted(v for v in variances if 1 <= v < 2**54)
    found = torch_factors.reciprocal(torch.tensor(values), frac)
    for v, mult, shift in zip(values, *(part.tolist() for part in found), strict=True):
        assert factors.reciprocal(v, frac) == (mult, shift)
        assert 0 <= shift <= 62
        assert 2**29 <= mult <= 2**30
        exact = 2.0 ** (frac + shift) / math.sqrt(v)
        assert exact * (1 - 2.0**-29) - 1 <= mult <= exact * (1 + 2.0**-29)


def test_nothing_varies() -> None:
    """A constant image is 0 everywhere; the bound on the deviation keeps the division defined."""
    x = torch.full((2, 3, 4, 4), 77.0)
    assert not nn.PerImageStandardize()(x).any()
    model = Model(
        torch_nn.Sequential(nn.PerImageStandardize(), nn.Conv2d(3, 2, 3)),
        input=(3, 4, 4),
        scheme="pow2",
        name="net",
    )
    model.train()
    model(torch.cat([x, pixels(4, 3, 4, 4)]))
    model.eval()
    assert not model.trace(x)["perimagestandardize_0"].any()


def test_means_of_pixels_follow_the_training_set() -> None:
    x = pixels(300, 2, 3, 4)
    layer = nn.MeanImage()
    layer.adapt(x)
    want = x.mean(0).round()
    assert torch.equal(layer.mean, want.movedim(0, -1).flatten())
    assert torch.equal(layer(x), (x - want) * 2.0**-layer.log2_scale)
    left = (x - x.mean(0)).square().mean().sqrt()
    assert 2.0**-0.6 < float(left / 2.0**layer.log2_scale) < 2.0**0.6
    other = nn.MeanImage()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    layer.adapt(x * 2 + 30)
    assert layer.mean.max() <= 255


def test_large_training_sets_are_taken_in_parts() -> None:
    """The statistics of whole numbers are the same to the bit."""
    x = pixels(9001, 1, 2, 2)
    layer = nn.Standardize()
    layer.adapt(x)
    flat = x.double().flatten()
    assert layer.moments.flatten().tolist() == [len(flat), flat.sum(), flat.square().sum()]
    assert layer.mean.tolist() == [float(flat.mean().round())]


def test_everything_that_watches_its_input_adapts() -> None:
    class Doubled(torch_nn.Module):
        def observe(self, x: Tensor) -> None: ...

        def freeze(self) -> None: ...

        def adapt(self, x: Tensor) -> None:
            self.seen = len(x)

    class Foreign(torch_nn.Module):
        def adapt(self, size: int) -> None:
            raise AssertionError("not a watcher")

    x = pixels(70, 3, 4, 4)
    net = torch_nn.Sequential(nn.Standardize(), nn.MeanImage(), Doubled(), Foreign())
    adapt_inputs(net, x)
    assert net[0].mean.numel() == 3
    assert net[1].mean.numel() == 48
    assert net[2].seen == 70


def test_what_no_kernel_takes_is_refused() -> None:
    x = sampling.kind((1, 3, 3, 1), PIXELS, DType.U8)
    y = sampling.kind((1, 3, 3, 1), Pow2((5,)))
    mean = TensorType((3, 3, 1), DType.S32, Raw())
    inputs = StandardizeInputs(x, mean)
    with pytest.raises(BadShape, match=r"want \[3, 3, 1\]"):
        MeanImage.infer(StandardizeAttrs(), StandardizeInputs(x, sampling.raw32(1)))
    with pytest.raises(BadAttribute, match="left=17"):
        MeanImage.infer(StandardizeAttrs(17), inputs)
    for means, legal in (((0, 255), True), ((-1, 255), False), ((0, 256), False)):
        data = np.full((3, 3, 1), means[0])
        data[0, 0, 0] = means[1]
        q = NodeTypes(inputs, (y,))
        found = MeanImage.prove(StandardizeAttrs(), q, StandardizeInputs(None, data), "here")
        assert (not found) is legal
        assert all(isinstance(problem, BadWeights) for problem in found)
    one = PerImageStandardizeInputs(sampling.kind((1, 1), PIXELS, DType.U8))
    with pytest.raises(BadShape, match=r"2\.\.1048576"):
        PerImageStandardize.infer(PerImageStandardizeAttrs(), one)
    large = PerImageStandardizeInputs(sampling.kind((1, (1 << 20) + 1), PIXELS, DType.U8))
    with pytest.raises(BadShape):
        PerImageStandardize.infer(PerImageStandardizeAttrs(), large)
    for attrs in (PerImageStandardizeAttrs(8), PerImageStandardizeAttrs(5, 0)):
        with pytest.raises(BadAttribute, match="frac, least"):
            PerImageStandardize.infer(attrs, PerImageStandardizeInputs(x))
    with pytest.raises(BadAttribute, match="clamp"):
        PerImageStandardize.infer(
            PerImageStandardizeAttrs(clamp=(0, 128)), PerImageStandardizeInputs(x)
        )
    thirds = NodeTypes(PerImageStandardizeInputs(x), (sampling.kind(x.shape, Affine((0.3,), 0)),))
    with pytest.raises(BadAttribute, match="power of two"):
        PerImageStandardize.derive(PerImageStandardizeAttrs(), thirds, None, None)
