"""MNIST: 70000 handwritten digits, 28x28, pixels 0 (paper) to 255 (ink).

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86 (11), 1998. The publisher states no licence.
"""

from __future__ import annotations

from isobit.data.idx import IdxFile, IdxFiles, IdxSource

DATASET = IdxSource(
    name="mnist",
    classes=tuple(str(digit) for digit in range(10)),
    height=28,
    width=28,
    # The publisher's own site comes last: it often refuses downloads.
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    files=IdxFiles(
        train_images=IdxFile(
            name="train-images-idx3-ubyte.gz",
            size_bytes=9912422,
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            plain_size_bytes=47040016,
            plain_sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        train_labels=IdxFile(
            name="train-labels-idx1-ubyte.gz",
            size_bytes=28881,
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            plain_size_bytes=60008,
            plain_sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        test_images=IdxFile(
            name="t10k-images-idx3-ubyte.gz",
            size_bytes=1648877,
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            plain_size_bytes=7840016,
            plain_sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        test_labels=IdxFile(
            name="t10k-labels-idx1-ubyte.gz",
            size_bytes=4542,
            sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            plain_size_bytes=10008,
            plain_sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)
