"""Notes which code of a run the user of this machine has named: only that is imported.

The files of a run name code: an environment, a network, a tracker. A run folder may come from
elsewhere, and importing what it names would run whatever its author chose. So a name given on a
command line or in a program is noted in the user's state folder, outside of all run folders,
together with the run. A run that was started here can be resumed, evaluated, watched and delivered
as it is; for one that was restored or copied from elsewhere the user names the code once.

Standard library only; every layer may import this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


def note_named(folder: Path, names: Iterable[str]) -> None:
    """Notes that the user named code of a run.

    Args:
      folder: of the run.
      names: such as `package.module:factory` or `/path/to/file.py:factory`.
    """
    for name in names:
        for state in _state_folders():
            # Without a folder that can be written the code has to be named again.
            with contextlib.suppress(OSError):
                for place in (state.parent, state):  # `parents` alone would leave the umask's mode
                    place.mkdir(mode=0o700, parents=True, exist_ok=True)
                if _is_own(state):
                    (state / _key(folder, name)).touch()
                    break


def is_named(folder: Path, name: str) -> bool:
    """Returns whether the user named code of a run before."""
    return any(_is_own(state) and (state / _key(folder, name)).is_file() for state in _state_folders())


def _key(folder: Path, name: str) -> str:
    return hashlib.sha256(f"{folder.resolve()}\0{name}".encode(errors="surrogateescape")).hexdigest()[:32]


def _user_id() -> int | None:
    """Returns the number of this user; None on Windows, where files have no such owner."""
    return os.getuid() if hasattr(os, "getuid") else None


def _state_folders() -> Iterator[Path]:
    """Yields the folders for notes: the user's state folder, and one where there is no home."""
    state = os.environ.get("XDG_STATE_HOME")
    with contextlib.suppress(RuntimeError):
        yield (Path(state) if state else Path.home() / ".local" / "state") / "matrixrl" / "named_code"
    user = _user_id()  # the temporary folder of Windows belongs to the user
    yield Path(tempfile.gettempdir()) / ("matrixrl" if user is None else f"matrixrl-{user}") / "named_code"


def _is_own(folder: Path) -> bool:
    """Returns whether a folder, and the one around it, can be written by this user alone."""
    user = _user_id()
    try:
        for place in (folder, folder.parent):
            about = os.lstat(place)
            if not stat.S_ISDIR(about.st_mode):
                return False
            if user is not None and (about.st_uid != user or about.st_mode & 0o022):
                return False
    except OSError:
        return False
    return True
