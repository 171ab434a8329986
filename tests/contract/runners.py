"""Where calls are executed: on this computer, in QEMU, or in Unicorn with every region flush
against nothing.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import isobit
from isobit.run import wire
from isobit.run.child import run_child
from isobit.run.qemu import run_qemu
from isobit.targets import Target

from .calls import Call, problems
from .programs import IMAGE_BYTES

GUARD_BYTES = 64
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What went wrong, and per call (in Unicorn) its instructions, if counted, and stack bytes."""

    problems: tuple[str, ...]
    instructions: tuple[int, ...] = ()
    stack_bytes: tuple[int, ...] = ()


def run_host(program: Path, calls: Sequence[Call]) -> Ran:
    """Run on this computer; a sanitizer's report is a problem."""
    images = [_image(call) for call in calls]
    with tempfile.TemporaryDirectory(prefix="isobit-contract-") as temporary:
        folder = Path(temporary)
        (folder / "input.bin").write_bytes(b"".join(image.record for image in images))
        options = {"UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_leaks=0"}
        done = run_child([str(program)], timeout_s=TIMEOUT_S, cwd=folder, env=options)
        output = folder / "output.bin"
        blob = output.read_bytes() if output.is_file() else b""
    if done.code != 0:
        number = len(_split(images, blob))
        said = done.stderr.decode(errors="replace")[:1500]
        return Ran((f"{calls[min(number, len(calls) - 1)].label}: {done.ending}: {said}",))
    return _compare(calls, images, blob)


def run_on_qemu(program: Path, target: Target, calls: Sequence[Call]) -> Ran:
    """Run in QEMU, whose memories have no holes: guard bytes stand for them."""
    images = [_image(call) for call in calls]
    record = b"".join(image.record for image in images)
    done = run_qemu(program, target, {"input.bin": record}, timeout_s=TIMEOUT_S)
    assert done.exit_code == 0, f"runner.c ended with {done.exit_code}"
    return _compare(calls, images, done.files["output.bin"])


def run_on_unicorn(
    program: Path,
    target: Target,
    calls: Sequence[Call],
    *,
    count: bool = False,
    check_alignment: bool = False,
) -> Ran:
    """Run in Unicorn, each region in pages of its own between unmapped ones.

    Regions alternate between the end and the start of their pages. `check_alignment` watches every
    access of a core that Unicorn would grant misaligned ones (RISC-V); the others fault by
    themselves.
    """
    listed: list[wire.Json] = []
    blob = bytearray()
    for number, call in enumerate(calls):
        regions: list[wire.Json] = []
        for i, region in enumerate(call.regions):
            regions.append([len(region.before), region.alignment_bytes, (number + i) % 2])
            blob += region.before
        pointers: list[wire.Json] = [[p.region, p.offset] for p in call.pointers]
        listed.append([call.entry, regions, pointers])
    request: dict[str, wire.Json] = {
        "isa": target.isa.value,
        "model": target.unicorn_model,
        "regions": [
            [block.kind, block.base, block.size_bytes]
            for block in (*target.blocks("flash"), *target.blocks("ram"))
        ],
        "aligned": check_alignment and not target.unaligned_access,
        "count": count,
        "calls": listed,
    }
    header, blobs = _ask_child(
        wire.pack(request, {"elf": program.read_bytes(), "before": bytes(blob)})
    )
    if "error" in header:
        return Ran((json.dumps(header["error"]),))
    faults: Any = header["faults"]
    found = [f"{calls[number].label}: {text}" for number, text in faults]
    at, after = 0, blobs["after"]
    for call in calls:
        results = []
        for region in call.regions:
            results.append(after[at : at + len(region.before)])
            at += len(region.before)
        found.extend(problems(call, tuple(results)))
    instructions: Any = header["instructions"]
    stack: Any = header["stack_bytes"]
    return Ran(tuple(found), tuple(instructions), tuple(stack))


def _ask_child(message: bytes) -> tuple[dict[str, wire.Json], dict[str, bytes]]:
    """Run `unicorn_calls` in a process of its own: Unicorn is GPLv2 and never imported here."""
    paths = [str(Path(isobit.__file__).parents[1]), str(Path(__file__).parents[1])]
    env = {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    command = (sys.executable, "-P", "-m", "contract.unicorn_calls")
    done = run_child(command, stdin=message, timeout_s=TIMEOUT_S, env=env)
    assert done.code == 0, f"the emulator's process: {done.ending}\n{done.stderr.decode()[-2000:]}"
    return wire.unpack(done.stdout)


@dataclass(frozen=True, slots=True)
class _Image:
    """A call as `runner.c` reads it."""

    record: bytes
    before: bytes
    places: tuple[tuple[int, int], ...]


def _image(call: Call) -> _Image:
    """Place the regions with guard bytes around each, odd where the alignment allows it."""
    rng = np.random.default_rng(len(call.label))
    at, places = GUARD_BYTES, []
    for region in call.regions:
        # An odd multiple of the declared alignment: a kernel must not live on more than it asked
        # for.
        step = region.alignment_bytes
        at = -(-at // step) * step
        at += step if (at // step) % 2 == 0 else 0
        places.append((at, len(region.before)))
        at += len(region.before) + GUARD_BYTES
    image = bytearray(rng.bytes(at))
    assert at <= IMAGE_BYTES, f"{call.label} needs {at} bytes"
    for (offset, size), region in zip(places, call.regions, strict=True):
        image[offset : offset + size] = region.before
    head = struct.pack("<4i", call.entry, len(places), len(call.pointers), len(image))
    for offset, size in places:
        head += struct.pack("<2i", offset, size)
    for pointer in call.pointers:
        head += struct.pack("<2i", pointer.region, pointer.offset)
    return _Image(head + bytes(image), bytes(image), tuple(places))


def _split(images: Sequence[_Image], blob: bytes) -> list[bytes]:
    found, at = [], 0
    for image in images:
        if at + len(image.before) > len(blob):
            break
        found.append(blob[at : at + len(image.before)])
        at += len(image.before)
    return found


def _compare(calls: Sequence[Call], images: Sequence[_Image], blob: bytes) -> Ran:
    found: list[str] = []
    results = _split(images, blob)
    assert len(results) == len(calls), f"{len(results)} of {len(calls)} calls came back"
    for call, image, after in zip(calls, images, results, strict=True):
        found.extend(problems(call, tuple(after[o : o + n] for o, n in image.places)))
        guards = np.ones(len(after), bool)
        for offset, size in image.places:
            guards[offset : offset + size] = False
        changed = np.nonzero(
            guards & (np.frombuffer(after, np.uint8) != np.frombuffer(image.before, np.uint8))
        )[0]
        if len(changed):
            near = min(
                (abs(int(changed[0]) - offset), region.what, int(changed[0]) - offset)
                for (offset, _), region in zip(image.places, call.regions, strict=True)
            )
            found.append(
                f"{call.label}: {len(changed)} guard bytes changed, "
                f"first at {near[2]} from {near[1]}"
            )
    return Ran(tuple(found))


def have_sanitizers() -> bool:
    """Whether gcc can link AddressSanitizer here (its library is a package of its own on some
    systems).
    """
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "x.c"
        source.write_text("int main(void) { return 0; }\n")
        command = [
            "gcc",
            "-fsanitize=address,undefined",
            str(source),
            "-o",
            str(source.with_suffix("")),
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
