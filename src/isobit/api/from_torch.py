"""`from_torch`: a network of plain `torch.nn` as a graph, through `torch.export`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from isobit import targets
from isobit.api.importing import ImportedModel
from isobit.core.arguments import Arguments
from isobit.importers import torch_export
from isobit.ir.graph import Graph
from isobit.passes.base import chosen


def from_torch(
    module: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    *,
    name: str = "",
    target: str = "cortex-m4",
    passes: Sequence[str] = (),
) -> Graph:
    """Return a torch module as a graph; see `import_torch`."""
    model = import_torch(module, example_inputs, name=name, target=target, passes=passes)
    return model.graph


def import_torch(
    module: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    *,
    name: str = "",
    target: str = "cortex-m4",
    passes: Sequence[str] = (),
) -> ImportedModel:
    """Export a module with `torch.export` and run passes on the graph.

    module: exported in eval mode (batch norm with its running statistics, no dropout); its own mode
    is left as it was. example_inputs: tensors that the module is called with, batch first; only the
    first example of each is used, because the chip computes one at a time.

    The graph of a float module is float. An image [1, C, H, W] that convolutions read is the input
    [1, H, W, C] of the graph: pass `x.permute(0, 2, 3, 1)` to it, and to `isobit.calibrate`. Other
    inputs keep their axes. Outputs keep torch's axes where they are no images.

    passes: names added to the default ones, with `-` in front taken from them. name: of the
    network, the module's class by default.

    Raises `BadArgument`, `UnknownName`, `NotTraceable` with torch's own reason where `torch.export`
    cannot trace it, and every `Unsupported` of the module at once, with the line that asked for it.
    """
    given = Arguments("from_torch")
    given.instance("module", module, torch.nn.Module, "a torch.nn.Module")
    given.instance(
        "example_inputs",
        example_inputs,
        torch.Tensor | tuple | list,
        "a tensor, or a tuple of them",
    )
    if name:
        given.text("name", name)
    with given.collect():
        chip = targets.load(target)
    with given.collect():
        selected = chosen(tuple(passes))
    given.check()
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
    found = torch_export.read(module, tuple(inputs), name=name)
    return ImportedModel.after_passes(found, chip, selected)
