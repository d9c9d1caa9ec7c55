"""Code that a run may import: only what the user of this machine has named.

The settings of a run name an environment, and perhaps a network, as `package.module:factory` or as
a file. A run folder may come from elsewhere, and importing what it names would run whatever its
author chose. So a name given on a command line is noted in the user's state folder, outside of all
run folders, together with the run. A run that was started here can be resumed, evaluated and
watched as it is; for one that was restored or copied from elsewhere the user names the code once.

Environments of gymnax and Gymnasium need no note: `gymnax:NAME` and `gymnasium:NAME` import what is
installed. `gymnasium:module:NAME` names code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from matrixrl.config import ConfigError
from matrixrl.config.environment import EnvironmentRunConfig, names_no_code


def code_of(config: EnvironmentRunConfig) -> Iterator[tuple[str, str]]:
    """Yields the flags of a config that name code, with their values."""
    if not names_no_code(config.env):
        yield "--env", config.env
    if config.network.network is not None:
        yield "--network", config.network.network


def note(folder: Path, config: EnvironmentRunConfig) -> None:
    """Notes that the user named the code of a run."""
    for _, name in code_of(config):
        for state in _state_folders():
            # Without a folder that can be written the code has to be named again.
            with contextlib.suppress(OSError):
                for place in (state.parent, state):  # `parents` alone would leave the umask's mode
                    place.mkdir(mode=0o700, parents=True, exist_ok=True)
                if _is_own(state):
                    (state / _key(folder, name)).touch()
                    break


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
        (flag, name) for flag, name in code_of(config) if flag not in named and not _is_noted(folder, name)
    ]
    if unknown:
        flags = " ".join(f"{flag} {name}" for flag, name in unknown)
        raise ConfigError(
            f"{command}: the run was not started here, and code that only it names is not imported; if you trust this code, "
            f"name it once: {flags}"
        )


def _is_noted(folder: Path, name: str) -> bool:
    return any(_is_own(state) and (state / _key(folder, name)).is_file() for state in _state_folders())


def _key(folder: Path, name: str) -> str:
    return hashlib.sha256(f"{folder.resolve()}\0{name}".encode(errors="surrogateescape")).hexdigest()[:32]


def _state_folders() -> Iterator[Path]:
    """Yields the folders for notes: the user's state folder, and one where there is no home."""
    state = os.environ.get("XDG_STATE_HOME")
    with contextlib.suppress(RuntimeError):
        yield (Path(state) if state else Path.home() / ".local" / "state") / "matrixrl" / "named_code"
    yield Path(tempfile.gettempdir()) / f"matrixrl-{os.getuid()}" / "named_code"


def _is_own(folder: Path) -> bool:
    """Returns whether a folder, and the one around it, can be written by this user alone."""
    try:
        for place in (folder, folder.parent):
            about = os.lstat(place)
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
                return False
    except OSError:
        return False
    return True
