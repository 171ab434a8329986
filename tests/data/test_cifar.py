from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from isobit.core.errors import FileDamaged, FileMissing, IsobitError
from isobit.data.cifar import CifarSource
from isobit.data.cifar10 import DATASET as CIFAR10
from isobit.data.cifar100 import DATASET as CIFAR100
from isobit.data.place import Place
from isobit.data.source import Published

# (superclass, class) of every record, by file
LABELS = {
    "bin/one.bin": [(1, 4), (0, 0)],
    "bin/two.bin": [(1, 3)],
    "bin/test.bin": [(0, 2), (1, 1), (0, 4)],
}


def planes(file: str, record: int) -> bytes:
    """Red, green and blue plane of one record, row by row."""
    return random.Random(f"{file} {record}").randbytes(3 * 32 * 32)


def blob(file: str, coarse: bool) -> bytes:
    return b"".join(
        (bytes([superclass, label]) if coarse else bytes([label])) + planes(file, record)
        for record, (superclass, label) in enumerate(LABELS[file])
    )


def toy(coarse: bool) -> CifarSource:
    def published(file: str) -> Published:
        content = blob(file, coarse)
        return Published(
            path=file, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        )

    return CifarSource(
        name="toy",
        classes=("a", "b", "c", "d", "e"),
        label_limits=(2, 5) if coarse else (5,),
        archive=Published(path="toy.tar.gz", size_bytes=1, sha256="0" * 64),
        urls=("http://127.0.0.1:1/toy.tar.gz",),
        train=(published("bin/one.bin"), published("bin/two.bin")),
        test=(published("bin/test.bin"),),
    )


def lay_out(root: Path, coarse: bool) -> Place:
    for file in LABELS:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(blob(file, coarse))
    return Place(root=root, is_cache=False)


@pytest.mark.parametrize("coarse", [False, True])
def test_records_are_read_as_nhwc_with_the_fine_label(tmp_path: Path, coarse: bool) -> None:
    train, test = toy(coarse).load(lay_out(tmp_path, coarse), verified=True)
    assert (train.labels.tolist(), test.labels.tolist()) == ([4, 0, 3], [2, 1, 4])
    wanted = [("bin/one.bin", 0), ("bin/one.bin", 1), ("bin/two.bin", 0)]
    for image, (file, record) in zip(train.images, wanted, strict=True):
        raw = planes(file, record)
        for h, w, c in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (31, 30, 2), (17, 5, 1)):
            assert image[h, w, c] == raw[1024 * c + 32 * h + w]
    assert train.images.shape == (3, 32, 32, 3)
    assert test.images.shape == (3, 32, 32, 3)
    assert train.images.flags.writeable
    assert train.images.flags.c_contiguous
    assert (train.split, test.split, train.verified, test.verified) == ("train", "test", True, True)


def test_every_missing_file_is_listed_at_once(tmp_path: Path) -> None:
    place = lay_out(tmp_path, False)
    (tmp_path / "bin" / "one.bin").unlink()
    (tmp_path / "bin" / "test.bin").write_bytes(b"other")
    with pytest.raises(IsobitError) as caught:
        toy(False).load(place, verified=True)
    missing, damaged = caught.value.problems
    assert missing.code == FileMissing.code
    assert missing.want == "bin/one.bin, bin/two.bin, bin/test.bin"
    assert missing.got == "no bin/one.bin"
    assert "http://127.0.0.1:1/toy.tar.gz" in missing.fix
    assert (damaged.code, damaged.where) == (FileDamaged.code, str(tmp_path / "bin" / "test.bin"))


def test_another_file_is_refused_or_marked(tmp_path: Path) -> None:
    place = lay_out(tmp_path, False)
    other = bytes([2]) + planes("other", 0)
    (tmp_path / "bin" / "two.bin").write_bytes(other)
    with pytest.raises(FileDamaged) as caught:
        toy(False).load(place, verified=True)
    assert hashlib.sha256(other).hexdigest() in caught.value.problems[0].got
    train, test = toy(False).load(place, verified=False)
    assert train.labels.tolist() == [4, 0, 2]
    # One foreign file taints both splits: an accuracy needs both.
    assert (train.verified, test.verified) == (False, False)


@pytest.mark.parametrize(
    ("content", "what", "got"),
    [
        (b"", "length", "0 bytes"),
        (bytes(3073), "length", "3073 bytes"),
        (bytes(3075), "length", "3075 bytes"),
        (bytes([2, 0]) + bytes(3072), "label byte 0", "a label 2"),
        (bytes([1, 5]) + bytes(3072), "label byte 1", "a label 5"),
    ],
)
def test_structure_is_checked_without_checksums(
    tmp_path: Path, content: bytes, what: str, got: str
) -> None:
    place = lay_out(tmp_path, True)
    (tmp_path / "bin" / "two.bin").write_bytes(content)
    with pytest.raises(FileDamaged) as caught:
        toy(True).load(place, verified=False)
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "bin" / "two.bin")
    assert (problem.what, problem.got) == (what, got)


def test_cifar100_has_20_superclasses_and_100_classes() -> None:
    assert CIFAR100.label_limits == (20, 100)
    assert len(set(CIFAR100.classes)) == 100
    assert list(CIFAR100.classes) == sorted(CIFAR100.classes)
    # 600 images per class, 500 of them to train, as the publisher says.
    assert CIFAR100.train[0].size_bytes == 100 * 500 * (2 + 3072)
    assert CIFAR100.test[0].size_bytes == 100 * 100 * (2 + 3072)


def test_cifar10_has_10_classes_in_batches_of_10000() -> None:
    assert CIFAR10.label_limits == (10,)
    assert len(CIFAR10.classes) == 10
    sizes = [file.size_bytes for file in CIFAR10.train + CIFAR10.test]
    assert sizes == [10000 * (1 + 3072)] * 6
