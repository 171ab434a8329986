"""Faults as small edits of one line of C or Python.

A fault is found by a regular expression (C) or by the tokenizer (Python) and has a key that
survives edits elsewhere in the file: the file, the line before and after, and which of several such
lines it is.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path("src/isobit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One edit: `text[start:end]` of a file becomes `new`."""

    file: str
    line: int
    start: int
    end: int
    new: str
    kind: str
    before: str
    after: str
    key: str
    """12 hexadecimal digits from the file, both lines and the number among equal edits."""

    def apply(self, text: str) -> str:
        """Return the file with the fault."""
        return text[: self.start] + self.new + text[self.end :]


Edit = tuple[int, int, str, str]
"""Start, end, replacement, kind."""


def faults_of(file: str) -> list[Fault]:
    """Every fault of a file below the repository, in the order of its text."""
    text = Path(file).read_text(encoding="utf-8")
    edits = c_edits(text) if file.endswith((".c", ".h")) else python_edits(text, FUNCTIONS[file])
    found: dict[tuple[int, int, str], Fault] = {}
    counts: dict[tuple[str, str], int] = {}
    for start, end, new, kind in sorted(edits):
        if (start, end, new) in found or text[start:end] == new:
            continue
        line_start = text.rfind("\n", 0, start) + 1
        line_end = text.find("\n", end)
        before = text[line_start:line_end]
        after = text[line_start:start] + new + text[end:line_end]
        pair = (before.strip(), after.strip())
        number = counts[pair] = counts.get(pair, -1) + 1
        digest = hashlib.sha256("\0".join((file, *pair, str(number))).encode()).hexdigest()
        found[start, end, new] = Fault(
            file=file,
            line=text.count("\n", 0, start) + 1,
            start=start,
            end=end,
            new=new,
            kind=kind,
            before=pair[0],
            after=pair[1],
            key=digest[:12],
        )
    return list(found.values())


# ---------------------------------------------------------------------------------------------- C

SWAPS = {
    "+": ("-",),
    "-": ("+",),
    "*": ("+",),
    "/": ("*",),
    "<": ("<=",),
    "<=": ("<",),
    ">": (">=",),
    ">=": (">",),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
    ">>": ("<<",),
    "<<": (">>",),
    "&": ("|",),
    "^": ("|",),
    "+=": ("-=", "="),
}
"""Binary operators, which the formatter puts between spaces, and what replaces them."""
INDEX_PAIRS = (
    ("oy", "ox"),
    ("iy", "ix"),
    ("ky", "kx"),
    ("y0", "x0"),
    ("rows", "cols"),
    ("first_y", "first_x"),
    ("o", "c"),
    ("i0", "i1"),
    ("i1", "i2"),
    ("i2", "i3"),
    ("a_step_0", "b_step_0"),
    ("a_step_3", "b_step_3"),
    ("in_h", "in_w"),
    ("out_h", "out_w"),
    ("kernel_h", "kernel_w"),
    ("stride_h", "stride_w"),
    ("dilation_h", "dilation_w"),
    ("pad_top", "pad_left"),
    ("in_c", "out_c"),
    ("x_zero", "y_zero"),
    ("a_zero", "b_zero"),
    ("mult_a", "mult_b"),
    ("low", "high"),
    ("left", "right"),
    ("before", "after"),
    ("group_in", "group_out"),
)
"""Names that stand for the same thing on two axes or two operands."""


def c_edits(text: str) -> Iterator[Edit]:
    """Yield edits of statements; comments, declarations of types and the preprocessor stay."""
    code = _c_code(text)
    for match in re.finditer(r"(?<= )(\+=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/<>&^])(?= )", code):
        if match[1] == "*" and re.search(
            r"(void|int8_t|int32_t|quant|uint8_t|const) $", code[: match.start()]
        ):
            continue  # a pointer, not a product
        for new in SWAPS[match[1]]:
            yield match.start(), match.end(), new, "operator"
    for match in re.finditer(r"(?<![\w.])(0x[0-9a-fA-F]+|\d+)(u?)(?!\w)", code):
        value = int(match[1], 0)
        for new in {value + 1, max(value - 1, 0)} - {value}:
            yield match.start(1), match.end(1), str(new), "constant"
    for match in re.finditer(r"\bcontinue;", code):
        yield match.start(), match.end(), ";", "statement"
    for match in re.finditer(r"(?<=\n) +(\w[\w.\[\]>-]* [-+]?= [^;{}()]*;)(?=\n)", code):
        yield match.start(1), match.end(1), ";", "statement"
    for one, other in INDEX_PAIRS:
        if not (re.search(rf"\b{one}\b", code) and re.search(rf"\b{other}\b", code)):
            continue
        for a, b in ((one, other), (other, one)):
            for match in re.finditer(rf"\b{a}\b(?! = )", code):
                yield match.start(), match.end(), b, "index"
    for match in re.finditer(
        r" [-+] (?:\(int32_t\)\()?[\w.]+(?:->\w+)?(?:\[[^\]]*\])?(?=[ ;),])", code
    ):
        yield match.start(), match.end(), "", "term"
    for match in re.finditer(r"\bisobit_clamp\(", code):
        end = _argument_end(code, match.end())
        close = _matching(code, match.end())
        if close >= 0:
            yield match.start(), close, f"({code[match.end() : end]})", "clamp"


def _c_code(text: str) -> str:
    """Return the text with everything blanked that is no statement; positions stay."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    code = re.sub(r"/\*.*?\*/", blank, text, flags=re.DOTALL)
    code = re.sub(r"typedef struct \{.*?\} \w+;", blank, code, flags=re.DOTALL)
    code = re.sub(r"(?m)^(#|enum|_Static_assert).*$", blank, code)
    return re.sub(r"(?m)^ISOBIT_KERNEL[^{]*\{", blank, code)


def _argument_end(code: str, start: int) -> int:
    """Return where the argument at `start` ends."""
    depth = 0
    for i in range(start, len(code)):
        if code[i] in "([":
            depth += 1
        elif code[i] in ")]":
            depth -= 1
        if (code[i] == "," and depth == 0) or depth < 0:
            return i
    return -1


def _matching(code: str, start: int) -> int:
    """Return one past the parenthesis that closes the call whose arguments start at `start`."""
    depth = 1
    for i in range(start, len(code)):
        depth += {"(": 1, ")": -1}.get(code[i], 0)
        if depth == 0:
            return i + 1
    return -1


# ----------------------------------------------------------------------------------------- Python

KERNEL = ("geometry", "pack", "overlap_bytes", "scratch_bytes")
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "src/isobit/plan/aliases.py": (
        "members",
        "moved",
        "without_copies",
        "_joined",
        "_aligned",
        "touched",
        "places",
        "_span",
    ),
    "src/isobit/plan/arena.py": ("place", "_orders", "_lowest", "_align", "live_bound", "end"),
    "src/isobit/plan/checker.py": (
        "verify_plan",
        "_check_in_place",
        "_check_sharing",
        "_check_places",
    ),
    "src/isobit/plan/choice.py": (
        "choose",
        "is_small",
        "working_bytes",
        "extra_bytes",
        "allowance_bytes",
        "longest_prefix",
    ),
    "src/isobit/plan/plan.py": (
        "make_plan",
        "_faster_in_the_same_arena",
        "_alias_groups",
        "_activations",
        "_buffers",
        "_sharing",
        "groups_used_once",
        "touch",
    ),
    "src/isobit/codegen/network.py": (
        "_collect",
        "parameter_list",
        "_places",
        "_at",
        "_reference",
        "_c_type",
        "_literal",
        "instance_lines",
        "_call",
    ),
    "src/isobit/ops/weighted.py": ("rule_fields", "pack_weighted"),
    "src/isobit/ops/window.py": ("geometry", "overlap_bytes"),
    "src/isobit/ops/broadcast.py": ("loops", "geometry"),
    "src/isobit/ops/axes.py": ("outer_inner",),
}
"""The functions of each file that decide what the C contains and where its buffers lie."""
NAMES = {
    "min": "max",
    "max": "min",
    "and": "or",
    "or": "and",
    "True": "False",
    "False": "True",
    "first": "last",
    "last": "first",
    "sources": "sources[1:]",
    "not": "",
    "low": "high",
    "high": "low",
    "inputs": "output",
    "continue": "pass",
}
PYTHON_SWAPS = {
    **{op: new[:1] for op, new in SWAPS.items() if op not in ("&&", "||", "/", "^", "&")},
    "//": ("*",),
    "%": ("//",),
    "-=": ("+=",),
}


def python_edits(text: str, functions: tuple[str, ...]) -> Iterator[Edit]:
    """Yield edits inside the named functions, below their signatures and docstrings."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    bodies = _bodies(text, functions)
    for first, last in bodies:
        for number in range(first, last + 1):
            line = lines[number - 1]
            if re.match(r'\s+(("[^"]+"|f"[^"]+"): .*|[\w.\[\]*()]+),\n', line):
                yield starts[number - 1], starts[number - 1] + len(line.rstrip("\n")), "", "entry"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row = token.start[0]
        if row <= len(lines) and lines[row - 1].lstrip().startswith("assert "):
            continue  # impossible states
        if not any(first <= row <= last for first, last in bodies):
            continue
        start = starts[row - 1] + token.start[1]
        end = starts[row - 1] + token.end[1]
        spaced = text[start - 1 : start] == " " and text[end : end + 1] == " "
        if token.type == tokenize.OP and spaced:
            for new in PYTHON_SWAPS.get(token.string, ()):
                yield start, end, new, "operator"
        elif token.string == "-" and not spaced:
            yield start, end, "", "sign"
        elif token.type == tokenize.NUMBER and token.string.isdigit():
            value = int(token.string)
            for changed in {value + 1, max(value - 1, 0)} - {value}:
                yield start, end, str(changed), "constant"
        elif token.type == tokenize.NAME and token.string in NAMES:
            if (
                text[:start].endswith("strict=")
                or text[end : end + 1] == "="
                or re.match(r" = |: ", text[end:])
            ):
                continue  # a claim, a keyword argument, an assignment, an annotation
            yield start, end, NAMES[token.string], "name"


def _bodies(text: str, functions: tuple[str, ...]) -> list[tuple[int, int]]:
    """First and last line of the functions' statements."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            body = node.body
            documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
            body = body[1:] if documented else body
            if body and node.end_lineno is not None:
                found.append((body[0].lineno, node.end_lineno))
    return found


# ------------------------------------------------------------------------------------------ files


def files() -> list[str]:
    """Every file that gets faults, in a fixed order."""
    kernels = sorted(SOURCE.glob("ops/*/*.c"))
    packers = [k.with_suffix(".py") for k in kernels if k.with_suffix(".py").is_file()]
    for path in packers:
        FUNCTIONS[path.as_posix()] = KERNEL
    runtime = sorted((SOURCE / "codegen" / "runtime").glob("*.h"))
    shared = [name for name in FUNCTIONS if not name.endswith("/reference.py")]
    listed = [*(k.as_posix() for k in kernels), *(h.as_posix() for h in runtime)]
    return [
        *listed,
        *(p.as_posix() for p in packers),
        *sorted(set(shared) - {p.as_posix() for p in packers}),
    ]
