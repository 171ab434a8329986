"""Recipes: what a file may say, and every problem of one at once with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isobit.core.errors import BadArgument, FileDamaged, FileMissing, IsobitError, UnknownName
from isobit.train.recipe import (
    Augment,
    Data,
    Distill,
    Net,
    Optimizer,
    Recipe,
    Run,
    Schedule,
    identity,
    read_recipe,
)

GOOD = """\
#:schema recipe.schema.json
[data]
name = "digits"
limit = 100

[net]
spec = "spec.py"
scheme = "pow2"

[optimizer]
name = "sgd"
learning_rate = 1
betas = [0.5,
  0.75]

[schedule]
name = "step"
milestones = [0.5, 0.75]

[augment]
flip = true
mixup = 0.2

[distill]
teacher = "teacher.isobit"

[run]
epochs = 20
batch_size = 64
"""


def fill(folder: Path) -> Path:
    """Put the files there that `GOOD` names; reading a recipe does not open them."""
    (folder / "spec.py").write_text("model = None\n")
    (folder / "teacher.isobit").write_bytes(b"teacher")
    (folder / "own").mkdir()
    for name in ("train.npz", "test.npz"):
        (folder / "own" / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path)


def read(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def problems(folder: Path, text: str) -> list[tuple[str, str, str, str, str]]:
    """Return (line, what, want, got, fix) of everything wrong with a file."""
    with pytest.raises(IsobitError) as caught:
        read(folder, text)
    file = str(folder / "recipe.toml")
    assert all(p.where.startswith(file) for p in caught.value.problems)
    return [
        (p.where.removeprefix(file).lstrip(":"), p.what, p.want, p.got, p.fix)
        for p in caught.value.problems
    ]


def test_a_file_becomes_its_types(folder: Path) -> None:
    assert read(folder, GOOD) == Recipe(
        data=Data(name="digits", limit=100),
        net=Net(spec=folder / "spec.py", scheme="pow2"),
        optimizer=Optimizer(name="sgd", learning_rate=1.0, betas=(0.5, 0.75)),
        schedule=Schedule(name="step", milestones=(0.5, 0.75)),
        augment=Augment(flip=True, mixup=0.2),
        distill=Distill(teacher=folder / "teacher.isobit"),
        run=Run(epochs=20, batch_size=64),
    )


def test_other_ways_to_write_the_same(folder: Path) -> None:
    other = GOOD.replace('[net]\nspec = "spec.py"\nscheme = "pow2"\n', "")
    other = 'net = {spec = "spec.py", scheme = "pow2"}\n' + other
    assert read(folder, other) == read(folder, GOOD)
    (folder / "mark.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_recipe(str(folder / "mark.toml")) == read(folder, GOOD)


def test_paths_are_relative_to_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    found = read(folder, GOOD.replace('"digits"', '"own"'))
    assert found.data.name == folder / "own"
    whole = GOOD.replace('"spec.py"', json.dumps(str(folder / "spec.py")))
    assert read(folder, whole).net.spec == folder / "spec.py"


def test_every_problem_comes_at_once_with_its_line(folder: Path) -> None:
    text = """\
epochs = 3
[data]
name = "cifar-10"
limit = 0
[net]
spec = "missing.py"
[optimiser]
name = "sgd"
[schedule]
name = "cosin"
warmup = 3
[run]
epochs = "20"
learning_rate = 0.1
seed = 1.5
tensorboard = 1
"""
    assert problems(folder, text) == [
        (
            "",
            "optimizer",
            "a table with name, learning_rate",
            "nothing",
            "Add [optimizer]. docs/recipe.md describes every key.",
        ),
        (
            "1",
            "table",
            "one of data, net, optimizer, schedule, run, augment, distill",
            "'epochs'",
            "It belongs in [run].",
        ),
        (
            "3",
            "data.name",
            "one of cifar10, cifar100, digits, fashion-mnist, mnist, or a folder",
            "cifar-10",
            'Did you mean "cifar10"?',
        ),
        (
            "4",
            "data.limit",
            "an integer of at least 1",
            "0",
            "docs/recipe.md describes every key.",
        ),
        (
            "6",
            "net.spec",
            "a file",
            f"nothing at {folder / 'missing.py'}",
            "Paths are relative to the folder of the recipe.",
        ),
        (
            "7",
            "table",
            "one of data, net, optimizer, schedule, run, augment, distill",
            "'optimiser'",
            'Did you mean "optimizer"?',
        ),
        (
            "10",
            "schedule.name",
            "'constant' or 'step' or 'cosine'",
            "'cosin'",
            'Did you mean "cosine"?',
        ),
        (
            "11",
            "key of [schedule]",
            "one of name, warmup_epochs, milestones, gamma, final_fraction",
            "'warmup'",
            'Did you mean "warmup_epochs"?',
        ),
        (
            "12",
            "run.batch_size",
            "a value",
            "nothing",
            "Add batch_size to [run]. docs/recipe.md describes every key.",
        ),
        ("13", "run.epochs", "an integer of at least 1", "'20'", "Write it without quotes."),
        (
            "14",
            "key of [run]",
            "one of " + ", ".join(Run.__dataclass_fields__),
            "'learning_rate'",
            "It belongs in [optimizer].",
        ),
        (
            "15",
            "run.seed",
            "an integer in 0..2147483647",
            "1.5",
            "docs/recipe.md describes every key.",
        ),
        (
            "16",
            "run.tensorboard",
            "True or False",
            "1",
            "docs/recipe.md describes every key.",
        ),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("  0.75]", "  1.75]", "13", "optimizer.betas[1]"),
        ("  0.75]", "  0.75, 0.1]", "13", "optimizer.betas"),
        ("[0.5, 0.75]", "[0.75, 0.5]", "18", "schedule.milestones"),
        ("[0.5, 0.75]", "[]", "18", "schedule.milestones"),
        ("[0.5, 0.75]", "0.5", "18", "schedule.milestones"),
        ('name = "step"', 'name = "cosine"', "18", "schedule.milestones"),
        ('name = "step"', 'name = "step"\nwarmup_epochs = 20', "18", "schedule.warmup_epochs"),
        ('"sgd"', '"nesterov"\nmomentum = 0.0', "12", "optimizer.momentum"),
        ('"pow2"', '"pow2"\nmodel = "teacher.isobit"', "7", "net.spec"),
        ('spec = "spec.py"', "", "6", "net.spec"),
        ('"spec.py"', '"spec.txt"', "7", "net.spec"),
        ('"teacher.isobit"', '"~nobody-here/x"', "25", "distill.teacher"),
        ("epochs = 20", "epochs = 20\nfloat_epochs = 21", "29", "run.float_epochs"),
        ("flip = true", 'flip = "yes"', "21", "augment.flip"),
        ('"digits"', '"./digits"', "3", "data.name"),
        ('"digits"', '""', "3", "data.name"),
        ('"digits"', "3", "3", "data.name"),
        ("[distill]", "[[distill]]", "24", "distill"),
        ("[distill]\nteacher =", "distill.x =", "24", "key of [augment]"),
        ("learning_rate = 1", "learning_rate = nan", "12", "optimizer.learning_rate"),
        ("learning_rate = 1", f"learning_rate = 1{'0' * 400}", "12", "optimizer.learning_rate"),
    ],
)
def test_one_problem_has_its_line(folder: Path, old: str, new: str, line: str, what: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    ((found_line, found, want, got, fix),) = problems(folder, text)
    assert (found_line, found) == (line, what)
    assert want and got and fix


def test_rules_between_tables_have_their_line(folder: Path) -> None:
    text = GOOD.replace('"pow2"', '"float32"') + 'int8_forward = "on"\n'
    ((line, what, *_),) = problems(folder, text)
    assert (line, what) == ("30", "run.int8_forward")


@pytest.mark.parametrize(
    ("text", "line", "got"),
    [
        ("[data]\nname = digits\n", "2", "Invalid value"),
        ("[data]\n[data]\n", "2", "Cannot declare"),
        ('[data]\nname = "digits', "2", "Unterminated string"),
        ("x = " + "[" * 5000, "1", "recursion"),
        ("\n\nx = 1" + "0" * 5000, "3", "digits"),
    ],
)
def test_what_is_no_toml_is_refused(folder: Path, text: str, line: str, got: str) -> None:
    with pytest.raises(FileDamaged) as caught:
        read(folder, text)
    (problem,) = caught.value.problems
    assert problem.where == f"{folder / 'recipe.toml'}:{line}"
    assert got in problem.got and problem.fix


def test_unreadable_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (folder / "none.toml", folder, "a\0b"):
        with pytest.raises(FileMissing if isinstance(path, Path) else BadArgument):
            read_recipe(path)
    (folder / "bytes.toml").write_bytes(b"[data]\nname = '\xff'\n")
    with pytest.raises(FileDamaged, match="byte 15 is no UTF-8"):
        read_recipe(folder / "bytes.toml")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (folder / "closed.toml").write_text(GOOD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FileDamaged, match="Permission denied"):
        read_recipe(folder / "closed.toml")


def test_long_files_are_refused_without_lines(folder: Path) -> None:
    text = GOOD.replace("epochs = 20", "epochs = 0") + "#\n" * 3000
    ((line, what, *_),) = problems(folder, text)
    assert (line, what) == ("", "run.epochs")


@settings(max_examples=200, deadline=None)
@example(text="[data]\nname = 1979-05-27\n[run]\nepochs = {a = 1}\n")
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from([*GOOD.splitlines(), "epochs = [1]", "data = 3", "[run.epochs]", "'"]),
            max_size=20,
        ).map("\n".join),
    )
)
def test_any_text_is_a_recipe_or_one_error(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(IsobitError):
        read_recipe(path)  # none of these names files that are there


RECIPE = Recipe(
    data=Data(name="digits"),
    net=Net(spec=Path("spec.py")),
    optimizer=Optimizer(name="adamw", learning_rate=0.01),
    schedule=Schedule(name="cosine"),
    run=Run(epochs=3, batch_size=8),
)


def test_types_are_frozen_and_take_plain_values() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPE.run.epochs = 4  # type: ignore[misc]  # on purpose
    run = Run(epochs=np.int64(3), batch_size=8, ema=np.float32(0.5))  # type: ignore[arg-type]  # NumPy's
    assert type(run.epochs) is int and type(run.ema) is float
    assert Data(name="some/folder").name == Path("some/folder")
    assert RECIPE.augment == Augment() and RECIPE.distill is None


@pytest.mark.parametrize(
    ("make", "whats"),
    [
        (
            lambda: Optimizer(name="x", learning_rate=0, momentum=1, betas=(1,), clip_norm=-1),  # type: ignore[arg-type]
            ["name", "learning_rate", "momentum", "betas", "clip_norm"],
        ),
        (lambda: Run(epochs=0, batch_size=True, seed=-1), ["epochs", "batch_size", "seed"]),
        (lambda: Net(spec=Path("a.py"), model=Path("b.onnx")), ["spec"]),
        (lambda: replace(RECIPE, data="digits", run=None), ["data", "run"]),  # type: ignore[arg-type]
        (
            lambda: replace(RECIPE, schedule=Schedule(name="cosine", warmup_epochs=3)),
            ["schedule.warmup_epochs"],
        ),
        (lambda: Schedule(name="constant", final_fraction=0.5), ["final_fraction"]),
        (lambda: Data(name=3, limit=0), ["name", "limit"]),  # type: ignore[arg-type]
        (
            lambda: Distill(teacher=Path("a.npz"), temperature=0, weight=2),
            ["teacher", "temperature", "weight"],
        ),
        (
            lambda: replace(
                RECIPE,
                net=Net(spec=Path("spec.py"), scheme="float32"),
                run=Run(epochs=3, batch_size=8, float_epochs=1, int8_forward="on"),
            ),
            ["run.int8_forward", "run.float_epochs"],
        ),
        (lambda: Augment(cutout=-1, flip=1, mixup=-1), ["flip", "cutout", "mixup"]),  # type: ignore[arg-type]
    ],
)
def test_every_wrong_value_of_a_type_is_named(make: Callable[[], object], whats: list[str]) -> None:
    with pytest.raises(IsobitError) as caught:
        make()
    assert [p.what for p in caught.value.problems] == whats


def test_identity_is_what_decides_the_bits(folder: Path) -> None:
    one = read(folder, GOOD)
    base = identity(one)
    assert json.loads(json.dumps(base)) == base
    same = replace(
        one,
        data=replace(one.data, verified=False),
        run=replace(one.run, checkpoint_every=7, tensorboard=True, int8_forward="off"),
    )
    assert identity(same) == base
    (folder / "moved.py").write_bytes((folder / "spec.py").read_bytes())
    assert identity(replace(one, net=replace(one.net, spec=folder / "moved.py"))) == base
    others = [
        replace(one, run=replace(one.run, seed=1)),
        replace(one, run=replace(one.run, patience=1)),
        replace(one, data=replace(one.data, limit=99)),
        replace(one, data=Data(name=folder / "own", limit=100)),
        replace(one, augment=Augment()),
        replace(one, distill=None),
        replace(one, optimizer=replace(one.optimizer, betas=(0.5, 0.7))),
    ]
    found = [json.dumps(identity(other)) for other in [one, *others]]
    assert len(set(found)) == len(found)
    (folder / "spec.py").write_text("model = 3\n")
    assert identity(one) != base
    with pytest.raises(FileMissing):
        identity(RECIPE)


def test_names_that_no_file_can_have_are_files_that_are_not_there(folder: Path) -> None:
    long = "a" * 5000
    with pytest.raises(FileMissing, match=r"E101 a+: recipe: want a TOML file, got nothing"):
        read_recipe(long)
    text = GOOD.replace('"spec.py"', f'"{long}.py"').replace('"digits"', f'"{long}"')
    assert [(line, what) for line, what, *_ in problems(folder, text)] == [
        ("3", "data.name"),
        ("7", "net.spec"),
    ]


def test_rules_are_checked_beside_files_that_are_not_there(folder: Path) -> None:
    text = GOOD.replace('"spec.py"', '"no.py"\nmodel = "no.onnx"').replace('"step"', '"constant"')
    text = text.replace("milestones = [0.5, 0.75]", "warmup_epochs = 20")
    assert [(line, what) for line, what, *_ in problems(folder, text)] == [
        ("7", "net.spec"),
        ("7", "net.spec"),
        ("8", "net.model"),
    ]
    text = text.replace('model = "no.onnx"\n', "")
    assert [(line, what) for line, what, *_ in problems(folder, text)] == [
        ("7", "net.spec"),
        ("18", "schedule.warmup_epochs"),
    ]


def test_unknown_names_are_errors_of_their_own(folder: Path) -> None:
    with pytest.raises(UnknownName):
        read(folder, GOOD + "epoch = 3\n")
