"""Checked JSON values: every error names its field and the allowed values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from matrixrl.envs.hackmatrix.referee.state import BOARD_SIZE, Cell
from matrixrl.user_files import UserFileError, parse_json

MAX_INTEGER = 2**31 - 1


class ScenarioError(ValueError):
    """Error for a scenario that cannot be loaded. The message starts with the field and states what
    is allowed.

    Attributes:
      field: path of the field, such as ``enemies[2].hp``; empty for the whole object.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


def parse(text: str) -> Any:
    """Parses a text strictly as JSON; raises `ScenarioError` as `user_files.parse_json` does."""
    try:
        return parse_json(text)
    except UserFileError as error:
        raise ScenarioError("", str(error)) from None


def show(value: Any) -> str:
    """Formats a value for a message, shortened if long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class JsonObject:
    """A JSON object under validation: each read names its key, and `finish` refuses keys that
    nothing read.
    """

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise ScenarioError(path, f"{show(value)} is not an object")
        self.value = value
        self.path = path
        self.known: set[str] = set()

    def field(self, key: str) -> str:
        """Returns the path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raises the `ScenarioError` of a key."""
        raise ScenarioError(self.field(key), problem)

    def get(self, key: str, default: Any) -> Any:
        """Returns the value, or the default if the key is absent."""
        self.known.add(key)
        return self.value.get(key, default)

    def required(self, key: str) -> Any:
        """Returns the value of a required key."""
        self.known.add(key)
        if key not in self.value:
            self.fail(key, "is required and missing")
        return self.value[key]

    def finish(self) -> None:
        """Refuses unknown keys."""
        for key in self.value:
            if key not in self.known:
                self.fail(str(key), f"is not a known key; known here: {', '.join(sorted(self.known))}")

    def child(self, key: str) -> JsonObject:
        """Returns the object under a key, empty by default."""
        return JsonObject(self.get(key, {}), self.field(key))

    def integer(
        self, key: str, default: int | None = None, minimum: int = 0, maximum: int = MAX_INTEGER
    ) -> int:
        """Returns an integer within bounds; required if there is no default."""
        value = self.required(key) if default is None else self.get(key, default)
        return read_integer(value, self.field(key), minimum, maximum)

    def flag(self, key: str) -> bool:
        """Returns a boolean, false by default."""
        value = self.get(key, False)
        if not isinstance(value, bool):
            self.fail(key, f"{show(value)} is neither true nor false")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Returns a required string, one of `choices`."""
        value = self.required(key)
        if not isinstance(value, str) or value not in choices:
            self.fail(key, f"{show(value)} is none of {', '.join(choices)}")
        return value

    def items(self, key: str) -> list[tuple[str, Any]]:
        """Returns the items of a list, empty by default, each with its path."""
        value = self.get(key, [])
        return [(f"{self.field(key)}[{i}]", item) for i, item in enumerate(read_list(value, self.field(key)))]

    def cell(self) -> Cell:
        """Returns the required ``row`` and ``col``."""
        return (self.integer("row", maximum=BOARD_SIZE - 1), self.integer("col", maximum=BOARD_SIZE - 1))


def read_integer(value: Any, path: str, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
    """Returns the value as an integer within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ScenarioError(path, f"{show(value)} is not an integer")
    if not minimum <= value <= maximum:
        raise ScenarioError(path, f"{value} is not within {minimum}..{maximum}")
    return value


def read_number(value: Any, path: str, maximum: float = math.inf) -> float:
    """Returns a finite number of at most `maximum` in absolute value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScenarioError(path, f"{show(value)} is not a number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ScenarioError(path, f"{show(value)} is not a finite number")
    if abs(result) > maximum:
        raise ScenarioError(path, f"{show(value)} is not within {-maximum:g}..{maximum:g}")
    return result


def read_list(value: Any, path: str) -> Sequence[Any]:
    """Returns the value as a list."""
    if not isinstance(value, list | tuple):
        raise ScenarioError(path, f"{show(value)} is not a list")
    return value


def read_pair(value: Any, path: str, maximum: int) -> tuple[int, int]:
    """Returns the value as a pair of integers from 0 to `maximum`."""
    if len(read_list(value, path)) != 2:
        raise ScenarioError(path, f"{show(value)} does not have two numbers")
    return (
        read_integer(value[0], f"{path}[0]", maximum=maximum),
        read_integer(value[1], f"{path}[1]", maximum=maximum),
    )


def read_cell(value: Any, path: str) -> Cell:
    """Returns the value as a cell of the board, written ``[row, col]``."""
    return read_pair(value, path, BOARD_SIZE - 1)
