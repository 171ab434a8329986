"""Recipe files: TOML in, `Recipe` out, or every problem at once with its file, line and key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from isobit import data
from isobit.core.arguments import Arguments, shown
from isobit.core.errors import (
    BadArgument,
    FileDamaged,
    FileMissing,
    IsobitError,
    Problem,
    SeveralProblems,
    UnknownName,
    raise_all,
)
from isobit.train.recipe.fields import Field, Kind, check_value, fields_of
from isobit.train.recipe.types import Recipe

PAGE = "docs/recipe.md describes every key."
LONGEST_LOCATED = 2000
"""Lines of a file up to which problems get a line: finding it takes time in the square of them."""


def read_recipe(path: str | Path) -> Recipe:
    """Return the recipe of a TOML file; paths in it are relative to the file's folder.

    Files and folders that it names must exist. Raises `BadArgument`, `UnknownName` and
    `FileMissing` for what is wrong inside, all problems together; `FileMissing` without a file and
    `FileDamaged` for one that is no TOML.
    """
    given = Arguments("read_recipe")
    place = given.path("path", path)
    given.check()
    text = _text(place)
    return _Reader(place, text, _parsed(place, text)).recipe()


class _Reader:
    """One reading: the tables of a file and the problems found so far."""

    def __init__(self, path: Path, text: str, tables: Mapping[str, object]) -> None:
        self.path = path
        self.text = text
        self.tables = tables
        self.problems: list[IsobitError] = []
        self.lines: dict[tuple[str, ...], int] | None = None

    def recipe(self) -> Recipe:
        known = fields_of(Recipe)
        for name in self.tables:
            if name not in {item.name for item in known}:
                self._unknown((name,), [item.name for item in known])
        records: dict[str, object] = {}
        for item in known:
            if item.name in self.tables:
                records[item.name] = self._record(item, self.tables[item.name])
            elif item.required:
                keys = [found.name for found in _keys(item) if found.required]
                want = f"a table with {', '.join(keys)}" if keys else "a table"
                self._refuse((item.name,), want, "nothing", f"Add [{item.name}]. {PAGE}")
                records[item.name] = None
        found = None
        if None not in records.values():
            try:
                found = Recipe(**records)  # type: ignore[arg-type]  # each was read for the field of its name
            except IsobitError as error:
                self.problems.append(self._placed(error, ()))
        self._sort()
        raise_all(self.problems)
        assert found is not None
        return found

    def _record(self, item: Field, table: object) -> object:
        """Return the record of a table, None where a key or value is wrong; files that are not
        there are no reason to keep quiet about the rest.
        """
        if not isinstance(table, dict):
            got = "several tables" if isinstance(table, list) else shown(table)
            self._refuse((item.name,), "a table", got, f"Write [{item.name}]. {PAGE}")
            return None
        is_complete = True
        known = _keys(item)
        for name in table:
            if name not in {found.name for found in known}:
                self._unknown((item.name, name), [found.name for found in known])
                is_complete = False
        values: dict[str, object] = {}
        for found in known:
            key = (item.name, found.name)
            if found.name in table:
                values[found.name] = self._value(key, found, table[found.name])
                is_complete &= values[found.name] is not None
            elif found.required:
                fix = f"Add {found.name} to [{item.name}]. {PAGE}"
                self._refuse(key, "a value", "nothing", fix)
                is_complete = False
        if not is_complete:
            return None
        assert item.record is not None
        try:
            return item.record(**values)
        except IsobitError as error:
            self.problems.append(self._placed(error, (item.name,)))
            return None

    def _value(self, key: tuple[str, ...], item: Field, value: object) -> object:
        given = Arguments(self._where(key))
        # None is how a field says "not given"; in a file that is a missing key
        checked = check_value(given, replace(item, name=".".join(key), optional=False), value)
        for error in given.problems:
            for p in error.problems:
                self.problems.append(
                    BadArgument(
                        where=p.where, what=p.what, want=p.want, got=p.got, fix=_fix(item, value)
                    )
                )
        if given.problems:
            return None
        if item.kind in (Kind.PATH, Kind.NAME_OR_PATH) and checked not in data.names():
            return self._file(key, item, str(value))
        return checked

    def _file(self, key: tuple[str, ...], item: Field, name: str) -> Path:
        """Return a path below the recipe's folder; a problem where nothing is there."""
        try:
            found = self.path.parent / Path(name).expanduser()
        except RuntimeError:  # ~ of nobody: a name like others
            found = self.path.parent / name
        if item.kind is Kind.PATH:
            if _what_is(found) != "a file":
                self._missing(key, "a file", str(found))
        elif _what_is(found) != "a folder":
            close = difflib.get_close_matches(_plain(name), data.names(), n=1)
            if close:
                want = f"one of {', '.join(data.names())}, or a folder"
                fix = f'Did you mean "{close[0]}"?'
                self.problems.append(
                    UnknownName(
                        where=self._where(key), what=".".join(key), want=want, got=name, fix=fix
                    )
                )
            else:
                want = f"a folder, or one of {', '.join(data.names())}"
                self._missing(key, want, str(found))
        return found

    def _missing(self, key: tuple[str, ...], want: str, path: str) -> None:
        fix = "Paths are relative to the folder of the recipe."
        what = ".".join(key)
        got = f"nothing at {path}"
        self.problems.append(
            FileMissing(where=self._where(key), what=what, want=want, got=got, fix=fix)
        )

    def _unknown(self, key: tuple[str, ...], legal: list[str]) -> None:
        name = key[-1]
        close = difflib.get_close_matches(_plain(name), legal, n=1)
        elsewhere = [t.name for t in fields_of(Recipe) if name in {f.name for f in _keys(t)}]
        if close:
            fix = f'Did you mean "{close[0]}"?'
        elif elsewhere:
            fix = f"It belongs in [{elsewhere[0]}]."
        else:
            fix = PAGE
        self.problems.append(
            UnknownName(
                where=self._where(key),
                what="table" if len(key) == 1 else f"key of [{key[0]}]",
                want=f"one of {', '.join(legal)}",
                got=shown(name),
                fix=fix,
            )
        )

    def _refuse(self, key: tuple[str, ...], want: str, got: str, fix: str) -> None:
        what = ".".join(key)
        self.problems.append(
            BadArgument(where=self._where(key), what=what, want=want, got=got, fix=fix)
        )

    def _placed(self, error: IsobitError, table: tuple[str, ...]) -> IsobitError:
        """Return what a type refused, with the place in the file instead of the type's name."""

        def moved(p: Problem) -> IsobitError:
            key = (*table, *p.what.split("."))
            what = ".".join(key)
            where = self._where(key)
            return BadArgument(where=where, what=what, want=p.want, got=p.got, fix=p.fix)

        errors = [moved(problem) for problem in error.problems]
        return errors[0] if len(errors) == 1 else SeveralProblems(errors)

    def _where(self, key: tuple[str, ...]) -> str:
        """Return the file and the line of a key, of its table where the key is not there."""
        if self.lines is None:
            self.lines = _lines(self.text)
        line = next((self.lines[key[:n]] for n in (2, 1) if key[:n] in self.lines), None)
        return str(self.path) if line is None else f"{self.path}:{line}"

    def _sort(self) -> None:
        """Put problems in the order of the file; those without a line come first."""

        def line(error: IsobitError) -> int:
            found = re.search(r":(\d+)$", error.problems[0].where)
            return int(found[1]) if found else 0

        self.problems.sort(key=line)


def _keys(table: Field) -> tuple[Field, ...]:
    assert table.record is not None
    return fields_of(table.record)


def _plain(name: str) -> str:
    return name.strip().lower()


def _fix(item: Field, value: object) -> str:
    if item.kind is Kind.CHOICE and isinstance(value, str):
        close = difflib.get_close_matches(_plain(value), item.choices, n=1)
        if close:
            return f'Did you mean "{close[0]}"?'
    if item.kind in (Kind.INTEGER, Kind.NUMBER, Kind.FLAG) and isinstance(value, str):
        return "Write it without quotes."
    return PAGE


def _what_is(path: Path) -> str:
    """Say what is at a path; names that are too long and folders that hide it are "nothing"."""
    with suppress(OSError):
        return "a file" if path.is_file() else "a folder" if path.is_dir() else "nothing"
    return "nothing"


def _text(path: Path) -> str:
    there = _what_is(path)
    if there != "a file":
        raise FileMissing(
            where=str(path),
            what="recipe",
            want="a TOML file",
            got=there,
            fix="Check the path.",
        )
    try:
        # Editors of Windows begin a file with a mark that TOML does not know.
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise _damaged(
            str(path), error.strerror or str(error), "Change its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(str(path), f"byte {error.start} is no UTF-8", "Save it as UTF-8.") from error


def _parsed(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's error, and those of its int()
        message = str(error)
        place = re.search(r"\s*\(at line (\d+), column \d+\)$", message)
        line = int(place[1]) if place else text.rstrip("\n").count("\n") + 1
        got = message[: place.start()] if place else message.removesuffix(" (at end of document)")
        fix = f"Correct the line. {PAGE}"
        raise _damaged(f"{path}:{line}", got, fix) from error


def _damaged(where: str, got: str, fix: str) -> FileDamaged:
    return FileDamaged(where=where, what="recipe", want="a TOML file", got=got, fix=fix)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line, from 1, on which each table and each of its keys begins.

    tomllib does not say. But every prefix of whole statements is TOML itself, and a prefix that
    ends inside a statement is not: so a key begins after the last prefix without it. Quadratic in
    the lines, and right for every way to write a key.
    """
    lines = text.split("\n")
    found: dict[tuple[str, ...], int] = {}
    if len(lines) > LONGEST_LOCATED:
        return found
    begin = 1
    for end in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("\n".join(lines[:end]))
        except (ValueError, RecursionError):
            continue
        for name, table in tables.items():
            found.setdefault((name,), begin)
            if isinstance(table, dict):
                for key in table:
                    found.setdefault((name, key), begin)
        begin = end + 1
    return found
