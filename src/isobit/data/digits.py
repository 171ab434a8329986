"""Digits: 1797 handwritten digits, 8x8, pixels 0 (paper) to 16 (ink); part of isobit.

Each pixel counts the inked ones of a 4x4 block of a 32x32 bitmap, hence 0..16; the values are kept.
Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998, doi:10.24432/C50P49, its test part as scikit-learn distributes it; CC BY 4.0, see
digits.LICENSE.txt. `tools/pack_digits.py` wrote the file and drew the split: 1438 train and 359
test images, stratified by class, seed 0. Train and test share their 13 writers, so the accuracy
says nothing about the digits of other people.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isobit.core.errors import FileDamaged, FileMissing
from isobit.data.dataset import Dataset
from isobit.data.place import Place
from isobit.data.source import Published, read

_FIX = "The installation is incomplete: reinstall isobit."


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSource:
    """A data set in one npz file with train_images, train_labels, test_images and test_labels."""

    name: str
    classes: tuple[str, ...]
    folder: Path
    file: Published

    def load(self, place: Place, *, verified: bool) -> tuple[Dataset, Dataset]:
        """Return `(train, test)` from the packed file, whatever `place` and `verified` are.

        Raises FileMissing and FileDamaged: the file belongs to the installation, which is broken
        if it differs.
        """
        path = self.folder / self.file.path
        if not path.is_file():
            raise FileMissing(
                where=str(path), what="packed data set", want="a file", got="nothing", fix=_FIX
            )
        try:
            content = read(self.folder, self.file, verified=True)
        except FileDamaged as error:
            problem = error.problems[0]
            raise FileDamaged(
                where=problem.where,
                what=problem.what,
                want=problem.want,
                got=problem.got,
                fix=_FIX,
            ) from error
        with np.load(io.BytesIO(content.blob), allow_pickle=False) as arrays:
            train, test = (
                Dataset(
                    images=arrays[f"{split}_images"],
                    labels=arrays[f"{split}_labels"].astype(np.int64),
                    classes=self.classes,
                    name=self.name,
                    split=split,
                    verified=True,
                )
                for split in ("train", "test")
            )
        return train, test


DATASET = PackedSource(
    name="digits",
    classes=tuple(str(digit) for digit in range(10)),
    folder=Path(__file__).parent,
    file=Published(
        path="digits.npz",
        size_bytes=117767,
        sha256="03d277aaa95dede3e28bf76b8e8f3fad83b5dcb4bb116f907fa6d6981c9efced",
    ),
)
