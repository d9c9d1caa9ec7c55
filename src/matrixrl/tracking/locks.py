"""The lock that keeps two processes from writing one run.

The kernel's lock on the file `NAME` decides where the file system has one; it is released when its
process ends, however it ends. A record of the owner in `NAME.owner` says who that is. Where the
kernel cannot be asked, the record decides:

- A file system without locks (`flock` fails with ENOSYS or ENOLCK, as on many network mounts): the
  owner lives if its process does, where processes of its kind can be seen (the same host and PID
  namespace); elsewhere if it refreshed the record within `Lock.GRACE_SECONDS`.
- A network drive, where another host may not see the kernel's lock: likewise for owners on other
  hosts. On a local disk the kernel's answer is enough: after a restart under another host name a
  container takes its run over at once.

In both cases a thread refreshes the record for as long as the lock is held, however long training
records nothing.

Two processes that start at the same moment on a file system without locks are not kept apart;
`Lock.is_guarded` is False there, and the run warns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from matrixrl.tracking.files import network_file_system
from matrixrl.whole_files import write_whole

OWNER_SUFFIX = ".owner"
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems that have no locks."""


@dataclass(frozen=True)
class Owner:
    """The process that holds, or last held, a lock.

    Attributes:
        pid: process id.
        host: name of its host.
        since: time when it took the lock, in seconds since the epoch.
        namespace: PID namespace in which `pid` is its number, such as that of its container; ""
            where unknown.
        seconds_left: time after which it counts as dead unless it refreshes the record; None where
            its process is known to live.
    """

    pid: int
    host: str
    since: float
    namespace: str = field(default="", compare=False)
    seconds_left: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


UNKNOWN = Owner(0, "unknown host", 0.0)


class Lock:
    """An exclusive lock on a file, held while the process lives.

    Attributes:
        path: of the locked file; it changes with the folder's name.
        is_guarded: whether the kernel holds the lock, and not the record alone.
    """

    GRACE_SECONDS = 120.0
    REFRESH_SECONDS = 20.0

    def __init__(self, path: Path, kernel_lock: filelock.BaseFileLock | None) -> None:
        self.path = path
        self.is_guarded = kernel_lock is not None
        self._kernel_lock = kernel_lock
        self._held = True
        self._identity = _identity(path)
        self._released = threading.Event()
        if not self.is_guarded or network_file_system(path.parent) is not None:
            # A compilation or a chunk may take longer than the grace time: other hosts must not
            # take that for death.
            arguments = (weakref.ref(self), self._released, self.REFRESH_SECONDS)
            threading.Thread(target=_refresh_regularly, args=arguments, name="lock", daemon=True).start()

    @classmethod
    def take(cls, path: Path) -> Lock | Owner:
        """Takes the lock, or returns who holds it. The lock of a dead process is taken over.

        Raises:
            PermissionError: if the file belongs to another user.
            OSError: if the folder cannot be written.
        """
        kernel_lock: filelock.BaseFileLock | None = filelock.FileLock(
            path, timeout=0, thread_local=False, fallback_to_soft=False
        )
        try:
            kernel_lock.acquire()
        except filelock.Timeout:
            return _read(path) or UNKNOWN
        except NotImplementedError:
            kernel_lock = None
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            kernel_lock = None
        try:
            if kernel_lock is None:
                path.touch()
            owner = _living(path, is_guarded=kernel_lock is not None)
            if owner is None:
                record = {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": time.time(),
                    "namespace": _pid_namespace(),
                }
                write_whole(owner_file(path), json.dumps(record))
                if os.name != "nt" or kernel_lock is None:
                    os.truncate(path, 0)  # a record of a version before 0.2
                os.utime(path)
                return cls(path, kernel_lock)
        except BaseException:
            if kernel_lock is not None:
                kernel_lock.release()
            raise
        if kernel_lock is not None:
            kernel_lock.release()
        return owner

    @staticmethod
    def owner(path: Path) -> Owner | None:
        """Returns who holds the lock now, or None; changes nothing."""
        if not path.exists():
            return None
        held = _is_locked(path)
        if held:
            return _read(path) or UNKNOWN
        return _living(path, is_guarded=held is not None)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and number of the locked file."""
        assert self._identity is not None
        return self._identity

    def moved(self, path: Path) -> None:
        """Notes that the folder of the lock was renamed."""
        self.path = path

    def suspend(self) -> None:
        """Lets the kernel's lock go, where an open file keeps its folder from being renamed
        (Windows)."""
        if os.name == "nt" and self._kernel_lock is not None:
            self._kernel_lock.release()

    def renew(self) -> None:
        """Takes the kernel's lock again after `suspend`, at the path that it has by now."""
        if os.name == "nt" and self._kernel_lock is not None:
            self._kernel_lock = filelock.FileLock(self.path, timeout=0, thread_local=False)
            self._kernel_lock.acquire()

    def refresh(self) -> None:
        """Notes that the owner lives, for hosts that cannot ask this kernel."""
        if self._held:
            # The file itself too: versions before 0.2 look at its time.
            for file in (self.path, owner_file(self.path)):
                os.utime(file)

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        if not self._held:
            return
        self._held = False
        self._released.set()
        owner_file(self.path).unlink(missing_ok=True)
        if self._kernel_lock is not None:
            self._kernel_lock.release()


def owner_file(path: Path) -> Path:
    """Returns the path of the record beside a lock."""
    return path.with_name(path.name + OWNER_SUFFIX)


def _refresh_regularly(lock: weakref.ref[Lock], released: threading.Event, seconds: float) -> None:
    """Refreshes the record of a lock until the lock is released or dropped."""
    while not released.wait(seconds):
        held = lock()
        if held is None:
            return
        with contextlib.suppress(OSError):  # the folder may be renamed at this moment; the next time will do
            held.refresh()
        del held


def _pid_namespace() -> str:
    """Returns the PID namespace of this process: containers may share host names and process
    ids."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _read(path: Path) -> Owner | None:
    """Returns the recorded owner. Versions before 0.2 wrote it into the locked file itself."""
    for file in (owner_file(path), path):
        try:
            record: Any = json.loads(file.read_text(encoding="utf-8"))
            namespace = str(record.get("namespace", ""))
            return Owner(int(record["pid"]), str(record["host"]), float(record["since"]), namespace)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return None


def _living(path: Path, *, is_guarded: bool) -> Owner | None:
    """Returns the recorded owner if it may live although this process got the kernel's lock, or
    there is none.

    Args:
        is_guarded: whether the file system has locks.
    """
    previous = _read(path)
    if previous is None:
        return None
    if is_guarded and (previous.host == socket.gethostname() or network_file_system(path.parent) is None):
        return None
    if previous.host == socket.gethostname() and previous.namespace in ("", _pid_namespace()):
        return previous if _is_running(previous) else None
    record = owner_file(path) if owner_file(path).exists() else path
    left = record.stat().st_mtime + Lock.GRACE_SECONDS - time.time()
    if left <= 0:
        return None
    return dataclasses.replace(previous, seconds_left=left)


def _is_running(owner: Owner) -> bool:
    """Returns whether the recorded process of this host still runs, and is not another one with its
    number.

    The number may even be our own: a container that is restarted under its old name numbers its
    processes as before.
    """
    import psutil  # rarely needed, and slow to load

    try:
        return psutil.Process(owner.pid).create_time() <= owner.since + 1.0
    except psutil.Error:
        return False


def _is_locked(path: Path) -> bool | None:
    """Returns whether some process holds the kernel's lock; None where the file system has none.
    Changes nothing."""
    try:
        import fcntl
    except ImportError:  # Windows: a probe that takes the lock for a moment
        probe = filelock.FileLock(path, timeout=0, thread_local=False)
        try:
            with probe:
                return False
        except filelock.Timeout:
            return True
        except OSError:
            return None
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
