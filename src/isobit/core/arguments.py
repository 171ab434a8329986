"""The arguments of a public call, checked before any work: all wrong ones in one error.

given = Arguments("fit")
epochs = given.integer("epochs", epochs, at_least=1)
rate = given.number("learning_rate", rate, above=0)
given.check()
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import TypeVar

from isobit.core.errors import BadArgument, IsobitError, raise_all

E = TypeVar("E", bound=Enum)

FIX = "Correct the argument."
LONGEST = 60
"""Characters of a wrong value that an error shows."""


class Arguments:
    """Problems of one call so far; `check` raises them all at once.

    >>> given = Arguments("fit")
    >>> epochs = given.integer("epochs", 3, at_least=1)
    >>> rate = given.number("learning_rate", 0.002, above=0)
    >>> given.check()

    Every method returns its argument in the plain type that the caller works with (`int` for a
    NumPy integer, `Path` for a string), or a stand-in of that type where it is wrong: nobody sees
    it, because `check` comes before the first use.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[IsobitError] = []

    def check(self) -> None:
        """Raise nothing, the one `BadArgument`, or all problems at once."""
        raise_all(self.problems)

    def refuse(self, what: str, want: str, got: str, fix: str = FIX) -> None:
        """Add a problem of the argument `what`."""
        self.problems.append(BadArgument(where=self.where, what=what, want=want, got=got, fix=fix))

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Take what the body refuses, e.g. an unknown name, as one more problem of this call."""
        try:
            yield
        except IsobitError as error:
            self.problems.append(error)

    def integer(
        self, what: str, value: object, *, at_least: int, at_most: int | None = None, fix: str = FIX
    ) -> int:
        """An integer in a closed range; NumPy's count, booleans do not."""
        if not isinstance(value, bool) and isinstance(value, numbers.Integral):
            found = int(value)
            if at_least <= found and (at_most is None or found <= at_most):
                return found
        end = f"of at least {at_least}" if at_most is None else f"in {at_least}..{at_most}"
        self.refuse(what, f"an integer {end}", shown(value), fix)
        return at_least

    def number(
        self,
        what: str,
        value: object,
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        below: float | None = None,
    ) -> float:
        """A finite real number within the limits given."""
        if not isinstance(value, bool) and isinstance(value, numbers.Real):
            try:
                found = float(value)
            except OverflowError:  # an integer, or a fraction, beyond float64
                found = math.inf
            if (
                math.isfinite(found)
                and (above is None or found > above)
                and (at_least is None or found >= at_least)
                and (at_most is None or found <= at_most)
                and (below is None or found < below)
            ):
                return found
        limits = (("above", above), ("at least", at_least), ("at most", at_most), ("below", below))
        named = " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
        self.refuse(what, f"a finite number {named}".rstrip(), shown(value))
        return 1.0

    def flag(self, what: str, value: object) -> bool:
        """True or False."""
        if not isinstance(value, bool):
            self.refuse(what, "True or False", shown(value))
        return value is True

    def text(self, what: str, value: object, *, fix: str = FIX) -> str:
        """A string that is not empty."""
        if isinstance(value, str) and value:
            return value
        self.refuse(what, "a string that is not empty", shown(value), fix)
        return ""

    def choice(self, what: str, value: object, choices: tuple[str, ...], *, fix: str = FIX) -> str:
        """One of some strings."""
        if isinstance(value, str) and value in choices:
            return value
        self.refuse(what, " or ".join(map(repr, choices)), shown(value), fix)
        return choices[0]

    def member(self, what: str, value: object, enum: type[E], *, fix: str = FIX) -> E:
        """A member of an enum, or its string value."""
        for member in enum:
            if value is member or (isinstance(value, str) and value == member.value):
                return member
        self.refuse(what, " or ".join(str(m.value) for m in enum), shown(value), fix)
        return next(iter(enum))

    def path(self, what: str, value: object, *, fix: str = FIX) -> Path:
        """A path, as a string or anything that `os.fspath` takes."""
        if isinstance(value, str | os.PathLike):
            name = os.fspath(value)
            if isinstance(name, str) and name and "\0" not in name:
                return Path(name)
        self.refuse(what, "a path", shown(value), fix)
        return Path()

    def instance(
        self, what: str, value: object, kind: type | UnionType, want: str, *, fix: str = FIX
    ) -> bool:
        """Whether the argument is of a type; a problem where it is not."""
        if isinstance(value, kind):
            return True
        self.refuse(what, want, shown(value), fix)
        return False

    def function(self, what: str, value: object) -> None:
        """Something that can be called, or None."""
        if value is not None and not callable(value):
            self.refuse(what, "a function or None", shown(value))


def shown(value: object) -> str:
    """Return how an error shows a value: arrays and tensors by dtype and shape, the rest briefly.

    >>> shown("3"), shown(None), shown(float("nan"))
    ("'3'", 'None', 'nan')
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and not isinstance(value, type):
        name = type(value).__name__
        return f"{name} of {dtype} [{', '.join(map(str, shape))}]"
    if isinstance(value, type) or callable(value):
        return f"{type(value).__name__} {getattr(value, '__name__', '')}".rstrip()
    if isinstance(value, tuple | list) and any(hasattr(item, "shape") for item in value[:2]):
        return f"{type(value).__name__} of {len(value)}: {', '.join(map(shown, value[:2]))}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a foreign repr raises, the refusal itself must arrive
        text = type(value).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
