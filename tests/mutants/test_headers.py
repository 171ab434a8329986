"""A fault in a run-time header meets kernels that compile it (`tools/mutation/checks_c.py`)."""

from __future__ import annotations

import importlib
import re
from importlib.resources import files as package_files
from pathlib import Path

import pytest

from isobit.ops.registry import load_ops

TOOLS = Path(__file__).parents[2] / "tools"
RUNTIME = Path(str(package_files("isobit.codegen"))) / "runtime"
HEADERS = {path.name: path.read_text(encoding="utf-8") for path in sorted(RUNTIME.glob("*.h"))}
FUNCTION = r"(?m)^ISOBIT_KERNEL [\w ]+?[ *](\w+)\("


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[tuple[str, str], ...]]:
    monkeypatch.syspath_prepend(str(TOOLS))
    found: dict[str, tuple[tuple[str, str], ...]]
    found = importlib.import_module("mutation.checks_c").HEADER_KERNELS
    return found


def source(op: str, stem: str) -> str:
    kernel = next(k for k in load_ops().kernels[op] if k.stem == stem)
    return kernel.source().read_text(encoding="utf-8")


def included(text: str) -> set[str]:
    """The run-time headers of a source, the ones they include among them."""
    found = set(re.findall(r'(?m)^#include "(isobit_\w+\.h)"', text))
    return found.union(*(included(HEADERS[name]) for name in found))


def reached(name: str, text: str) -> set[str]:
    """The functions of a header that a source calls, from one another among them."""
    bodies = dict(zip(*[iter(re.split(FUNCTION, HEADERS[name])[1:])] * 2, strict=True))
    found: set[str] = set()
    waiting = [text]
    while waiting:
        words = set(re.findall(r"\w+", waiting.pop()))
        new = words & bodies.keys() - found
        found |= new
        waiting += [bodies[function] for function in new]
    return found


def test_every_header_has_kernels(chosen: dict[str, tuple[tuple[str, str], ...]]) -> None:
    assert set(chosen) == set(HEADERS)


@pytest.mark.parametrize("name", HEADERS)
def test_kernels_use_all_of_the_header(
    name: str, chosen: dict[str, tuple[tuple[str, str], ...]]
) -> None:
    texts = [source(*kernel) for kernel in chosen[name]]
    assert all(name in included(text) for text in texts)
    functions = set(re.findall(FUNCTION, HEADERS[name]))
    assert functions
    assert set().union(*(reached(name, text) for text in texts)) == functions


def test_scratch_is_free_and_its_guards_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    checks_c = importlib.import_module("mutation.checks_c")
    from contract import calls, runners

    regions = [
        calls.Region(b"abcd", b"abcd", 4, "input 0"),
        calls.Region(b"??", None, 4, "scratch"),
    ]
    call = calls.Call("", 0, tuple(regions), (calls.Pointer(0), calls.Pointer(1)))
    image = runners._image(call)
    (_, (offset, size)) = image.places
    decided = checks_c._decided(call, image)
    assert decided.size == len(image.before)
    assert [i for i, known in enumerate(decided) if not known] == [*range(offset, offset + size)]
