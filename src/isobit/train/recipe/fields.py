"""What a field of a recipe may hold, read from its annotation: the one source of the checks, of the
reader of recipe files and of their JSON Schema.

    learning_rate: Annotated[float, Limits(above=0)]
    path: Annotated[Path, Suffixes((".py",))] | None = None
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from isobit.core.arguments import FIX, Arguments, shown

ANY_LENGTH = -1


class Kind(Enum):
    """The type of a field's value."""

    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"
    CHOICE = "choice"
    TEXT = "text"
    PATH = "path"
    NAME_OR_PATH = "name or path"
    NUMBERS = "numbers"
    RECORD = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ends of a range of numbers, open or closed; None: no end there."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class Suffixes:
    """Endings of the file names that a path may have."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record: `name`, the `kind` of its value, and what narrows it.

    optional: None is a value. default: the value where none is given, if not `required`.
    length: of NUMBERS, `ANY_LENGTH` where it is free. record: of RECORD, its type.
    """

    name: str
    kind: Kind
    optional: bool
    required: bool
    default: object
    limits: Limits
    suffixes: tuple[str, ...]
    choices: tuple[str, ...]
    length: int
    record: type[Any] | None


def fields_of(record: type[object]) -> tuple[Field, ...]:
    """Return the fields of a dataclass in their order.

    A type that none of the kinds has is a mistake of ours: `AssertionError`.
    """
    assert dataclasses.is_dataclass(record)
    hints = get_type_hints(record, include_extras=True)
    return tuple(_field(item, hints[item.name]) for item in dataclasses.fields(record))


def settle(record: object) -> Arguments:
    """Put the fields of a frozen record into their plain types; return where to add what else is
    wrong with it.

    Raises `BadArgument` or `SeveralProblems` for the values that their annotations exclude.
    """
    given = Arguments(type(record).__name__)
    for item in fields_of(type(record)):
        value = check_value(given, item, getattr(record, item.name))
        object.__setattr__(record, item.name, value)  # frozen for everyone else
    given.check()
    return given


def check_value(given: Arguments, item: Field, value: object) -> object:
    """Return a value in its plain type; what is wrong with it goes to `given`."""
    what, limits = item.name, item.limits
    if item.optional and value is None:
        return None
    match item.kind:
        case Kind.INTEGER:
            least = 0 if limits.at_least is None else int(limits.at_least)
            most = None if limits.at_most is None else int(limits.at_most)
            return given.integer(what, value, at_least=least, at_most=most)
        case Kind.NUMBER:
            return _number(given, what, value, limits)
        case Kind.FLAG:
            return given.flag(what, value)
        case Kind.CHOICE:
            return given.choice(what, value, item.choices)
        case Kind.TEXT:
            return given.text(what, value)
        case Kind.PATH:
            return _path(given, item, value)
        case Kind.NAME_OR_PATH:
            return value if isinstance(value, str) and value else given.path(what, value)
        case Kind.NUMBERS:
            return _numbers(given, item, value)
        case Kind.RECORD:
            assert item.record is not None
            given.instance(what, value, item.record, f"a {item.record.__name__}")
            return value


def _number(given: Arguments, what: str, value: object, limits: Limits) -> float:
    return given.number(
        what,
        value,
        above=limits.above,
        at_least=limits.at_least,
        at_most=limits.at_most,
        below=limits.below,
    )


def _path(given: Arguments, item: Field, value: object) -> Path:
    path = given.path(item.name, value)
    # given.path is Path() for what it refused already
    if item.suffixes and path.name and path.suffix.lower() not in item.suffixes:
        endings = " or ".join(item.suffixes)
        given.refuse(item.name, f"a file that ends in {endings}", shown(str(path)))
    return path


def _numbers(given: Arguments, item: Field, value: object) -> tuple[float, ...]:
    if not isinstance(value, tuple | list):
        want = "a list of numbers" if item.length == ANY_LENGTH else f"{item.length} numbers"
        given.refuse(item.name, want, shown(value))
        return ()
    if item.length not in (ANY_LENGTH, len(value)):
        given.refuse(item.name, f"{item.length} numbers", f"{len(value)}", FIX)
        return ()
    return tuple(
        _number(given, f"{item.name}[{i}]", number, item.limits) for i, number in enumerate(value)
    )


def _field(item: dataclasses.Field[Any], hint: Any) -> Field:
    options = [part for part in _union(hint) if part is not NoneType]
    plain, extras = zip(*map(_bare, options), strict=True)
    extra = [found for several in extras for found in several]
    choices: tuple[str, ...] = ()
    length, record = ANY_LENGTH, None
    if set(plain) == {str, Path}:
        kind = Kind.NAME_OR_PATH
    else:
        (only,) = plain
        if get_origin(only) is Literal:
            kind, choices = Kind.CHOICE, get_args(only)
        elif get_origin(only) is tuple:
            parts = get_args(only)
            kind, length = Kind.NUMBERS, ANY_LENGTH if parts[-1] is Ellipsis else len(parts)
            extra += _bare(parts[0])[1]
        elif dataclasses.is_dataclass(only):
            kind, record = Kind.RECORD, only
        else:
            kind = _KINDS[only]
    default: object = item.default
    if item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    required = default is dataclasses.MISSING
    return Field(
        name=item.name,
        kind=kind,
        optional=NoneType in _union(hint),
        required=required,
        default=None if required else default,
        limits=next((e for e in extra if isinstance(e, Limits)), Limits()),
        suffixes=next((e.names for e in extra if isinstance(e, Suffixes)), ()),
        choices=choices,
        length=length,
        record=record if isinstance(record, type) else None,
    )


_KINDS = {
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    bool: Kind.FLAG,
    str: Kind.TEXT,
    Path: Kind.PATH,
}


def _union(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a hint, itself where it has none."""
    if get_origin(hint) in (Annotated, Literal, tuple) or isinstance(hint, type):
        return (hint,)
    return get_args(hint) or (hint,)


def _bare(hint: Any) -> tuple[Any, list[object]]:
    """Return a hint without its annotations, and these."""
    if get_origin(hint) is Annotated:
        plain, *extra = get_args(hint)
        return plain, extra
    return hint, []
