from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from isobit import Model, nn
from isobit.core.errors import BadShape, NotTraceable, SeveralProblems
from isobit.core.types import Affine, Pow2
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.schemes import Scheme
from isobit.ops.softmax.gemmlowp import parameters
from isobit.ops.softmax.op import OUTPUT, Softmax, SoftmaxAttrs, SoftmaxInputs
from isobit.ops.softmax.torch_gemmlowp import softmax as torch_softmax
from ops.end_to_end import SCHEMES, Function, assert_same_bits, float_output
from oracles import oracle
from tflite_builder import Operator, build, quantize_multiplier
from tflite_builder import Tensor as TfliteTensor


def integer(x: np.ndarray, scale: float, beta: float = 1.0) -> np.ndarray:
    """The operator's meaning for codes of one scale."""
    kind = sampling.kind((1, *x.shape[1:]), Affine((scale,), 0))
    types = NodeTypes(SoftmaxInputs(kind), (sampling.kind(kind.shape, OUTPUT),))
    attrs, _ = Softmax.derive(SoftmaxAttrs(beta), types, Scheme.AFFINE, None)
    return Softmax.integer(attrs, types, SoftmaxInputs(x.astype(np.int64)))


def cases() -> list[tuple[float, np.ndarray]]:
    """Scales over ten decades, close and far codes, many and few of them."""
    rng = np.random.default_rng(2)
    found = []
    for scale in 10.0 ** rng.uniform(-9, 1, size=40):
        x = rng.integers(-128, 128, size=(3, int(rng.integers(1, 40))))
        found.append((float(scale), x // int(rng.choice([1, 4, 32]))))
    found.append(
        (0.02, rng.integers(-3, 4, size=(1, 600)))
    )  # a sum that leaves no bit to 8-bit outputs
    found.append((0.02, np.zeros((1, 4095), dtype=np.int64)))
    return found


def test_integer_and_torch_equal_the_scalar_oracle() -> None:
    for scale, x in cases():
        mult, shift, diff_min = parameters(scale)
        attrs = {"mult": mult, "shift": shift, "diff_min": diff_min}
        want = oracle("softmax")({"x": x}, attrs, {})
        np.testing.assert_array_equal(integer(x, scale), want, err_msg=f"scale {scale}")
        got = torch_softmax(torch.as_tensor(x).float(), mult, shift, diff_min).numpy() - 128
        np.testing.assert_array_equal(got, want, err_msg=f"torch, scale {scale}")


@pytest.mark.data("tflite-micro")
def test_integer_equals_tflite_micro() -> None:
    from tflite_micro import runtime

    for scale, x in cases():
        # TFLite asks for a multiplier above 1; its shifts are undefined from 512 equal elements on.
        if scale < 1e-7 or x.shape[1] > 500:
            continue
        scale, codes = float(np.float32(scale)), x.astype(np.int8)
        operator = Operator(
            code="SOFTMAX",
            inputs=("x",),
            outputs=("y",),
            options="SoftmaxOptions",
            values={"Beta": 1.0},
            version=2,
        )
        tensors = [
            TfliteTensor(name="x", shape=x.shape, dtype="int8", scale=(scale,), zero_point=(5,)),
            TfliteTensor(
                name="y", shape=x.shape, dtype="int8", scale=(1 / 256,), zero_point=(-128,)
            ),
        ]
        model = build(tensors=tensors, operators=[operator], inputs=["x"], outputs=["y"])
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=1 << 16)
        interpreter.set_input(codes, 0)
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_output(0), integer(x, scale))


def test_parameters_are_tflites() -> None:
    for scale in (1e-6, 0.01, 0.3, 7.0, 1e3):
        real = min(scale * 2**26, 2**31 - 1)
        mult, shift = quantize_multiplier(real)
        assert parameters(scale) == (mult, shift, -math.floor(31 * 2**26 / 2**shift))
    mult, shift, diff_min = parameters(1e-9)  # below 2^-27: no shift to the left
    assert shift == 0 and mult == round(1e-9 * 2**57) and diff_min == -(31 << 26)


def test_codes_are_within_one_of_the_real_softmax() -> None:
    """Each exponential is off by less than 2^-18 and the result is rounded once: below 1 + 1/2
    codes.
    """
    for scale, x in cases():
        if x.shape[1] > 500 or scale > 1:
            continue
        e = np.exp(scale * (x - x.max(axis=1, keepdims=True)))
        want = np.minimum(256 * e / e.sum(axis=1, keepdims=True), 255) - 128
        assert np.abs(integer(x, scale) - want).max() < 1.5


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(2, 4, 3), nn.Linear(36, 6)

    def forward(self, x: Tensor) -> Tensor:
        attention = functional.softmax(self.conv(x), dim=1)
        return torch.softmax(self.linear(attention.flatten(1)), -1)


def test_softmax_inside_and_at_the_end_has_the_same_bits() -> None:
    graph = assert_same_bits(Classifier(), (2, 5, 5), "affine")
    assert [n.op for n in graph.nodes] == ["conv2d", "softmax", "reshape", "linear", "softmax"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_softmax_layer_has_the_same_bits(scheme: str) -> None:
    graph = assert_same_bits(nn.Sequential(nn.Linear(7, 9), nn.Softmax(dim=1)), (7,), scheme)
    assert graph.nodes[-1].output.type.encoding == OUTPUT


def test_arithmetic_after_a_softmax_is_refused_in_pow2() -> None:
    with pytest.raises(BadShape, match="pow2"):
        Model(Classifier(), input=(2, 5, 5), scheme="pow2")


def test_dims_are_torchs() -> None:
    x = torch.linspace(-3, 3, 2 * 24).reshape(2, 2, 3, 4)
    for dim in (1, -3):
        got = float_output(Function(lambda v, d=dim: v.softmax(d)), (2, 3, 4), x)
        np.testing.assert_allclose(got, x.double().softmax(1).numpy(), rtol=1e-12)
    flat = Function(lambda v: torch.softmax(v.flatten(1), dim=-1))
    got = float_output(flat, (2, 3, 4), x)
    np.testing.assert_allclose(got, x.double().flatten(1).softmax(1).numpy(), rtol=1e-12)


@pytest.mark.parametrize("dim", [0, 2, -1, None])
def test_other_axes_of_an_image_are_refused(dim: int | None) -> None:
    with pytest.raises(NotTraceable, match="dim"):
        Model(nn.Sequential(nn.Softmax(dim=dim)), input=(2, 3, 4))


def test_gradient_is_the_real_softmaxs_in_codes() -> None:
    x = sampling.kind((1, 6), Affine((0.1,), 3))
    types = NodeTypes(SoftmaxInputs(x), (sampling.kind((1, 6), OUTPUT),))
    attrs, _ = Softmax.derive(SoftmaxAttrs(), types, Scheme.AFFINE, None)
    codes = torch.tensor([[3.0, -20, 40, 41, 0, -60]], requires_grad=True)
    weights = torch.randn(1, 6)
    (Softmax.surrogate(attrs, types, SoftmaxInputs(codes)) * weights).sum().backward()
    real = codes.detach().clone().requires_grad_()
    ((real * 0.1).softmax(-1) * 256 * weights).sum().backward()
    torch.testing.assert_close(codes.grad, real.grad)


def test_sums_that_leave_int32_are_refused() -> None:
    kind = Pow2((3,))
    with pytest.raises(BadShape, match="4095"):
        Softmax.infer(SoftmaxAttrs(), SoftmaxInputs(sampling.kind((1, 4096), kind)))
    with pytest.raises(SeveralProblems, match="beta"):
        Softmax.infer(SoftmaxAttrs(-1.0), SoftmaxInputs(sampling.kind((1, 4096), kind)))
