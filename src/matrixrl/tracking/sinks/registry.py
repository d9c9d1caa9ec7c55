"""Finds sinks: those of the package, of installed packages, registered ones, and `module:Sink`.

- Packages offer sinks in the entry point group `matrixrl.sinks`.
- A program calls `register`.
- A user names a class: `--track module:Sink` or `--track path/to/file.py:Sink`.

A class that only a run folder names is not imported: it may have been downloaded. `named_code`
knows which classes this user named for a run.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from matrixrl.config import ConfigError, require
from matrixrl.named_code import is_named, note_named
from matrixrl.tracking.sinks.base import Sink
from matrixrl.user_code import import_file, module_name

ENTRY_POINTS = "matrixrl.sinks"
BUILT_IN: Mapping[str, str] = {
    "wandb": "matrixrl.tracking.sinks.wandb:WandbSink",
    "tensorboard": "matrixrl.tracking.sinks.tensorboard:TensorboardSink",
}
DEFAULT_SINK = "wandb"
"""The only sink of versions before 0.2; `runs sync` delivers to it where a run has no sink yet."""

METHODS = ("open", "write", "confirmed_step", "close")
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

_registered: dict[str, type[Sink]] = {}


class Found(NamedTuple):
    """A sink that was found.

    Attributes:
        name: of its folder in a run folder.
        source: `module:Class` or `/path/to/file.py:Class`, from which another process imports it.
        sink: the class.
    """

    name: str
    source: str
    sink: type[Sink]


def register(sink: type[Sink], name: str | None = None) -> type[Sink]:
    """Makes a sink known by its name, for `TrackingConfig(track=(name,))`. Usable as a decorator.

    The class must be defined at the top level of a module or script, since the delivery process
    imports it from there.

    Args:
        name: defaults to `sink.name`, or the name of the class.

    Raises:
        ConfigError: if the class is no sink, or the name is another sink's.
    """
    chosen = _checked(sink, name, getattr(sink, "__name__", repr(sink)))
    known = _registered.get(chosen)
    require(
        chosen not in BUILT_IN and (known is None or _source_of(known) == _source_of(sink)),
        f"register({sink.__name__}): there is a sink {chosen!r}; choose another name",
    )
    require(
        "<locals>" not in sink.__qualname__,
        f"register({sink.__name__}): defined inside a function, where another process cannot import it; "
        "define it at the top level of a module",
    )
    _registered[chosen] = sink
    return sink


def find_sink(reference: str, flag: str = "--track") -> Found:
    """Returns a sink by its name, or by `module:Sink`.

    Raises:
        ConfigError: if there is no such sink; the message lists the known names.
    """
    if ":" in reference:
        sink = _import(reference, f"{flag} {reference}")
        name = _checked(sink, None, f"{flag} {reference}")
        module, _, attribute = reference.rpartition(":")
        is_file = module.endswith(".py")
        return Found(name, f"{Path(module).resolve()}:{attribute}" if is_file else reference, sink)
    if reference in BUILT_IN:
        return Found(reference, BUILT_IN[reference], _import(BUILT_IN[reference], flag))
    if reference in _registered:
        sink = _registered[reference]
        return Found(reference, _source_of(sink), sink)
    for point in metadata.entry_points(group=ENTRY_POINTS):
        if point.name == reference:
            sink = _import(point.value, f"{flag} {reference} (from {point.value})")
            _checked(sink, reference, f"{flag} {reference}")
            return Found(reference, point.value, sink)
    raise ConfigError(
        f"{flag} {reference}: there is no sink of this name; known are {', '.join(known_sinks())}; a class of your own "
        "is named as module:Sink or path/to/file.py:Sink"
    )


def find_sinks(references: Iterable[str], flag: str = "--track") -> list[Found]:
    """Returns several sinks, each once.

    Raises:
        ConfigError: if one is not found, or two have the same name.
    """
    found: dict[str, Found] = {}
    for reference in references:
        sink = find_sink(reference, flag)
        other = found.setdefault(sink.name, sink)
        require(
            other.source == sink.source,
            f"{flag} {reference}: {other.source} is named {sink.name!r} too; give one of them another `name`",
        )
    return list(found.values())


def known_sinks() -> list[str]:
    """Returns the names of all sinks that can be found by name."""
    points = [point.name for point in metadata.entry_points(group=ENTRY_POINTS)]
    return sorted({*BUILT_IN, *_registered, *points})


def find_recorded(folder: Path, name: str, source: str, flag: str) -> Found | None:
    """Returns a sink that a run folder names; None if it is a class that this user has not named
    for the run.

    Args:
        source: from the sink's state file.

    Raises:
        ConfigError: if the class cannot be imported.
    """
    if name in known_sinks():
        return find_sink(name, flag)
    return find_sink(source, flag) if ":" in source and may_import(folder, source) else None


def load_sink(source: str, search_path: Iterable[str]) -> type[Sink]:
    """Imports a sink in the delivery process.

    Args:
        source: of `Found`.
        search_path: folders that the training process imports from; they come last.
    """
    sys.path += [folder for folder in search_path if folder not in sys.path]
    return _import(source, "--track")


def search_path() -> list[str]:
    """Returns the folders that this process imports from, for `load_sink`; the working directory is
    one of them.
    """
    return list(dict.fromkeys([*(folder or os.getcwd() for folder in sys.path), os.getcwd()]))


def remember_named(folder: Path, sinks: Iterable[Found]) -> None:
    """Notes that this user chose sinks for a run, so that a resumed run may import them by
    itself.
    """
    note_named(folder, (found.source for found in sinks if found.name not in BUILT_IN))


def may_import(folder: Path, reference: str) -> bool:
    """Returns whether a reference from a run folder may be imported: a name, or a class that this
    user chose for the run.
    """
    return ":" not in reference or is_named(folder, _absolute(reference))


def _absolute(reference: str) -> str:
    module, _, attribute = reference.rpartition(":")
    return f"{Path(module).resolve()}:{attribute}" if module.endswith(".py") else reference


def _checked(sink: object, name: str | None, given: str) -> str:
    """Returns the name of a sink.

    Raises:
        ConfigError: if it is no class with the methods of a sink, or the name cannot be a folder's.
    """
    missing = [method for method in METHODS if not _has_own(sink, method)]
    require(isinstance(sink, type), f"{given}: {sink!r} is no class; a sink is a subclass of matrixrl's Sink")
    assert isinstance(sink, type)
    require(
        Sink in sink.__mro__,
        f"{given}: {sink.__name__} is no sink; derive it from matrixrl.tracking.sinks.Sink",
    )
    require(
        not missing,
        f"{given}: {sink.__name__} has no {', '.join(missing)}; a sink has {', '.join(METHODS)}",
    )
    chosen = name or sink.name or sink.__name__.lower()
    require(
        NAME.fullmatch(chosen) is not None,
        f"{given}: {chosen!r} cannot be a sink's name; use lower-case letters, digits, '-', '_' and '.', at most 64",
    )
    return chosen


def _has_own(sink: object, method: str) -> bool:
    found = getattr(sink, method, None)
    return callable(found) and found is not getattr(Sink, method)


def _source_of(sink: type[Sink]) -> str:
    """Returns from where another process can import a registered class."""
    module = sys.modules.get(sink.__module__)
    if sink.__module__ == "__main__":
        # Run as `python -m package.module`, or as a script.
        spec = getattr(module, "__spec__", None)
        if spec is not None:
            return f"{spec.name}:{sink.__qualname__}"
        file = getattr(module, "__file__", None)
        require(
            file is not None,
            f"register({sink.__name__}): defined in a session without a file, where another process cannot import it; "
            "move it to a module",
        )
        return f"{Path(str(file)).resolve()}:{sink.__qualname__}"
    return f"{sink.__module__}:{sink.__qualname__}"


def _import(reference: str, given: str) -> type[Sink]:
    """Imports a class by `module:Class` or `path/to/file.py:Class`.

    Raises:
        ConfigError: if the module cannot be imported or has no such class.
    """
    where, _, attribute = reference.rpartition(":")
    require(bool(where and attribute), f"{given}: write module:Sink or path/to/file.py:Sink")
    module = _import_file(Path(where), given) if where.endswith(".py") else _import_module(where, given)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [
                n for n, value in vars(module).items() if isinstance(value, type) and _has_own(value, "write")
            ]
            raise ConfigError(
                f"{given}: {where} has no {attribute}; its sinks are {', '.join(names) or 'none'}"
            )
        found = getattr(found, part)
    return found  # pyright: ignore[reportReturnType] (checked by `_checked`)


def _import_module(name: str, given: str) -> ModuleType:
    folders = list(sys.path)
    if os.getcwd() not in folders and "" not in folders:
        sys.path.append(os.getcwd())  # last: a folder there must not shadow an installed package
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{given}: {name} cannot be imported ({error})") from error
    except Exception as error:  # whatever the user's module raises at its import
        raise ConfigError(f"{given}: {name} fails at its import ({type(error).__name__}: {error})") from error
    finally:
        sys.path[:] = folders


def _import_file(path: Path, given: str) -> ModuleType:
    path = path.resolve()
    require(path.is_file(), f"{given}: there is no file {path}")
    known = sys.modules.get(module_name(path))
    if known is not None:
        return known
    try:
        return import_file(path)
    except Exception as error:  # whatever the user's file raises at its import
        raise ConfigError(f"{given}: {path} fails at its import ({type(error).__name__}: {error})") from error
