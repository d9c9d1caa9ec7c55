"""Settings files: the TOML that `runs show RUN --config` prints and `--config FILE` reads.

A file has a table per group of settings. A setting may also stand at the top level, as its flag
does, with underscores. TOML has no null: a number that is not set is written as "none".
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from matrixrl import user_files
from matrixrl.config.fields import (
    ConfigError,
    Rules,
    flag_of,
    names_of,
    optional_type,
    rules_of,
    settings_of,
    types_of,
)
from matrixrl.config.records import convert

ConfigT = TypeVar("ConfigT")

MAX_BYTES = 2**20
"""Maximum size of a settings file."""

NONE = "none"

_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def settings_toml(config: Any, comment: str = "") -> str:
    """Returns the settings as TOML for `--config`, without those that identify one run or belong to
    one command.

    Args:
      comment: one line for the top of the file.
    """
    top: dict[str, Any] = {}
    for name, item, hint in settings_of(type(config)):
        group, _, own = name.rpartition(".")
        rules = rules_of(item)
        if rules.of_run or not rules.recorded or not _in_file(type(config), name):
            continue
        holder = getattr(config, group) if group else config
        value = getattr(holder, own)
        if value is None:
            if optional_type(hint) is str:
                continue  # no preset sets one
            value = NONE
        table = top.setdefault(group, {}) if group else top
        table[own] = str(value) if isinstance(value, Path) else value
    return (f"# {comment}\n" if comment else "") + to_toml(top)


def to_toml(table: Mapping[str, Any]) -> str:
    """Returns a table of values, lists of values and tables as TOML.

    Raises:
      ConfigError: if a text cannot be written as UTF-8.
    """
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    if path and (len(inner) < len(table) or not table):
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for number, (key, value) in enumerate(inner.items()):
        if number or len(inner) < len(table):
            yield ""
        yield from _lines(value, (*path, key))


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
    return key if bare else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return _text(str(value))


def _text(text: str) -> str:
    def escaped(character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        return character if character.isprintable() or ord(character) > 0x9F else f"\\u{ord(character):04x}"

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!a}: cannot be written to a settings file: it is not UTF-8") from error
    return f'"{"".join(map(escaped, text))}"'


def read_settings_file(kind: type, path: Path | str) -> dict[str, Any]:
    """Reads a settings file.

    Args:
      kind: the config that it is for.

    Returns:
      The settings of the file by dotted name. Each one by itself is allowed.

    Raises:
      ConfigError: if the file cannot be read or is not TOML, or if it holds an unknown setting or a
        value that is not allowed. The message names the file and the setting.
    """
    where = f"--config {user_files.display_path(path)}"
    try:
        text = user_files.read_text(path, MAX_BYTES)
        table = tomllib.loads(text)
    except user_files.UserFileError as error:
        raise ConfigError(f"{where}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply") from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{where}: not TOML: {reason}; `matrixrl runs show RUN --config` prints an example"
        ) from error
    known = {name: (rules_of(item), hint) for name, item, hint in settings_of(kind)}
    values: dict[str, Any] = {}
    for given, name, value in _named(kind, table, where):
        shown = f"{given} = {_shown(value)}"
        rules, hint = known[name]
        if name in values:
            raise ConfigError(f"{where}: {given}: given twice; leave one out")
        if not _in_file(kind, name):
            raise ConfigError(
                f"{where}: {given}: cannot stand in a file; give {flag_of(name)} on the command line"
            )
        try:
            values[name] = checked_value(value, rules, hint)
        except ValueError as error:
            raise ConfigError(f"{where}: {shown}: {error}") from error
    return values


def checked_value(value: Any, rules: Rules, hint: Any) -> Any:
    """Returns a value of a settings file, or of a keyword, as its setting has it.

    Raises:
      ValueError: if it is not allowed; the message says what it must be.
    """
    inner = optional_type(hint)
    if value == NONE and inner is not None and inner is not str:
        return None
    result = convert(value, hint)
    if problem := rules.problem(result, hint):
        raise ValueError(problem)
    return result


def _named(kind: type, table: Mapping[str, Any], where: str) -> Iterator[tuple[str, str, Any]]:
    """Yields (name in the file, dotted name, value) of every setting of a file."""
    own, hints = names_of(kind), types_of(kind)
    flat = {}
    for name, item, _ in settings_of(kind):
        last = name.rpartition(".")[2]
        flat |= dict.fromkeys((last, *rules_of(item).aliases), name)
    for key, value in table.items():
        name = own.get(key)
        if name is not None and dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {key} = {_shown(value)}: must be a table of settings, [{key}]")
            inner = names_of(hints[name])  # pyright: ignore[reportArgumentType]
            for inner_key, inner_value in value.items():
                if inner_key not in inner:
                    raise _unknown(where, f"{key}.{inner_key}", inner_key, {**inner, **flat})
                yield f"{key}.{inner_key}", f"{name}.{inner[inner_key]}", inner_value
        elif key in flat:
            yield key, flat[key], value
        else:
            raise _unknown(where, key, key, {**own, **flat})


def _unknown(where: str, given: str, key: str, names: Mapping[str, str]) -> ConfigError:
    near = difflib.get_close_matches(key, names, n=1)
    meant = f"did you mean {names[near[0]]}? " if near else ""
    return ConfigError(
        f"{where}: unknown setting {_plain(given)}; {meant}settings have the names of the flags"
    )


def _plain(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _shown(value: Any) -> str:
    text = _plain(_value(value) if isinstance(value, bool | int | float | str | list) else str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _in_file(kind: type, name: str) -> bool:
    """Returns whether a setting may stand in a file, and so may the group that holds it."""
    first, _, rest = name.partition(".")
    (item,) = [item for item in dataclasses.fields(kind) if item.name == first]  # pyright: ignore[reportArgumentType]
    return rules_of(item).in_file and (not rest or _in_file(types_of(kind)[first], rest))


def with_file(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """Returns the config with values by dotted name. It is not checked: flags may override
    values that do not fit one another. A config that is built from it is.
    """
    if not values:
        return config
    new: Any = object.__new__(type(config))
    for item in dataclasses.fields(config):  # pyright: ignore[reportArgumentType]
        inner = {
            name.partition(".")[2]: value
            for name, value in values.items()
            if name.startswith(f"{item.name}.")
        }
        value = values[item.name] if item.name in values else with_file(getattr(config, item.name), inner)
        object.__setattr__(new, item.name, value)
    return new
