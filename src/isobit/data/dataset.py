"""What every data set looks like once it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isobit.core.arguments import Arguments, shown
from isobit.core.errors import BadArgument, DataUnverified, raise_all

FORM = "Images are NHWC uint8, labels are class numbers that start at 0."
Indices = slice | ArrayLike
"""What `Dataset.subset` takes: a slice, integers [K], or a mask of booleans [N]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """One split of labelled images: as many labels as images, every label a class.

    images    uint8 [N, H, W, C], the published pixel values, never scaled
    labels    int64 [N], each in 0..len(classes) - 1
    classes   the class names, in label order
    name      the published name, or the name of your folder
    split     "train" or "test"
    verified  True: every file is the published one; False: accepted although some file is not;
              None: your own data, which has no publication to compare with

    Raises BadArgument when the arrays do not fit that.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str
    split: str
    verified: bool | None

    def __post_init__(self) -> None:
        given = Arguments("Dataset")
        for what in ("images", "labels"):
            given.instance(what, getattr(self, what), np.ndarray, "a NumPy array", fix=FORM)
        classes, want = self.classes, "a tuple of strings, in the order of the labels"
        if not isinstance(classes, tuple) or not all(isinstance(name, str) for name in classes):
            given.refuse("classes", want, shown(classes), FORM)
        given.instance("name", self.name, str, "a string")
        given.instance("split", self.split, str, "a string")
        given.instance("verified", self.verified, bool | None, "True, False or None")
        given.check()
        raise_all(self._problems())

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        height, width, channels = self.images.shape[1:]
        trust = {True: "verified", False: "UNVERIFIED", None: "own data"}[self.verified]
        return (
            f"Dataset({self.name} {self.split}: {len(self)} images {height}x{width}x{channels}, "
            f"{len(self.classes)} classes, {trust})"
        )

    def nchw(self) -> NDArray[np.float32]:
        """Return a new float32 array [N, C, H, W] of the raw pixel values, for `torch.from_numpy`.

        Every value is an integer in 0..255, so float32 holds it exactly.
        """
        return self.images.transpose(0, 3, 1, 2).astype(np.float32, order="C")

    def subset(self, indices: Indices) -> Dataset:
        """Return the images that `indices` selects, in its order; a forward slice shares memory.

        Raises BadArgument for an index outside -N..N-1, a mask not of length N, or anything that
        is neither a slice, integers nor booleans.
        """
        chosen = indices if isinstance(indices, slice) else self._checked(indices)
        return replace(
            self,
            images=np.ascontiguousarray(self.images[chosen]),
            labels=np.ascontiguousarray(self.labels[chosen]),
        )

    def require_verified(self) -> None:
        """Return only if every file is the published one, else raise DataUnverified."""
        if self.verified is not True:
            raise DataUnverified(
                where=f"data set {self.name}",
                what=f"{self.split} split",
                want="the published files, with the published checksums",
                got="data of your own" if self.verified is None else "files that differ from them",
                fix="Load it without --unverified (verified=False) from the published files.",
            )

    def _checked(self, indices: ArrayLike) -> NDArray[np.int64] | NDArray[np.bool_]:
        array = np.asarray(indices)
        if array.dtype == np.bool_ and array.shape == (len(self),):
            return array
        if array.shape == (0,):
            return np.zeros(0, np.int64)
        if (
            np.issubdtype(array.dtype, np.integer)
            and array.ndim == 1
            and -len(self) <= int(array.min())
            and int(array.max()) < len(self)
        ):
            return array.astype(np.int64)
        span = f", values {array.min()}..{array.max()}" if array.dtype.kind in "iu" else ""
        raise self._bad(
            "indices",
            f"a slice, integers [K] in {-len(self)}..{len(self) - 1}, or booleans [{len(self)}]",
            f"{array.dtype} {list(array.shape)}{span}",
        )

    def _problems(self) -> list[BadArgument]:
        images, labels, found = self.images, self.labels, []
        if images.dtype != np.uint8 or images.ndim != 4:
            found.append(
                self._bad("images", "uint8 [N, H, W, C]", f"{images.dtype} {list(images.shape)}")
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            want = f"int64 {list(images.shape[:1])}, one label per image"
            found.append(self._bad("labels", want, f"{labels.dtype} {list(labels.shape)}"))
        elif labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
            want = f"0..{len(self.classes) - 1}, one of {len(self.classes)} classes"
            found.append(self._bad("labels", want, f"{labels.min()}..{labels.max()}"))
        return found

    def _bad(self, what: str, want: str, got: str) -> BadArgument:
        return BadArgument(
            where=f"data set {self.name} ({self.split})",
            what=what,
            want=want,
            got=got,
            fix=FORM,
        )
