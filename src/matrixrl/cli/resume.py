"""Settings that a resumed run continues with. The same rules serve every trainer."""

from __future__ import annotations

import dataclasses
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matrixrl
from matrixrl.config import (
    ConfigError,
    TrackingConfig,
    differences,
    from_record,
    may_change_on_resume,
)
from matrixrl.tracking.identity import find_run, read_run_file
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.sinks.registry import find_sinks, may_import
from matrixrl.tracking.sinks.wandb_names import may_ask_wandb

Settings = TypeVar("Settings")

OF_COMMAND = ("json", "time")
"""Settings that belong to one command: a resumed run has those of its own command line."""


def flag_value(arguments: Sequence[str], flag: str, allowed: str = "a value") -> str | None:
    """Returns the value of a flag that decides how the others are read; None if it is not given.

    Args:
      allowed: allowed values of the flag, in words.

    Raises:
      ConfigError: if the flag is last, without a value.
    """
    value = None
    for index, argument in enumerate(arguments):
        name, equals, text = argument.partition("=")
        if name.replace("_", "-") != flag:
            continue
        if not equals:
            if index + 1 == len(arguments):
                raise ConfigError(f"{flag}: {allowed} must follow")
            text = arguments[index + 1]
        value = text
    return value


def run_folder(arguments: Sequence[str], reference: str, system: str) -> Path:
    """Returns the folder of the run that `--resume-run` names; a run that exists only on W&B is
    restored first.

    Raises:
      ConfigError: if there is no such run, here or on W&B.
    """
    given = flag_value(arguments, "--runs-dir")
    runs_dir = Path(given) if given else TrackingConfig().runs_dir
    try:
        return find_run(runs_dir, reference, system)
    except ConfigError as error:
        if reference == "latest" or not may_ask_wandb():
            raise
        flags = [(flag, flag_value(arguments, flag)) for flag in ("--project", "--entity")]
        problem = restore_run(reference, runs_dir, [f"{flag}={value}" for flag, value in flags if value])
        try:
            return find_run(runs_dir, reference, system)
        except ConfigError:
            raise ConfigError(f"{error}; W&B was asked as well: {problem}") from error


def restore_run(reference: str, runs_dir: Path, flags: Sequence[str]) -> str:
    """Restores a run from W&B, in a process of its own: wandb is never loaded beside training.

    Args:
      reference: name or id of the run.
      flags: further flags of `runs restore`, such as `--project=NAME`.

    Returns:
      Why it was not restored; "" where it was.
    """
    root = str(Path(matrixrl.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("WANDB_SERVICE", None)
    sys.stderr.write(f"matrixrl: {reference} is not in {runs_dir}; asking W&B for it\n")
    command = ["runs", "restore", reference, f"--runs-dir={runs_dir}", *flags]
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "matrixrl.cli.main", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    lines = (answer.stdout if answer.returncode == 0 else answer.stderr).strip().splitlines()
    text = lines[-1] if lines else f"status {answer.returncode}"
    if answer.returncode == 0:
        sys.stderr.write(f"matrixrl: {text.partition('; continue with')[0]}\n")
        return ""
    return re.sub(rf"^(error|matrixrl): (runs restore {re.escape(reference)}: )?", "", text)


def recorded_settings(kind: type[Settings], folder: Path) -> Settings:
    """Returns the settings of a run's newest attempt.

    Raises:
      ConfigError: if they cannot be read, or are impossible for this version of matrixrl.
    """
    record = (read_run_file(folder) or {}).get("config")
    if (folder / JOURNAL_FILE).exists():
        try:
            with JournalReader(folder) as reader:
                record = reader.config()
        except (JournalError, sqlite3.Error) as error:
            if record is None:
                raise ConfigError(f"{folder}: the run's settings cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{folder}: the run's settings are not recorded; start a new run")
    try:
        return from_record(kind, record)
    except ConfigError as error:
        raise ConfigError(
            f"{folder}: the recorded settings do not fit this matrixrl ({error}); resume with the version that wrote them"
        ) from error


def resumed_settings(
    kind: type[Settings], folder: Path, reference: str, read: Callable[[Settings], Settings]
) -> tuple[Settings, dict[str, tuple[Any, Any]]]:
    """Returns the recorded settings of a run, with the changes of a command line applied.

    Args:
      kind: the trainer's config, a `RunConfig`.
      read: reads the command line, with these settings as defaults.

    Returns:
      The settings, and the changes by dotted name (old, new); the identity of the run is not a
      change.

    Raises:
      ConfigError: if the command line changes a fixed setting; the message names the flag and both
        values.
    """
    recorded: Any = recorded_settings(kind, folder)
    tracking = dataclasses.replace(
        recorded.tracking,
        resume_run=reference,
        run_name=None,
        run_suffix=None,
        runs_dir=folder.parent,
        track=_importable(recorded.tracking.track, folder),
    )
    of_command = {item.name: item.default for item in dataclasses.fields(recorded) if item.name in OF_COMMAND}
    recorded = dataclasses.replace(recorded, tracking=tracking, **of_command)
    settings: Any = read(recorded)
    find_sinks(settings.tracking.sinks)
    # From here on the run is identified by its name: a run that is started meanwhile must not
    # become `latest`.
    tracking = dataclasses.replace(settings.tracking, resume_run=folder.name)
    settings = dataclasses.replace(settings, tracking=tracking)
    same = (*OF_COMMAND, "tracking.runs_dir", "tracking.resume_run")
    changed = {name: values for name, values in differences(recorded, settings).items() if name not in same}
    for name, (old, new) in changed.items():
        if not may_change_on_resume(kind, name):
            flag = "--" + name.rpartition(".")[2].replace("_", "-")
            raise ConfigError(
                f"{flag} {_shown(new)}: {folder.name} was started with {_shown(old)}, and a resumed run cannot change it; "
                "leave the flag out, or start a new run without --resume-run"
            )
    return settings, changed


def _importable(track: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Returns the recorded trackers without classes that only the run folder names: it may have
    been downloaded.
    """
    for name in track:
        if not may_import(folder, name):
            sys.stderr.write(
                f"matrixrl: warning: {folder.name} was tracked by {name} too, which this user has not named for it and "
                f"is not imported; --track {name} resumes it\n"
            )
    return tuple(name for name in track if may_import(folder, name))


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else text[:60] + "..."  # such as the entries of a tensor
