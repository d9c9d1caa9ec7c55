"""Parameters of a request, checked; and what endpoints answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matrixrl.config import ConfigError, require

MAX_TEXT = 2_000
"""Maximum number of characters of one parameter."""


class NotFoundError(ConfigError):
    """The request names something that does not exist."""


@dataclass(frozen=True)
class Download:
    """An answer that a browser saves as a file.

    Attributes:
      parts: its content, made while it is sent.
      name: suggested name of the file.
      media_type: such as `text/csv`.
    """

    parts: Iterable[str | bytes]
    name: str
    media_type: str


class Query:
    """Parameters of a request.

    Args:
      items: names and values; a name may repeat.
    """

    def __init__(self, items: Sequence[tuple[str, str]] = ()) -> None:
        for name, value in items:
            require(len(value) <= MAX_TEXT, f"{name[:50]}: {len(value)} characters; at most {MAX_TEXT}")
        self._items = list(items)

    def every(self, name: str, limit: int = 200) -> list[str]:
        """Returns all values of a parameter.

        Raises:
          ConfigError: if there are more than `limit`.
        """
        found = [value for key, value in self._items if key == name]
        require(len(found) <= limit, f"{name}: given {len(found)} times; at most {limit}")
        return found

    def text(self, name: str, default: str = "") -> str:
        """Returns the last value of a parameter."""
        found = self.every(name)
        return found[-1] if found else default

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """Returns a value that must be among `allowed`; the first of these if it is not given."""
        value = self.text(name, allowed[0])
        require(value in allowed, f"{name} {value!r}: must be one of {', '.join(allowed)}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Returns a whole number from `low` to `high`."""
        text = self.text(name)
        if not text:
            return default
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and low <= int(text) <= high):
            raise ConfigError(f"{name} {text!r}: must be a whole number from {low:,} to {high:,}")
        return int(text)

    def number(self, name: str) -> float | None:
        """Returns a finite number; None if it is not given."""
        text = self.text(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        require(math.isfinite(value), f"{name} {text!r}: must be a number")
        return value


def as_json(value: Any) -> Any:
    """Returns a value as JSON has it: None for NaN and infinities, lists for tuples and arrays."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # of NumPy
        return as_json(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    return str(value)
