"""Parameters of a W&B sweep's trial, as passed by its agent: a YAML file, and optionally flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.tracking.sinks.wandb_names import sweep_trial


def with_sweep_parameters(arguments: Sequence[str]) -> list[str]:
    """Returns the command line of a trial with the sweep's parameters as flags; unchanged outside
    of a sweep.

    A sweep whose command has no `${args}` would otherwise show parameters on W&B that training
    never used.

    Raises:
      ConfigError: if the file cannot be read, or a flag contradicts it.
    """
    given = list(arguments)
    if not _uses_wandb(given) or any(a.partition("=")[0] in ("--resume-run", "--resume_run") for a in given):
        return given
    trial = sweep_trial()
    if trial is None or trial.parameters is None:
        return given
    for name, value in _parameters(Path(trial.parameters)).items():
        flag = "--" + name.rpartition(".")[2].replace("_", "-")
        given = _without(given, flag, value)
        match value:
            case None:
                continue
            case bool():
                given.append(flag if value else flag.replace("--", "--no-", 1))
            case list():
                given += [flag, *map(str, value)]
            case _:
                given.append(f"{flag}={value}")
    return given


def _uses_wandb(arguments: Sequence[str]) -> bool:
    """Returns whether a command line has `--wandb` or `--track wandb`."""
    flag = ""
    for argument in arguments:
        name, _, text = argument.partition("=")
        flag, value = (name, text) if name.startswith("--") else (flag, argument)
        if name == "--wandb" or (flag == "--track" and value == "wandb"):
            return True
    return False


def _parameters(path: Path) -> dict[str, Any]:
    import yaml  # comes with wandb

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ConfigError(
            f"WANDB_SWEEP_PARAM_PATH={path}: {reason}; start trials with `wandb agent`"
        ) from error
    if not isinstance(content, dict):
        return {}
    return {
        str(name): value["value"]
        for name, value in content.items()
        if isinstance(value, dict) and "value" in value and not str(name).startswith("_")
    }


def _without(arguments: list[str], flag: str, value: Any) -> list[str]:
    """Returns the command line without the flag of a parameter, which must have the sweep's
    value.
    """
    kept: list[str] = []
    index = 0
    while index < len(arguments):
        name, equals, text = arguments[index].partition("=")
        index += 1
        plain = name.replace("_", "-")
        if not name.startswith("--") or plain not in (flag, flag.replace("--", "--no-", 1)):
            kept.append(name + equals + text)
            continue
        words = [text] if equals else []
        while not equals and index < len(arguments) and not arguments[index].startswith("--"):
            words.append(arguments[index])
            index += 1
        negated = plain != flag
        shown = " ".join(words) or str(not negated)
        if not _same(shown, value):
            raise ConfigError(
                f"{flag} {shown}: the sweep's parameter is {value}; leave the flag out of the sweep's command"
            )
    return kept


def _same(text: str, value: Any) -> bool:
    wanted = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if text.lower() == wanted.lower() or text.replace(" ", "") == str(value).replace(" ", ""):
        return True
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return float(text) == float(value)
    except ValueError:
        return False
