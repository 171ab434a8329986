"""The published data sets themselves, against digests and counts stated by others."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from isobit import data
from isobit.data.cifar10 import DATASET as CIFAR10
from isobit.data.fashion_mnist import DATASET as FASHION_MNIST
from isobit.data.idx import IdxSource
from isobit.data.mnist import DATASET as MNIST
from isobit.data.place import locate
from isobit.data.source import find

# The publishers' MD5s, in the order of IdxFiles.all().
MNIST_MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION_MNIST_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
CIFAR10_SHA1 = (
    "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "67eb016db431130d61cd03c7ad570b013799c88c",
)


def check_split(name: str, shape: tuple[int, ...], train_size: int, test_size: int) -> None:
    train, test = data.load(name)
    for part, size in ((train, train_size), (test, test_size)):
        assert part.verified is True
        assert part.images.shape == (size, *shape)
        assert set(np.unique(part.labels)) == set(range(len(part.classes)))
        assert (int(part.images.min()), int(part.images.max())) == (0, 255)


def md5s_of_what_is_there(source: IdxSource) -> list[str]:
    root, digests = locate(None).root, []
    for file in source.files.all():
        form = find(root, file.forms(source.name))
        assert form is not None
        content = (root / form.path).read_bytes()
        assert len(content) == form.size_bytes
        digests.append(hashlib.md5(content).hexdigest() if form.path.endswith(".gz") else "")
    return digests


def agree(found: list[str], stated: tuple[str, ...]) -> bool:
    """Whether every digest found is the one stated; unpacked files have none stated."""
    return all(ours in ("", theirs) for ours, theirs in zip(found, stated, strict=True))


@pytest.mark.data("mnist")
def test_mnist_is_the_published_one() -> None:
    check_split("mnist", (28, 28, 1), 60000, 10000)
    assert agree(md5s_of_what_is_there(MNIST), MNIST_MD5)
    train, _ = data.load("mnist")
    # The class counts of the training set, as tabulated in many papers.
    assert np.bincount(train.labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]


@pytest.mark.data("fashion-mnist")
def test_fashion_mnist_is_the_published_one() -> None:
    check_split("fashion-mnist", (28, 28, 1), 60000, 10000)
    assert agree(md5s_of_what_is_there(FASHION_MNIST), FASHION_MNIST_MD5)
    train, test = data.load("fashion-mnist")
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10


@pytest.mark.data("cifar10")
def test_cifar10_is_the_published_one() -> None:
    check_split("cifar10", (32, 32, 3), 50000, 10000)
    root = locate(None).root
    files = CIFAR10.train + CIFAR10.test
    digests = [hashlib.sha1((root / file.path).read_bytes()).hexdigest() for file in files]
    assert tuple(digests) == CIFAR10_SHA1
    train, test = data.load("cifar10")
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    # The mean pixel of the training set that is used everywhere to normalise it.
    mean = train.images.mean(axis=(0, 1, 2)) / 255
    assert mean.round(4).tolist() == [0.4914, 0.4822, 0.4465]
