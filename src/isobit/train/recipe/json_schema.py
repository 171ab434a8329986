"""The JSON Schema of recipe files.

`python tools/write_recipe_schema.py` writes `docs/recipe.schema.json`; a test compares the two. An
editor with TOML support (Taplo, Even Better TOML) completes and checks a recipe whose first line is
`#:schema PATH_OR_URL`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from isobit import data
from isobit.train.recipe.fields import ANY_LENGTH, Field, Kind, fields_of
from isobit.train.recipe.types import Net, Optimizer, Recipe, Schedule

_RULES: dict[type[object], dict[str, object]] = {
    Net: {"oneOf": [{"required": ["spec"]}, {"required": ["model"]}]},
    Optimizer: {
        "if": {"properties": {"name": {"const": "nesterov"}}},
        "then": {"properties": {"momentum": {"exclusiveMinimum": 0}}},
    },
    Schedule: {
        "if": {"properties": {"name": {"const": "step"}}},
        "then": {
            "required": ["milestones"],
            "properties": {"milestones": {"minItems": 1}, "final_fraction": {"maximum": 0}},
        },
        "else": {
            "properties": {"milestones": {"maxItems": 0}},
            "if": {"properties": {"name": {"const": "constant"}}},
            "then": {"properties": {"final_fraction": {"maximum": 0}}},
        },
    },
}
"""What a schema can say of rules between the keys of one table; the types check all of them."""


def schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a recipe as TOML has it.

    It follows from the dataclasses: types, limits, choices, defaults, and as descriptions their
    docstrings. A recipe that `read_recipe` takes is valid. The reverse does not hold for files that
    must exist, integers with a decimal point (20.0 is one to JSON, and no integer to TOML),
    milestones that do not increase, `float_epochs` beyond `epochs`, and rules between tables.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "isobit recipe",
        **_table(Recipe),
        "$defs": {
            item.record.__name__: _table(item.record)
            for item in fields_of(Recipe)
            if item.record is not None
        },
    }


def _table(record: type[Any]) -> dict[str, object]:
    fields, texts = fields_of(record), _descriptions(record)
    return {
        "description": _one_line(record.__doc__ or ""),
        "type": "object",
        "additionalProperties": False,
        "required": [item.name for item in fields if item.required],
        "properties": {item.name: _property(item, texts.get(item.name, "")) for item in fields},
        **_RULES.get(record, {}),
    }


def _property(item: Field, text: str) -> dict[str, object]:
    if item.kind is Kind.RECORD:
        assert item.record is not None
        return {"$ref": f"#/$defs/{item.record.__name__}"}
    found: dict[str, object] = {"description": text, **_value(item)}
    if not item.required and item.default is not None:
        default = item.default
        found["default"] = list(default) if isinstance(default, tuple) else default
    return found


def _value(item: Field) -> dict[str, object]:
    match item.kind:
        case Kind.INTEGER:
            return {"type": "integer", **_limits(item)}
        case Kind.NUMBER:
            return {"type": "number", **_limits(item)}
        case Kind.FLAG:
            return {"type": "boolean"}
        case Kind.CHOICE:
            return {"enum": list(item.choices)}
        case Kind.NUMBERS:
            length = {} if item.length == ANY_LENGTH else {"minItems": item.length}
            ends = {} if item.length == ANY_LENGTH else {"maxItems": item.length}
            return {"type": "array", "items": {"type": "number", **_limits(item)}, **length, **ends}
        case Kind.NAME_OR_PATH:
            return {"anyOf": [{"enum": list(data.names())}, {"type": "string", "minLength": 1}]}
        case _:
            return {"type": "string", "minLength": 1, **_ending(item.suffixes)}


def _ending(suffixes: tuple[str, ...]) -> dict[str, object]:
    """Say what pathlib's suffix is, in letters of either case: after a name, before slashes.

    No flag of a pattern is known to every validator.
    """
    if not suffixes:
        return {}
    spelled = ("".join(f"[{c}{c.upper()}]" for c in name[1:]) for name in suffixes)
    return {"pattern": rf"^[^\u0000]*[^/\u0000]\.({'|'.join(spelled)})(/\.?)*$"}


def _limits(item: Field) -> dict[str, object]:
    ends = {
        "exclusiveMinimum": item.limits.above,
        "minimum": item.limits.at_least,
        "maximum": item.limits.at_most,
        "exclusiveMaximum": item.limits.below,
    }
    return {word: limit for word, limit in ends.items() if limit is not None}


def _descriptions(record: type[object]) -> dict[str, str]:
    """Return the docstrings below a class's fields, which Python itself does not keep."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[before.target.id] = _one_line(text)
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
