"""Who may import whom: ranks, torch, and what `import isobit` loads. Read from the source,
functions included.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import isobit

ROOT = Path(isobit.__file__).parent

RANKS = {
    "core": 0,
    "ir": 1,
    "data": 1,
    "ops": 2,
    "targets": 2,
    "importers": 3,
    "passes": 3,
    "train": 3,
    "plan": 3,
    "codegen": 4,
    "run": 5,
    "search": 6,
    "report": 6,
    "nn": 6,
    "api": 7,
    "cli": 8,
    "__main__": 9,
}
"""docs/architecture: a package imports lower ranks only, and itself."""

TORCH_PACKAGES = ("train", "search", "api", "nn")
TORCH_FACETS = ("surrogate", "estimate", "combine", "windows", "module_class")
"""Functions of an operator that only training calls."""


@dataclass(frozen=True)
class Import:
    """One imported module, the file, and the functions around it, outermost first."""

    module: str
    file: Path
    line: int
    functions: tuple[str, ...]
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports(file: Path) -> Iterator[Import]:
    """Every import statement of a file."""

    def visit(node: ast.AST, functions: tuple[str, ...], typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, file, child.lineno, functions, typing_only)
            elif isinstance(child, ast.ImportFrom):
                for module in modules_of(child):
                    yield Import(module, file, child.lineno, functions, typing_only)
            inner = functions
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (*functions, child.name)
            guarded = typing_only or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            yield from visit(child, inner, guarded)

    def modules_of(node: ast.ImportFrom) -> Iterator[str]:
        if node.level:  # relative: resolve it against the file's own package
            package = ["isobit", *file.relative_to(ROOT).parts[:-1]]
            base = ".".join(package[: len(package) - node.level + 1])
            name = f"{base}.{node.module}" if node.module else base
        else:
            name = node.module or ""
        for alias in node.names:  # from isobit.core import fixed_torch: a module, not a name in it
            inner = f"{name}.{alias.name}"
            place = ROOT.parent.joinpath(*inner.split("."))
            is_module = place.is_dir() or place.with_suffix(".py").is_file()
            yield inner if name.split(".")[0] == "isobit" and is_module else name

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), (), False)


def files() -> list[Path]:
    """Every module of the package; templates are programs of users, copied and never imported."""
    templates = ROOT / "cli" / "templates"
    return sorted(file for file in ROOT.rglob("*.py") if templates not in file.parents)


def package_of(file: Path) -> str:
    """The package (or root module) that a file belongs to; "" for isobit/__init__.py."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


ALL = [found for file in files() for found in imports(file)]


def test_every_package_has_a_rank() -> None:
    assert {package_of(file) for file in files()} - {""} <= set(RANKS)


def test_packages_import_lower_ranks_only() -> None:
    wrong = []
    for found in ALL:
        own = package_of(found.file)
        parts = found.module.split(".")
        if parts[0] != "isobit" or len(parts) < 2 or own == "" or parts[1].startswith("__"):
            continue
        other = parts[1]
        if own != other and RANKS[other] >= RANKS[own]:
            wrong.append(f"{found} (rank {RANKS[own]} imports rank {RANKS[other]})")
    assert not wrong, "\n".join(wrong)


def may_import_torch(found: Import) -> bool:
    package = package_of(found.file)
    name = found.file.name
    if found.typing_only or package in TORCH_PACKAGES or name.startswith("torch_"):
        return True
    if found.file.relative_to(ROOT).as_posix() == "core/fixed_torch.py":
        return True
    return package == "ops" and bool(found.functions) and is_facet(found)


def is_facet(found: Import) -> bool:
    """Inside a training facet, or a function of `ops` that says in its docstring that it is torch
    code.
    """
    if found.functions[0] in TORCH_FACETS or found.functions[-1] in TORCH_FACETS:
        return True
    tree = ast.parse(found.file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == found.functions[-1]:
            return "torch" in (ast.get_docstring(node) or "").lower()
    return False


def test_torch_is_imported_only_where_training_happens() -> None:
    torch_code = [
        f
        for f in ALL
        if f.module.split(".")[0] == "torch"
        or f.module.startswith(("isobit.core.fixed_torch", "isobit.core.torch_"))
    ]
    wrong = [str(found) for found in torch_code if not may_import_torch(found)]
    assert torch_code
    assert not wrong, "\n".join(wrong)


def test_gpl_packages_are_imported_by_the_child_only() -> None:
    """Unicorn is GPLv2: it is loaded by name in a process of its own, and nowhere else."""
    wrong = [str(f) for f in ALL if f.module.split(".")[0] == "unicorn"]
    assert not wrong, "\n".join(wrong)
    users = [
        file.name
        for file in files()
        if 'import_module("unicorn' in file.read_text(encoding="utf-8")
    ]
    assert users == ["unicorn_child.py"]


def test_no_star_imports() -> None:
    stars = [
        f"{file}:{node.lineno}"
        for file in files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars, "\n".join(stars)


def loaded_after(statement: str) -> set[str]:
    """Modules that a fresh interpreter has after one statement."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_import_isobit_loads_neither_torch_nor_operators() -> None:
    loaded = loaded_after("import isobit")
    assert "isobit" in loaded
    heavy = ("torch", "numpy", "unicorn", "capstone", "sklearn")
    assert not [m for m in loaded if m.split(".")[0] in heavy or m.startswith("isobit.")]


@pytest.mark.parametrize(
    "statement",
    [
        "from isobit.ops.registry import load_ops; load_ops()",
        "import isobit.plan.plan, isobit.codegen.project, isobit.run.execute, isobit.run.golden",
        "import isobit.ir.store, isobit.data, isobit.targets",
        "import isobit.api.bundle",
    ],
)
def test_deploying_and_running_need_no_torch(statement: str) -> None:
    loaded = loaded_after(statement)
    assert not [m for m in loaded if m.split(".")[0] in ("torch", "unicorn", "sklearn")]


def test_the_base_of_all_errors_is_public() -> None:
    import isobit
    from isobit.core.errors import IsobitError

    assert isobit.IsobitError is IsobitError and "IsobitError" in isobit.__all__


def test_this_test_sees_nested_relative_and_guarded_imports(tmp_path: Path) -> None:
    """The reader itself, on a file that has every kind."""
    file = ROOT / "ops" / "made_up.py"
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def surrogate():\n    def inner():\n        import torch.nn\n"
        "from . import base\nfrom ..core import types\nfrom isobit import nn\n"
    )

    class Fake(type(file)):  # type: ignore[misc]
        def read_text(self, *_args: object, **_kwargs: object) -> str:
            return source

    found = {(f.module, f.functions, f.typing_only) for f in imports(Fake(file))}
    assert found == {
        ("typing", (), False),
        ("torch", (), True),
        ("torch.nn", ("surrogate", "inner"), False),
        ("isobit.ops.base", (), False),
        ("isobit.core.types", (), False),
        ("isobit.nn", (), False),
    }
