"""Systems that are known here: those of this package, registered ones, and installed ones.

A system is found by its name: first among those given to `register`, then among the ones of this
package, then by the entry point group `matrixrl.systems` of installed packages. An entry point
names a `System` or a `SystemSpec`; its module is imported only when a run of that system, or its
command, needs it, and should not import JAX when it is loaded.

Importing this module makes the systems known to `tracking` (specs of runs that recorded none) and
`checkpoints` (formats of earlier versions). `matrixrl/__init__.py` imports it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from matrixrl.checkpoints import migrations
from matrixrl.checkpoints.migrations import Migration
from matrixrl.config import ConfigError
from matrixrl.tracking import spec as tracking_spec
from matrixrl.tracking.spec import BestMetric, ConsoleMetric, SystemSpec

if TYPE_CHECKING:
    # Imported when installed systems are looked up: it takes longer than this module.
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "matrixrl.systems"

BUILT_IN: Mapping[str, str] = {
    "matmul": "matrixrl.systems.matmul.spec:SYSTEM",
    "flip": "matrixrl.systems.flip.spec:SYSTEM",
    "ppo": "matrixrl.systems.ppo.spec:SYSTEM",
    "hackmatrix": "matrixrl.systems.hackmatrix.spec:SYSTEM",
}
"""Systems of this package: module and attribute, loaded when they are needed."""

Command = Callable[[Sequence[str]], int]
"""Takes the command line after `matrixrl NAME COMMAND`, returns the exit status."""


@dataclass(frozen=True)
class System:
    """A system: its spec, and what else the house needs to know about it.

    Attributes:
      spec: recorded in every run folder.
      commands: by name, such as `train`; they become `matrixrl NAME COMMAND`. The first line of a
        command's docstring is its summary.
      migrations: of checkpoints, by the format version that they convert to the next one.
      metrics: returns the names of the stream's metrics of a run with given settings, as patterns;
        None where they are not known before the first rows.
    """

    spec: SystemSpec
    commands: Mapping[str, Command] = field(default_factory=dict)
    migrations: Mapping[int, Migration] = field(default_factory=dict)
    metrics: Callable[[Any], Sequence[str] | None] | None = None


def metrics_from(reference: str) -> Callable[[Any], Sequence[str] | None]:
    """Returns a function for `System.metrics` that calls another one, whose module is imported at
    the first call: loading a spec imports no metrics.

    Args:
      reference: the other function, such as `package.module:function`.
    """

    def known_metrics(config: Any) -> Sequence[str] | None:
        module, _, name = reference.partition(":")
        return getattr(importlib.import_module(module), name)(config)

    return known_metrics


_registered: dict[str, System] = {}


def register(system: System | SystemSpec) -> None:
    """Makes a system known to this process. A system of the same name is replaced.

    Raises:
      ConfigError: if the name is that of a system of this package.
    """
    added = _as_system(system, "register")
    if added.spec.name in BUILT_IN:
        raise ConfigError(f"system {added.spec.name!r}: matrixrl has a system of this name; choose another")
    _registered[added.spec.name] = added


def unregister(name: str) -> None:
    """Forgets a registered system."""
    _registered.pop(name, None)


def find_system(name: str) -> System | None:
    """Returns a system by its name; None if it is not known here.

    Raises:
      ConfigError: if it is installed and cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    return _installed(name)


def system_names() -> list[str]:
    """Returns the names of all systems that are known here."""
    return sorted({*BUILT_IN, *_registered, *_entry_points()})


def projects() -> list[str]:
    """Returns the default W&B projects of all systems that can be imported here."""
    specs = [spec for name in system_names() if (spec := _readable_spec(name)) is not None]
    return sorted({spec.project for spec in specs}, reverse=True)


@functools.cache
def _installed(name: str) -> System | None:
    """Loads a system of this package or of an installed one."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    entry = _entry_points().get(name)
    if entry is None:
        return None
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"system {name!r}: its entry point {entry.value} cannot be imported ({error}); repair or uninstall its package"
        ) from error
    system = _as_system(found, f"entry point {entry.value}")
    if system.spec.name != name:
        raise ConfigError(
            f"system {name!r}: its entry point {entry.value} has the name {system.spec.name!r}; both must agree"
        )
    return system


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _as_system(value: Any, origin: str) -> System:
    if isinstance(value, System):
        return value
    if isinstance(value, SystemSpec):
        return System(value)
    raise ConfigError(f"{origin}: is a {type(value).__name__}; must be a System or a SystemSpec")


def _readable_spec(name: str) -> SystemSpec | None:
    """Returns the spec of a system; None if it cannot be imported, which must not prevent reading
    runs.
    """
    try:
        system = find_system(name)
    except ConfigError:
        return None
    return None if system is None else system.spec


def _migrations(name: str) -> Mapping[int, Migration]:
    system = find_system(name)
    return {} if system is None else system.migrations


tracking_spec.add_source(_readable_spec)
migrations.add_source(_migrations)

__all__ = [
    "BUILT_IN",
    "BestMetric",
    "ConsoleMetric",
    "System",
    "SystemSpec",
    "find_system",
    "metrics_from",
    "projects",
    "register",
    "system_names",
    "unregister",
]
