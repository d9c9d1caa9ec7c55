"""Writing of files that readers see complete or not at all: a draft beside the file, then a rename.

Standard library only; every layer may import this module.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, fsync: bool = False) -> Iterator[Path]:
    """Yields an empty draft to write to; it replaces `path` when the block ends without an error.

    The draft is in the same folder, hidden, and removed if the block fails.

    Args:
      fsync: whether the content and the rename are synced to the disk.

    Raises:
      OSError: if the draft cannot be created, synced or renamed.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    # Exclusive: never a link that someone placed in a shared folder.
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield draft
        if fsync:
            sync(draft)
        put_in_place(draft, path, fsync=fsync)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def put_in_place(draft: Path, path: Path, *, fsync: bool = False) -> None:
    """Renames a complete draft to `path`, which it replaces.

    Args:
      fsync: whether the rename is synced to the disk; the draft already is.

    Raises:
      OSError: if the draft cannot be renamed.
    """
    draft.replace(path)
    if fsync:
        with contextlib.suppress(OSError):  # some file systems refuse to sync folders
            sync(path.parent)


def write_whole(path: Path, content: str | bytes, *, fsync: bool = False) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part.

    Raises:
      OSError: if it cannot be written.
    """
    with whole_file(path, fsync=fsync) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Syncs a file or a folder to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
