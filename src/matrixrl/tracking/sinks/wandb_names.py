"""Names that W&B accepts, and the settings from the environment and W&B's files. Never imports
wandb.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matrixrl.config import ConfigError, require

MAX_CHARACTERS = 128
PROJECT_EXCLUDES = "/\\#?%:"
"""Characters that W&B refuses in the name of a project."""

ENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
ARTIFACT_EXCLUDES = re.compile(r"[^A-Za-z0-9_.-]+")
SWEEP_VARIABLES = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
IDENTITY_VARIABLES = (
    "WANDB_RUN_ID",
    "WANDB_NAME",
    "WANDB_RESUME",
    "WANDB_RESUME_FROM",
    "WANDB_FORK_FROM",
    "WANDB_LAUNCH",
    "WANDB_LAUNCH_CONFIG_PATH",
)
"""Variables that would make wandb open another run than the one that it was asked for."""

NUMBERED = re.compile(
    r"(?P<stem>.+-(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\d\d-\d\d-)(?P<number>\d+)(?P<tail>-.*)?",
    re.DOTALL,
)


class Configured(NamedTuple):
    """A setting that the user made, and where: a flag, a variable or a settings file."""

    value: str
    source: str


class Sweep(NamedTuple):
    """A trial of a W&B sweep, as its agent describes it in the environment."""

    sweep_id: str
    run_id: str
    project: str | None
    entity: str | None
    parameters: str | None


def check_project(name: str, source: str = "--project") -> str:
    """Returns `name` if W&B accepts it as the name of a project.

    Raises:
        ConfigError: if it is empty, too long, or has a character that W&B refuses.
    """
    given = f"{source} {name!r}"
    require(name.strip() == name and name != "", f"{given}: must not be empty or start or end with a space")
    require(
        len(name) <= MAX_CHARACTERS,
        f"{source}: {len(name)} characters; W&B allows at most {MAX_CHARACTERS} in the name of a project",
    )
    found = [character for character in name if character in PROJECT_EXCLUDES]
    entity, slash, project = name.partition("/")
    if slash and entity and project and not set(project) & set(PROJECT_EXCLUDES):
        raise ConfigError(
            f"{given}: must not hold '/'; name the team with --entity {entity} --project {project}"
        )
    require(
        not found, f"{given}: must not hold {''.join(found[:1])!r} (W&B refuses {' '.join(PROJECT_EXCLUDES)})"
    )
    require(
        not any(unicodedata.category(character).startswith("C") for character in name),
        f"{given}: must not hold control characters",
    )
    return name


def check_entity(name: str, source: str = "--entity") -> str:
    """Returns `name` if it can be the name of a W&B user or team.

    Raises:
        ConfigError: if it cannot.
    """
    require(
        ENTITY.fullmatch(name) is not None and len(name) <= MAX_CHARACTERS,
        f"{source} {name!r}: a W&B user or team has letters, digits, '-', '_' and '.' in its name, at most "
        f"{MAX_CHARACTERS}",
    )
    return name


def artifact_part(text: str) -> str:
    """Returns `text` with the characters that W&B refuses in the name of an artifact replaced."""
    return ARTIFACT_EXCLUDES.sub("_", text)


def configured(setting: str) -> Configured | None:
    """Returns what the user configured for `mode`, `project` or `entity`: in the environment, else
    in a settings file.

    `wandb offline`, `wandb disabled` and `wandb init` write `wandb/settings` in the working
    directory, which counts before the one in the home folder (or WANDB_CONFIG_DIR).
    """
    variable = f"WANDB_{setting.upper()}"
    if value := os.environ.get(variable, "").strip():
        return Configured(value, variable)
    for path in settings_files():
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
            value = parser.get("default", setting, fallback="").strip()
        except (OSError, ValueError, configparser.Error):
            continue  # absent or damaged: wandb ignores such a file as well
        if value:
            return Configured(value, str(path))
    return None


def settings_files() -> list[Path]:
    """Returns the settings files that wandb reads, the one that counts first."""
    folder = ".wandb" if Path(".wandb").exists() else "wandb"
    own = os.environ.get("WANDB_CONFIG_DIR")
    home = Path(own) if own else Path("~") / ".config" / "wandb"
    try:
        home = home.expanduser()
    except RuntimeError:  # no home folder
        return [Path(folder) / "settings"]
    return [Path(folder) / "settings", home / "settings"]


def may_ask_wandb() -> bool:
    """Returns whether it is worth asking W&B: it is installed, was not switched off, and there may
    be a key for it.
    """
    mode = configured("mode")
    if importlib.util.find_spec("wandb") is None or (
        mode is not None and mode.value.lower() in ("offline", "dryrun", "disabled")
    ):
        return False
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    try:
        files = [Path(os.environ.get("NETRC") or "~/.netrc"), Path("~/_netrc")]
        return any(path.expanduser().exists() for path in files)
    except RuntimeError:  # no home folder
        return False


class Belonging(NamedTuple):
    """Where on W&B a new run belongs.

    Attributes:
        entity: None for the account's own.
        sweep: the fields of `Sweep` where the run is a trial.
    """

    project: str
    entity: str | None
    sweep: dict[str, Any] | None


def belonging_of(project: str | None, entity: str | None, default_project: str, wandb: bool) -> Belonging:
    """Returns where a new run belongs: in its sweep, else as flags say, else as is configured, else
    the default.

    Args:
        wandb: the run goes to W&B; otherwise only flags are checked, and there is no sweep.

    Raises:
        ConfigError: if W&B would refuse the project or the entity.
    """
    sweep = sweep_trial() if wandb else None
    chosen = _checked(check_project, project, "project", wandb)
    owner = _checked(check_entity, entity, "entity", wandb)
    if sweep is not None:
        chosen, owner = sweep.project or chosen, sweep.entity or owner
    return Belonging(chosen or default_project, owner, sweep._asdict() if sweep else None)


def _checked(check: Callable[[str, str], str], given: str | None, setting: str, strict: bool) -> str | None:
    if given is not None:
        return check(given, f"--{setting}")
    found = configured(setting)
    if found is None:
        return None
    try:
        return check(*found)
    except ConfigError:
        if strict:
            raise
        return None


def sweep_trial() -> Sweep | None:
    """Returns the trial of a W&B sweep that this process was started for, None outside of a sweep.

    Raises:
        ConfigError: if the environment names a sweep without a run of it.
    """
    sweep_id = os.environ.get("WANDB_SWEEP_ID", "").strip()
    if not sweep_id:
        return None
    run_id = os.environ.get("WANDB_RUN_ID", "").strip()
    require(
        bool(run_id),
        f"WANDB_SWEEP_ID={sweep_id} without WANDB_RUN_ID: a trial gets its run from `wandb agent`; start it that way, "
        "or unset WANDB_SWEEP_ID",
    )
    project, entity = os.environ.get("WANDB_PROJECT") or None, os.environ.get("WANDB_ENTITY") or None
    parameters = os.environ.get("WANDB_SWEEP_PARAM_PATH") or None
    return Sweep(sweep_id, run_id, project, entity, parameters)


def set_identity_variables(sweep: Mapping[str, Any] | None) -> list[str]:
    """Removes every variable by which wandb would open another run, then sets those of the run's
    own sweep.

    Returns:
        The variables that were set, and that are not used: those that this run does not take its
            identity from.
    """
    unused = []
    for variable in (*IDENTITY_VARIABLES, *SWEEP_VARIABLES):
        if os.environ.pop(variable, "") and (sweep is None or variable in ("WANDB_NAME", "WANDB_RESUME")):
            unused.append(variable)
    if sweep is not None:
        for variable, key in (
            ("WANDB_SWEEP_ID", "sweep_id"),
            ("WANDB_RUN_ID", "run_id"),
            ("WANDB_PROJECT", "project"),
            ("WANDB_ENTITY", "entity"),
            ("WANDB_SWEEP_PARAM_PATH", "parameters"),
        ):
            value = sweep.get(key)
            if value and (key != "parameters" or Path(value).exists()):
                os.environ[variable] = str(value)
    return unused


def next_names(name: str) -> Iterator[str]:
    """Yields the names after `name`: the next numbers of a default name, `-2`, `-3`, ... after
    another one.
    """
    match = NUMBERED.fullmatch(name)
    number = int(match["number"]) if match else 1
    while True:
        number += 1
        if match:
            yield f"{match['stem']}{number}{match['tail'] or ''}"
        else:
            tail = f"-{number}"
            yield name[: MAX_CHARACTERS - len(tail)] + tail
