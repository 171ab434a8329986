"""Write `docs/recipe.schema.json` from the types of `isobit.train.recipe`. A test compares the
two.
"""

from __future__ import annotations

from pathlib import Path

from isobit.core.files import json_text
from isobit.train.recipe import schema

SCHEMA = Path(__file__).resolve().parent.parent / "docs/recipe.schema.json"

if __name__ == "__main__":
    SCHEMA.write_text(json_text(schema()), encoding="utf-8")
