"""The rounding rules, three times: NumPy, C and torch against the rational-number oracle, and
against each other.
"""

from __future__ import annotations

import struct
import subprocess
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from isobit import targets
from isobit.core import fixed
from isobit.core.fixed import Rounding
from isobit.run.compilers import find
from oracles import rounding as oracle

INT32 = st.integers(-(2**31), 2**31 - 1)
RUNTIME = Path(str(package_files("isobit.codegen"))) / "runtime"


@given(INT32, st.integers(0, 2**31 - 1), st.integers(0, 62))
@example(-(2**31), 2**31 - 1, 62)
@example(2**31 - 1, 2**31 - 1, 62)
@example(-1, 1, 1)
@example(-3, 1, 1)
def test_half_up_equals_the_oracle(acc: int, mult: int, shift: int) -> None:
    assert int(fixed.half_up(acc, mult, shift)) == oracle.half_up(acc, mult, shift)


@given(INT32, st.integers(0, 2**31 - 1), st.integers(-40, 30))
@example(-(2**31), 2**31 - 1, 0)
@example(-3, 2**30, -1)
@example(3, 2**30, -1)
@example(7, 2**30, -31)
@example(7, 2**30, -32)
def test_tflite_double_equals_the_oracle(acc: int, mult: int, shift: int) -> None:
    # Shifted left the sum must stay int32, as TFLite's own operand does.
    assume(-(2**31) <= acc << max(shift, 0) < 2**31)
    assert int(fixed.tflite_double(acc, mult, shift)) == oracle.tflite_double(acc, mult, shift)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(1, 2**20))
@example(-5, 2)
@example(5, 2)
@example(-(2**31), 1)
def test_divisions_equal_the_oracle(total: int, count: int) -> None:
    assert int(fixed.divide_round_away(total, count)) == oracle.away(total, count)
    assert int(fixed.divide_trunc(total, count)) == oracle.trunc(total, count)


def test_divisions_equal_the_oracle_for_every_small_pair() -> None:
    for count in range(1, 40):
        totals = np.arange(-200, 201)
        assert fixed.divide_round_away(totals, count).tolist() == [
            oracle.away(int(t), count) for t in totals
        ]
        assert fixed.divide_trunc(totals, count).tolist() == [
            oracle.trunc(int(t), count) for t in totals
        ]


def test_rules_broadcast_per_channel() -> None:
    acc = np.arange(-600, 600).reshape(-1, 3) * 7919
    mult, shift = np.array([3, 2**30, 2**31 - 1]), np.array([1, 34, 40])
    got = fixed.requantize(acc, mult, shift, Rounding.HALF_UP)
    for c in range(3):
        want = [oracle.half_up(int(a), int(mult[c]), int(shift[c])) for a in acc[:, c]]
        assert got[:, c].tolist() == want


@given(st.floats(1e-12, 2.0**30))
@example(0.0)
@example(1.0)
@example(0.5)
@example(float(np.nextafter(1.0, 0.0)))
def test_multiplier_q31_is_the_nearest(real: float) -> None:
    mult, shift = fixed.multiplier_q31(real)
    if mult == 0:
        assert real < 2.0**-32
        return
    assert 2**30 <= mult < 2**31 and -31 <= shift <= 30 + 1
    assert abs(mult * 2.0 ** (shift - 31) - real) <= 2.0 ** (shift - 32)


@given(st.floats(1e-9, 2.0**15, exclude_max=True))
@example(1.0)
@example(2.0**15 - 2.0**-10)
def test_multiplier_half_up_is_nearest_with_the_most_bits(real: float) -> None:
    mult, shift = fixed.multiplier_half_up(real)
    assert 0 <= mult < 2**15 and 0 <= shift <= 46
    if mult < 2**15 - 1:
        assert abs(mult * 2.0**-shift - real) <= 2.0 ** -(shift + 1)
    if shift < 46 and real < 2.0**14:
        assert mult >= 2**14


@pytest.mark.parametrize("real", [-1.0, float("nan"), float("inf"), 2.0**31])
def test_multipliers_refuse_what_they_cannot_hold(real: float) -> None:
    for function in (fixed.multiplier_q31, fixed.multiplier_half_up):
        with pytest.raises(ValueError, match="outside"):
            function(real)


def test_round_half_away_is_symmetric() -> None:
    values = [-2.5, -1.5, -0.5, -0.49, 0.0, 0.49, 0.5, 1.5, 2.5]
    assert [fixed.round_half_away(v) for v in values] == [-3, -2, -1, 0, 0, 0, 1, 2, 3]


PROGRAM = """
#include "isobit_rt.h"
#include <stdio.h>
/* Reads records (rule, acc, mult, shift) and writes what the run time makes of them. */
int main(void) {
    int32_t record[4];
    while (fread(record, sizeof record, 1, stdin) == 1) {
        const int8_t shift = (int8_t)record[3];
        const int32_t y = isobit_requantize(record[1], record[0], &record[2], &shift, 0);
        if (fwrite(&y, sizeof y, 1, stdout) != 1) {
            return 1;
        }
    }
    return 0;
}
"""


def interesting(rng: np.random.Generator, size: int) -> np.ndarray:
    """int32 values: uniform, of every magnitude, and the ends and powers of two with their
    neighbours.
    """
    powers = np.array([1 << k for k in range(31)])
    edges = np.unique(
        np.concatenate([powers, powers - 1, powers + 1, -powers, 1 - powers, -powers - 1])
    )
    edges = np.concatenate([edges, [-(2**31), 2**31 - 1, 0]])
    magnitudes = (
        rng.integers(-(2**31), 2**31, size=size) >> rng.integers(0, 31, size=size)
    ).astype(np.int64)
    kind = rng.integers(3, size=size)
    uniform = rng.integers(-(2**31), 2**31, size=size)
    return np.select([kind == 0, kind == 1], [uniform, magnitudes], rng.choice(edges, size=size))


def records(rule: int, size: int) -> np.ndarray:
    """(acc, mult, shift) for which the rule's operands and result stay in int32."""
    rng = np.random.default_rng(rule)
    acc, mult = interesting(rng, size), np.abs(interesting(rng, size)).clip(0, 2**31 - 1)
    if rule == 0:  # the exporter proves acc + 2^(shift-1) < 2^31
        shift = rng.integers(0, 31, size=size)
        keep = acc + (np.int64(1) << shift >> 1) < 2**31
        mult = np.ones_like(acc)
    elif rule == 1:
        shift = rng.integers(0, 63, size=size)
        result = fixed.half_up(acc, mult, shift)
        keep = (result >= -(2**31)) & (result < 2**31)
    else:
        shift = rng.integers(-31, 31, size=size)
        keep = np.abs(acc) << np.maximum(shift, 0) < 2**31
    return np.stack([acc[keep], mult[keep], shift[keep]], axis=1)


@pytest.mark.parametrize(
    "flags",
    [("-O2",), ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")],
    ids=["O2", "sanitized"],
)
def test_c_equals_numpy_on_a_million_values(flags: tuple[str, ...], tmp_path: Path) -> None:
    source = tmp_path / "rules.c"
    source.write_text(PROGRAM)
    compiler = find("gcc", targets.load("host"))
    program = compiler.compile_program(
        [source], tmp_path / "rules", include_dirs=[RUNTIME], flags=flags
    ).path
    for rule, function in enumerate(
        (lambda a, m, s: fixed.half_up(a, 1, s), fixed.half_up, fixed.tflite_double)
    ):
        table = records(rule, 600_000)
        blob = (
            np.concatenate([np.full((len(table), 1), rule), table], axis=1).astype("<i4").tobytes()
        )
        done = subprocess.run([program], input=blob, capture_output=True, check=True, timeout=60)
        got = np.frombuffer(done.stdout, "<i4")
        want = function(table[:, 0], table[:, 1], table[:, 2])
        bad = np.nonzero(got != want)[0]
        assert len(got) == len(table) > 200_000
        assert not len(bad), f"rule {rule}: {table[bad[0]]}: C {got[bad[0]]}, NumPy {want[bad[0]]}"
        for acc, mult, shift in table[:: len(table) // 2000].tolist():
            theirs = oracle.tflite_double if rule == 2 else oracle.half_up
            assert int(function(np.int64(acc), np.int64(mult), np.int64(shift))) == theirs(
                acc, mult, shift
            )


def test_c_half_up_holds_the_largest_product(tmp_path: Path) -> None:
    """The corner of the ranges: |acc * mult| + 2^61 still fits 63 bits."""
    source = tmp_path / "rules.c"
    source.write_text(PROGRAM)
    compiler = find("gcc", targets.load("host"))
    flags = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
    program = compiler.compile_program(
        [source], tmp_path / "rules", include_dirs=[RUNTIME], flags=flags
    ).path
    cases = [
        (1, acc, 2**31 - 1, shift) for acc in (-(2**31), 2**31 - 1) for shift in (31, 40, 61, 62)
    ]
    blob = b"".join(struct.pack("<4i", *case) for case in cases)
    done = subprocess.run([program], input=blob, capture_output=True, check=True, timeout=60)
    assert list(struct.unpack(f"<{len(cases)}i", done.stdout)) == [
        oracle.half_up(acc, mult, shift) for _, acc, mult, shift in cases
    ]


def thresholds(mult: int, shift: int, rounding: Rounding) -> np.ndarray:
    """Every sum next to which an int8 result changes, with its neighbours, and some far beyond.

    A rule is monotone in the sum: agreeing on both sides of all thresholds means agreeing
    everywhere.
    """
    codes = np.arange(-256, 257)
    low, high = np.full(codes.shape, -(2**31)), np.full(codes.shape, 2**31 - 1)
    while np.any(
        low < high
    ):  # the smallest sum whose result is at least the code, for all codes at once
        middle = (low + high) >> 1
        reached = fixed.requantize(middle, mult, shift, rounding) >= codes
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    found = [int(v) + d for v in low for d in (-2, -1, 0, 1)]
    found += [-(2**31), -(2**31) + 1, 2**31 - 1, 2**30, -(2**30), 0]
    return np.unique(np.asarray(found).clip(-(2**31), 2**31 - 1))


def some_multipliers(count: int) -> list[tuple[int, int, Rounding]]:
    rng = np.random.default_rng(3)
    grid = [
        (int(rng.integers(1, 2 ** int(rng.integers(1, 24)))), 16, Rounding.HALF_UP)
        for _ in range(count)
    ]
    reals = np.exp2(rng.uniform(-20, 3, size=2 * count))
    native = [(*fixed.multiplier_half_up(float(r)), Rounding.HALF_UP) for r in reals[:count]]
    tflite = [(*fixed.multiplier_q31(float(r)), Rounding.TFLITE_DOUBLE) for r in reals[count:]]
    return [*grid, (1, 16, Rounding.HALF_UP), (65536, 16, Rounding.HALF_UP), *native, *tflite]


def test_torch_requantize_of_wide_sums_equals_numpy() -> None:
    """Sums of 16-bit codes leave int32. At a shift of 46 their products leave 2^53 within the
    codes: of these, one short of a half, float64 makes the half.
    """
    torch = pytest.importorskip("torch")
    from isobit.core import fixed_torch

    for mult, shift, odd in ((32767, 44, 1), (16385, 30, 1), (30281, 46, 279), (20317, 46, 505)):
        halves = [half << (shift - 1) for half in (odd, *range(-511, 512, 2))]
        near = [half // mult + d for half in halves for d in range(-2, 3)]
        acc = np.asarray(near, dtype=np.int64)
        want = fixed.saturate(fixed.requantize(acc, mult, shift, Rounding.HALF_UP), -255, 255)
        given = torch.as_tensor(acc).double().reshape(-1, 1)
        numbers = (torch.tensor([mult]), torch.tensor([shift]))
        got = fixed_torch.requantize(given, *numbers, Rounding.HALF_UP, -255, 255)
        assert np.array_equal(got.numpy().ravel(), want), (mult, shift)


@pytest.mark.parametrize("part", range(4))
def test_torch_requantize_equals_numpy_at_every_threshold(part: int) -> None:
    torch = pytest.importorskip("torch")
    from isobit.core import fixed_torch

    for mult, shift, rounding in some_multipliers(80)[part::4]:
        acc = thresholds(mult, shift, rounding)
        if rounding is Rounding.TFLITE_DOUBLE and shift > 0:
            acc = acc[np.abs(acc) < 2 ** (31 - shift)]
        for low, high in ((-128, 127), (0, 200), (-255, 255)):
            want = fixed.saturate(fixed.requantize(acc, mult, shift, rounding), low, high)
            for carrier in (torch.float32, torch.float64):
                # float32 carries sums below 2^24 only; the caller picks float64 beyond.
                inside = acc[np.abs(acc) <= 2**24] if carrier is torch.float32 else acc
                expected = want[np.abs(acc) <= 2**24] if carrier is torch.float32 else want
                given = torch.as_tensor(inside).to(carrier).reshape(-1, 1)
                numbers = (torch.tensor([mult]), torch.tensor([shift]))
                got = fixed_torch.requantize(given, *numbers, rounding, low, high)
                assert np.array_equal(got.numpy().ravel(), expected), (
                    mult,
                    shift,
                    rounding,
                    low,
                    high,
                    carrier,
                )


def test_torch_average_equals_numpy() -> None:
    torch = pytest.importorskip("torch")
    from isobit.core import fixed_torch

    for rule in fixed.Average:
        for count in (1, 2, 3, 4, 9, 49, 77, 1000):
            totals = np.unique(np.linspace(-128 * count, 127 * count, 5001).astype(np.int64))
            want = fixed.saturate(fixed.average(totals, count, rule), -100, 90)
            given = torch.as_tensor(totals).float()
            got = fixed_torch.average(given, torch.full((), float(count)), rule, -100.0, 90.0)
            assert np.array_equal(got.numpy(), want), (rule, count)
