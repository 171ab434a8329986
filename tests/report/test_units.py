"""How numbers are written."""

from __future__ import annotations

import pytest

from isobit.report import units
from isobit.report.svg import Scale, number, pct, shorten, tag, text, ticks


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 KB"),
        (9_996, "10.0 KB"),
        (12_345, "12.3 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (2_097_152, "2.10 MB"),
    ],
)
def test_kb_is_1000_bytes(size: int, shown: str) -> None:
    assert units.short_bytes(size) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (9999, ("9,999", "")),
        (10_000, ("10.0", "thousand")),
        (999_499, ("999", "thousand")),
        (999_500, ("1.00", "million")),
        (2_345_678_901, ("2.35", "billion")),
    ],
)
def test_counts_keep_three_digits(value: float, shown: tuple[str, str]) -> None:
    assert units.split_count(value) == shown


def test_only_a_perfect_accuracy_reads_100() -> None:
    assert units.accuracy(1.0) == "100.00 %"
    assert units.accuracy(0.99999) == "99.99 %"
    assert units.accuracy(0.98765) == "98.77 %"


def test_a_small_share_is_not_nothing() -> None:
    assert units.percent(0.0) == "0.0 %"
    assert units.percent(1e-6) == "< 0.1 %"
    assert units.percent(0.451) == "45.1 %"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (13.87, ("13.9", "ms")),
        (0.5, ("0.500", "ms")),
        (0.0383, ("38.3", "µs")),
        (1234.5, ("1,234", "ms")),
    ],
)
def test_times_keep_three_digits(value: float, shown: tuple[str, str]) -> None:
    assert units.split_milliseconds(value) == shown


def test_shapes_leave_out_the_batch() -> None:
    assert units.shape((1, 8, 8, 16)) == "8×8×16"
    assert units.shape((1,)) == "1"


def test_text_is_escaped_for_content_and_attributes() -> None:
    assert text('<a b="c">\'&') == "&lt;a b=&quot;c&quot;&gt;&#x27;&amp;"
    assert text("a\x00b\ud800") == "a\ufffdb\ufffd"
    assert tag("p", text("<"), title='"', class_="x", hidden=None) == (
        '<p title="&quot;" class="x">&lt;</p>'
    )


def test_coordinates_are_short() -> None:
    assert number(1 / 3) == "0.33"
    assert number(-0.0001) == "0"
    assert pct(0.5) == "50%"


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 49_152) == [0, 10_000, 20_000, 30_000, 40_000]
    assert ticks(0.5, 0.9, 4) == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert ticks(3, 3) == [3]


def test_a_scale_of_one_point_is_its_middle() -> None:
    assert Scale(2, 2)(2) == 0.5
    assert Scale(0, 10, 100, 0)(2.5) == 75


def test_long_words_end_in_an_ellipsis() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcd", 4) == "abcd"
