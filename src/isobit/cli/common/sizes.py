"""Option type for byte counts: `65536`, `64K`, `1M` (K = 1024)."""

from __future__ import annotations

import re

import click


class _Bytes(click.ParamType[int]):
    name = "bytes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)([KM]?)", str(value).upper())
        if match is None:
            self.fail(f"{value!r} is not a number of bytes such as 65536 or 64K", param, ctx)
        return int(match[1]) * {"": 1, "K": 1024, "M": 1024**2}[match[2]]


BYTES = _Bytes()
LIMIT_HELP = "Bytes, at least 1 (K = 1024); by default the target's"
"""What an option of this type says; the memory follows."""
