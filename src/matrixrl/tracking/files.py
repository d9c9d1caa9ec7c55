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


NETWORK_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "fuse.drive",
    "fuse.gcsfuse",
    "fuse.s3fs",
)


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The type of the file system of `path` where it is a network drive; None elsewhere, and where nobody can tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    folder = path.resolve()
    best = ("", "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if folder.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1] if best[1] in NETWORK_FILE_SYSTEMS else None
