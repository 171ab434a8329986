"""Stack frames per function, as the compilers record them."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection


def read_stack_usage(folder: Path) -> dict[str, int]:
    """Read the .su files that gcc's -fstack-usage left in `folder`; equal names: the largest.

    Each line is `file:line:column:function<TAB>bytes<TAB>qualifiers`.
    """
    frames: dict[str, int] = {}
    for path in sorted(folder.glob("*.su")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            place, size, *_ = line.split("\t")
            name = place.rsplit(":", 1)[-1]
            frames[name] = max(frames.get(name, 0), int(size))
    return frames


def read_stack_sizes(elf: Path) -> dict[str, int]:
    """Read the section .stack_sizes that clang's -fstack-size-section left in an ELF file.

    It is a sequence of pairs: the address of a function, its frame's bytes in ULEB128.
    """
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        section = file.get_section_by_name(".stack_sizes")
        symbols = file.get_section_by_name(".symtab")
        if section is None or not isinstance(symbols, SymbolTableSection):
            return {}
        names: dict[int, list[str]] = {}
        for symbol in symbols.iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC":
                # Bit 0 marks Thumb code in symbols, but not in the section.
                names.setdefault(symbol["st_value"] & ~1, []).append(symbol.name)
        data = section.data()
    frames: dict[str, int] = {}
    at = 0
    while at + 4 < len(data):
        address = int.from_bytes(data[at : at + 4], "little") & ~1
        at, size, shift = at + 4, 0, 0
        while True:
            byte = data[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        for name in names.get(address, ()):
            frames[name] = max(frames.get(name, 0), size)
    return frames
