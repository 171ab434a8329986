"""`isobit train`: train what a recipe or a SPEC.py describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from isobit.cli.common.output import err, json_option, out, print_json
from isobit.cli.common.progress import moments
from isobit.cli.common.subject import require_torch
from isobit.core.errors import BadArgument
from isobit.core.files import write_atomic

if TYPE_CHECKING:
    from isobit.cli.common.training import Subject
    from isobit.train.cost import Cost
    from isobit.train.float_baseline import Deployment
    from isobit.train.history import History
    from isobit.train.plan import Plan
    from isobit.train.recipe.types import Recipe

_UNSAVED = "not saved: give --out M.isobit"


@click.command("train")
@click.argument("subject", metavar="RECIPE.toml|SPEC.py", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "name",
    help="digits, mnist, fashion-mnist, cifar10, cifar100, or a folder.",
)
@click.option("--unverified", is_flag=True, help="Accept files that are not the published ones.")
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), default=2e-3, show_default=True
)
@click.option(
    "--out",
    "model_out",
    type=click.Path(path_type=Path),
    help="M.isobit; checkpoints and metrics.jsonl go to the folder M.run beside it.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="The folder M.run of a training, to continue it.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would do and cost, then stop.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    subject: Path,
    name: str | None,
    unverified: bool,
    epochs: int,
    seed: int,
    batch_size: int,
    learning_rate: float,
    model_out: Path | None,
    resume: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a network with the chip's integers and save it as M.isobit.

    A RECIPE.toml says everything (docs/recipe.md); options that are given come before what it says.
    A SPEC.py is trained with AdamW and a cosine schedule, and needs --data.

    Without --out nothing is saved: only the accuracy is shown.
    """
    if name is None and subject.suffix != ".toml":
        raise click.MissingParameter(ctx=context, param_type="option", param_hint="'--data'")
    if model_out is not None and model_out.suffix != ".isobit":
        raise BadArgument(
            where="--out",
            what="file name",
            want="one that ends in .isobit",
            got=str(model_out),
            fix=f"--out {model_out.with_suffix('.isobit')}",
        )
    require_torch(subject)
    from isobit.cli.common.training import read_subject
    from isobit.train.distributed import is_first

    options = {
        "name": name,
        "verified": not unverified,
        "epochs": epochs,
        "seed": seed,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    if subject.suffix == ".toml":
        spelled = {"verified": "unverified"}
        given = [
            key
            for key in options
            if context.get_parameter_source(spelled.get(key, key)) is ParameterSource.COMMANDLINE
        ]
        recipe = _recipe_with(subject, {key: options[key] for key in given})
    else:
        recipe = _recipe_of(subject, options)
    read = read_subject(recipe, named=name)
    plan = _plan(read)
    folder = model_out.with_suffix(".run") if model_out else None
    first = is_first()
    if first and (dry_run or not as_json):
        cost = _measured(read, plan, steps=20 if dry_run else 5)
        if dry_run:
            _print_cost(read, cost, as_json=as_json)
            return
        err().print(_summary(read, cost))
    elif dry_run:
        return
    if first and model_out is None:
        err().print("nothing is saved without --out M.isobit")
    if first and folder is not None:
        _require_writable(folder)
    history, deployment = _train(read, plan, folder, resume, shown=first)
    if not first:
        return
    if model_out is not None:
        read.model.save(model_out)
    else:
        err().print(_UNSAVED)
    _print_result(read, history, deployment, model_out, as_json=as_json)


def _recipe_of(spec: Path, options: Mapping[str, Any]) -> Recipe:
    """Return a SPEC.py's training as a recipe."""
    from isobit.train.fit import COSINE
    from isobit.train.recipe.types import Data, Net, Optimizer, Recipe, Run

    rate, kept = options["learning_rate"], ("epochs", "batch_size", "seed")
    return Recipe(
        data=Data(name=options["name"], verified=options["verified"]),
        net=Net(spec=spec),
        optimizer=Optimizer(name="adamw", learning_rate=rate, weight_decay=1e-4),
        schedule=COSINE,
        run=Run(**{key: options[key] for key in kept}),
    )


def _recipe_with(path: Path, options: Mapping[str, Any]) -> Recipe:
    """Return a file's recipe with what the command line says instead."""
    from isobit.train.recipe import read_recipe

    recipe = read_recipe(path)
    parts = {
        "data": ("name", "verified"),
        "run": ("epochs", "batch_size", "seed"),
        "optimizer": ("learning_rate",),
    }
    changes: dict[str, Any] = {}
    for table, keys in parts.items():
        own = {key: options[key] for key in keys if key in options}
        if own:
            changes[table] = replace(getattr(recipe, table), **own)
    return replace(recipe, **changes)


def _plan(read: Subject) -> Plan:
    from isobit.train.plan import Plan
    from isobit.train.recipe import identity

    recipe = read.recipe
    origin = identity(recipe)
    return Plan(
        run=recipe.run,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        augment=recipe.augment,
        distill=recipe.distill,
        teacher=read.teacher,
        source={table: json.dumps(origin[table]) for table in ("data", "net")},
    )


def _train(
    read: Subject, plan: Plan, folder: Path | None, resume: Path | None, *, shown: bool
) -> tuple[History, Deployment | None]:
    """Train; of a float32 network also convert."""
    from isobit.train.fit import train
    from isobit.train.float_baseline import float_baseline

    with moments(shown) as on_step:
        if read.recipe.net.scheme == "float32":
            found = float_baseline(
                read.model, read.train, read.test, plan, out=folder, resume=resume, on_step=on_step
            )
            return found.history, found
        history = train(
            read.model, read.train, read.test, plan, out=folder, resume=resume, on_step=on_step
        )
    return history, None


def _measured(read: Subject, plan: Plan, *, steps: int) -> Cost:
    from isobit.train.cost import measure

    model = read.model.net if read.recipe.net.scheme == "float32" else read.model
    return measure(model, read.train, plan, val=read.test, steps=steps)


def _summary(read: Subject, cost: Cost) -> str:
    epochs, minutes = read.recipe.run.epochs, cost.seconds / 60
    needed = f"{minutes:.1f} min" if minutes >= 1 else f"{cost.seconds:.0f} s"
    return (
        f"{epochs} epochs of {cost.steps // epochs} steps on {len(read.train):,} images, "
        f"about {needed}"
    )


def _print_cost(read: Subject, cost: Cost, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(cost), "images": len(read.train)})
        return
    console = out()
    console.print(f"{_summary(read, cost)} ({cost.measured_steps} steps measured)")
    sizes = (
        ("images", cost.data_bytes),
        ("parameters", cost.parameter_bytes),
        ("gradients and optimizer", cost.optimizer_bytes),
        ("activations", cost.activation_bytes),
    )
    named = ", ".join(f"{name} {size / 1e3:,.0f}" for name, size in sizes)
    console.print(f"memory: {cost.peak_bytes / 1e3:,.0f} KB at the peak: {named}")


def _print_result(
    read: Subject,
    history: History,
    deployment: Deployment | None,
    model_out: Path | None,
    *,
    as_json: bool,
) -> None:
    from isobit.train.history import FLOAT

    last, test = history.epochs[-1], read.test
    framework = last.val_accuracy if deployment is None else deployment.framework
    # A run whose last epochs are float ones was validated in float; its integers afterwards.
    device = read.model.trained["accuracy"] if deployment is None else deployment.device
    if as_json:
        print_json(
            {
                "epochs": [asdict(e) for e in history.epochs],
                "data_verified": test.verified,
                "saved": None if model_out is None else str(model_out),
                "notes": history.notes,
                "accuracy": {
                    "framework": framework,
                    "device": device,
                    "surprise": framework - device,
                },
            }
        )
        return
    console = out()
    for note in history.notes:
        err().print(note, soft_wrap=True)
    console.print(f"accuracy {device:.2%} on {len(test):,} test images, in the chip's integers")
    if deployment is not None or last.phase == FLOAT:
        console.print(
            f"as trained, in float, it was {framework:.2%}: "
            f"deployment changed it by {100 * (device - framework):+.2f} points"
        )
    if test.verified is False:
        console.print("the data files are not the published ones (--unverified)")
    if model_out is not None:
        console.print(
            f"saved {model_out}. Next: isobit deploy {model_out} --out build/{read.model.name}",
            soft_wrap=True,
        )


def _require_writable(folder: Path) -> None:
    """Find out before the first epoch that its checkpoint could not be written."""
    probe = folder / ".writable"
    write_atomic(probe, b"")
    probe.unlink()
