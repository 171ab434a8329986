"""CIFAR-100: 60000 colour photographs of 100 kinds of things, 32x32; labels are the fine classes.

Krizhevsky, "Learning multiple layers of features from tiny images", technical report, University of
Toronto, 2009. The publisher states no licence.
"""

from __future__ import annotations

from isobit.data.cifar import CifarSource
from isobit.data.source import Published

_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

DATASET = CifarSource(
    name="cifar100",
    classes=tuple(_CLASSES.split()),
    label_limits=(20, 100),
    archive=Published(
        path="cifar-100-binary.tar.gz",
        size_bytes=168513733,
        # The file whose MD5 the publisher gives as 03b5dce01913d631647c71ecec9e9cb8.
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    urls=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    train=(
        Published(
            path="cifar-100-binary/train.bin",
            size_bytes=153700000,
            sha256="f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        ),
    ),
    test=(
        Published(
            path="cifar-100-binary/test.bin",
            size_bytes=30740000,
            sha256="d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
        ),
    ),
)
