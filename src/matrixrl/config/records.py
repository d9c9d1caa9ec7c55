"""Configs as plain values: in run.json and the journal, and compared with one another.

Recorded names are a format. A renamed field is found under its former name, and a name that no
field has or had is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from matrixrl.config.fields import ConfigError, literals, names_of, optional_type, rules_of, types_of

ConfigT = TypeVar("ConfigT")

MACHINE = ("device_type", "device_count", "backend", "python", "machine", "commit")
"""Entries that describe the machine of a run, in addition to `version_...`."""


def as_record(config: Any) -> dict[str, Any]:
    """Returns the config as plain JSON values, nested like the dataclasses, for the journal and
    W&B.
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return as_record(value)
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, Path):
            return str(value)
        return value

    return {
        item.name: plain(getattr(config, item.name))
        for item in dataclasses.fields(config)
        if rules_of(item).recorded
    }


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the entries of a nested record by dotted name."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def from_record(kind: type[ConfigT], record: Mapping[str, Any], prefix: str = "") -> ConfigT:
    """Returns the config that `as_record` wrote. Missing fields take their defaults.

    Args:
      kind: the dataclass. Entries that are recorded in the same place and are not settings
        (devices, versions, and those that its `recorded_beside` names) are ignored, and so are
        settings that `as_record` leaves out.
      prefix: of the names in messages.

    Raises:
      ConfigError: if an entry is no setting, or its value is impossible for this version of
        matrixrl.
    """
    if not isinstance(record, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')}: must be a table of settings")
    values: dict[str, Any] = {}
    hints = types_of(kind)
    recorded = {item.name for item in dataclasses.fields(kind) if rules_of(item).recorded}  # pyright: ignore[reportArgumentType]
    for key, value in record.items():
        name = names_of(kind).get(key)
        if name is None:
            if not prefix and is_beside(kind, key):
                continue
            raise ConfigError(f"{prefix}{key}: no setting of this name is known")
        if name not in recorded:
            continue
        if name in values:
            raise ConfigError(f"{prefix}{key}: given twice, also by another name of {prefix}{name}")
        if dataclasses.is_dataclass(hints[name]):
            values[name] = from_record(hints[name], value, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        else:
            try:
                values[name] = convert(value, hints[name])
            except ValueError as error:
                raise ConfigError(f"{prefix}{key} = {value!r}: {error}") from error
    return kind(**values)


def is_beside(kind: type, key: str) -> bool:
    """Returns whether an entry of a record is not a setting, but recorded in the same place."""
    beside: tuple[str, ...] = getattr(kind, "recorded_beside", ())
    return key in beside or key in MACHINE or key.startswith("version_")


def convert(value: Any, hint: Any) -> Any:
    """Returns a plain value as the type of a setting has it.

    Raises:
      ValueError: if it is of another type; the message says what it must be.
    """
    inner = optional_type(hint)
    if inner is not None:
        return None if value is None else convert(value, inner)
    if get_origin(hint) is tuple:
        return _convert_list(value, get_args(hint))
    if choices := literals(hint):
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise ValueError(f"must be {_type_name(hint)}")
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("must be a number below 1e308") from error
    if hint is int and type(value) is float and value.is_integer():
        return int(value)  # 1e6, as on the command line
    if hint in (bool, int, str) and type(value) is hint:
        return value
    raise ValueError(f"must be {_type_name(hint)}")


def _convert_list(value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    any_number = hints[-1] is Ellipsis
    length = "" if any_number else f"{len(hints)} entries, each "
    if not isinstance(value, list | tuple) or not (any_number or len(value) == len(hints)):
        raise ValueError(f"must be a list of {length}{_type_name(hints[0])}")
    hints = (hints[0],) * len(value) if any_number else hints
    try:
        return tuple(convert(entry, hint) for entry, hint in zip(value, hints, strict=True))
    except ValueError as error:
        raise ValueError(f"each entry {error}") from error


def _type_name(hint: Any) -> str:
    if choices := literals(hint):
        return f"one of {', '.join(map(str, choices))}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return names[hint]


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns the recorded fields in which two configs of one type differ, by dotted name, with
    both values.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for item in dataclasses.fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if dataclasses.is_dataclass(before):
            found |= differences(before, after, f"{prefix}{item.name}.")
        elif before != after and rules_of(item).recorded:
            found[prefix + item.name] = before, after
    return found


def value_at(config: Any, name: str) -> Any:
    """Returns the value of a field by its dotted name, such as `optimizer.learning_rate`."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def with_value(config: ConfigT, name: str, value: Any) -> ConfigT:
    """Returns the config with a new value for the field of this dotted name.

    Raises:
      ConfigError: if the value is impossible.
    """
    first, _, rest = name.partition(".")
    inner = with_value(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: inner})  # pyright: ignore[reportArgumentType, reportType]
