"""Files of a run folder: checksums, and writing whole then renaming."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(path: Path) -> tuple[str, int]:
    """Checksum and size of a file, or of a folder over its files in order of their names.

    Returns:
        The hex digest and the number of bytes. A folder's digest covers, per file, its relative path and its digest.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    whole, size = hashlib.sha256(), 0
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        digest, count = sha256_of(file)
        whole.update(f"{file.relative_to(path).as_posix()}\0{digest}\n".encode())
        size += count
    return whole.hexdigest(), size
