"""Command lines to settings, by tyro; every error becomes one line."""

from __future__ import annotations

import dataclasses
import difflib
import re
import threading
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro import _errors

from matrixrl.config import ConfigError
from matrixrl.config.fields import former_flags

Settings = TypeVar("Settings")

_parsing = threading.RLock()
"""Held while tyro reads a command line: its caches and its error hook belong to the process, and
Python 3.11 cannot parse source, as tyro does for help texts, in two threads at once.
"""


class CommandLineError(ConfigError):
    """The command line cannot be understood. The message is one line."""


def parse(
    kind: type[Settings],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str,
    default: Settings | None = None,
) -> Settings:
    """Reads `arguments` into a dataclass; every field is a flag of its own, without prefixes.

    `--help` prints and exits.

    Raises:
      ConfigError: if a flag is unknown, or a value does not parse or is refused by the settings.
    """
    flags = sorted(_flags(kind))
    former = former_flags_in(kind, arguments)
    arguments = present_flags(kind, arguments)
    arguments = _whole_numbers(arguments, _flags_of(kind, int))
    require_local_paths(kind, arguments)

    def one_line(event: _errors.ParseErrorEvent) -> None:
        raise CommandLineError(_message(event, flags, prog))

    # This hook of tyro replaces its error output; the module is private, and tyro is pinned.
    with _parsing, _errors.on_parse_error(one_line), _named_as_given(former):
        kwargs: dict[str, Any] = {} if default is None else {"default": default}
        settings = tyro.cli(
            kind,
            args=list(arguments),
            prog=prog,
            description=description,
            config=(tyro.conf.OmitArgPrefixes,),
            **kwargs,
        )
    # Arguments without a flag are known only now.
    paths = {value for value in vars(settings).values() if isinstance(value, Path)}
    for argument in arguments:
        if _URL.match(argument) and Path(argument) in paths:
            raise _not_local(argument, argument)
    return settings


def present_flags(kind: type, arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with former names of flags replaced by the present ones."""
    renamed = former_flags(kind)
    result = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        plain = flag.replace("_", "-")
        is_former = flag.startswith("--") and plain in renamed
        result.append(f"{renamed[plain]}{equals}{value}" if is_former else argument)
    return result


def former_flags_in(kind: type, arguments: Sequence[str]) -> dict[str, str]:
    """Returns the former flags among the arguments by the present ones."""
    renamed = former_flags(kind)
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    return {present: former for former, present in renamed.items() if former in given}


@contextmanager
def _named_as_given(former: Mapping[str, str]) -> Iterator[None]:
    """Names flags in error messages as the command line has them.

    Args:
      former: former flags that were given, by the present ones.
    """
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for present, given in former.items():
            text = re.sub(rf"{re.escape(present)}(?![\w-])", given, text)
        if text == str(error):
            raise
        raise type(error)(text) from error


def _flags(kind: Any) -> set[str]:
    """Returns all flags of a dataclass and the dataclasses in it."""
    found: set[str] = set()
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            found |= _flags(hints[field.name])
        else:
            name = field.name.replace("_", "-")
            found |= {f"--{name}", f"--no-{name}"} if hints[field.name] is bool else {f"--{name}"}
    return found


def _flags_of(kind: Any, wanted: type) -> set[str]:
    """Returns the flags of a dataclass whose values are of a type, alone or in a union or tuple."""
    found: set[str] = set()
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            found |= _flags_of(hint, wanted)
        elif wanted in (hint, *typing.get_args(hint)):
            found.add("--" + field.name.replace("_", "-"))
    return found


_SCIENTIFIC = re.compile(r"[+-]?(\d[\d_]*)?(\.\d*)?[eE]\+?\d{1,3}")


def _whole_numbers(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """Expands whole numbers in scientific notation, such as ``1e6``, that follow flags for
    integers.
    """
    result: list[str] = []
    is_integer = False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument.startswith("--"):
            is_integer = flag.replace("_", "-") in flags
            if is_integer and equals:
                argument = f"{flag}={_written_out(value)}"
        elif is_integer:
            argument = _written_out(argument)
        result.append(argument)
    return result


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def whole_number(text: str) -> int | None:
    """Returns the whole number of a text such as ``250``, ``1_000`` or ``1e6``; None if it is not
    one.
    """
    try:
        return int(_written_out(text))
    except ValueError:
        return None


def _written_out(value: str) -> str:
    """Returns ``1000000`` for ``1e6``; other text is unchanged, and is refused later."""
    if _SCIENTIFIC.fullmatch(value) is None:
        return value
    try:
        number = Fraction(value.replace("_", ""))
    except ValueError:
        return value
    return str(number.numerator) if number.denominator == 1 else value


def require_local_paths(kind: Any, arguments: Sequence[str]) -> None:
    """Refuses URLs as values of a dataclass's paths: writing needs a local file system.

    Raises:
      ConfigError: if a path is a URL; the message names the flag and the URL.
    """
    flags = _flags_of(kind, Path)
    last = ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument.startswith("--"):
            last = flag.replace("_", "-")
            value = value if equals else ""
        else:
            value = argument
        if _URL.match(value) and (last in flags or not last):
            raise _not_local(f"{last} {value}".strip(), value)


def _not_local(given: str, url: str) -> ConfigError:
    if url.startswith("file://"):
        return ConfigError(f"{given}: a URL; give the path itself: {url.removeprefix('file://')}")
    return ConfigError(
        f"{given}: a URL, where a local folder or file is needed; mount the bucket, or write to a local folder and copy it "
        "afterwards (runs: `matrixrl runs copy RUN --to FOLDER`)"
    )


def _name(argument: Any) -> str:
    text = getattr(argument, "arg", argument).get_invocation_text()[0]
    return _plain(text).strip("[").split(" ")[0].split(",")[0].rstrip("]")


def _plain(text: Any) -> str:
    rendered = text if isinstance(text, str) else " ".join(text.render(width=2000))
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", rendered)).strip()


def _message(event: _errors.ParseErrorEvent, flags: list[str], prog: str) -> str:
    help_hint = f"see {prog} --help"
    if isinstance(event, _errors.UnrecognizedArgs):
        unknown = event.tokens[0]
        near = difflib.get_close_matches(unknown.split("=")[0].replace("_", "-"), flags, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        what = "unknown flag" if unknown.startswith("-") else "unexpected argument"
        return f"{what} {unknown}: {meant}{help_hint}"
    if isinstance(event, _errors.InvalidChoice):
        return f"{_name(event.argument)} {event.value}: must be one of {', '.join(event.choices)}"
    if isinstance(event, _errors.BadValue):
        what = f"unexpected value {event.offending_value}" if event.offending_value else "too few values"
        return f"{_name(event.argument)}: {what}; {help_hint}"
    if isinstance(event, _errors.InstantiationFailure):
        message = _plain(event.message)
        named = message.startswith("--") or event.argument is None
        return message if named else f"{_name(event.argument)}: {message}; {help_hint}"
    if isinstance(event, _errors.MissingArgs):
        missing = ", ".join(_name(argument) for argument in event.missing_arguments)
        return f"missing {missing}; {help_hint}"
    return f"the command line cannot be understood; {help_hint}"
