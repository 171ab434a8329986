"""reshape: the same codes in the same order under another shape; the batch axis stays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute
from isobit.core.types import Affine, FloatArray, IntArray, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.channels import Viewed
from isobit.ops.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReshapeAttrs(Attrs):
    """`shape`: the new dimensions after the batch axis."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class ReshapeInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Reshape(Op[ReshapeAttrs, ReshapeInputs[Any]], name="reshape"):
    """x: [N,...]; y: [N,*shape], the same encoding. Costs nothing: the planner gives both one
    buffer.
    """

    elementwise = True
    channels = Viewed()
    view = True
    takes_wide = True

    @staticmethod
    def infer(attrs: ReshapeAttrs, types: ReshapeInputs[TensorType]) -> Inferred:
        x = types.x
        if math.prod(attrs.shape) != math.prod(x.shape[1:]):
            raise BadAttribute(
                where="reshape",
                what="elements of the new shape",
                want=str(math.prod(x.shape[1:])),
                got=f"{math.prod(attrs.shape)} {list(attrs.shape)}",
                fix=f"The input is {list(x.shape[1:])}.",
            )
        return Inferred((x.shape[0], *attrs.shape), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: ReshapeAttrs, q: NodeTypes[Any], inputs: ReshapeInputs[IntArray]
    ) -> IntArray:
        return inputs.x.reshape(-1, *attrs.shape)

    @staticmethod
    def identity(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> str:
        return "has the shape already" if q.inputs.x.shape == q.output.shape else ""

    @staticmethod
    def real(attrs: ReshapeAttrs, inputs: ReshapeInputs[FloatArray]) -> FloatArray:
        return inputs.x.reshape(-1, *attrs.shape)

    @staticmethod
    def surrogate(attrs: ReshapeAttrs, q: NodeTypes[Any], inputs: ReshapeInputs[Tensor]) -> Tensor:
        return inputs.x.reshape(-1, *attrs.shape)

    @staticmethod
    def cost(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost()

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(24)
        for label, shape, new in (
            ("flatten", (2, 3, 4, 5), (60,)),
            ("to image", (1, 24), (2, 3, 4)),
            ("squeeze", (3, 1, 1, 7), (7,)),
        ):
            x = sampling.kind((1, *shape[1:]), Affine((0.1,), -4))
            types = NodeTypes(ReshapeInputs(x), (x.with_shape((1, *new)),))
            yield Sample(label, ReshapeAttrs(new), types, ReshapeInputs(sampling.codes(rng, shape)))


class FlattenLayer(Layer, name="Flatten", functions=("torch.flatten", "Tensor.flatten")):
    """`isobit.nn.Flatten`, in torch's feature order: the builder permutes the weights that read
    it.
    """

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        rank = len(x.type.shape)
        if (module.start_dim, module.end_dim) not in ((1, -1), (1, rank - 1), (1 - rank, -1)):
            raise build.refuse(
                "flatten dimensions",
                "start_dim=1, end_dim=-1",
                f"start_dim={module.start_dim}, end_dim={module.end_dim}",
                "Flatten everything after the batch.",
            )
        return _flatten(build, x)

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x, *dims = args  # the function starts at 0 by default, the module at 1
        settings = {"start_dim": 0, **dict(zip(("start_dim", "end_dim"), dims, strict=False))}
        return cls.lower(build, cls.module_class()(**{**settings, **kwargs}), x)


class ViewFunction(Layer, functions=("Tensor.view", "Tensor.reshape", "torch.reshape")):
    """`x.view(x.size(0), -1)` and `x.reshape(-1, features)`, which flatten; and from features back
    to an image, `x.view(x.size(0), C, H, W)`.
    """

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x, *sizes = (*args, *(kwargs[name] for name in ("size", "shape") if name in kwargs))
        if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
            sizes = list(sizes[0])
        return _view(build, x, sizes)


class UnflattenLayer(Layer, name="Unflatten"):
    """`isobit.nn.Unflatten(1, (C, H, W))`: from features to an image."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if module.dim not in (1, -1) or len(x.type.shape) != 2:
            raise build.refuse(
                "dimension",
                "dim=1 of features [N, F]",
                f"dim={module.dim} of a value of rank {len(x.type.shape)}",
                "Flatten first.",
            )
        return _view(build, x, [-1, *module.unflattened_size])


class IdentityLayer(Layer, name="Identity", functions=("Tensor.contiguous", "Tensor.clone")):
    """`isobit.nn.Identity`: nothing on the chip."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return x

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return args[0]


class DropoutLayer(
    Layer, name="Dropout", functions=("torch.nn.functional.dropout", "torch.dropout")
):
    """`isobit.nn.Dropout`: in training only, see `train/dropout.py`; nothing on the chip."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return build.dropped(x) if module.p > 0 else x

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        if p != 0:
            raise build.refuse(
                "dropout",
                f"a module: nn.{cls.public_name}(p)",
                f"the function with p={p}",
                "Tracing would freeze whether it acts; a module knows in every mode.",
            )
        return args[0]


class Dropout2dLayer(DropoutLayer, name="Dropout2d", functions=("torch.nn.functional.dropout2d",)):
    """`isobit.nn.Dropout2d`: whole channels of an image, in training only."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if len(x.type.shape) != 4:
            shape = list(x.type.shape)
            raise build.refuse("input", "an image", f"shape {shape}", "Use nn.Dropout.")
        return DropoutLayer.lower(build, module, x)


class AlphaDropoutLayer(
    DropoutLayer, name="AlphaDropout", functions=("torch.nn.functional.alpha_dropout",)
):
    """`isobit.nn.AlphaDropout`, in training only."""


def _flatten(build: Any, x: Any) -> Any:
    size = math.prod(x.type.shape[1:])
    flat = build.node("reshape", ReshapeInputs(x.name), ReshapeAttrs((size,)))
    return build.flattened(flat, x)


def _view(build: Any, x: Any, sizes: list[Any]) -> Any:
    """Lower a view of sizes (batch, ...) in torch's order: the batch may be -1 or `x.size(0)`."""
    own = x.type.shape[1:]
    total = math.prod(own)
    batch, wanted = (sizes[0], tuple(sizes[1:])) if sizes else (None, ())
    named = not isinstance(batch, int) and batch is not None  # the size of x's own batch
    plain = all(isinstance(size, int) and (size > 0 or size == -1) for size in wanted)
    if plain and named and wanted.count(-1) == 1:
        known = -math.prod(wanted)
        wanted = tuple(total // known if size == -1 else size for size in wanted)
    whole = plain and -1 not in wanted and math.prod(wanted) == total
    image = own if len(own) != 3 else (own[2], *own[:2])
    if whole and (named or batch == -1):
        if wanted == image:
            return x
        if len(wanted) == 1:
            return _flatten(build, x)
        if len(wanted) == 3:
            return build.unflattened(x if len(own) == 1 else _flatten(build, x), wanted)
    raise build.refuse(
        "view",
        f"the batch x.size(0) or -1 first, then {total} features or an image of as many",
        f"sizes ({', '.join(map(str, sizes))}) of {list(image)} per sample",
        "Write x.flatten(1) to flatten; other shapes have no layout on the chip.",
    )
