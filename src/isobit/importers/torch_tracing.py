"""Running `torch.export`: examples, eval mode, and what becomes of torch's own refusals."""

from __future__ import annotations

import dataclasses
import functools
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isobit.core.errors import BadArgument, IsobitError, NotTraceable, Unsupported, raise_all
from isobit.ir.graph import Location

if TYPE_CHECKING:
    import torch

WHERE = "from_torch"
TRANSPARENT = frozenset({"_assert_tensor_metadata.default", "_assert_scalar.default"})
"""Checks of the export that compute nothing."""


def first_examples(inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the inputs with a batch of one: axis 0 of those with two axes or more is the batch."""
    import torch

    problems: list[IsobitError] = []
    for index, x in enumerate(inputs):
        if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not x.numel():
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
            problems.append(
                BadArgument(
                    where=WHERE,
                    what=f"example_inputs[{index}]",
                    want="a tensor of floats that is not empty",
                    got=got,
                    fix="Pass what the module is called with, e.g. torch.randn(1, 3, 32, 32).",
                )
            )
    raise_all(problems)
    return tuple(x[:1] if x.ndim > 1 else x for x in inputs)


@contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and every part of it back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    with suppress(NotImplementedError):  # a module that was exported before has its mode built in
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def quiet() -> Iterator[None]:
    """Filter warnings that torch raises about itself while it exports."""
    with warnings.catch_warnings():
        for place in (r"torch(\.|$)", r"torchao(\.|$)"):
            warnings.filterwarnings("ignore", module=place)
        # torch.export copies its own deprecated tree specifications.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        # Recurrent layers assign attributes while they are traced.
        warnings.filterwarnings("ignore", message="The tensor attributes", category=UserWarning)
        yield


@contextmanager
def plain_results(module: torch.nn.Module, examples: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let a module that returns dataclasses return their fields, which `torch.export` takes; raises
    `BadArgument` where it cannot be called.
    """
    if not _has_dataclass(require_run(module, examples)):
        yield
        return
    own, forward = module.__dict__.get("forward"), module.forward

    @functools.wraps(forward)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return _plain(forward(*args, **kwargs))

    module.__dict__["forward"] = plain
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if own is not None:
            module.__dict__["forward"] = own


def _has_dataclass(result: Any) -> bool:
    if isinstance(result, dict):
        return any(map(_has_dataclass, result.values()))
    if isinstance(result, tuple | list):
        return any(map(_has_dataclass, result))
    return dataclasses.is_dataclass(result)


def _plain(result: Any) -> Any:
    """Return a result with a dictionary for every dataclass."""
    if isinstance(result, dict):
        return {key: _plain(value) for key, value in result.items()}
    if isinstance(result, tuple | list):
        return tuple(map(_plain, result))
    if dataclasses.is_dataclass(result):
        return {field.name: _plain(getattr(result, field.name)) for field in fields(result)}
    return result


def require_run(module: torch.nn.Module, examples: Sequence[torch.Tensor]) -> Any:
    """Call the module, return its result; raises `BadArgument` with its own words."""
    import torch

    try:
        with torch.no_grad():
            return module(*examples)
    except Exception as error:  # a user's forward raises what it likes
        shapes = ", ".join(str(list(x.shape)) for x in examples)
        raise BadArgument(
            where=WHERE,
            what="example_inputs",
            want="tensors that the module can be called with, batch first",
            got=f"{shapes}: {first_line(error)}",
            fix="Call module(*example_inputs) yourself, with a batch of 1.",
        ) from error


def exported(module: torch.nn.Module, examples: Sequence[torch.Tensor]) -> Any:
    """Return the `ExportedProgram` without in-place operators; raises `NotTraceable`."""
    import torch

    try:
        # torch prints the graph so far where it gives up; the error says it in one line.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return torch.export.export(module, tuple(examples)).run_decompositions({})
    except Exception as error:  # torch.export has no common base of its refusals
        place = location_of("".join(_frames(error)) or str(error))
        raise NotTraceable(
            where=f"{type(module).__name__} ({place})" if place.file else type(module).__name__,
            what="torch.export",
            want="a forward whose path does not depend on the values of tensors",
            got=first_line(error),
            fix=_remedy(module, str(error)),
        ) from error


REMEDIES = {
    "ScriptModule": "Pass the module that was scripted or traced, not its TorchScript.",
    "data-dependent": "Take one path: an `if`, a loop or a number that depends on a tensor has no "
    "counterpart; write it with clamp, maximum, minimum or a product.",
    "numpy()": "Use torch's functions instead of NumPy's in forward.",
    "autocast": "Leave autocast out of forward.",
    "in output, which is not a known type": "Return tensors in tuples, lists, dictionaries or "
    "dataclasses.",
}
"""By what torch says."""
QUANTISED = ("torch.ao.quantization", "torch.ao.nn", "torchao.quantization")
"""Where modules of eager quantisation come from."""


def _remedy(module: torch.nn.Module, text: str) -> str:
    """Return the nearest way out of a refusal of `torch.export`."""
    eager = [
        path for path, part in module.named_modules() if type(part).__module__.startswith(QUANTISED)
    ]
    if eager:
        return (
            f'"{eager[0]}" is a module of eager quantisation: pass the float module, or quantise '
            "with prepare_pt2e and convert_pt2e."
        )
    found = [fix for words, fix in REMEDIES.items() if words in text]
    plain = "Write it with tensor operators only; torch.export.export(module, inputs) tells more."
    return found[0] if found else plain


def first_line(error: Exception) -> str:
    """Return the line of an error that says most: the first one, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else f"{text[:156]} ..."


def _frames(error: BaseException) -> list[str]:
    return traceback.format_tb(error.__traceback__)


_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def location_of(stack: str) -> Location:
    """Return the innermost line of a stack trace that is neither torch's nor ours."""
    import torch

    internal = (Path(torch.__file__).parent, Path(__file__).parents[1])
    for file, line in reversed(_FRAME.findall(stack)):
        path = Path(file)
        library = any(path.is_relative_to(folder) for folder in internal)
        if not library and not file.startswith("<") and "torchao" not in path.parts:
            return Location(path.name, int(line))
    return Location()


def code_of(node: Any) -> str:
    """Return an operator's name without `aten.`, e.g. `conv2d.default`."""
    target = node.target
    if hasattr(target, "_schema"):
        return str(target).removeprefix("aten.")
    return str(getattr(target, "__name__", target))


def path_of(node: Any) -> str:
    """Return the place of a node in the module tree and its own name, e.g. `stem.0/conv2d`."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    inner = re.sub(r"^L\['self'\]\.?|^L__self___?", "", paths[-1]) if paths else ""
    name = str(node.name).removeprefix("_").replace("native_batch_norm_legit_no_training", "norm")
    return f"{inner}/{name}" if inner else name


def require_known_sizes(program: Any) -> None:
    """Refuse numbers and sizes that depend on values, where they begin."""
    problems: list[IsobitError] = []
    unknown: set[str] = set()
    for node in program.graph.nodes:
        own = _depends_on_values(node.meta.get("val"))
        before = any(arg.name in unknown for arg in node.all_input_nodes)
        if own or before:
            unknown.add(node.name)
        if own and not before and code_of(node) not in TRANSPARENT:
            place = location_of(node.meta.get("stack_trace") or "")
            problems.append(
                Unsupported(
                    where=f'{code_of(node)} "{path_of(node)}"'
                    + (f" ({place})" if place.file else ""),
                    what="result",
                    want="a tensor whose shape does not depend on values",
                    got="a number or a size that the values of the input decide",
                    fix="Keep numbers as tensors (x.max(), not x.max().item()), choose with "
                    "maximum, minimum, clamp or a product, and select elements on the host.",
                )
            )
    raise_all(problems)


def _depends_on_values(value: Any) -> bool:
    import torch

    parts = value if isinstance(value, tuple | list) else (value,)
    sizes = [size for part in parts for size in getattr(part, "shape", ())]
    kinds = (torch.SymInt, torch.SymFloat, torch.SymBool)
    return any(isinstance(found, kinds) for found in (*parts, *sizes))


def value_ranges(program: Any, inputs: Sequence[torch.Tensor]) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value of every node of an exported program, over all
    examples; parameters and integers are left out.
    """
    import torch
    from torch.export.graph_signature import InputKind

    stored = {**program.state_dict, **program.constants}
    found: dict[str, tuple[float, float]] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                low, high = found.get(n.name, (float("inf"), float("-inf")))
                found[n.name] = min(low, float(value.min())), max(high, float(value.max()))
            return value

    count = max((len(x) for x in inputs if x.ndim > 1), default=1)
    with torch.no_grad():
        for i in range(count):
            one = iter([x[i : i + 1] if x.ndim > 1 else x for x in inputs])
            args = [
                next(one) if spec.kind is InputKind.USER_INPUT else stored[spec.target]
                for spec in program.graph_signature.input_specs
            ]
            Watch(program.graph_module).run(*args)
    return found
