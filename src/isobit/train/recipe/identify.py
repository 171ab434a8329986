"""What of a recipe decides the bits of its result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from isobit.core.errors import FileMissing
from isobit.train.recipe.fields import fields_of
from isobit.train.recipe.types import Recipe

WITHOUT_EFFECT = {
    "data": ("verified",),
    "run": ("checkpoint_every", "tensorboard", "int8_forward"),
}
"""Keys by table that change when or how something is computed or kept, but no bit of it."""


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return what decides the bits of a training, as values that JSON holds: a checkpoint belongs
    to one of these.

    By table and key as in the recipe, less `WITHOUT_EFFECT`. A file stands there as the SHA-256 of
    its content, and a data folder as those of its two files, so that neither a moved file is
    another training nor a changed one the same. What "auto" was resolved to, and what a SPEC.py
    imports from its folder, are for the caller to add. Raises `FileMissing`.
    """
    found: dict[str, Any] = {}
    for item in fields_of(Recipe):
        table = getattr(recipe, item.name)
        if table is None or item.record is None:
            found[item.name] = None
            continue
        left_out = WITHOUT_EFFECT.get(item.name, ())
        found[item.name] = {
            key.name: _identified(getattr(table, key.name))
            for key in fields_of(item.record)
            if key.name not in left_out
        }
    return found


def _identified(value: object) -> object:
    if isinstance(value, Path):
        if value.is_dir():
            return {name: _sha256(value / name) for name in ("train.npz", "test.npz")}
        return _sha256(value)
    return list(value) if isinstance(value, tuple) else value


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FileMissing(
            where=str(path),
            what="file of a recipe",
            want="one that can be read",
            got=error.strerror or str(error),
            fix="Check the paths in the recipe.",
        ) from error
