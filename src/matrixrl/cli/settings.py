"""Settings of a training command: from a preset or the run to resume, a settings file and flags."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from matrixrl.cli.parse import parse, present_flags, require_local_paths
from matrixrl.cli.resume import flag_value, resumed_settings, run_folder
from matrixrl.cli.sweep import with_sweep_parameters
from matrixrl.config import ConfigError, TrackedRunConfig, read_settings_file, with_file

ConfigT = TypeVar("ConfigT", bound=TrackedRunConfig)


def read_settings(
    kind: type[ConfigT],
    arguments: Sequence[str],
    presets: Mapping[str, Callable[[], ConfigT]],
    default_preset: str,
    *,
    system: str,
    description: str,
    words: str | None = None,
    adapt: Callable[[ConfigT, Sequence[str], Mapping[str, Any]], ConfigT] | None = None,
) -> ConfigT:
    """Reads the settings of a training command. Flags override the file of `--config`, and that
    overrides the preset, or the settings of the run to resume.

    Args:
      presets: by name.
      system: name of the system of its runs.
      description: printed by `--help`.
      words: the command on the command line. Default: `<system> train`.
      adapt: changes the preset of a new run, from the command line and the values of the file by
        dotted name, before both are applied to it.

    Raises:
      ConfigError: if a flag, the file or a value is wrong, or there is no such run.
    """
    arguments = with_sweep_parameters(arguments)
    known = present_flags(kind, arguments)
    require_local_paths(kind, known)
    shows_help = bool({"-h", "--help"} & set(arguments))

    def read(default: ConfigT) -> ConfigT:
        prog = f"matrixrl {words or f'{system} train'}"
        return parse(kind, arguments, prog=prog, description=description, default=default)

    path = None if shows_help else flag_value(known, "--config", "a TOML file")
    values = {} if path is None else read_settings_file(kind, path)
    reference = flag_value(known, "--resume-run", "a run's name, its id, or latest")
    if reference is not None and not shows_help:
        runs_dir = values.pop("tracking.runs_dir", None)
        if runs_dir is not None and flag_value(known, "--runs-dir") is None:
            known = arguments = [*known, f"--runs-dir={runs_dir}"]
        folder = run_folder(known, reference, system)
        return resumed_settings(kind, folder, reference, lambda recorded: read(with_file(recorded, values)))[
            0
        ]
    allowed = ", ".join(presets)
    given = flag_value(known, "--preset", f"one of {allowed}")
    name = default_preset if given is None else given
    if given is None and "preset" in values:
        name = values["preset"]
        if name not in presets:
            raise ConfigError(f'--config {path}: preset = "{name}": must be one of {allowed}')
    if name not in presets:
        raise ConfigError(f"--preset {name}: must be one of {allowed}")
    preset = presets[name]()
    if adapt is not None and not shows_help:
        preset = adapt(preset, known, values)
    return read(with_file(preset, values))


def command_words(system: str) -> tuple[str, str]:
    """Returns group and name of the command that starts and resumes the runs of a system."""
    from matrixrl.cli.main import COMMANDS

    own = [words for words, command in COMMANDS.items() if command.system == system]
    return own[0] if own else (system, "train")


def settings_of_system(system: str) -> type[TrackedRunConfig] | None:
    """Returns the config type of the command that makes a system's runs; None if it has no such
    command.
    """
    from matrixrl.cli.main import COMMANDS

    command = COMMANDS.get(command_words(system))
    kind = None if command is None else getattr(importlib.import_module(command.module), command.settings)
    return kind if isinstance(kind, type) and issubclass(kind, TrackedRunConfig) else None
