"""Code that a run of `ppo` may import: only what the user of this machine has named
(`matrixrl.named_code`).

Environments of gymnax and Gymnasium need no note: `gymnax:NAME` and `gymnasium:NAME` import what is
installed. `gymnasium:module:NAME` names code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matrixrl.config import ConfigError
from matrixrl.config.environment import EnvironmentRunConfig, names_no_code
from matrixrl.named_code import is_named, note_named


def code_of(config: EnvironmentRunConfig) -> Iterator[tuple[str, str]]:
    """Yields the flags of a config that name code, with their values."""
    if not names_no_code(config.env):
        yield "--env", config.env
    if config.network.network is not None:
        yield "--network", config.network.network


def note(folder: Path, config: EnvironmentRunConfig) -> None:
    """Notes that the user named the code of a run."""
    note_named(folder, (name for _, name in code_of(config)))


def require_named(command: str, folder: Path, config: EnvironmentRunConfig, named: set[str]) -> None:
    """Refuses code that only a run names, before anything of it is imported.

    Args:
      command: at the start of the message, such as `--resume-run NAME`.
      folder: of the run.
      config: its settings.
      named: flags given in this command.

    Raises:
      ConfigError: with the flags to add.
    """
    unknown = [
        (flag, name) for flag, name in code_of(config) if flag not in named and not is_named(folder, name)
    ]
    if unknown:
        flags = " ".join(f"{flag} {name}" for flag, name in unknown)
        raise ConfigError(
            f"{command}: the run was not started here, and code that only it names is not imported; if you trust this code, "
            f"name it once: {flags}"
        )
