"""PyTorch operators that are written as smaller ones before rules see them, in PyTorch's own words.

Each is an identity of real numbers, traced by `torch.export` itself, so that the nodes keep the
line and the module that asked for them. A rewrite returns `NotImplemented` where its options have
no counterpart; the operator then is refused by its own name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_PIECES = 64
"""More slices of one axis would make a graph that nobody wants."""
Rewrite = Callable[..., Any]
"""Returns a tensor, or `NotImplemented`."""


def log_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`x - max(x) - log(sum(exp(x - max(x))))`."""
    below = x - x.amax(dim, keepdim=True)
    return below - below.exp().sum(dim, keepdim=True).log()


def logsumexp(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """`max(x) + log(sum(exp(x - max(x))))`."""
    largest = x.amax(dim, keepdim=True)
    total = (x - largest).exp().sum(dim, keepdim=True).log() + largest
    return total if keepdim else total.squeeze(dim)


def variance(
    x: Tensor, dim: list[int] | None, correction: float | None = None, keepdim: bool = False
) -> Any:
    """Mean of squares of what is left without the mean, times n / (n - correction)."""
    axes = list(range(x.ndim)) if not dim else [d % x.ndim for d in dim]
    count = math.prod(x.shape[d] for d in axes)
    less = 1.0 if correction is None else float(correction)
    if count <= less:
        return NotImplemented
    centred = x - x.mean(axes, keepdim=True)
    found = torch.square(centred).mean(axes, keepdim=keepdim)
    return found * (count / (count - less)) if less else found


def variance_of(
    x: Tensor, dim: list[int] | None, unbiased: bool = True, keepdim: bool = False
) -> Any:
    """`variance` as older calls write it."""
    return variance(x, dim, float(unbiased), keepdim)


def deviation(
    x: Tensor, dim: list[int] | None, correction: float | None = None, keepdim: bool = False
) -> Any:
    """Square root of `variance`."""
    found = variance(x, dim, correction, keepdim)
    return found if found is NotImplemented else found.sqrt()


def deviation_of(
    x: Tensor, dim: list[int] | None, unbiased: bool = True, keepdim: bool = False
) -> Any:
    """`deviation` as older calls write it."""
    return deviation(x, dim, float(unbiased), keepdim)


def length(
    x: Tensor,
    ord: float = 2,
    dim: list[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """Norms 1, 2 and infinity of a vector."""
    axes = list(range(x.ndim)) if dim is None else dim
    if ord == 2:
        return torch.square(x).sum(axes, keepdim=keepdim).sqrt()
    if ord == 1:
        return x.abs().sum(axes, keepdim=keepdim)
    if ord == math.inf:
        return x.abs().amax(axes, keepdim=keepdim)
    return NotImplemented


def _standardised(x: Tensor, axes: list[int], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(torch.square(centred).mean(axes, keepdim=True) + eps)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def layer_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """Mean 0 and variance 1 over the last axes, of every place on its own."""
    axes = list(range(x.ndim - len(normalized_shape), x.ndim))
    return _affine(_standardised(x, axes, eps), weight, bias)


def rms_norm(
    x: Tensor, normalized_shape: list[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Mean of squares 1 over the last axes."""
    axes = list(range(x.ndim - len(normalized_shape), x.ndim))
    least = torch.finfo(x.dtype).eps if eps is None else eps
    return _affine(x * torch.rsqrt(torch.square(x).mean(axes, keepdim=True) + least), weight, None)


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Mean 0 and variance 1 of every group of channels; one group needs no other shape."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    if num_groups == 1:
        y = _standardised(x, list(range(1, x.ndim)), eps)
    else:
        grouped = x.reshape(x.shape[0], num_groups, -1)
        y = _standardised(grouped, [2], eps).reshape(x.shape)
    stored = [None if p is None else p.reshape(shape) for p in (weight, bias)]
    return _affine(y, *stored)


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """Mean 0 and variance 1 of every channel of the input itself."""
    if not use_input_stats or x.ndim < 3:
        return NotImplemented
    shape = [1, -1] + [1] * (x.ndim - 2)
    stored = [None if p is None else p.reshape(shape) for p in (weight, bias)]
    return _affine(_standardised(x, list(range(2, x.ndim)), eps), *stored)


def adaptive_max_pool(x: Tensor, output_size: list[int]) -> Any:
    """Maxima over windows of unequal sizes; nobody has the indices of them."""
    found = _adaptive(x, output_size, lambda part, axis: part.amax(axis, keepdim=True))
    indices = x.new_zeros(found.shape, dtype=torch.int64) if found is not NotImplemented else None
    return found if indices is None else (found, indices)


def adaptive_avg_pool(x: Tensor, output_size: list[int]) -> Any:
    """Means over windows of unequal sizes, one axis after the other."""
    return _adaptive(x, output_size, lambda part, axis: part.mean(axis, keepdim=True))


def _adaptive(x: Tensor, wanted: list[int], reduce: Callable[[Tensor, int], Tensor]) -> Any:
    axes = range(x.ndim - len(wanted), x.ndim)
    sizes = [x.shape[axis] for axis in axes]
    if all(own % size == 0 for own, size in zip(sizes, wanted, strict=True)):
        return NotImplemented  # windows of one size are a pool
    if max(wanted) > MOST_PIECES:
        return NotImplemented
    for axis, own, size in zip(axes, sizes, wanted, strict=True):
        if own == size:
            continue
        starts = [i * own // size for i in range(size)]
        ends = [-(-(i + 1) * own // size) for i in range(size)]
        parts = [
            reduce(x.narrow(axis, start, end - start), axis)
            for start, end in zip(starts, ends, strict=True)
        ]
        x = torch.cat(parts, axis) if len(parts) > 1 else parts[0]
    return x


def pad(x: Tensor, pad: list[int], mode: str = "constant", value: float | None = None) -> Any:
    """Copies of the edge or of the other side; negative numbers cut."""
    kept = x
    if mode == "constant" and min(pad) >= 0:
        return NotImplemented
    if mode == "constant":
        for k in range(0, len(pad), 2):
            axis, start, end = x.ndim - 1 - k // 2, max(-pad[k], 0), max(-pad[k + 1], 0)
            size = kept.shape[axis] - start - end
            kept = kept if not start and not end else kept.narrow(axis, start, size)
        grown = [max(n, 0) for n in pad]
        return F.pad(kept, grown, mode, value) if any(grown) else kept
    if mode not in ("replicate", "circular") or min(pad) < 0:
        return NotImplemented
    for k in range(0, len(pad), 2):
        axis, before, after = x.ndim - 1 - k // 2, pad[k], pad[k + 1]
        size = kept.shape[axis]
        if mode == "replicate":
            first = [kept.narrow(axis, 0, 1)] * before
            last = [kept.narrow(axis, size - 1, 1)] * after
        else:
            first = [kept.narrow(axis, size - before, before)] * (before > 0)
            last = [kept.narrow(axis, 0, after)] * (after > 0)
        kept = torch.cat([*first, kept, *last], axis) if before or after else kept
    return kept


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Groups side by side; a dilated kernel as one with zeros between its taps."""
    axes = weight.ndim - 2
    steps = [int(n) for n in (dilation if isinstance(dilation, list | tuple) else [dilation])]
    steps = steps * axes if len(steps) == 1 else steps
    if (groups == 1 and set(steps) == {1}) or groups > MOST_PIECES:
        return NotImplemented
    for axis, step in enumerate(steps, start=2):
        if step > 1:
            size = weight.shape[axis]
            zeros = torch.zeros_like(weight.narrow(axis, 0, 1))
            taps = [weight.narrow(axis, i, 1) for i in range(size)]
            spread = [t for tap in taps[:-1] for t in (tap, *([zeros] * (step - 1)))]
            weight = torch.cat([*spread, taps[-1]], axis)
    function: Any = F.conv_transpose1d if axes == 1 else F.conv_transpose2d
    if groups == 1:
        return function(x, weight, bias, stride, padding, output_padding)
    biases = [None] * groups if bias is None else _parts(bias, groups, 0)
    parts = zip(_parts(x, groups, 1), _parts(weight, groups, 0), biases, strict=True)
    return torch.cat(
        [function(part, w, b, stride, padding, output_padding) for part, w, b in parts], 1
    )


def _parts(x: Tensor, count: int, axis: int) -> list[Tensor]:
    size = x.shape[axis] // count
    return [x.narrow(axis, i * size, size) for i in range(count)]


def power_of(base: float, exponent: Tensor) -> Any:
    """`exp(ln(base) * exponent)`."""
    if base <= 0:
        return NotImplemented
    return (exponent * math.log(base)).exp()


def batched(a: Tensor, b: Tensor) -> Any:
    """A matrix and a vector: products, summed. Matrices of the batch of one with a constant."""
    if a.shape[1] == 1:
        return (a.transpose(1, 2) * b).sum(1, keepdim=True)
    if b.shape[2] == 1:
        return (a * b.transpose(1, 2)).sum(2, keepdim=True)
    return NotImplemented


def lerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """`a + weight * (b - a)`."""
    return a + (b - a) * weight


def joined(tensors: list[Tensor]) -> Tensor:
    """`hstack`: along axis 1, of rows along axis 0."""
    return torch.cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def copied(x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """What is copied, in the shape of what it is copied to."""
    return src.clone() if src.shape == x.shape else src.expand(x.shape)


def select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """What lies before, the new part, what lies behind."""
    axis = dim % x.ndim
    place = index % x.shape[axis]
    return _replaced(x, src.unsqueeze(axis), axis, place, 1)


def slice_scatter(
    x: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Any:
    """The same of a range of indices; with a step between them, one part for each."""
    axis = dim % x.ndim
    places = range(x.shape[axis])[start:end:step]
    if not places or (step != 1 and len(places) > MOST_PIECES):
        return NotImplemented
    if step != 1:
        for index, place in enumerate(places):
            x = _replaced(x, src.narrow(axis, index, 1), axis, place, 1)
        return x
    return src if len(places) == x.shape[axis] else _replaced(x, src, axis, places[0], len(places))


def clamp(x: Tensor, min: Tensor | None = None, max: Tensor | None = None) -> Tensor:
    """Bounds that are tensors."""
    raised = x if min is None else torch.maximum(x, min)
    return raised if max is None else torch.minimum(raised, max)


def _replaced(x: Tensor, part: Tensor, axis: int, start: int, count: int) -> Tensor:
    rest = x.shape[axis] - start - count
    before = [x.narrow(axis, 0, start)] if start else []
    behind = [x.narrow(axis, start + count, rest)] if rest else []
    parts = [*before, part, *behind]
    return torch.cat(parts, axis) if len(parts) > 1 else part


REWRITES: dict[str, Rewrite] = {
    "log_softmax.int": log_softmax,
    "_log_softmax.default": log_softmax,
    "logsumexp.default": logsumexp,
    "var.correction": variance,
    "var.dim": variance_of,
    "std.correction": deviation,
    "std.dim": deviation_of,
    "linalg_vector_norm.default": length,
    "layer_norm.default": layer_norm,
    "rms_norm.default": rms_norm,
    "group_norm.default": group_norm,
    "instance_norm.default": instance_norm,
    "adaptive_avg_pool1d.default": adaptive_avg_pool,
    "adaptive_avg_pool2d.default": adaptive_avg_pool,
    "adaptive_max_pool1d.default": adaptive_max_pool,
    "adaptive_max_pool2d.default": adaptive_max_pool,
    "pad.default": pad,
    "conv_transpose1d.default": conv_transpose,
    "conv_transpose2d.input": conv_transpose,
    "pow.Scalar": power_of,
    "bmm.default": batched,
    "lerp.Scalar": lerp,
    "lerp.Tensor": lerp,
    "hstack.default": joined,
    "copy.default": copied,
    "select_scatter.default": select_scatter,
    "slice_scatter.default": slice_scatter,
    "clamp.Tensor": clamp,
    "exp2.default": lambda x: (x * math.log(2.0)).exp(),
    "expm1.default": lambda x: x.exp() - 1.0,
    "log1p.default": lambda x: (x + 1.0).log(),
    "log2.default": lambda x: x.log() * (1.0 / math.log(2.0)),
    "log10.default": lambda x: x.log() * (1.0 / math.log(10.0)),
}
"""By the name of the operator, without `aten.`."""


IN_FLOATS = ("conv_transpose1d.default", "conv_transpose2d.input")
"""Their weights are cut to pieces, so they must be numbers and not codes."""


def rewritten(program: Any, *, coded: bool) -> Any:
    """Return an `ExportedProgram` without operators that have a rewrite.

    coded: whether weights are codes. O(nodes), and one more trace where something applies.
    """
    found: dict[Any, Any] = {}
    for node in program.graph.nodes:
        code = str(node.target).removeprefix("aten.")
        if code == "einsum.default":
            found[node.target] = torch.export.default_decompositions()[node.target]
        if node.op != "call_function" or code not in REWRITES or (coded and code in IN_FLOATS):
            continue
        if WHERE_NEEDED.get(code, lambda node: True)(node):
            found[node.target] = REWRITES[code]
    return program.run_decompositions(found) if found else program


def _uneven(node: Any) -> bool:
    size, wanted = node.args[0].meta["val"].shape, node.args[1]
    own = size[len(size) - len(wanted) :]
    return any(n % w for n, w in zip(own, wanted, strict=True))


def _alone(node: Any) -> bool:
    """Whether nothing reads the second result."""
    return all(user.args[1] == 0 for user in node.users)


def _padded_otherwise(node: Any) -> bool:
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    return mode in ("replicate", "circular") or min(node.args[1]) < 0


def _grouped(node: Any) -> bool:
    groups = node.args[6] if len(node.args) > 6 else 1
    dilation = node.args[7] if len(node.args) > 7 else [1]
    return groups != 1 or set(dilation) != {1}


WHERE_NEEDED: dict[str, Callable[[Any], bool]] = {
    "adaptive_avg_pool1d.default": _uneven,
    "adaptive_avg_pool2d.default": _uneven,
    "adaptive_max_pool1d.default": lambda node: _uneven(node) and _alone(node),
    "adaptive_max_pool2d.default": lambda node: _uneven(node) and _alone(node),
    "pad.default": _padded_otherwise,
    "conv_transpose1d.default": _grouped,
    "conv_transpose2d.input": _grouped,
}
"""Whether a node needs its rewrite; the others always do."""
