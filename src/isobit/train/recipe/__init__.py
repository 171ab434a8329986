"""Recipes: a whole training as a tree of small frozen types, read from a TOML file."""

from __future__ import annotations

from isobit.train.recipe.identify import identity
from isobit.train.recipe.json_schema import schema
from isobit.train.recipe.read import read_recipe
from isobit.train.recipe.types import (
    Augment,
    Data,
    Distill,
    Net,
    Optimizer,
    Recipe,
    Run,
    Schedule,
)

__all__ = [
    "Augment",
    "Data",
    "Distill",
    "Net",
    "Optimizer",
    "Recipe",
    "Run",
    "Schedule",
    "identity",
    "read_recipe",
    "schema",
]
