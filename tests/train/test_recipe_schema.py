"""The published JSON Schema takes what the reader of recipes takes; the page names every key."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isobit.core.errors import IsobitError
from isobit.train.recipe import schema

from .test_recipe import GOOD, fill, read

ROOT = Path(__file__).resolve().parents[2]


def valid(rule: dict[str, Any], value: object, root: dict[str, Any]) -> bool:
    """A JSON Schema validator of the words that ours uses; others are an error."""
    kinds: dict[str, Callable[[object], bool]] = {
        "object": lambda v: isinstance(v, dict),
        "array": lambda v: isinstance(v, list),
        "string": lambda v: isinstance(v, str),
        "boolean": lambda v: isinstance(v, bool),
        "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
        "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    }
    v: Any = value
    is_number, is_list, is_table = kinds["number"](v), isinstance(v, list), isinstance(v, dict)
    checks: dict[str, Callable[[Any], bool]] = {
        "$schema": lambda _: True,
        "$defs": lambda _: True,
        "title": lambda _: True,
        "description": lambda _: True,
        "default": lambda d: valid({k: r for k, r in rule.items() if k != "default"}, d, root),
        "$ref": lambda r: valid(root["$defs"][r.removeprefix("#/$defs/")], v, root),
        "type": lambda t: kinds[t](v),
        "enum": lambda e: v in e and not isinstance(v, bool),
        "const": lambda c: v == c,
        "anyOf": lambda rules: any(valid(r, v, root) for r in rules),
        "oneOf": lambda rules: sum(valid(r, v, root) for r in rules) == 1,
        "required": lambda names: not is_table or set(names) <= v.keys(),
        "properties": lambda p: (
            not is_table or all(valid(p[k], v[k], root) for k in p.keys() & v.keys())
        ),
        "additionalProperties": lambda _: not is_table or v.keys() <= rule["properties"].keys(),
        "if": lambda r: valid(rule.get("then" if valid(r, v, root) else "else", {}), v, root),
        "then": lambda _: True,
        "else": lambda _: True,
        "minimum": lambda n: not is_number or v >= n,
        "maximum": lambda n: not is_number or v <= n,
        "exclusiveMinimum": lambda n: not is_number or v > n,
        "exclusiveMaximum": lambda n: not is_number or v < n,
        "items": lambda r: not is_list or all(valid(r, item, root) for item in v),
        "minItems": lambda n: not is_list or len(v) >= n,
        "maxItems": lambda n: not is_list or len(v) <= n,
        "minLength": lambda n: not isinstance(v, str) or len(v) >= n,
        "pattern": lambda p: not isinstance(v, str) or re.search(p, v) is not None,
    }
    return all(checks[word](argument) for word, argument in rule.items())


KEYS = sorted(
    (table, key)
    for table, made in tomllib.loads(GOOD).items()
    for key in schema()["$defs"][table.capitalize()]["properties"]  # type: ignore[index]
)
VALUES: list[object] = [
    -1, 0, 1, 3, 0.5, -0.5, 1.5, True, "", "digits", "sgd", "cosine", "on", "spec.py",
    "teacher.isobit", [], [0.5], [0.1, 0.2], [2.0], 2**31, 1e7,
]  # fmt: skip


# What a schema cannot say: which files exist, and rules between two values.
BETWEEN = ("at most the", "fewer than the", "increasing", "for a float32", 'not "on"')


def is_taken(folder: Path, tables: dict[str, dict[str, object]]) -> bool:
    """Whether the reader takes a recipe, apart from what a schema cannot say."""
    text = "\n".join(
        f"[{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in made.items())
        for name, made in tables.items()
    )
    try:
        read(folder, text)
    except IsobitError as error:
        missing = [p for p in error.problems if p.code in ("E101", "E104")]
        assert all(p.what in FILES for p in missing), text
        rest = [p for p in error.problems if p not in missing]
        return all(any(words in p.want for words in BETWEEN) for p in rest)
    return True


FILES = ("data.name", "net.spec", "net.model", "distill.teacher")


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_the_schema_takes_what_the_reader_takes(tmp_path: Path, table: str, key: str) -> None:
    rule, folder = schema(), fill(tmp_path)
    for value in VALUES:
        tables = tomllib.loads(GOOD)
        tables[table][key] = value
        taken = is_taken(folder, tables)
        assert valid(rule, tables, rule) == taken, (value, taken)


FITTING = {
    "integer": [0, 1, 3, -1, 2**31 - 1, 2**31, 0.5, True, "3"],
    "number": [0, 1, 0.5, 0.999, 1e6, 1e7, 1000, 1000.5, -0.1, 1e-300, True, "1"],
    "boolean": [True, False, 0, "on"],
    "array": [[], [0.5], [0.1, 0.2], [0.5, 1], [0, 0.9, 0.95], [True], ["a"], 0.5],
    "string": [
        "spec.py", "SPEC.PY", "a.b/spec.Py", ".py", "a/.py", "..py", "spec.py/", "spec.py/.",
        "spec.pyc", "spec.py ", "spec\u0000.py", "teacher.isobit", "T.ONNX", "t.tflite", "t.npz",
        "cortex-m4", "", 3, [],
    ],
}  # fmt: skip


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, dict[str, object]]:
    """A valid recipe with some keys changed, left out or added."""
    tables: dict[str, dict[str, object]] = tomllib.loads(GOOD)
    rules: Any = schema()["$defs"]
    for _ in range(draw(st.integers(0, 4))):
        table, key = draw(st.sampled_from(KEYS))
        rule = rules[table.capitalize()]["properties"][key]
        values = rule.get("enum") or FITTING[rule.get("type", "string")]
        tables[table][key] = draw(st.sampled_from([*values, "digits", "own"]))
    for _ in range(draw(st.integers(0, 1))):
        table, key = draw(st.sampled_from(KEYS))
        tables[table].pop(key, None)
    return tables


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables=recipes())
def test_any_recipe_that_the_schema_takes_the_reader_takes(
    tables: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "recipes"
    if not folder.exists():
        folder.mkdir()
        fill(folder)
    rule = schema()
    assert valid(rule, tables, rule) == is_taken(folder, tables)


def test_the_schema_of_the_documentation_is_fresh() -> None:
    tool = ROOT / "tools" / "write_recipe_schema.py"
    spec = importlib.util.spec_from_file_location("write_recipe_schema", tool)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert json.loads(module.SCHEMA.read_text(encoding="utf-8")) == schema(), f"run {tool.name}"


def test_every_key_has_a_description() -> None:
    for name, table in schema()["$defs"].items():  # type: ignore[attr-defined]
        assert table["description"], name
        assert all(rule["description"] for rule in table["properties"].values()), name


def test_the_page_describes_every_key_with_its_default() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    rules: Any = schema()
    for name, table in rules["$defs"].items():
        section = page.split(f"## `[{name.lower()}]`")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.MULTILINE))
        assert list(rows) == list(table["properties"]), name
        for key, rule in table["properties"].items():
            if "default" in rule:
                assert rows[key].strip("`") == json.dumps(rule["default"]), key
            else:
                assert rows[key] == ("required" if key in table["required"] else ""), key
