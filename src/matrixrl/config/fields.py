"""Settings as fields of frozen dataclasses: what is allowed and how a setting is treated stands
beside the field, and one function checks all of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

MAX_NUMBER = 2**31 - 1
"""Largest whole number that programs on a device count with."""


class ConfigError(ValueError):
    """An impossible setting. The message states the given value, the allowed values and what to
    do.
    """


def require(condition: bool, message: str) -> None:
    """Raises `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Allowed values and treatment of a setting.

    Attributes:
      minimum, above: inclusive and exclusive lower bound.
      maximum, below: inclusive and exclusive upper bound. A whole number without one is at most
        `MAX_NUMBER`, if it is countable.
      multiple_of: every allowed value is a multiple of it.
      choices: the allowed values, if they are few numbers. A `Literal` type has its own.
      hint: appended to the description of the allowed values.
      countable: False for a whole number that no program on a device holds.
      may_change: a resumed run may change it.
      argument: an argument of the compiled program: runs that differ in it alone share one
        compilation, and one program can train several values under `vmap`.
      aliases: former names. Records, settings files and the command line may use them.
      of_run: identifies one run, or belongs to one command: not part of a settings file that
        `runs show --config` prints.
      recorded: written to run.json and the journal.
      in_file: may stand in a settings file. The others decide how the command line is read.
    """

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    multiple_of: int | None = None
    choices: tuple[int, ...] = ()
    hint: str = ""
    countable: bool = True
    may_change: bool = False
    argument: bool = False
    aliases: tuple[str, ...] = ()
    of_run: bool = False
    recorded: bool = True
    in_file: bool = True

    def problem(self, value: Any, hint: Any) -> str:
        """Returns the description of the allowed values if `value` is not one; "" if it is.

        Args:
          hint: type of the setting. The value has it.
        """
        if choices := literals(hint):
            return (
                "" if value is None or value in choices else f"must be one of {', '.join(map(str, choices))}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""
        if self.choices:
            return "" if value in self.choices else f"must be {' or '.join(map(str, self.choices))}"
        # Conditions hold for allowed values, so that a NaN is refused.
        fits = (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )
        if not fits:
            return f"must be {self._range()}{self.hint}"
        if isinstance(value, int) and self.maximum is None and self.countable and value > MAX_NUMBER:
            return f"must be at most {MAX_NUMBER}"
        return ""

    def _range(self) -> str:
        if self.minimum is not None:
            upper = "" if self.maximum is None else f"to {self.maximum}"
            text = f"from {self.minimum} {upper}" if upper else f"{self.minimum} or more"
        elif self.above is not None:
            text = f"above {self.above}"
            if self.maximum is not None:
                text += f" and at most {self.maximum}"
            if self.below is not None:
                text += f" and below {self.below}"
        else:
            text = f"at most {self.maximum}"
        if self.multiple_of is not None:
            text += ", and even" if self.multiple_of == 2 else f", and a multiple of {self.multiple_of}"
        return text


_NO_RULES = Rules()


def setting(default: T, **rules: Any) -> T:
    """Returns a dataclass field with a default and the attributes of `Rules`."""
    return field(default=default, metadata={"rules": Rules(**rules)})


def group(kind: type[T], **rules: Any) -> T:
    """Returns a dataclass field that holds a group of settings."""
    return field(default_factory=kind, metadata={"rules": Rules(**rules)})


def rules_of(item: dataclasses.Field[Any]) -> Rules:
    """Returns the rules of a field."""
    return item.metadata.get("rules", _NO_RULES)


@functools.cache
def types_of(kind: type) -> Mapping[str, Any]:
    """Returns the types of the fields of a dataclass."""
    return get_type_hints(kind)


def literals(hint: Any) -> tuple[Any, ...]:
    """Returns the values that a `Literal` type allows, also one that may be None; () of others."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    inner = optional_type(hint)
    return () if inner is None else literals(inner)


def optional_type(hint: Any) -> Any:
    """Returns the type of a setting that may also be None; None if it may not."""
    arguments = get_args(hint)
    if type(None) not in arguments:
        return None
    (inner,) = [argument for argument in arguments if argument is not type(None)]
    return inner


def flag_of(name: str) -> str:
    """Returns the flag of a field by its name, or by its dotted name."""
    return "--" + name.rpartition(".")[2].replace("_", "-")


def shown(value: Any) -> str:
    """Returns a value as the command line has it."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class Settings:
    """Base of the dataclasses of settings: values are checked when one is built."""

    may_change: ClassVar[bool] = False
    """True if a resumed run may change all settings of the group."""

    def __post_init__(self) -> None:
        check_fields(self)
        self.check()

    def check(self) -> None:
        """Checks settings against one another. Each one by itself is allowed.

        Raises:
          ConfigError: if they do not fit.
        """


def check_fields(config: Any) -> None:
    """Checks each setting of a dataclass by the rules beside its field.

    Raises:
      ConfigError: if a value is not allowed. The message names the flag.
    """
    hints = types_of(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        problem = rules_of(item).problem(value, hints[item.name])
        require(not problem, f"{flag_of(item.name)} {shown(value)}: {problem}")


def settings_of(kind: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yields (dotted name, field, type) of every setting of a dataclass and of its groups."""
    for item in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        hint = types_of(kind)[item.name]
        if dataclasses.is_dataclass(hint):
            yield from settings_of(hint, f"{prefix}{item.name}.")  # pyright: ignore[reportArgumentType]
        else:
            yield prefix + item.name, item, hint


@functools.cache
def names_of(kind: type) -> Mapping[str, str]:
    """Returns the names of a dataclass's own fields, by name and by former name."""
    names: dict[str, str] = {}
    for item in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        names |= dict.fromkeys((item.name, *rules_of(item).aliases), item.name)
    return names


def former_flags(kind: type) -> dict[str, str]:
    """Returns the present flag for each former flag of a dataclass and of its groups."""
    flags: dict[str, str] = {}
    for name, item, hint in settings_of(kind):
        flag = flag_of(name)
        for alias in rules_of(item).aliases:
            flags[flag_of(alias)] = flag
            if hint is bool:
                flags[flag_of(f"no_{alias}")] = flag.replace("--", "--no-", 1)
    return flags


def program_arguments(kind: type) -> tuple[str, ...]:
    """Returns the dotted names of the settings that are arguments of the compiled program: one
    program can train several values of them at once.
    """
    return tuple(name for name, item, _ in settings_of(kind) if rules_of(item).argument)


def may_change_on_resume(kind: type, name: str) -> bool:
    """Returns whether a resumed run may change a setting, by its dotted name.

    All other settings define the meaning of the saved arrays and counters. Changing
    `log_interval`, a setting of the optimizer or the number of epochs (which the learning rate
    schedule depends on) changes the weights after the checkpoint: rows recorded after it are then
    set aside as another attempt.
    """
    first, _, rest = name.partition(".")
    (item,) = [item for item in dataclasses.fields(kind) if item.name == first]  # pyright: ignore[reportArgumentType]
    if not rest:
        return rules_of(item).may_change
    inner = types_of(kind)[first]
    return getattr(inner, "may_change", False) or may_change_on_resume(inner, rest)
