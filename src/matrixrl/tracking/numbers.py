"""Numbers for people: units, thousands separators, percent, three significant digits."""

from __future__ import annotations

import math

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def significant(value: float, digits: int = 3) -> str:
    """Returns a number with three significant digits: `0.0123`, `12.3`, `12,300`, `1.23e-06`.

    An integer keeps all of its digits.
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if exponent < -4 or exponent >= 15:
        return f"{value:.{digits - 1}e}"
    if exponent >= digits:
        return f"{round(value, digits - 1 - exponent):,.0f}"
    return f"{value:,.{digits - 1 - exponent}f}"


def percent(share: float) -> str:
    """Returns a share as a percentage with three significant digits at most: `0 %`, `4.69 %`, `100
    %`."""
    if not math.isfinite(share):
        return f"{share} %"
    value = 100 * share
    if value == 0 or round(value, 2) == 100:
        return f"{value:.0f} %"
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f} %"


def duration(seconds: float) -> str:
    """Returns a time span in words: `0.4 s`, `12 s`, `1 min 05 s`, `2 h 07 min`, `3 d 04 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR:02d} h"


def clock(seconds: float) -> str:
    """Returns a time span for a narrow column: `0:07`, `12:34`, `1:02:03`."""
    whole = round(seconds)
    minutes = f"{whole % HOUR // MINUTE:02d}:{whole % MINUTE:02d}"
    return f"{whole // HOUR}:{minutes}" if whole >= HOUR else minutes.removeprefix("0")


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Returns a count with its noun: `1 game`, `1,200 games`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
