"""One page per error code, each with an example that raises exactly the message it quotes."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import DOCS, blocks, like, normal

from isobit.core.errors import IsobitError, leaves

FOLDER = DOCS / "errors"
CLASSES = {leaf.code: leaf for leaf in leaves()}
NEEDS = {
    "E402": ("torch", "ziglang"),
    "E502": ("torch", "ziglang", "unicorn"),
    "E503": ("torch", "ziglang"),
}
WITHOUT_TORCH = {"E101", "E102", "E104", "E106", "E107", "E201", "E202", "E401", "E504"}


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.stem for path in FOLDER.glob("E*.md")} == set(CLASSES)


def test_index_lists_every_code_in_order() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[(E\d{3})\]\((E\d{3})\.md\) \| `(\w+)` \| (.*) \|$", text, re.MULTILINE
    )
    wanted = [(code, code, cls.__name__, _summary(code)) for code, cls in CLASSES.items()]
    assert rows == wanted


@pytest.mark.parametrize("code", CLASSES)
def test_page_title_says_what_the_class_says(code: str) -> None:
    first = (FOLDER / f"{code}.md").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# {code}: {_summary(code)}"


@pytest.mark.parametrize("code", CLASSES)
def test_page_example_raises_its_message(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(code, () if code in WITHOUT_TORCH else ("torch",)):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    page = FOLDER / f"{code}.md"
    (example,) = blocks(page, "python")
    (message,) = blocks(page, "text")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # restored after an example that empties it
    with pytest.raises(IsobitError) as caught:
        exec(compile(example.text, "example.py", "exec"), {"__name__": "example"})
    assert {problem.code for problem in caught.value.problems} == {code}
    wanted, got = normal(message.text, tmp_path), normal(str(caught.value), tmp_path)
    assert like(wanted).fullmatch(got.strip()), got


def _summary(code: str) -> str:
    return (CLASSES[code].__doc__ or "").strip().rstrip(".")
