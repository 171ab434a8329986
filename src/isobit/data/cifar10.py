"""CIFAR-10: 60000 colour photographs of 10 kinds of things, 32x32.

Krizhevsky, "Learning multiple layers of features from tiny images", technical report, University of
Toronto, 2009. The publisher states no licence.
"""

from __future__ import annotations

from isobit.data.cifar import CifarSource
from isobit.data.source import Published

_FOLDER = "cifar-10-batches-bin"
_BATCH_BYTES = 30730000
_TRAIN_SHA256 = (
    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
)

DATASET = CifarSource(
    name="cifar10",
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    label_limits=(10,),
    archive=Published(
        path="cifar-10-binary.tar.gz",
        size_bytes=170052171,
        # The file whose MD5 the publisher gives as c32a1d4ab5d03f1284b67883e8d87530.
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    train=tuple(
        Published(path=f"{_FOLDER}/data_batch_{batch}.bin", size_bytes=_BATCH_BYTES, sha256=sha256)
        for batch, sha256 in enumerate(_TRAIN_SHA256, start=1)
    ),
    test=(
        Published(
            path=f"{_FOLDER}/test_batch.bin",
            size_bytes=_BATCH_BYTES,
            sha256="8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
    ),
)
