"""How numbers are written for people. KB = 1000 bytes, MB = 1000 KB."""

from __future__ import annotations


def count(value: float) -> str:
    """Return a whole number with thousands separators: `1,234,567`."""
    return f"{value:,.0f}"


def split_bytes(size_bytes: float) -> tuple[str, str]:
    """Return (number, unit) with three digits: `("12.3", "KB")`; whole bytes below 1000."""
    if size_bytes < 999.5:
        return f"{size_bytes:.0f}", "bytes"
    unit, value = ("KB", size_bytes / 1e3) if size_bytes < 999.5e3 else ("MB", size_bytes / 1e6)
    return _three_digits(value), unit


def short_bytes(size_bytes: float) -> str:
    """Return a size to three digits: `12.3 KB`."""
    return " ".join(split_bytes(size_bytes))


def split_count(value: float) -> tuple[str, str]:
    """Return (number, magnitude) with three digits: `("3.46", "million")`; whole below 10,000."""
    if value < 9999.5:
        return count(value), ""
    for limit, name in ((999.5e3, "thousand"), (999.5e6, "million"), (999.5e9, "billion")):
        if value < limit:
            return _three_digits(value / (limit / 999.5)), name
    return count(value), ""


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction as percent; anything between 0 and the smallest digit reads `< 0.1 %`."""
    smallest = 10.0**-digits
    if 0 < fraction * 100 < smallest / 2:
        return f"< {smallest:.{digits}f} %"
    return f"{fraction * 100:.{digits}f} %"


def accuracy(fraction: float) -> str:
    """Return an accuracy with two digits; only a perfect one reads 100."""
    shown = f"{fraction * 100:.2f}"
    return f"{'99.99' if shown == '100.00' and fraction < 1 else shown} %"


def split_milliseconds(value: float) -> tuple[str, str]:
    """Return (number, unit) with three digits: `("13.9", "ms")`; microseconds below 0.1 ms."""
    if value < 0.09995:
        return _three_digits(value * 1e3), "µs"
    return f"{value:.3f}" if value < 0.9995 else _three_digits(value), "ms"


def shape(dims: tuple[int, ...], times: str = "×") -> str:
    """Return a shape without its batch axis: `8×8×16`."""
    return times.join(map(str, dims[1:] or dims))


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
