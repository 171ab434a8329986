"""Semihosting on files in memory: the calls that a firmware makes of its emulator.

Arm IHI 0115, "Semihosting for AArch32 and AArch64"; RISC-V uses the same numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from isobit.run.firmware import RunError

OPEN, CLOSE, WRITEC, WRITE0, WRITE, READ = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
ISTTY, SEEK, FLEN, ERRNO, EXIT, EXIT_EXTENDED = 0x09, 0x0A, 0x0C, 0x13, 0x18, 0x20

APPLICATION_EXIT = 0x20026
CONSOLE = ":tt"
FAILED = 0xFFFFFFFF


class Guest(Protocol):
    """The memory of the chip. Both raise `RunError` outside of it; `write` also on flash."""

    def read(self, address: int, size: int) -> bytes:
        """Return memory."""

    def write(self, address: int, data: bytes) -> None:
        """Set memory."""


@dataclass(slots=True)
class _Open:
    content: bytearray
    at: int
    reads: bool
    writes: bool
    appends: bool


@dataclass(slots=True)
class Disk:
    """The files a firmware can open, the open ones by handle, and the names it opened to write."""

    files: dict[str, bytearray]
    open: dict[int, _Open] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Disk:
        """Return a disk with these files."""
        return cls({name: bytearray(content) for name, content in files.items()})

    def results(self) -> dict[str, bytes]:
        """Return every file opened for writing; ":tt" is what went to the console."""
        return {name: bytes(self.files[name]) for name in self.written}

    def print(self, text: bytes) -> None:
        """Append to the console."""
        self._for_writing(CONSOLE).extend(text)

    def open_file(self, name: str, mode: int) -> int:
        """Open as fopen would; modes 0..11 are r, rb, r+, r+b, w, wb, w+, w+b, a, ab, a+, a+b."""
        kind, plus = mode // 4, mode % 4 >= 2
        if mode > 11 or (kind == 0 and name not in self.files):
            return FAILED
        if kind > 0 or plus:
            content = self._for_writing(name)
            if kind == 1:
                content.clear()
        handle = 1 + max(self.open, default=0)
        self.open[handle] = _Open(
            self.files[name], 0, kind == 0 or plus, kind > 0 or plus, kind == 2 or name == CONSOLE
        )
        return handle

    def _for_writing(self, name: str) -> bytearray:
        if name not in self.written:
            self.written.append(name)
        return self.files.setdefault(name, bytearray())


def serve(operation: int, argument: int, guest: Guest, disk: Disk) -> tuple[int, int | None]:
    """Do one call. Return what goes into the result register, and the exit code if it was an exit.

    Raises `RunError` for a call that is not offered, or memory that is not there.
    """
    if operation == EXIT:
        return 0, 0 if argument == APPLICATION_EXIT else 1
    if operation == EXIT_EXTENDED:
        reason, code = _words(guest, argument, 2)
        return 0, code & 0xFF if reason == APPLICATION_EXIT else 1
    if operation == OPEN:
        name, mode, length = _words(guest, argument, 3)
        return disk.open_file(guest.read(name, length).decode(errors="replace"), mode), None
    if operation == WRITEC:
        disk.print(guest.read(argument, 1))
        return 0, None
    if operation == WRITE0:
        disk.print(_string(guest, argument))
        return 0, None
    if operation == ERRNO:
        return 0, None
    if operation in (CLOSE, ISTTY, FLEN, SEEK, READ, WRITE):
        return _on_handle(operation, argument, guest, disk), None
    raise RunError(
        what="semihosting call",
        want="open, close, read, write, seek, flen, istty, errno, exit or console output",
        got=f"operation {operation:#x}",
        fix="Use semihost.c of the board's runtime.",
    )


def _on_handle(operation: int, argument: int, guest: Guest, disk: Disk) -> int:
    size = {READ: 3, WRITE: 3, SEEK: 2}.get(operation, 1)
    handle, *rest = _words(guest, argument, size)
    file = disk.open.get(handle)
    if operation in (READ, WRITE):
        address, count = rest
        if operation == READ:
            return count - _read(file, guest, address, count)
        return count - _write(file, guest, address, count)
    if file is None:
        return FAILED
    if operation == CLOSE:
        del disk.open[handle]
        return 0
    if operation == SEEK:
        file.at = rest[0]
        return 0
    return len(file.content) if operation == FLEN else 0


def _read(file: _Open | None, guest: Guest, address: int, count: int) -> int:
    if file is None or not file.reads:
        return 0
    data = bytes(file.content[file.at : file.at + count])
    guest.write(address, data)
    file.at += len(data)
    return len(data)


def _write(file: _Open | None, guest: Guest, address: int, count: int) -> int:
    if file is None or not file.writes:
        return 0
    data = guest.read(address, count)
    if file.appends:
        file.at = len(file.content)
    file.content.extend(bytes(max(0, file.at - len(file.content))))
    file.content[file.at : file.at + count] = data
    file.at += count
    return count


def _words(guest: Guest, address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", guest.read(address, 4 * count))


def _string(guest: Guest, address: int) -> bytes:
    text = bytearray()
    while (byte := guest.read(address + len(text), 1)) != b"\0":
        text += byte
    return bytes(text)
