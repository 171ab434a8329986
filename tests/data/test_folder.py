from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isobit import data
from isobit.core.errors import FileDamaged, FileMissing, SeveralProblems

IMAGES = np.arange(3 * 2 * 2 * 1, dtype=np.uint8).reshape(3, 2, 2, 1)
LABELS = np.array([0, 2, 1], np.int32)
Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "gestures"
    path.mkdir()
    write(path / "train.npz", {})
    write(path / "test.npz", {"images": IMAGES[:1] + 100, "labels": LABELS[:1]})
    return path


def write(path: Path, changes: Arrays) -> None:
    arrays: Arrays = {"images": IMAGES, "labels": LABELS, **changes}
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # a keyword could be allow_pickle


def test_a_folder_gives_its_arrays_and_its_name(folder: Path) -> None:
    for name in (folder, str(folder)):
        train, test = data.load(name)
        assert train.images.tolist() == IMAGES.tolist()
        assert train.labels.tolist() == [0, 2, 1]
        assert train.labels.dtype == np.int64
        assert test.images.tolist() == (IMAGES[:1] + 100).tolist()
        for part, split in ((train, "train"), (test, "test")):
            assert (part.name, part.split) == ("gestures", split)
            assert part.classes == ("0", "1", "2")
            assert part.verified is None


def test_a_folder_beside_may_be_named_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert data.load("gestures")[0].name == "gestures"
    monkeypatch.chdir(folder)
    assert data.load(".")[0].name == "gestures"


@pytest.mark.parametrize("file", ["train.npz", "test.npz"])
def test_class_names_in_either_file_hold_for_both(folder: Path, file: str) -> None:
    write(folder / file, {"classes": np.array(["up", "down", "none", "never seen"])})
    for part in data.load(folder):
        assert part.classes == ("up", "down", "none", "never seen")


def test_both_files_are_missed_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"no train\.npz and no test\.npz"):
        data.load(tmp_path)


def test_one_file_is_missed(folder: Path) -> None:
    (folder / "test.npz").unlink()
    with pytest.raises(FileMissing, match=r"got no test\.npz"):
        data.load(folder)


@pytest.mark.parametrize(
    ("changes", "what", "got"),
    [
        ({"images": IMAGES.astype(np.float32)}, "images", "float32 [3, 2, 2, 1]"),
        ({"images": IMAGES[..., 0]}, "images", "uint8 [3, 2, 2]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images", "uint8 [0, 2, 2, 1]"),
        ({"labels": LABELS[:2]}, "labels", "int32 [2]"),
        ({"labels": LABELS.astype(np.float64)}, "labels", "float64 [3]"),
        ({"labels": LABELS > 0}, "labels", "bool [3]"),
        ({"labels": LABELS - 1}, "labels", "-1..1"),
        ({"labels": LABELS + 65535}, "labels", "65535..65537"),
        ({"labels": np.full(3, 2**64 - 1, np.uint64)}, "labels", f"{2**64 - 1}"),
        ({"classes": np.array([1, 2, 3])}, "classes", "int64 [3]"),
        ({"classes": np.array("abc")}, "classes", "<U3 []"),
        ({"classes": np.array([], np.str_)}, "classes", "<U1 [0]"),
        ({"classes": np.array(["a", "b"])}, "labels", "a label 2"),
    ],
)
def test_arrays_of_another_kind_are_refused(
    folder: Path, changes: Arrays, what: str, got: str
) -> None:
    write(folder / "train.npz", changes)
    with pytest.raises(FileDamaged) as caught:
        data.load(folder)
    (problem,) = caught.value.problems
    assert problem.where == str(folder / "train.npz")
    assert problem.what == what
    assert got in problem.got


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, IMAGES)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "No data left"),
        (b"PK\x03\x04 cut", "not a zip file"),
        (b"neither", "pickle"),
        (npy(), "a single npy array"),
    ],
)
def test_a_file_of_another_format_is_refused(folder: Path, content: bytes, got: str) -> None:
    (folder / "train.npz").write_bytes(content)
    with pytest.raises(FileDamaged) as caught:
        data.load(folder)
    (problem,) = caught.value.problems
    assert problem.where == str(folder / "train.npz")
    assert got in problem.got


def test_a_cut_file_is_refused(folder: Path) -> None:
    content = bytearray((folder / "train.npz").read_bytes())
    content[150] ^= 1  # in an array: its CRC differs
    (folder / "train.npz").write_bytes(content)
    with pytest.raises(FileDamaged, match="CRC"):
        data.load(folder)


def test_pickled_objects_are_never_run(folder: Path) -> None:
    write(folder / "train.npz", {"labels": np.array([{}, {}, {}], dtype=object)})
    with pytest.raises(FileDamaged, match="allow_pickle=False"):
        data.load(folder)


def test_absent_arrays_are_named(folder: Path) -> None:
    with (folder / "train.npz").open("wb") as stream:
        np.savez(stream, x=IMAGES)
    with pytest.raises(FileDamaged, match="want images and labels, got only x"):
        data.load(folder)


def test_the_problems_of_both_files_come_at_once(folder: Path) -> None:
    write(folder / "train.npz", {"images": IMAGES[0], "labels": LABELS - 5})
    (folder / "test.npz").write_bytes(b"")
    with pytest.raises(SeveralProblems) as caught:
        data.load(folder)
    found = [(Path(problem.where).name, problem.what) for problem in caught.value.problems]
    assert found == [("train.npz", "images"), ("train.npz", "labels"), ("test.npz", "content")]


def test_train_and_test_must_agree(folder: Path) -> None:
    write(folder / "train.npz", {"classes": np.array(["a", "b", "c"])})
    write(
        folder / "test.npz",
        {"images": IMAGES.reshape(3, 1, 4, 1), "classes": np.array(["a", "c", "b"])},
    )
    with pytest.raises(SeveralProblems) as caught:
        data.load(folder)
    assert [(problem.what, problem.got) for problem in caught.value.problems] == [
        ("image shape", "[1, 4, 1]"),
        ("classes", "a, c, b"),
    ]
