"""From a recipe to what trains: data, model, teacher, device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isobit import data
from isobit.cli.common.subject import read_spec
from isobit.core.errors import BadArgument, IsobitError, raise_all

if TYPE_CHECKING:
    from isobit.api.model import Model
    from isobit.train.recipe.types import Net, Recipe
    from isobit.train.teacher import Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a recipe names, read."""

    recipe: Recipe
    model: Model
    train: data.Dataset
    test: data.Dataset
    teacher: Teacher | None


def read_subject(recipe: Recipe, named: str | None = None) -> Subject:
    """Return what a recipe names; the model is on the recipe's device, its first weights follow
    from the seed. named: the data as a command line names it, where it does.

    Raises what reading data and models raises, and `BadArgument` where they do not fit each other.
    """
    from isobit.train.fit import seed_weights
    from isobit.train.placement import choose_device

    seed_weights(recipe.run.seed)
    model = build(recipe.net)
    train, test = data.load(named or recipe.data.name, verified=recipe.data.verified)
    if recipe.data.limit is not None:
        train = train.subset(slice(0, recipe.data.limit))
    require_matching(model, train)
    device = choose_device(recipe.run.accelerator)
    model.to(device)
    teacher = None
    if recipe.distill is not None:
        teacher = _teacher(recipe.distill.teacher, model, train).to(device)
    return Subject(recipe=recipe, model=model, train=train, test=test, teacher=teacher)


def build(net: Net) -> Model:
    """Return the model that a recipe's [net] describes."""
    from isobit.api.model import Model

    if net.model is not None:
        return _from_file(net.model, net)
    assert net.spec is not None  # Net checks that it is one of the two
    model = read_spec(net.spec)
    scheme = model.scheme.value if net.scheme in (None, "float32") else str(net.scheme)
    target = net.target or model.target_name
    if (scheme, target) == (model.scheme.value, model.target_name):
        return model
    return Model(
        model.net,
        input=model.input_shape,
        target=target,
        scheme=scheme,
        name=model.name,
        ranges=model.options,
    )


def _from_file(path: Path, net: Net) -> Model:
    """Return the model of a float network in a file, or of one that was calibrated."""
    from isobit.api.importing import import_file
    from isobit.api.model import Model
    from isobit.ir.store import read_store
    from isobit.ops.registry import load_ops

    if net.scheme == "float32":
        raise BadArgument(
            where="net.scheme",
            what="number system",
            want='"affine" or "pow2" for a model of another tool',
            got="'float32'",
            fix="It was trained in float already: isobit calibrate converts it.",
        )
    scheme, target = net.scheme or "affine", net.target or ""
    if path.suffix != ".isobit":
        graph = import_file(path, target=target or "cortex-m4")
        return Model.from_graph(graph, target=target, scheme=scheme)
    stored = read_store(path, load_ops().signature)
    if "int" not in stored.graphs:
        return Model.from_graph(stored.graphs["float"], target=target, scheme=scheme)
    model = Model.from_file(path, target=target)
    if net.scheme not in (None, model.scheme.value):
        raise BadArgument(
            where="net.scheme",
            what="number system",
            want=f"that of {path.name}: {model.scheme.value!r}",
            got=repr(net.scheme),
            fix="Leave it out, or start from the float model.",
        )
    model.train()
    return model


def require_matching(model: Model, train: data.Dataset) -> None:
    """Refuse data that the model cannot take, before anything is computed."""
    _, height, width, channels = train.images.shape
    last = model.channels_last
    pixels = (height, width, channels) if last else (channels, height, width)
    problems: list[IsobitError] = []
    if model.input_shape != pixels:
        axes = "input (H, W, C)" if last else "input (C, H, W)"
        problems.append(_mismatch(model, train, axes, pixels, model.input_shape))
    types = model.traced.graph.type_map()
    shapes = [types[name].shape[1:] for name in model.traced.graph.outputs]
    if shapes != [(len(train.classes),)]:
        wanted = f"one of [N, {len(train.classes)}]"
        found = ", ".join(f"[N, {', '.join(map(str, shape))}]" for shape in shapes)
        problems.append(_mismatch(model, train, "output", wanted, found))
    raise_all(problems)


def _mismatch(
    model: Model, train: data.Dataset, what: str, want: object, got: object
) -> BadArgument:
    return BadArgument(
        where=f"{model.name} on {train.name}",
        what=what,
        want=f"{want}, as the data has it",
        got=str(got),
        fix="Choose other data, or change the network.",
    )


def _teacher(path: Path, student: Model, train: data.Dataset) -> Teacher:
    """Return what gives a teacher's logits for what the student takes."""
    from isobit.train.recipe.types import Net
    from isobit.train.teacher import Teacher

    model = build(Net(spec=path) if path.suffix == ".py" else Net(model=path))
    require_matching(model, train)
    return Teacher(model, train, channels_last=student.channels_last)
