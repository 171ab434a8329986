"""max_pool2d: y[n,oy,ox,c] = max over the window of x; padding never wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute, raise_all
from isobit.core.types import Affine, FloatArray, IntArray, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import ROWS_FOR_COLUMNS
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.channels import Coupled
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer
from isobit.ops.pooling import adaptive_kernel
from isobit.ops.window import Pair, Quad, Window, ceil_extension, pair, symmetric

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MaxPool2dAttrs(Attrs):
    """`pad` is (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair
    pad: Quad = (0, 0, 0, 0)

    def window(self) -> Window:
        """The window."""
        return Window(kernel=self.kernel, stride=self.stride, pad=self.pad)


@dataclass(frozen=True, slots=True)
class MaxPool2dInputs(Inputs[T]):
    """x: [N,H,W,C]."""

    x: T


class MaxPool2d(Op[MaxPool2dAttrs, MaxPool2dInputs[Any]], name="max_pool2d"):
    """x, y: s8 or s16 [N,H,W,C], the same encoding. Commutes with requantisation. Source: TFLite
    `MAX_POOL_2D`.
    """

    selects = True
    channels = Coupled()

    @staticmethod
    def infer(attrs: MaxPool2dAttrs, types: MaxPool2dInputs[TensorType]) -> Inferred:
        x = types.x
        window = attrs.window()
        errors = window.problems("max_pool2d", x.shape)
        top, left, bottom, right = attrs.pad
        if max(top, bottom) >= attrs.kernel[0] or max(left, right) >= attrs.kernel[1]:
            errors.append(
                BadAttribute(
                    where="max_pool2d",
                    what="pad",
                    want=f"less than the kernel {attrs.kernel}",
                    got=str(attrs.pad),
                    fix="A window that lies on padding only has no maximum; use less padding.",
                )
            )
        raise_all(errors)
        return Inferred((x.shape[0], *window.out_hw(x.shape), x.shape[3]), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: MaxPool2dAttrs, q: NodeTypes[Any], inputs: MaxPool2dInputs[IntArray]
    ) -> IntArray:
        result: IntArray = attrs.window().gather(inputs.x, np.iinfo(np.int64).min).max(axis=(3, 4))
        return result

    @classmethod
    def permuted(
        cls, attrs: MaxPool2dAttrs, q: NodeTypes[Any], perm: Shape
    ) -> MaxPool2dAttrs | None:
        if perm != ROWS_FOR_COLUMNS:
            return None
        top, left, bottom, right = attrs.pad
        pad = (left, top, right, bottom)
        return replace(attrs, kernel=attrs.kernel[::-1], stride=attrs.stride[::-1], pad=pad)

    @staticmethod
    def real(attrs: MaxPool2dAttrs, inputs: MaxPool2dInputs[FloatArray]) -> FloatArray:
        result: FloatArray = attrs.window().gather(inputs.x, -np.inf).max(axis=(3, 4))
        return result

    @staticmethod
    def surrogate(
        attrs: MaxPool2dAttrs, q: NodeTypes[Any], inputs: MaxPool2dInputs[Tensor]
    ) -> Tensor:
        from torch.nn.functional import max_pool2d, pad

        x = inputs.x.permute(0, 3, 1, 2)
        (top, left, bottom, right), (kh, kw) = attrs.pad, attrs.kernel
        even = 2 * top <= kh and 2 * left <= kw
        if even and (top, left) == (bottom, right):
            y = max_pool2d(x, attrs.kernel, attrs.stride, (top, left))
        elif (
            even
            and ceil_extension(replace(attrs.window(), pad=symmetric((top, left))), inputs.x.shape)
            == attrs.pad
        ):
            y = max_pool2d(x, attrs.kernel, attrs.stride, (top, left), ceil_mode=True)
        else:
            x = pad(x, (left, right, top, bottom), value=float("-inf"))
            y = max_pool2d(x, attrs.kernel, attrs.stride)
        return y.permute(0, 2, 3, 1)

    @staticmethod
    def cost(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(22)
    cases = (
        ("2x2", (2, 6, 4, 3), MaxPool2dAttrs((2, 2), (2, 2))),
        ("2x2 odd input", (2, 7, 5, 4), MaxPool2dAttrs((2, 2), (2, 2))),
        ("3x3 stride 2, pad 1", (2, 8, 7, 5), MaxPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1))),
        ("3x3 stride 2, ceil", (1, 8, 8, 2), MaxPool2dAttrs((3, 3), (2, 2), (0, 0, 1, 1))),
        ("3x3 stride 1, same", (2, 5, 6, 1), MaxPool2dAttrs((3, 3), (1, 1), (1, 1, 1, 1))),
        ("row", (2, 1, 9, 7), MaxPool2dAttrs((1, 4), (1, 3), (0, 1, 0, 2))),
        ("global", (2, 3, 4, 6), MaxPool2dAttrs((3, 4), (1, 1))),
        ("3x2", (2, 7, 6, 3), MaxPool2dAttrs((3, 2), (2, 1), (1, 0, 0, 1))),
        ("2x3", (2, 6, 7, 3), MaxPool2dAttrs((2, 3), (1, 2), (0, 2, 1, 0))),
        ("lowest codes", (2, 5, 4, 3), MaxPool2dAttrs((2, 2), (1, 2), (0, 1, 1, 0))),
        (
            "2x4, 2 columns at the edge",
            (2, 6, 7, 3),
            MaxPool2dAttrs((2, 4), (1, 2), (0, 1, 1, 2)),
        ),
    )
    for label, shape, attrs in cases:
        x = sampling.kind((1, *shape[1:]), Affine((0.1,), 3))
        out = MaxPool2d.infer(attrs, MaxPool2dInputs(x))
        types = NodeTypes(MaxPool2dInputs(x), (x.with_shape(out.shape),))
        codes = sampling.codes(rng, shape)
        if label == "lowest codes":
            codes[..., 0] = -128
        yield Sample(label, attrs, types, MaxPool2dInputs(codes))


class MaxPool2dLayer(Layer, name="MaxPool2d", functions=("torch.nn.functional.max_pool2d",)):
    """`isobit.nn.MaxPool2d`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if pair(module.dilation) != (1, 1):
            raise build.refuse(
                "dilation of a max pool", "1", str(module.dilation), "Use dilation=1."
            )
        if module.return_indices:
            raise build.refuse(
                "return_indices", "False", "True", "The chip keeps the largest values only."
            )
        kernel = pair(module.kernel_size)
        stride = pair(kernel if module.stride is None else module.stride)
        window = Window(kernel=kernel, stride=stride, pad=symmetric(pair(module.padding)))
        pads = ceil_extension(window, x.type.shape) if module.ceil_mode else window.pad
        return build.node(
            "max_pool2d", MaxPool2dInputs(x.name), MaxPool2dAttrs(kernel, stride, pads)
        )

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        # The function takes ceil_mode before return_indices, the module the other way round.
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        settings = {**dict(zip(names, args[1:], strict=False)), **kwargs}
        return cls.lower(build, cls.module_class()(**settings), args[0])


class AdaptiveMaxPool2dLayer(
    Layer, name="AdaptiveMaxPool2d", functions=("torch.nn.functional.adaptive_max_pool2d",)
):
    """`isobit.nn.AdaptiveMaxPool2d` of an output size that divides the input's."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if module.return_indices:
            raise build.refuse(
                "return_indices", "False", "True", "The chip keeps the largest values only."
            )
        kernel = adaptive_kernel(build, module.output_size, x)
        if kernel == (1, 1):
            return x
        attrs = MaxPool2dAttrs(kernel, kernel, (0, 0, 0, 0))
        return build.node("max_pool2d", MaxPool2dInputs(x.name), attrs)
