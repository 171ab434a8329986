"""Every block of every page runs: Python, commands, C; every link leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import DOCS, EXAMPLES, ROOT, Block, blocks, commands

import isobit.cli

PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("decisions/*.md"), ROOT / "CONTRIBUTING.md"])
ALL = sorted(
    [
        *DOCS.rglob("*.md"),
        *EXAMPLES,
        ROOT / "examples/README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
    ]
)
PROGRAMS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "make")
NOT_RUN = ("pip ", "git ", "make test", "make lint", "uv ")
"""Commands that install something, change a checkout, or are this test suite itself."""


def _id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _file_of(page: Path, block: Block) -> str:
    """Return the file that a block is: a line `` `name`: `` stands before it."""
    before = page.read_text(encoding="utf-8").splitlines()[: block.line - 2]
    last = next((line for line in reversed(before) if line.strip()), "")
    match = re.match(r"^`([\w./-]+\.\w+)`:$", last)
    return match[1] if match else ""


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_page_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(page)
    if any(b.language in ("python", "sh") for b in found):
        for package in ("torch", "ziglang", "unicorn"):
            if find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in found:
        file = _file_of(page, block)
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            code = "\n" * (block.line - 1) + block.text
            exec(compile(code, str(page), "exec"), names)
        elif block.language == "sh":
            for words in commands(block):
                _run(_quick(words))
        else:
            assert block.language in ("text", ""), f"{page}:{block.line}: unnamed {block.language}"


def _quick(words: list[str]) -> list[str]:
    """Return a command that trains one epoch only: pages are about the way, not the accuracy."""
    return [
        "1" if before == "--epochs" else word
        for before, word in zip(["", *words], words, strict=False)
    ]


def _run(words: list[str]) -> None:
    line = " ".join(words)
    if words[0] == "isobit":
        with pytest.raises(SystemExit) as ended:
            isobit.cli.main(words[1:])
        assert ended.value.code in (0, None), line
    elif words[0] in PROGRAMS and not line.startswith(NOT_RUN):
        if shutil.which(words[0]) is None or shutil.which("arm-none-eabi-gcc") is None:
            pytest.skip(f"{words[0]} or arm-none-eabi-gcc is not installed")
        subprocess.run(words, check=True)
    else:
        assert line.startswith(NOT_RUN), line


@pytest.mark.parametrize("page", ALL, ids=_id)
def test_page_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("folder", [DOCS, DOCS / "decisions"], ids=_id)
def test_index_lists_every_page(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([\w.-]+\.md)\)", text))
    assert listed == {page.name for page in folder.glob("*.md")} - {"README.md"}


def test_pages_name_operators_that_exist() -> None:
    """The table of numerics.md and the registry have the same integer operators."""
    from isobit.ops.base import Op
    from isobit.ops.registry import load_ops

    text = (DOCS / "numerics.md").read_text(encoding="utf-8").split("## Operators")[1]
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    integer = {name for name, op in load_ops().ops.items() if op.integer is not Op.integer}
    assert integer <= named


def test_pages_name_verbs_that_exist() -> None:
    verbs = set(isobit.cli._root.list_commands(None))  # type: ignore[arg-type]  # the scan ignores its context
    for page in ALL:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"^```text.*?^```", "", text, flags=re.DOTALL | re.M)
        used = set(re.findall(r"`isobit ([a-z]+)", text))
        assert used <= verbs, f"{page}: {used - verbs}"


def test_pages_have_no_path_of_a_machine() -> None:
    for page in ALL:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", text), page


def test_kernels_alone_define_nothing_callable(tmp_path: Path) -> None:
    """The Nucleo page says that an IDE may compile what `<name>.c` includes."""
    from isobit import targets
    from isobit.codegen.project import RUNTIME
    from isobit.ops.registry import load_ops

    target = targets.load("nucleo-l4r5zi")
    if shutil.which(target.gcc) is None:
        pytest.skip(f"{target.gcc} is not installed")
    kernels = [k for found in load_ops().kernels.values() for k in found]
    legal = [k.source() for k in kernels if k.features <= target.features]
    sources = [path for path in legal if path.suffix == ".c"]
    for number, source in enumerate(sources):
        shutil.copy(source, tmp_path / f"kernel{number}.c")
    flags = [*target.gcc_flags, "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{RUNTIME}", "-c"]
    files = sorted(path.name for path in tmp_path.glob("*.c"))
    subprocess.run([target.gcc, *flags, *files], check=True, cwd=tmp_path)
    nm = target.gcc.replace("gcc", "nm")
    objects = sorted(path.name for path in tmp_path.glob("*.o"))
    command = [nm, "--extern-only", "--defined-only", *objects]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert [line for line in listed.stdout.splitlines() if line and not line.endswith(":")] == []
