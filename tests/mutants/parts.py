"""Cases of inner functions whose low bits no 8-bit result shows, and what the oracles say."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from oracles import lstm, per_image_standardize, softmax

BEYOND = 2 * 0x10000
"""Where `quantize_f32_down` saturates."""
NEAR_TIES = (
    ((212, 176, 160, 145, 215, 185, 242, 118), (254, 135, 195, 51, 50, 154, 192, 254)),
    ((187, 255, 125, 249, 248, 148, 74, 148), (231, 8, 231, 67, 20, 249, 226, 183)),
    ((133, 111, 211, 196, 6, 27, 61, 135), (11, 166, 63, 65, 200, 191, 144, 117)),
    ((168, 194, 214, 188, 113, 76, 146, 50), (49, 147, 184, 47, 38, 73, 138, 134)),
)
"""Images as values and how often each occurs, found by trial: the code of the first value lies
within 2^-26 of a tie, where the last bits of root and reciprocal decide.
"""


def softmax_cases() -> tuple[np.ndarray, np.ndarray]:
    """Products, exponentials in Q5.26 and reciprocals, random and at the ends; and the results."""
    rng = np.random.default_rng(71)
    ends = [-(2**31) + 1, -1, 0, 1, 2**30, 2**31 - 1]
    pairs = [(a, b) for a in ends for b in ends]
    pairs += [(int(a), int(b)) for a, b in rng.integers(-(2**31) + 1, 2**31, size=(400, 2))]
    rows = [(0, a, b, softmax.product(a, b)) for a, b in pairs]
    quarter = 2**24
    arguments = [0, -1, 1 - quarter, -quarter, -quarter - 1, -(2**31)]
    arguments += [-(2**k) for k in range(31)] + [-(2**k) - quarter // 2 for k in range(24, 31)]
    arguments += [-int(a) for a in rng.integers(0, 2**31, size=600)]
    arguments += [-int(a) for a in np.exp2(rng.uniform(0, 31, size=1200))]
    rows += [(1, a, 0, softmax.exp_of_negative(a)) for a in arguments]
    fractions = [0, 1, 2, 2**30, 2**31 - 2, 2**31 - 1]
    fractions += [int(a) for a in rng.integers(0, 2**31, size=600)]
    rows += [(2, a, 0, softmax.one_over_one_plus(a)) for a in fractions]
    return _split(rows)


def quantize_cases() -> tuple[np.ndarray, np.ndarray]:
    """Shifts of 64-bit numbers by 0..63, saturated at `BEYOND`; and the results."""
    rng = np.random.default_rng(72)
    rows = []
    for n in range(64):
        numbers = [0, 1, BEYOND - 1, BEYOND, BEYOND + 1, 2**32 - 1, 2**32, 2**56 - 1]
        numbers += [(BEYOND << n) - 1, BEYOND << n, (BEYOND << n) + (1 << n)]
        numbers += [int(v) for v in np.exp2(rng.uniform(0, 56, size=24))]
        # 17 bits of result below the saturation, whatever n is.
        numbers += [int(v) << n for v in rng.integers(0, 2 * BEYOND, size=8)]
        for value in numbers:
            if value < 2**56:
                rows.append((0, value, n, min(value >> n, BEYOND)))
    return _split(rows)


def lstm_cases() -> tuple[np.ndarray, np.ndarray]:
    """The table, then sigmoid of every code, and tanh of every 16th and near 0 at two steps."""
    rows = [(0, i, entry - 32768, entry - 32768) for i, entry in enumerate(lstm.TABLE)]
    rows += [(1, code, 0, lstm.sigmoid(code)) for code in range(-32768, 32768)]
    near = sorted({*range(-600, 601), *range(-32768, 32768, 16)})
    rows += [(2, code, frac - 12, lstm.tanh(code, frac)) for frac in (12, 14) for code in near]
    return _split(rows)


def per_image_standardize_cases() -> tuple[np.ndarray, np.ndarray]:
    """Roots at squares and at random, reciprocals, and codes next to a tie; and the results."""
    rng = np.random.default_rng(74)
    roots = [0, 1, 2, 3, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 1]
    roots += [int(r) for r in np.exp2(rng.uniform(0, 31, size=300))]
    numbers = {max(r * r + more, 0) for r in roots for more in (-1, 0, 1, r, 2 * r)}
    numbers |= {int(v) for v in rng.integers(2**60, 2**62, size=300)}
    rows = [(0, v, 0, math.isqrt(v)) for v in sorted(numbers)]
    divisors = [2**30, 2**30 + 1, 2**31 - 2, 2**31 - 1]
    divisors += [int(d) for d in rng.integers(2**30, 2**31, size=300)]
    rows += [(1, d, 0, 2**60 // d) for d in divisors]
    for values, times in NEAR_TIES:
        image = np.repeat(values, times)[None]
        codes = per_image_standardize.oracle({"x": image}, {"least": 1, "frac": 5}, {})
        packed = (int(np.array(each, np.uint8).view("<i8")[0]) for each in (values, times))
        rows.append((2, *packed, int(codes[0, 0])))
    return _split(rows)


def dsp_cases() -> tuple[np.ndarray, np.ndarray]:
    """Words for every function of `isobit_dsp.h`, random and with bytes at their ends; results."""
    rng = np.random.default_rng(73)
    ends = np.array([0, 1, 0x7F, 0x80, 0xFF], dtype=np.uint8)
    rows = []
    for number in range(400):
        random = rng.integers(0, 256, size=12, dtype=np.uint8)
        data = rng.choice(ends, size=12) if number % 2 else random
        low, high, word = (int(v) for v in data.view("<i4"))
        a, size = int(data[:8].view("<i8")[0]), int(data[1:5].copy().view("<i4")[0])
        rows.append((0, a, word, size))
        rows.append((1, a, word, word))
        # Bytes 3..6 hold the word: from 2 on there are one old byte and three of it.
        stored = np.full(12, 0xFF, dtype=np.uint8)
        stored[3:7] = data[8:12]
        first, _, last = (int(v) for v in stored.view("<i4"))
        rows.append((2, a, word, int(stored[2:6].copy().view("<i4")[0]) ^ first ^ last))
        rows.append((3, a, word, _halves(low, high)))
        rows.append((4, a, word, _halves(low >> 16, high >> 16)))
        byte = [int(v) for v in data[4:8].view(np.int8)]
        rows.append((5, a, word, _halves(low + byte[0], (low >> 16) + byte[2])))
        rows.append((6, a, word, _halves(low + byte[1], (low >> 16) + byte[3])))
        byte = [int(v) for v in data[:4].view(np.int8)]
        rows.append((7, a, word, _halves(byte[0], byte[2])))
        rows.append((8, a, word, _halves(byte[1], byte[3])))
        half = [int(v) for v in data[:8].view("<i2")]
        rows.append((9, a, word, _wrapped(word + half[0] * half[2] + half[1] * half[3])))
    return _split(rows)


def _halves(low: int, high: int) -> int:
    return _wrapped((low & 0xFFFF) + ((high & 0xFFFF) << 16))


def _wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "softmax": softmax_cases,
    "quantize": quantize_cases,
    "lstm": lstm_cases,
    "per_image_standardize": per_image_standardize_cases,
    "dsp": dsp_cases,
}


def _split(rows: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.asarray(rows, dtype=np.int64)
    return np.ascontiguousarray(table[:, :3]), np.ascontiguousarray(table[:, 3])


def compile_parts(op: str, output: Path, include: list[Path], flags: tuple[str, ...] = ()) -> str:
    """Compile `parts.c` with the first source in `include`; return the compiler's complaint."""
    command = ["gcc", "-std=c11", "-O1", *flags, f"-DPARTS_{op.upper()}"]
    command += [*(f"-I{path}" for path in include), str(Path(__file__).with_name("parts.c"))]
    done = subprocess.run(
        [*command, "-o", str(output)], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def run_parts(op: str, program: Path, folder: Path, timeout_s: float = 20.0) -> str:
    """Run every case; return the first that differs, "" for none."""
    rows, want = CASES[op]()
    (folder / "input.bin").write_bytes(rows.tobytes())
    try:
        done = subprocess.run([str(program)], cwd=folder, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return "endless"
    if done.returncode:
        return f"exit code {done.returncode}"
    got = np.frombuffer((folder / "output.bin").read_bytes(), np.int64)
    if got.shape != want.shape:
        return f"{got.size} results of {want.size}"
    (wrong,) = np.nonzero(got != want)
    if not wrong.size:
        return ""
    first = int(wrong[0])
    function, a, b = rows[first].tolist()
    return f"function {function} of {a}, {b}: want {want[first]}, got {got[first]}"
