from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import isobit.data
from isobit import data
from isobit.core.errors import BadArgument, FileMissing, SeveralProblems, UnknownName
from isobit.data.place import locate


def test_names_lists_every_published_data_set() -> None:
    assert data.names() == ("cifar10", "cifar100", "digits", "fashion-mnist", "mnist")


def test_a_data_set_is_named_after_its_file() -> None:
    found = {}
    for module in pkgutil.iter_modules(isobit.data.__path__):
        source = getattr(importlib.import_module(f"isobit.data.{module.name}"), "DATASET", None)
        if source is not None:
            found[module.name.replace("_", "-")] = source.name
    assert found == {name: name for name in data.names()}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("fashion_mnist", '"fashion-mnist"'), ("MNIST", '"mnist"'), ("cifar-10", '"cifar10"')],
)
def test_a_near_miss_is_answered_with_the_name(name: str, hint: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean {hint}"):
        data.load(name)


@pytest.mark.parametrize("name", ["zebra", ""])
def test_an_unknown_name_lists_the_known(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An empty name must not mean the current folder.
    (tmp_path / "train.npz").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName) as caught:
        data.load(name)
    assert "cifar10, cifar100, digits, fashion-mnist, mnist" in caught.value.problems[0].want
    assert "Did you mean" not in str(caught.value)


def test_a_path_that_does_not_exist_is_a_missing_folder(tmp_path: Path) -> None:
    for path in (str(tmp_path / "absent"), tmp_path / "absent"):
        with pytest.raises(FileMissing, match="no such folder"):
            data.load(path)


def test_a_published_name_wins_over_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    train, _ = data.load("digits")
    assert train.verified is True
    for path in ("./digits", Path("digits")):
        with pytest.raises(FileMissing, match=r"train\.npz"):
            data.load(path)


def test_root_contradicts_a_folder_of_your_own(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="no root"):
        data.load(tmp_path, root=tmp_path)


def test_root_goes_before_variable_before_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ISOBIT_DATA", "/there")
    place = locate("/here")
    assert (place.root, place.is_cache) == (Path("/here"), False)
    place = locate(None)
    assert (place.root, place.is_cache) == (Path("/there"), False)
    monkeypatch.setenv("ISOBIT_DATA", "")
    place = locate(None)
    assert (place.root, place.is_cache) == (tmp_path / "isobit" / "data", True)


@pytest.mark.parametrize("xdg", [None, "", "relative"])
def test_without_an_absolute_xdg_cache_the_home_has_it(
    xdg: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ISOBIT_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if xdg is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert locate(None).root == tmp_path / ".cache" / "isobit" / "data"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ISOBIT_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BadArgument, match="Set ISOBIT_DATA"):
        locate(None)


def test_importing_reads_nothing_and_needs_no_torch() -> None:
    program = (
        "import sys, isobit.data\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'isobit.data.mnist' not in sys.modules, 'data sets are scanned on first use'\n"
        "isobit.data.load('digits')\n"
        "assert 'torch' not in sys.modules\n"
    )
    source = str(Path(isobit.data.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_arguments_of_other_types_are_refused_at_once() -> None:
    for wrong in (None, b"digits", 3):
        with pytest.raises(BadArgument, match="name: want the name of a published data set"):
            data.load(wrong)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="name: want a path"):
        data.load("a\0/b")
    with pytest.raises(SeveralProblems) as caught:
        data.load("digits", root=3, verified="yes")  # type: ignore[arg-type]
    assert [problem.what for problem in caught.value.problems] == ["root", "verified"]
