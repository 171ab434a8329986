"""`isobit train`: train a SPEC.py on a data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from isobit import data
from isobit.cli.common.output import err, json_option, out, print_json
from isobit.cli.common.progress import training_progress
from isobit.cli.common.subject import read_spec, require_torch
from isobit.core.errors import BadArgument, IsobitError, raise_all
from isobit.core.files import write_atomic

if TYPE_CHECKING:
    from isobit.api.model import Model

_UNSAVED = "not saved: give --out M.isobit"


@click.command("train")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "name",
    required=True,
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
def command(
    spec: Path,
    name: str,
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
    """Train the model of SPEC with the chip's integers and save it as M.isobit.

    Without --out nothing is saved: only the accuracy is shown.
    """
    if model_out is not None and model_out.suffix != ".isobit":
        raise BadArgument(
            where="--out",
            what="file name",
            want="one that ends in .isobit",
            got=str(model_out),
            fix=f"--out {model_out.with_suffix('.isobit')}",
        )
    require_torch(spec)
    from isobit.train.cost import step_seconds
    from isobit.train.fit import fit, seed_weights

    seed_weights(seed)
    model = read_spec(spec)
    train, test = data.load(name, verified=not unverified)
    _require_matching(model, train)
    steps = -(-len(train) // batch_size)
    seconds = step_seconds(model, train, batch_size) * steps * epochs
    plan = (
        f"{epochs} epochs of {steps} steps on {len(train):,} images, about {seconds / 60:.1f} min"
    )
    if dry_run:
        if as_json:
            print_json({"steps": steps * epochs, "seconds": seconds, "images": len(train)})
        else:
            out().print(plan)
        return
    if not as_json:
        err().print(plan)
    if model_out is None:
        err().print(f"the model will be {_UNSAVED}")
    folder = model_out.with_suffix(".run") if model_out else None
    if folder is not None:
        _require_writable(folder)
    with training_progress() as progress:
        history = fit(
            model,
            train,
            test,
            epochs=epochs,
            seed=seed,
            out=folder,
            resume=resume,
            batch_size=batch_size,
            learning_rate=learning_rate,
            progress=progress,
        )
    if model_out is not None:
        model.save(model_out)
    else:
        err().print(_UNSAVED)
    last = history.epochs[-1]
    if as_json:
        print_json(
            {
                "epochs": [asdict(e) for e in history.epochs],
                "data_verified": test.verified,
                "saved": None if model_out is None else str(model_out),
            }
        )
        return
    console = out()
    console.print(
        f"accuracy {last.val_accuracy:.2%} on {len(test):,} test images, in the chip's integers"
    )
    if test.verified is False:
        console.print("the data files are not the published ones (--unverified)")
    if model_out is not None:
        console.print(
            f"saved {model_out}. Next: isobit deploy {model_out} --out build/{model.name}",
            soft_wrap=True,
        )


def _require_matching(model: Model, train: data.Dataset) -> None:
    """Refuse data that the model cannot take, before anything is computed."""
    _, height, width, channels = train.images.shape
    axes, pixels = "(C, H, W)", (channels, height, width)
    if model.channels_last:  # of an imported graph
        axes, pixels = "(H, W, C)", (height, width, channels)
    problems: list[IsobitError] = []
    if model.input_shape != pixels:
        problems.append(_mismatch(model, train, f"input {axes}", pixels, model.input_shape))
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


def _require_writable(folder: Path) -> None:
    """Find out before the first epoch that its checkpoint could not be written."""
    probe = folder / ".writable"
    write_atomic(probe, b"")
    probe.unlink()
