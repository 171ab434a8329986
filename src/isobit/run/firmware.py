"""An ELF file as the emulated chip sees it: bytes to load, names for addresses."""

from __future__ import annotations

import bisect
import io
from collections.abc import Sequence
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from isobit.run.wire import Json


class RunError(Exception):
    """Why a run cannot go on, in the words of `isobit.core.errors`."""

    def __init__(self, *, what: str, want: str, got: str, fix: str, kind: str = "died") -> None:
        super().__init__(what)
        self.fields: dict[str, Json] = {"what": what, "want": want, "got": got, "fix": fix}
        self.fields["kind"] = kind


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function or variable; `address` without the Thumb bit."""

    address: int
    size: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """Segments at their load addresses, the entry point, and the symbols sorted by address."""

    entry: int
    segments: tuple[tuple[int, bytes], ...]
    functions: tuple[Symbol, ...]
    variables: tuple[Symbol, ...]
    labels: dict[str, int]

    def address_of(self, name: str) -> int:
        """Return a function's address; `RunError` if the firmware has no such function."""
        for symbol in self.functions:
            if symbol.name == name:
                return symbol.address
        raise RunError(
            kind="argument",
            what=f"cannot count {name}",
            want="a function of the firmware",
            got="no such function: it was inlined, dropped as unused, or never compiled",
            fix="Declare it in another file than its caller, or noinline.",
        )

    def describe(self, address: int) -> str:
        """Return an address with the symbol it lies in: `0x1234 (main+8)`."""
        for symbols in (self.functions, self.variables):
            at = bisect.bisect_right(symbols, address, key=lambda s: s.address) - 1
            if at >= 0 and address < symbols[at].address + max(symbols[at].size, 1):
                return f"{address:#x} ({symbols[at].name}+{address - symbols[at].address})"
        return f"{address:#x}"


def read(elf: bytes, thumb: int) -> Firmware:
    """Parse an ELF file; `thumb` is the bit to clear in the addresses of functions."""
    file = ELFFile(io.BytesIO(elf))
    segments = tuple(
        (int(segment["p_paddr"]), bytes(segment.data()))
        for segment in file.iter_segments()
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
    )
    functions, variables, labels = [], [], {}
    table = file.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
        kind, value, size = symbol["st_info"]["type"], symbol["st_value"], symbol["st_size"]
        labels[symbol.name] = value
        if kind == "STT_FUNC":
            functions.append(Symbol(value & ~thumb, size, symbol.name))
        elif kind == "STT_OBJECT":
            variables.append(Symbol(value, size, symbol.name))
    return Firmware(
        entry=file.header["e_entry"] & ~thumb,
        segments=segments,
        functions=_sorted(functions),
        variables=_sorted(variables),
        labels=labels,
    )


def _sorted(symbols: Sequence[Symbol]) -> tuple[Symbol, ...]:
    return tuple(sorted(symbols, key=lambda s: (s.address, s.name)))
