"""Pack scikit-learn's 8x8 digits into the package, byte for byte the same on every machine.

    python tools/pack_digits.py             write src/isobit/data/digits.npz and print its SHA-256
    python tools/pack_digits.py --check     compare with the committed file; exit 1 if it differs

Needs scikit-learn, whose `load_digits` is the test part of the UCI data set "Optical Recognition of
Handwritten Digits". The split into train and test is drawn once, here, and stored: for each class
in order a permutation of its images, the first fifth (rounded) to test; both parts keep the
original order. RandomState, not default_rng, because NumPy promises that its stream never changes.
"""

import argparse
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TARGET = Path(__file__).resolve().parents[1] / "src" / "isobit" / "data" / "digits.npz"
CLASSES = 10


def split(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of train and test, stratified 80/20, each ascending."""
    random = np.random.RandomState(seed)
    test: list[int] = []
    for label in range(CLASSES):
        members = random.permutation(np.flatnonzero(labels == label))
        test.extend(members[: round(len(members) / 5)].tolist())
    chosen = np.isin(np.arange(len(labels)), test)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def pack(arrays: dict[str, NDArray[np.uint8]]) -> bytes:
    """Return an npz file without times, and stored so that no zlib version shows in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # the default differs between Windows and the others
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def build() -> bytes:
    """Return the content of digits.npz."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]
    if images.shape != (1797, 8, 8, 1) or not np.array_equal(images[..., 0], digits.images):
        raise SystemExit(f"scikit-learn's digits are not the known ones: {images.shape}")
    labels = digits.target.astype(np.int64)
    train, test = split(labels, seed=0)
    return pack(
        {
            "train_images": images[train],
            "train_labels": labels[train].astype(np.uint8),
            "test_images": images[test],
            "test_labels": labels[test].astype(np.uint8),
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Pack the digits data set into the package.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    blob = build()
    print(f"{hashlib.sha256(blob).hexdigest()}  {len(blob)} bytes")
    if check:
        same = TARGET.is_file() and TARGET.read_bytes() == blob
        print(f"{TARGET}: {'the same' if same else 'differs'}")
        return 0 if same else 1
    TARGET.write_bytes(blob)
    return 0


if __name__ == "__main__":
    sys.exit(main())
