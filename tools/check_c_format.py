"""Are all C files formatted? `--fix` formats them. Uses the clang-format wheel, so every machine
agrees.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    files = [
        str(path)
        for folder in ("src", "tests")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".c", ".h")
    ]
    program = Path(sys.executable).with_name("clang-format")
    mode = ["-i"] if "--fix" in sys.argv else ["--dry-run", "--Werror"]
    return subprocess.run([str(program), *mode, *files], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
