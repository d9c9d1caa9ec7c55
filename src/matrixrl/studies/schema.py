"""Settings of a training command as the keys of a study file: names, types, ranges."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matrixrl.config import ConfigError, value_at, with_file
from matrixrl.config.environment import with_whole_path
from matrixrl.config.fields import optional_type, rules_of, settings_of
from matrixrl.config.files import checked_value

OF_STUDY: Mapping[str, str] = {
    "seed": "give `seeds` at the top of the file",
    "sweep": "give its values in [grid]",
    "num_seeds": "give `seeds` at the top of the file",
    "run_name": "the study names its runs",
    "run_suffix": "the study names its runs",
    "resume_run": "the study resumes its runs itself",
    "runs_dir": "give --study-dir",
    "config": "give its settings in [settings]",
    "json": "give --json to the command",
    "on": "give --on to the command",
    "jobs": "give --jobs to the command",
    "ray_address": "give --ray-address to the command",
    "benchmark": "a study trains whole runs",
}
"""Settings that belong to the study, with what to do instead."""


class Schema:
    """Settings of a training command by the names of its flags, with underscores.

    Args:
      command: such as `ppo train`.
      kind: dataclass of its settings.
      vmapped: dotted names of the settings of which one program trains several values.
      best_is_lowest: the best value of a run is its lowest one, such as a rank.
    """

    def __init__(
        self, command: str, kind: type, vmapped: Sequence[str] = (), *, best_is_lowest: bool = False
    ) -> None:
        self.command = command
        self.kind = kind
        self.best_is_lowest = best_is_lowest
        self.vmapped = frozenset(name.rpartition(".")[2] for name in vmapped)
        self._fields = {dotted: (rules_of(item), hint) for dotted, item, hint in settings_of(kind)}
        self._names: dict[str, str] = {}
        for dotted, item, _ in settings_of(kind):
            last = dotted.rpartition(".")[2]
            self._names |= dict.fromkeys((dotted, last, *rules_of(item).aliases), dotted)

    def without_vmapped(self) -> Schema:
        """Returns the schema of a command of which each run trains one value of every setting."""
        return Schema(self.command, self.kind, best_is_lowest=self.best_is_lowest)

    def name(self, given: str, where: str) -> str:
        """Returns the name of a setting as its flag has it.

        Args:
          given: name, former name or dotted name.
          where: place in the file, for messages.

        Raises:
          ConfigError: if there is no such setting, or it belongs to the study.
        """
        dotted = self._names.get(given.replace("-", "_"))
        if dotted is None:
            near = difflib.get_close_matches(given, self._names, n=1)
            meant = f"did you mean {self._names[near[0]].rpartition('.')[2]}? " if near else ""
            raise ConfigError(
                f"{where}: unknown setting {shown(given) if not given.isidentifier() else given}; {meant}settings have the names of the flags of "
                f"`matrixrl {self.command} --help`, with underscores"
            )
        last = dotted.rpartition(".")[2]
        if last in OF_STUDY or dotted.startswith("processes."):
            instead = OF_STUDY.get(last, "a trial is one process")
            raise ConfigError(f"{where}: {given}: cannot stand in a study file; {instead}")
        return last

    def value(self, name: str, value: Any, where: str) -> Any:
        """Returns a value of a file as its setting has it.

        Raises:
          ConfigError: if it is not allowed; the message names the place and the allowed values.
        """
        rules, hint = self._fields[self._names[name]]
        try:
            found = checked_value(value, rules, hint)
        except ValueError as error:
            raise ConfigError(f"{where}: {name} = {shown(value)}: {error}") from error
        if isinstance(found, float) and not math.isfinite(found):
            raise ConfigError(f"{where}: {name} = {shown(value)}: must be a finite number")
        # A file of the user's code means the same on every machine that sees it.
        return with_whole_path(found) if isinstance(found, str) and ".py:" in found else found

    def value_in(self, config: Any, name: str) -> Any:
        """Returns the value of a setting in a config."""
        return value_at(config, self._names[name])

    def hint(self, name: str) -> Any:
        """Returns the type of a setting; of one that may be None, the other type."""
        hint = self._fields[self._names[name]][1]
        return optional_type(hint) or hint

    def rebuilt(self, config: Any, values: Mapping[str, Any]) -> Any:
        """Returns a config with other values, checked as a whole.

        Raises:
          ConfigError: if they do not fit one another.
        """
        return _checked(with_file(config, {self._names[name]: value for name, value in values.items()}))

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """Returns settings as a command line."""
        arguments: list[str] = []
        for name, value in values.items():
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                arguments.append(flag if value else f"--no-{flag[2:]}")
            elif isinstance(value, list | tuple):
                arguments += [flag, *map(str, value)]
            else:
                arguments.append(f"{flag}={value}")
        return arguments


def _checked(config: Any) -> Any:
    """Returns the same config, built from its groups upwards so that each checks itself."""
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    return type(config)(
        **{
            name: _checked(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
            else value
            for name, value in values.items()
        }
    )


def shown(value: Any) -> str:
    """Returns a value of a file for a message."""
    text = (
        str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 60 else text[:57] + "..."
