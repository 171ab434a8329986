from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from isobit.core.errors import BadArgument, DataUnverified, SeveralProblems
from isobit.data import Dataset

IMAGES = np.arange(4 * 2 * 3 * 2, dtype=np.uint8).reshape(4, 2, 3, 2)


def dataset(verified: bool | None = True) -> Dataset:
    return Dataset(
        images=IMAGES.copy(),
        labels=np.array([2, 0, 1, 2]),
        classes=("a", "b", "c"),
        name="toy",
        split="train",
        verified=verified,
    )


def test_nchw_moves_channels_and_keeps_values() -> None:
    out = dataset().nchw()
    assert out.dtype == np.float32
    assert out.shape == (4, 2, 2, 3)
    for n, h, w, c in np.ndindex(*IMAGES.shape):
        assert out[n, c, h, w] == IMAGES[n, h, w, c]
    # torch.from_numpy warns about arrays that are read-only.
    assert out.flags.c_contiguous
    assert out.flags.writeable


def test_len_is_the_number_of_images() -> None:
    assert len(dataset()) == 4


@pytest.mark.parametrize(
    ("verified", "word"), [(True, "verified"), (False, "UNVERIFIED"), (None, "own data")]
)
def test_repr_says_what_it_is(verified: bool | None, word: str) -> None:
    assert repr(dataset(verified)) == f"Dataset(toy train: 4 images 2x3x2, 3 classes, {word})"


def test_dataset_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        dataset().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("indices", "chosen"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([3, 0, 3], [3, 0, 3]),
        ((-1,), [3]),
        (np.array([2], np.uint8), [2]),
        ([True, False, True, False], [0, 2]),
        ([], []),
        (range(2), [0, 1]),
    ],
)
def test_subset_selects_images_and_labels_in_order(
    indices: slice | list[int], chosen: list[int]
) -> None:
    part = dataset(False).subset(indices)
    assert [image.tolist() for image in part.images] == [IMAGES[i].tolist() for i in chosen]
    assert part.labels.tolist() == [[2, 0, 1, 2][i] for i in chosen]
    assert part.labels.dtype == np.int64
    assert part.images.flags.c_contiguous
    assert (part.classes, part.name, part.split, part.verified) == (
        ("a", "b", "c"),
        "toy",
        "train",
        False,
    )


@pytest.mark.parametrize(
    ("indices", "got"),
    [
        ([4], "values 4..4"),
        ([-5, 0], "values -5..0"),
        ([True, False], "bool [2]"),
        ([0.0, 1.0], "float64 [2]"),
        ([[0, 1]], "int64 [1, 2]"),
        (2, "int64 []"),
        (["a"], "<U1 [1]"),
    ],
)
def test_subset_refuses_other_indices(indices: object, got: str) -> None:
    with pytest.raises(BadArgument) as caught:
        dataset().subset(indices)  # type: ignore[arg-type]
    assert got in caught.value.problems[0].got


def test_subset_of_nothing_refuses_every_index() -> None:
    empty = dataset().subset([])
    assert len(empty) == 0
    with pytest.raises(BadArgument):
        empty.subset([0])


def test_images_must_be_nhwc_bytes_and_labels_int64() -> None:
    with pytest.raises(SeveralProblems) as caught:
        replace(dataset(), images=IMAGES[0].astype(np.float32), labels=np.zeros(4, np.int32))
    assert [(problem.code, problem.what) for problem in caught.value.problems] == [
        ("E105", "images"),
        ("E105", "labels"),
    ]


def test_there_is_one_label_per_image() -> None:
    with pytest.raises(BadArgument, match=r"int64 \[4\], one label per image, got int64 \[3\]"):
        replace(dataset(), labels=np.zeros(3, np.int64))


@pytest.mark.parametrize("label", [-1, 3])
def test_every_label_is_a_class(label: int) -> None:
    with pytest.raises(BadArgument, match=r"0\.\.2, one of 3 classes"):
        replace(dataset(), labels=np.array([0, label, 1, 2]))


def test_require_verified_accepts_only_published_data() -> None:
    dataset(True).require_verified()
    with pytest.raises(DataUnverified, match="files that differ"):
        dataset(False).require_verified()
    with pytest.raises(DataUnverified, match="data of your own"):
        dataset(None).require_verified()


def test_arguments_of_other_types_are_refused_at_once() -> None:
    with pytest.raises(SeveralProblems) as caught:
        Dataset(
            images=None,  # type: ignore[arg-type]  # None is refused: what is tested
            labels=[1, 2],  # type: ignore[arg-type]
            classes=["a"],  # type: ignore[arg-type]
            name=None,  # type: ignore[arg-type]
            split=1,  # type: ignore[arg-type]
            verified="yes",  # type: ignore[arg-type]
        )
    wrong = [problem.what for problem in caught.value.problems]
    assert wrong == ["images", "labels", "classes", "name", "split", "verified"]
    assert {problem.code for problem in caught.value.problems} == {"E105"}
