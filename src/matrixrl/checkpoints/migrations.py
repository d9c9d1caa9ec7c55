"""Version of the checkpoint format, and conversion of `checkpoint.json` from earlier ones.

A version changes the format of all checkpoints, or the states of one system. The latter conversions
belong to that system: packages that know systems add a source of them (`add_source`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError

FORMAT_VERSION = 3

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts a `checkpoint.json` to the next version; raises `ConfigError` if it cannot."""


def next_version(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record that is the same in the next version."""
    return {**record, "format_version": record["format_version"] + 1}


MIGRATIONS: Mapping[int, Migration] = {1: next_version, 2: next_version}
"""Migrations by format version, for systems without their own."""

Source = Callable[[str], Mapping[int, Migration]]

_sources: list[Source] = []


def add_source(source: Source) -> None:
    """Adds a function that returns the migrations of a system by its name."""
    _sources.append(source)


def migrated(
    record: dict[str, Any], folder: Path, migrations: Mapping[int, Migration] = MIGRATIONS
) -> dict[str, Any]:
    """Migrates `checkpoint.json` to the current format version.

    Args:
      migrations: those of all systems; the ones of the checkpoint's own system replace them.

    Raises:
      ConfigError: if there is no migration from its version to the current one.
    """
    found = record.get("format_version")
    if found == FORMAT_VERSION:
        return record
    known = dict(migrations)
    system = record.get("system", "")
    for source in _sources:
        known |= source(str(system))
    while record.get("format_version") != FORMAT_VERSION:
        migrate = known.get(record.get("format_version", 0))
        if migrate is None:
            newer = isinstance(found, int) and found > FORMAT_VERSION
            raise ConfigError(
                f"{folder}: checkpoint format {found}; this matrixrl reads format {FORMAT_VERSION}: "
                + ("install a newer matrixrl" if newer else "resume it with the matrixrl that wrote it")
            )
        record = migrate(record)
    return record
