from __future__ import annotations

import gzip
import hashlib
import random
import shutil
import struct
from pathlib import Path

import pytest

from isobit.core.errors import FileDamaged, FileMissing, IsobitError, SeveralProblems
from isobit.data.idx import IdxFile, IdxFiles, IdxSource
from isobit.data.place import Place

HEIGHT, WIDTH = 3, 2
TRAIN, TEST = 5, 4
NAMES = ("train-images.gz", "train-labels.gz", "t10k-images.gz", "t10k-labels.gz")


def pixels(count: int, seed: int) -> list[list[list[int]]]:
    draw = random.Random(seed)
    return [
        [[draw.randrange(256) for _ in range(WIDTH)] for _ in range(HEIGHT)] for _ in range(count)
    ]


def images_file(images: list[list[list[int]]]) -> bytes:
    flat = bytes(value for image in images for row in image for value in row)
    return struct.pack(">BBBBIII", 0, 0, 8, 3, len(images), HEIGHT, WIDTH) + flat


def labels_file(labels: list[int]) -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels)


PLAIN = {
    NAMES[0]: images_file(pixels(TRAIN, 1)),
    NAMES[1]: labels_file([0, 1, 2, 1, 0]),
    NAMES[2]: images_file(pixels(TEST, 2)),
    NAMES[3]: labels_file([2, 2, 1, 0]),
}


def packed(blob: bytes) -> bytes:
    """The same bytes in every process: they are in the names of tests, which must agree."""
    return gzip.compress(blob, mtime=0)


PACKED = {name: packed(blob) for name, blob in PLAIN.items()}


def idx_file(name: str) -> IdxFile:
    return IdxFile(
        name=name,
        size_bytes=len(PACKED[name]),
        sha256=hashlib.sha256(PACKED[name]).hexdigest(),
        plain_size_bytes=len(PLAIN[name]),
        plain_sha256=hashlib.sha256(PLAIN[name]).hexdigest(),
    )


def toy(mirrors: tuple[str, ...] = ("http://127.0.0.1:1/",)) -> IdxSource:
    return IdxSource(
        name="toy",
        classes=("a", "b", "c"),
        height=HEIGHT,
        width=WIDTH,
        mirrors=mirrors,
        files=IdxFiles(
            train_images=idx_file(NAMES[0]),
            train_labels=idx_file(NAMES[1]),
            test_images=idx_file(NAMES[2]),
            test_labels=idx_file(NAMES[3]),
        ),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    for name, blob in PACKED.items():
        (tmp_path / "toy" / name).write_bytes(blob)
    return tmp_path


def load(root: Path, verified: bool = True) -> tuple[list[object], bool | None]:
    train, test = toy().load(Place(root=root, is_cache=False), verified=verified)
    assert train.verified == test.verified
    values = [part.tolist() for part in (train.images, train.labels, test.images, test.labels)]
    return values, train.verified


def expected() -> list[object]:
    return [
        [[[[value] for value in row] for row in image] for image in pixels(TRAIN, 1)],
        [0, 1, 2, 1, 0],
        [[[[value] for value in row] for row in image] for image in pixels(TEST, 2)],
        [2, 2, 1, 0],
    ]


def test_idx_files_are_read_as_nhwc(root: Path) -> None:
    assert load(root) == (expected(), True)


def test_arrays_are_writable_and_typed(root: Path) -> None:
    train, test = toy().load(Place(root=root, is_cache=False), verified=True)
    assert (train.name, train.split, test.split, train.classes) == (
        "toy",
        "train",
        "test",
        ("a", "b", "c"),
    )
    for array, dtype in ((train.images, "uint8"), (train.labels, "int64")):
        assert array.dtype == dtype
        assert array.flags.writeable  # torch.from_numpy warns otherwise
        assert array.flags.c_contiguous


def test_unpacked_files_are_accepted(root: Path) -> None:
    for name in NAMES:
        (root / "toy" / name).unlink()
        (root / "toy" / name.removesuffix(".gz")).write_bytes(PLAIN[name])
    assert load(root) == (expected(), True)


def test_an_unpacked_file_is_checked_too(root: Path) -> None:
    (root / "toy" / NAMES[1]).unlink()
    (root / "toy" / "train-labels").write_bytes(labels_file([0, 0, 0, 0, 0]))
    with pytest.raises(FileDamaged, match="toy/train-labels: checksum"):
        load(root)


def test_every_missing_file_is_listed_at_once(root: Path) -> None:
    for name in NAMES[1:]:
        (root / "toy" / name).unlink()
    with pytest.raises(FileMissing) as caught:
        load(root)
    problem = caught.value.problems[0]
    assert problem.where == str(root)
    for name in NAMES:
        assert f"toy/{name} or {name.removesuffix('.gz')}" in problem.want
    assert [name in problem.got for name in NAMES] == [False, True, True, True]
    assert "http://127.0.0.1:1/" in problem.fix


def test_a_missing_root_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="got no such folder"):
        load(tmp_path / "absent")


def test_a_named_folder_is_never_written_to(root: Path) -> None:
    shutil.rmtree(root / "toy")
    with pytest.raises(FileMissing):
        load(root)
    assert list(root.iterdir()) == []


def test_another_file_is_refused_with_both_digests(root: Path) -> None:
    other = packed(labels_file([1, 1, 1, 1, 1]))
    (root / "toy" / NAMES[1]).write_bytes(other)
    with pytest.raises(FileDamaged) as caught:
        load(root)
    problem = caught.value.problems[0]
    assert problem.where == str(root / "toy" / NAMES[1])
    assert hashlib.sha256(PACKED[NAMES[1]]).hexdigest() in problem.want
    assert hashlib.sha256(other).hexdigest() in problem.got
    assert "--unverified" in problem.fix


def test_another_file_is_marked_when_accepted(root: Path) -> None:
    (root / "toy" / NAMES[1]).write_bytes(packed(labels_file([1, 1, 1, 1, 1])))
    values, verified = load(root, verified=False)
    assert values == [expected()[0], [1, 1, 1, 1, 1], *expected()[2:]]
    assert verified is False


def test_published_files_stay_verified_when_others_would_do(root: Path) -> None:
    assert load(root, verified=False) == (expected(), True)


def test_a_file_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SeveralProblems) as caught:
        load(root)
    assert [problem.where for problem in caught.value.problems] == [
        str(root / "toy" / name) for name in NAMES
    ]
    assert {problem.got for problem in caught.value.problems} == {"Permission denied"}


def test_a_folder_that_may_not_be_entered_holds_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(FileMissing):
        load(root)


LABELS = labels_file([0, 1, 2, 1, 0])
IMAGES = PLAIN[NAMES[0]]


@pytest.mark.parametrize(
    ("name", "blob", "what", "got"),
    [
        (NAMES[1], PACKED[NAMES[1]][:-9], "gzip", "end-of-stream"),
        (NAMES[1], b"", "header", "nothing (0 bytes)"),
        (NAMES[1], b"<html>not here</html>", "gzip", "Not a gzipped file"),
        (NAMES[1], PACKED[NAMES[1]][:12] + b"\xff" * 20, "gzip", ""),
        (NAMES[1], packed(b"\0\0\x08"), "header", "000008 (3 bytes)"),
        (NAMES[1], packed(b"\0\0\x08\x01\0\0"), "header", "00000801 (6 bytes)"),
        (NAMES[1], packed(b"\0\0\x0d\x01" + LABELS[4:]), "header", "00000d01"),
        (NAMES[1], packed(IMAGES), "header", "00000803"),
        (NAMES[1], packed(LABELS[:-1]), "length", "12 bytes"),
        (NAMES[1], packed(LABELS + b"\0"), "length", "14 bytes"),
        (NAMES[1], packed(labels_file([])), "shape", "[0]"),
        (NAMES[1], packed(labels_file([0, 1, 3, 1, 0])), "labels", "a label 3"),
        (NAMES[1], packed(labels_file([0, 1, 2, 1])), "number of labels", "4"),
        (NAMES[0], packed(LABELS), "header", "00000801"),
        (NAMES[0], packed(IMAGES[:8] + IMAGES[12:16] * 2), "shape", "[5, 2, 2]"),
        (NAMES[0], packed(IMAGES[:4] + b"\xff" * 4 + IMAGES[8:]), "length", "46 bytes"),
        (NAMES[0], packed(IMAGES[:-1]), "length", "45 bytes"),
    ],
)
def test_structure_is_checked_without_checksums(
    root: Path, name: str, blob: bytes, what: str, got: str
) -> None:
    (root / "toy" / name).write_bytes(blob)
    with pytest.raises(FileDamaged) as caught:
        load(root, verified=False)
    (problem,) = caught.value.problems
    assert problem.where == str(root / "toy" / name)
    assert problem.what == what
    assert got in problem.got


def test_all_problems_come_at_once(root: Path) -> None:
    (root / "toy" / NAMES[0]).unlink()
    (root / "toy" / NAMES[1]).write_bytes(b"other")
    (root / "toy" / NAMES[3]).write_bytes(b"other")
    with pytest.raises(IsobitError) as caught:
        load(root)
    assert [(problem.code, Path(problem.where).name) for problem in caught.value.problems] == [
        ("E101", root.name),
        ("E102", NAMES[1]),
        ("E102", NAMES[3]),
    ]
