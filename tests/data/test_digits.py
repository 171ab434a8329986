from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import isobit.data
from isobit import data
from isobit.core.errors import FileDamaged, FileMissing
from isobit.data.digits import DATASET
from isobit.data.place import locate

# The number of images per class that UCI states for optdigits.tes.
PER_CLASS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.fixture(scope="module")
def packer() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "pack_digits.py"
    spec = importlib.util.spec_from_file_location("pack_digits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits_need_nothing_but_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOBIT_DATA", str(tmp_path / "absent"))
    monkeypatch.chdir(tmp_path)
    train, test = data.load("digits")
    assert (len(train), len(test)) == (1438, 359)
    for part, split in ((train, "train"), (test, "test")):
        assert part.images.shape[1:] == (8, 8, 1)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int64
        assert (part.images.min(), part.images.max()) == (0, 16)
        assert part.classes == tuple("0123456789")
        assert (part.name, part.split, part.verified) == ("digits", split, True)
        assert part.labels.flags.writeable  # torch.from_numpy warns otherwise


def test_digits_are_split_80_20_in_every_class() -> None:
    train, test = data.load("digits")
    held_out = np.bincount(test.labels).tolist()
    assert held_out == [round(n / 5) for n in PER_CLASS]
    assert (np.bincount(train.labels) + held_out).tolist() == PER_CLASS


def test_digits_are_those_of_scikit_learn(packer: ModuleType) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is the reference")
    reference = datasets.load_digits()
    train, test = data.load("digits")
    ours = sorted(
        (image.tobytes(), int(label))
        for part in (train, test)
        for image, label in zip(part.images, part.labels, strict=True)
    )
    theirs = sorted(
        (bytes(int(pixel) for pixel in image.ravel()), int(label))
        for image, label in zip(reference.images, reference.target, strict=True)
    )
    assert ours == theirs
    assert packer.build() == Path(isobit.data.__file__).with_name("digits.npz").read_bytes()


def test_packing_twice_gives_the_same_bytes(packer: ModuleType, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.zeros(4, np.uint8)}
    blob = packer.pack(arrays)
    # Of bytes that hold no time, compression or platform: the same on every machine.
    assert hashlib.sha256(blob).hexdigest() == (
        "eb934d720c6ff3ae69e3cea052a8d46ca88a50a0c1b6dfdf7c57816c3d7162b5"
    )
    path = tmp_path / "packed.npz"
    path.write_bytes(blob)
    with np.load(path) as packed:
        assert {key: packed[key].tolist() for key in packed} == {
            key: array.tolist() for key, array in arrays.items()
        }
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_split_keeps_order_and_loses_nothing(packer: ModuleType) -> None:
    labels = np.tile(np.arange(10), 13)
    train, test = packer.split(labels, seed=0)
    assert sorted([*train, *test]) == list(range(130))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(test) > 0)
    assert np.bincount(labels[test]).tolist() == [3] * 10  # round(13 / 5)
    assert test.tolist() != packer.split(labels, seed=1)[1].tolist()


def test_the_licence_is_beside_the_data() -> None:
    text = Path(isobit.data.__file__).with_name("digits.LICENSE.txt").read_text()
    for part in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", "Changes:"):
        assert part in text


@pytest.mark.parametrize("verified", [True, False])
def test_a_changed_file_means_a_broken_installation(tmp_path: Path, verified: bool) -> None:
    (tmp_path / "digits.npz").write_bytes(b"other")
    with pytest.raises(FileDamaged, match="reinstall isobit") as caught:
        replace(DATASET, folder=tmp_path).load(locate(None), verified=verified)
    assert hashlib.sha256(b"other").hexdigest() in caught.value.problems[0].got
    assert caught.value.problems[0].where == str(tmp_path / "digits.npz")


def test_an_absent_file_means_a_broken_installation(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="reinstall isobit"):
        replace(DATASET, folder=tmp_path).load(locate(None), verified=True)
