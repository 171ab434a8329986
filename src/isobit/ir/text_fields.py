"""Operands and attributes of a node in the text form: printing, and parsing what was printed."""

from __future__ import annotations

import math
import re
import typing
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

from isobit.ir.graph import Attrs, Inputs

NAME = r"[A-Za-z0-9_.]+"
"""What a value can be called."""


def print_inputs(inputs: Inputs[str]) -> str:
    """Return operands as `%x, %w, _; mult=%m`: positional ones, then those given by name."""
    positional, named = [], []
    for item in fields(inputs):
        value = getattr(inputs, item.name)
        if isinstance(value, tuple):
            shown = "[" + ", ".join(f"%{name}" for name in value) + "]"
        else:
            shown = "_" if value is None else f"%{value}"
        if item.kw_only:
            if value is not None:
                named.append(f"{item.name}={shown}")
        else:
            positional.append(shown)
    return ", ".join(positional) + (("; " + ", ".join(named)) if named else "")


def print_attrs(attrs: Attrs) -> str:
    """Return ` key=value` of every attribute that is not the operator's default."""
    parts = []
    for item in fields(attrs):
        value = getattr(attrs, item.name)
        if item.default is MISSING or value != item.default:
            parts.append(f" {item.name}={_print_scalar(value)}")
    return "".join(parts)


def _print_scalar(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return "(" + ",".join(map(_print_scalar, value)) + ")"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.hex() if isinstance(value, float) else str(value)


def parse_inputs(text: str, cls: type[Inputs[str]]) -> Inputs[str]:
    """Return what `print_inputs` printed. Raises `ValueError` and what `cls` raises."""
    positional_text, _, named_text = text.partition(";")
    arguments: dict[str, Any] = {}
    items = [item for item in fields(cls) if not item.kw_only]
    shown = _split_operands(positional_text)
    if len(shown) != len(items):
        raise ValueError(f"{len(items)} operands expected, {len(shown)} found")
    for item, word in zip(items, shown, strict=True):
        arguments[item.name] = _parse_operand(word)
    for word in _split_operands(named_text):
        key, _, value = word.partition("=")
        arguments[key] = _parse_operand(value)
    return cls(**arguments)


def _split_operands(text: str) -> list[str]:
    return [
        word.strip()
        for word in re.findall(r"\w+=\[[^\]]*\]|\[[^\]]*\]|[^,]+", text)
        if word.strip()
    ]


def _parse_operand(word: str) -> str | tuple[str, ...] | None:
    if word == "_":
        return None
    if word.startswith("["):
        return tuple(re.findall(rf"%({NAME})", word))
    if not word.startswith("%"):
        raise ValueError(f"operand {word!r} must start with %")
    return word[1:]


def parse_attrs(text: str, cls: type[Attrs]) -> Attrs:
    """Return what `print_attrs` printed. Raises `ValueError` and what `cls` raises."""
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for key, word in re.findall(r"(\w+)=(\S*)", text):
        if key not in hints:
            raise ValueError(f"unknown attribute {key!r}")
        arguments[key] = _parse_scalar(word, hints[key])
    return cls(**arguments)


def _parse_scalar(word: str, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(word)
    if word == "None":
        return None
    if typing.get_origin(hint) is tuple:
        value = _parse_tuple(word)
        if not _has_form(value, hint):
            raise ValueError(f"not of the form {hint}: {word!r}")
        return value
    if typing.get_args(hint):  # X | None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        return _parse_scalar(word, hint)
    if hint is bool:
        return {"true": True, "false": False}[word]
    if hint is float:
        real = float.fromhex(word)
        if math.isnan(real):
            raise ValueError("an attribute that is not a number")
        return real
    return hint(word)


def _parse_tuple(word: str) -> tuple[Any, ...]:
    if not re.fullmatch(r"[-\d,()]+", word):
        raise ValueError(f"not a tuple of integers: {word!r}")
    tokens = re.findall(r"[()]|-?\d+", word)
    stack: list[list[Any]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            done = tuple(stack.pop())
            stack[-1].append(done)
        else:
            stack[-1].append(int(token))
    (result,) = stack[0]
    return tuple(result)


def _has_form(value: Any, hint: Any) -> bool:
    """Whether nested tuples of integers have the lengths that their type asks for."""
    if typing.get_origin(hint) is not tuple:
        return isinstance(value, int)
    items = typing.get_args(hint)
    if not isinstance(value, tuple):
        return False
    if items[-1] is Ellipsis:
        return all(_has_form(entry, items[0]) for entry in value)
    return len(value) == len(items) and all(map(_has_form, value, items))
