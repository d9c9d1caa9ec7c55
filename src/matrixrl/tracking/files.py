"""Files of a run folder: checksums, and the file systems that hold them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path


def sha256_of(path: Path) -> tuple[str, int]:
    """Returns checksum and size of a file, or of a folder over its files in order of their names.

    Returns:
        The hex digest and the number of bytes. A folder's digest covers, per file, its relative
        path and its digest.
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


NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "coda",
        "9p",
        "virtiofs",
        "vboxsf",
        "prl_fs",
        "ceph",
        "lustre",
        "gpfs",
        "mmfs",
        "glusterfs",
        "beegfs",
        "beegfs_nodev",
        "ocfs2",
        "gfs2",
        "orangefs",
        "pvfs2",
        "wekafs",
        "panfs",
    ]
)
LOCAL_FUSE_FILE_SYSTEMS = frozenset(
    [
        "fuse.fuse-overlayfs",
        "fuse.ntfs-3g",
        "fuse.ntfs",
        "fuse.exfat",
        "fuse.mergerfs",
        "fuse.bindfs",
        "fuse.lxcfs",
        "fuse.encfs",
        "fuse.gocryptfs",
        "fuse.ext4",
        "fuse.zfs",
    ]
)
"""FUSE file systems that are on this machine; all others count as network drives (sshfs, gcsfuse,
s3fs, drive, ...)."""


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Returns the type of the file system of `path` if it is a network drive; None if it is not, or
    is unknown."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    folder = path.resolve()
    best = ("", "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        # Spaces, tabs, line ends and backslashes are written as octal numbers.
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
        if folder.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    kind = best[1]
    is_network = kind in NETWORK_FILE_SYSTEMS or (
        kind.startswith("fuse.") and kind not in LOCAL_FUSE_FILE_SYSTEMS
    )
    return kind if is_network else None
