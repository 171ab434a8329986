"""What `fit` trains on: a `Dataset` or a pair of arrays, checked before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isobit.core.arguments import Arguments, shown
from isobit.core.types import AnyArray
from isobit.data import Dataset
from isobit.train.guards import as_reals
from isobit.train.twin import Twin

FloatArray32 = NDArray[np.float32]
Examples = Dataset | tuple[Tensor | AnyArray, Tensor | AnyArray]
"""x [N, *input] raw values and y [N] class numbers from 0, tensors or NumPy arrays."""


def read_examples(
    given: Arguments, what: str, examples: object, model: nn.Module
) -> tuple[Tensor, Tensor]:
    """Return x float32 and y int64 on the model's device; what is wrong with them goes to `given`.

    Then a pair without examples comes back.
    """
    if isinstance(examples, Dataset):
        x: object = torch.from_numpy(pixels(examples, model))
        y: object = torch.from_numpy(examples.labels)
    elif isinstance(examples, tuple | list) and len(examples) == 2:
        x, y = examples
    else:
        given.refuse(what, "a Dataset, or a pair (x, y)", shown(examples))
        return _nothing()
    device = device_of(model)
    values, labels = as_reals(x, device), _as_labels(y, device)
    if values is None or values.dim() == 0:
        want = "x a tensor or NumPy array [N, *input] of real numbers"
        given.refuse(what, want, shown(x), "Pass raw values, e.g. train.nchw().")
        values = None
    elif len(values) == 0:
        given.refuse(what, "at least 1 example", "none")
        values = None
    elif isinstance(model, Twin) and tuple(values.shape[1:]) != model.input_shape:
        sizes = ", ".join(map(str, model.input_shape))
        own = "Leave the graph's order of axes as it is."
        fix = own if model.channels_last else "Images are (channels, height, width)."
        given.refuse(what, f"x [N, {sizes}]", str(list(values.shape)), fix)
    elif not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).sum())
        given.refuse(what, "x of finite numbers", f"{bad} that are NaN or infinite")
    if labels is None:
        want = "y a tensor or NumPy array [N] of class numbers, integers from 0"
        given.refuse(what, want, shown(y), "Pass classes as int64, not as floats or one-hot rows.")
    elif values is not None and len(labels) != len(values):
        got = f"{len(values)} examples, {len(labels)} labels"
        given.refuse(what, "one label for every example", got)
    elif len(labels) and int(labels.min()) < 0:
        given.refuse(what, "labels from 0", f"{int(labels.min())}..{int(labels.max())}")
    elif values is not None:
        return values, labels
    return _nothing()


def pixels(examples: Dataset, model: nn.Module) -> FloatArray32:
    """Return raw pixel values as a model takes them: NCHW, of a foreign graph's twin NHWC."""
    if isinstance(model, Twin) and model.channels_last:
        return examples.images.astype(np.float32, order="C")
    return examples.nchw()


def check_classes(
    given: Arguments, model: nn.Module, examples: dict[str, tuple[Tensor, Tensor]]
) -> None:
    """Add to `given` an output that is no row of classes, and labels that are none of them.

    examples: pairs by argument name. Another module than a `Model` is asked with one example, in
    eval mode.
    """
    found = next((x for x, _ in examples.values() if len(x)), None)
    if found is None:
        return
    shapes = output_shapes(given, "model", model, found[:1])
    if shapes is None:
        return
    if len(shapes) != 1 or len(shapes[0]) != 1:
        got = ", ".join(f"[N, {', '.join(map(str, shape))}]" for shape in shapes) or "no tensor"
        fix = "End the network with a linear layer, or write your own loop (docs/training.md)."
        given.refuse("output of model", "one of [N, classes], for cross entropy", got, fix)
        return
    (classes,) = shapes[0]
    for what, (_, y) in examples.items():
        if len(y) and int(y.max()) >= classes:
            want = f"labels in 0..{classes - 1}: the model has {classes} outputs"
            fix = "Number the classes from 0, or give the last layer as many outputs as classes."
            given.refuse(what, want, f"{int(y.min())}..{int(y.max())}", fix)


def device_of(model: nn.Module) -> torch.device:
    """Return the device that a model takes its examples on."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _as_labels(y: object, device: torch.device) -> Tensor | None:
    if isinstance(y, np.ndarray):
        if y.dtype.kind not in "iu":
            return None
        y = torch.from_numpy(np.array(y, dtype=np.int64, order="C"))
    if not isinstance(y, Tensor) or y.dim() != 1 or y.layout is not torch.strided:
        return None
    if y.dtype is torch.bool or y.is_floating_point() or y.is_complex() or y.is_quantized:
        return None
    return y.to(device, torch.int64)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Keep a module in eval mode while the body runs; afterwards each part has its own mode again,
    so that a batch norm which its user keeps in eval mode stays there.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def output_shapes(
    given: Arguments, what: str, model: nn.Module, x: Tensor
) -> list[tuple[int, ...]] | None:
    """Return the shapes of the outputs without the batch; None, and a problem of the argument
    `what`, where a module does not take x [1, *input].
    """
    if isinstance(model, Twin):
        types = model.traced.graph.type_map()
        return [types[name].shape[1:] for name in model.traced.graph.outputs]
    try:
        with torch.no_grad(), evaluating(model):
            outputs = model(x)
    except Exception as error:  # of the user's module, which may raise anything; reported below
        reason = (str(error).strip() or "no message").splitlines()[0]
        given.refuse(
            what,
            f"a module that takes one input, float32 {list(x.shape)}",
            f"{type(error).__name__}: {reason}",
            "Call it with one example to see where it fails.",
        )
        return None
    several = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [tuple(o.shape[1:]) for o in several if isinstance(o, Tensor)]


def _nothing() -> tuple[Tensor, Tensor]:
    return torch.zeros(0), torch.zeros(0, dtype=torch.int64)
