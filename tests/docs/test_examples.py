"""Every command of every example runs, on fewer epochs, and its page says what it does."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pages import EXAMPLES, ROOT, blocks, commands

import isobit.cli
from isobit import data
from isobit.train.recipe import read_recipe
from isobit.train.recipe.types import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortened:
    """How an example is run here. Its recipe is read as it is; options of the command line come
    before what it says.
    """

    name: str
    data: str = ""
    """The published data set that it needs; trained on is a small part of it."""
    epochs: int = 1
    packages: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return ROOT / "examples" / self.name


SHORTENED = (
    Shortened(name="cifar10", data="cifar10", epochs=2),  # more than its one epoch of warm-up
    Shortened(name="digits"),
    Shortened(name="fashion", data="fashion-mnist"),
    Shortened(name="finetune_imported", packages=("onnx",)),
    Shortened(name="own_loop"),
)
SMALL = "build/small"
CASES = [
    pytest.param(found, id=found.name, marks=[pytest.mark.data(found.data)] if found.data else [])
    for found in SHORTENED
]


def test_every_example_is_run_and_listed() -> None:
    names = [example.name for example in SHORTENED]
    assert names == [page.parent.name for page in EXAMPLES]
    index = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+)/README\.md\)", index)) == names


@pytest.mark.parametrize("example", CASES)
def test_example_commands_run(
    example: Shortened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _require("torch", "ziglang", "unicorn", *example.packages)
    monkeypatch.chdir(_copy(example, tmp_path))
    if example.data:
        _write_small(example.data, Path(SMALL))
    page = example.folder / "README.md"
    run = [words for block in blocks(page, "sh") for words in commands(block)]
    for words in run:
        _run(_shortened(words, example))
    reports = re.findall(r"`(build/\w+/report\.html)`", page.read_text(encoding="utf-8"))
    assert len(reports) == 1
    text = Path(reports[0]).read_text(encoding="utf-8")
    assert re.search(r">0</strong> of [\d,]+ values differ", text)
    written = {word for words in run for word in words if word.startswith("build/")}
    assert all(Path(path).exists() for path in written), written


@pytest.mark.parametrize("name", [example.name for example in SHORTENED])
def test_sizes_on_the_page_are_the_networks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes need no training. A page gives them in KB with one digit after the point."""
    _require("torch", "ziglang", "unicorn", "onnx")
    example = next(found for found in SHORTENED if found.name == name)
    folder = _copy(example, tmp_path)
    text = (folder / "README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"([\d.]+) KB of RAM and ([\d.]+) KB of flash", text)
    monkeypatch.chdir(folder)
    if name == "finetune_imported":
        _run(["python", "make_float.py", "1"])
        graph = isobit.import_file("build/float.onnx")
        train, _ = data.load("digits")
        model = isobit.calibrate(graph, train, scheme="pow2")
    else:
        monkeypatch.syspath_prepend(str(folder))
        model = runpy.run_path("net.py")["model"]
    found = model.estimate()
    assert said == (f"{found.ram_bytes / 1e3:.1f}", f"{found.flash_bytes / 1e3:.1f}")


@pytest.mark.parametrize("recipe", sorted((ROOT / "examples").glob("*/recipe.toml")), ids=str)
def test_recipe_names_the_schema(recipe: Path) -> None:
    first = recipe.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#:schema ")
    assert (recipe.parent / first.removeprefix("#:schema ")).is_file()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digits", 'scheme = "pow2"'),
        ("digits", 'target = "cortex-m0plus"'),
        ("cifar10", 'scheme = "pow2"'),
        ("cifar10", 'scheme = "float32"'),
    ],
)
def test_lines_that_a_page_suggests_are_legal(name: str, line: str, tmp_path: Path) -> None:
    folder = _copy(next(found for found in SHORTENED if found.name == name), tmp_path)
    assert f"`{line}`" in (folder / "README.md").read_text(encoding="utf-8")
    key, value = line.replace('"', "").split(" = ")
    assert getattr(_with(folder, "[net]\n", f"[net]\n{line}\n").net, key) == value


def test_imported_model_needs_no_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says that a recipe may name the float file itself."""
    _require("torch", "onnx")
    example = next(found for found in SHORTENED if found.name == "finetune_imported")
    folder = _copy(example, tmp_path)
    monkeypatch.chdir(folder)
    _run(["python", "make_float.py", "1"])
    _with(folder, "build/int.isobit", "build/float.onnx")
    _run(["isobit", "train", "recipe.toml", "--epochs", "1", "--out", "build/tuned.isobit"])
    assert isobit.load("build/tuned.isobit").stage.value == "int"


def test_own_loop_is_short() -> None:
    """Both pages promise 30 lines."""
    loop = (ROOT / "examples/own_loop/train.py").read_text(encoding="utf-8")
    assert len(loop.splitlines()) <= 30


def test_fashion_trains_what_the_bench_measures() -> None:
    """The page sends readers to the bench's figures: one network, one way of training."""
    _require("torch")
    import torch

    from isobit.ir.text import print_graph
    from isobit.train.fit import COSINE

    bench = runpy.run_path(str(ROOT / "bench/fashion.py"))
    theirs = bench["make"]("affine", 0)
    torch.manual_seed(0)
    ours = runpy.run_path(str(ROOT / "examples/fashion/net.py"))["model"]
    mine, its = (
        re.sub(r"  # [\w.]+:\d+$", "", print_graph(model.export(untrained=True)), flags=re.M)
        for model in (ours, theirs)
    )
    assert mine == its
    weights = theirs.net.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in ours.net.state_dict().items())
    recipe = read_recipe(ROOT / "examples/fashion/recipe.toml")
    assert (recipe.optimizer.learning_rate, recipe.schedule) == (bench["RATE"], COSINE)


def _copy(example: Shortened, place: Path) -> Path:
    """Return a copy of an example that a test may write into, without what a user's run left."""
    skipped = shutil.ignore_patterns("build", "__pycache__")
    return Path(shutil.copytree(example.folder, place / example.name, ignore=skipped))


def _with(folder: Path, old: str, new: str) -> Recipe:
    """Change the copy's recipe in one place and return it as read."""
    path = folder / "recipe.toml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return read_recipe(path)


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def _write_small(name: str, folder: Path) -> None:
    """Write the first images of a published data set as a folder of one's own."""
    folder.mkdir(parents=True)
    for part, count in zip(data.load(name), (256, 64), strict=True):
        np.savez_compressed(
            folder / f"{part.split}.npz",
            images=part.images[:count],
            labels=part.labels[:count],
            classes=np.array(part.classes),
        )


def _shortened(words: list[str], example: Shortened) -> list[str]:
    """Return a command that trains little; a dry run stays as it is, on the recipe's own data."""
    if words[0] == "python":
        return [*words, str(example.epochs)]
    if words[:2] != ["isobit", "train"] or "--dry-run" in words:
        return words
    small = ["--data", SMALL] if example.data else []
    return [*words, "--epochs", str(example.epochs), *small]


def _run(words: list[str]) -> None:
    if words[0] == "python":
        source = str(Path(isobit.__file__).parents[1])
        subprocess.run(
            [sys.executable, *words[1:]], check=True, env={**os.environ, "PYTHONPATH": source}
        )
        return
    assert words[0] == "isobit", words
    with pytest.raises(SystemExit) as ended:
        isobit.cli.main(words[1:])
    assert ended.value.code in (0, None), words
