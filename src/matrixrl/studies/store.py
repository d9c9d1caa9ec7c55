"""Run folders away from the machine that writes them: copied while they grow, fetched to resume.

Where a node does not see the study's folder, it trains in a folder of its own. What is new is
copied to the store at intervals, in an order in which every prefix is a run that can be resumed:
the journal before the checkpoints that it reaches. A node forgets a run only after the store
confirmed all of it. Each attempt at a run has a number; the store refuses files of an attempt that
another one has replaced, such as those of a node that was cut off.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.run_layout import CHECKPOINTS_FOLDER, MANIFEST_FILE
from matrixrl.tracking.copy import OF_A_DELIVERY, OF_THE_PROCESS, SIDE_FILES, copy_run
from matrixrl.tracking.identity import RUN_FILE
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.whole_files import put_in_place, write_whole

PART_BYTES = 4 * 2**20
"""Size of the parts in which files travel."""

ATTEMPTS_FOLDER = ".attempts"
FENCE_FILE = ".attempt"
"""File beside a node's copy of a run with the number of the attempt that wrote it."""


class AttemptReplacedError(RuntimeError):
    """Another attempt at the run has begun elsewhere; this one must stop."""


class RunFolderStore(Protocol):
    """Holds run folders by name."""

    def begin(self, run: str) -> int:
        """Returns the number of a new attempt at a run, which replaces all earlier ones."""
        ...

    def current(self, run: str) -> int:
        """Returns the number of the current attempt; 0 before the first."""
        ...

    def files(self, run: str) -> list[str]:
        """Returns the paths of a run's files inside its folder."""
        ...

    def size(self, run: str, path: str) -> int:
        """Returns the size of a file in bytes; -1 if there is none."""
        ...

    def read(self, run: str, path: str, offset: int) -> bytes:
        """Returns a part of a file."""
        ...

    def write(self, run: str, attempt: int, path: str, draft: str, content: bytes, last: bool) -> None:
        """Appends a part to a draft of a file; the last part replaces the file by the draft.

        Raises:
          AttemptReplacedError: if the attempt is not the current one.
        """
        ...

    def delete(self, run: str, attempt: int, paths: Sequence[str]) -> None:
        """Deletes files of a run.

        Raises:
          AttemptReplacedError: if the attempt is not the current one.
        """
        ...


def _checked(path: str) -> str:
    """Returns the path of a file inside a folder.

    Raises:
      ValueError: if it leads out of it.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError(f"{path}: leads out of the folder")
    return path


class FolderStore:
    """Run folders in a local folder, such as the study's on the machine of the sweep."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self, run: str) -> int:
        """Returns the number of a new attempt."""
        number = self.current(run) + 1
        folder = self.root / ATTEMPTS_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _checked(run), str(number))
        return number

    def current(self, run: str) -> int:
        """Returns the number of the current attempt."""
        try:
            return int((self.root / ATTEMPTS_FOLDER / _checked(run)).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return 0

    def files(self, run: str) -> list[str]:
        """Returns the paths of a run's files."""
        folder = self.root / _checked(run)
        return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]

    def size(self, run: str, path: str) -> int:
        """Returns the size of a file."""
        try:
            return (self.root / _checked(run) / _checked(path)).stat().st_size
        except FileNotFoundError:
            return -1

    def read(self, run: str, path: str, offset: int) -> bytes:
        """Returns a part of a file."""
        with (self.root / _checked(run) / _checked(path)).open("rb") as file:
            file.seek(offset)
            return file.read(PART_BYTES)

    def write(self, run: str, attempt: int, path: str, draft: str, content: bytes, last: bool) -> None:
        """Appends to a draft; the last part makes it the file, synced to the disk."""
        self._require(run, attempt)
        target = self.root / _checked(run) / _checked(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{_checked(draft)}.part")
        with part.open("ab") as file:
            file.write(content)
            if last:
                file.flush()
                os.fsync(file.fileno())
        if last:
            if path == JOURNAL_FILE:
                for name in SIDE_FILES:  # of a journal that a process here wrote
                    target.with_name(name).unlink(missing_ok=True)
            put_in_place(part, target, fsync=True)

    def delete(self, run: str, attempt: int, paths: Sequence[str]) -> None:
        """Deletes files, and folders that become empty."""
        self._require(run, attempt)
        folder = self.root / _checked(run)
        for path in paths:
            target = folder / _checked(path)
            target.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                while target.parent != folder:
                    target = target.parent
                    target.rmdir()

    def _require(self, run: str, attempt: int) -> None:
        if self.current(run) != attempt:
            raise AttemptReplacedError(
                f"{run}: attempt {attempt} was replaced by attempt {self.current(run)}"
            )


def is_url(location: str) -> bool:
    """Returns whether the location of a study is a URL."""
    return "://" in location


def local_path(location: str) -> str:
    """Returns a location without `file://` or `local://`, which name local folders."""
    for prefix in ("file://", "local://"):
        if location.startswith(prefix):
            return location.removeprefix(prefix)
    return location


class UrlStore:
    """Run folders below a URL that fsspec can write to.

    Raises:
      ConfigError: if fsspec or the package that serves the URL is missing, or the URL is refused.
    """

    def __init__(self, url: str, flag: str = "--study-dir") -> None:
        try:
            import fsspec
        except ImportError as error:
            raise ConfigError(f"{flag} {url}: needs fsspec; install it: pip install fsspec") from error
        self._drafts: dict[str, Any] = {}
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise ConfigError(
                f"{flag} {url}: {first_line(error)}; name a local folder, or install that"
            ) from error
        self._root = root.rstrip("/")

    def begin(self, run: str) -> int:
        """Returns the number of a new attempt."""
        number = self.current(run) + 1
        self.put(f"{ATTEMPTS_FOLDER}/{_checked(run)}", str(number).encode())
        return number

    def current(self, run: str) -> int:
        """Returns the number of the current attempt."""
        content = self.get(f"{ATTEMPTS_FOLDER}/{_checked(run)}")
        return 0 if content is None else int(content)

    def files(self, run: str) -> list[str]:
        """Returns the paths of a run's files."""
        self._fs.invalidate_cache()
        folder = f"{self._root}/{_checked(run)}"
        try:
            found = self._fs.find(folder)
        except FileNotFoundError:
            return []
        return sorted(path[len(folder) + 1 :] for path in found if path.startswith(folder + "/"))

    def size(self, run: str, path: str) -> int:
        """Returns the size of a file."""
        self._fs.invalidate_cache()
        try:
            return int(self._fs.size(f"{self._root}/{_checked(run)}/{_checked(path)}") or 0)
        except FileNotFoundError:
            return -1

    def read(self, run: str, path: str, offset: int) -> bytes:
        """Returns a part of a file."""
        with self._fs.open(f"{self._root}/{_checked(run)}/{_checked(path)}", "rb") as file:
            file.seek(offset)
            return file.read(PART_BYTES)

    def write(self, run: str, attempt: int, path: str, draft: str, content: bytes, last: bool) -> None:
        """Appends to a draft, which becomes the file with its last part."""
        file = self._drafts.pop(draft, None)
        try:
            if file is None:
                self._require(run, attempt)
                file = self._local_draft()
            file.write(content)
            if not last:
                self._drafts[draft] = file
                return
            file.seek(0)
            if path == JOURNAL_FILE:
                self.delete(run, attempt, [name for name in SIDE_FILES if self.size(run, name) >= 0])
            self._send(f"{_checked(run)}/{_checked(path)}", file)
        finally:
            if file is not None and draft not in self._drafts:
                file.close()

    @staticmethod
    def _local_draft() -> Any:
        return tempfile.TemporaryFile()

    def delete(self, run: str, attempt: int, paths: Sequence[str]) -> None:
        """Deletes files of a run."""
        self._require(run, attempt)
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{_checked(run)}/{_checked(path)}")

    def get(self, path: str) -> bytes | None:
        """Returns a small file; None if there is none."""
        self._fs.invalidate_cache()
        try:
            return self._fs.cat_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return None

    def put(self, path: str, content: bytes) -> None:
        """Writes a small file."""
        with self._local_draft() as file:
            file.write(content)
            file.seek(0)
            self._send(path, file)

    def is_empty(self) -> bool:
        """Returns whether nothing is below the URL."""
        self._fs.invalidate_cache()
        try:
            return not self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return True

    def remove_all(self) -> None:
        """Deletes everything below the URL."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._root, recursive=True)

    def _send(self, path: str, file: Any) -> None:
        """Writes a file under another name, then renames it: readers see it complete or not at
        all.
        """
        target = f"{self._root}/{path}"
        folder, _, name = target.rpartition("/")
        part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
        self._fs.makedirs(folder, exist_ok=True)
        with self._fs.open(part, "wb") as remote:
            shutil.copyfileobj(file, remote, PART_BYTES)
        self._fs.mv(part, target)

    def _require(self, run: str, attempt: int) -> None:
        if self.current(run) != attempt:
            raise AttemptReplacedError(f"{run}: attempt {attempt} was replaced by another one")


def _travels(path: str) -> bool:
    """Returns whether a file belongs to the run, and not to the processes that write it."""
    parts = PurePosixPath(path).parts
    own = OF_THE_PROCESS - set(SIDE_FILES[:1])  # a log without its index is read like any other
    if any(part.startswith(".") for part in parts) or parts[0] in own:
        return False
    return not (len(parts) == 3 and parts[2] in OF_A_DELIVERY)


def fetch_run(store: RunFolderStore, run: str, to: Path) -> None:
    """Fetches a run folder, unless the copy that is there was written by the current attempt, or
    the store has none.

    Args:
      to: folder of the run folders here.
    """
    target = to / run
    mark = to / f"{run}{FENCE_FILE}"
    is_current = mark.exists() and mark.read_text(encoding="utf-8") == str(store.current(run))
    if target.exists():
        if is_current:
            return
        shutil.rmtree(target)
    paths = [path for path in store.files(run) if _travels(path)]
    if RUN_FILE not in paths:
        return
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=to) as hidden:
        draft = Path(hidden) / run
        for path in paths:
            file = draft / _checked(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                for content in _parts_of(store, run, path):
                    out.write(content)
        draft.rename(target)


def _parts_of(store: RunFolderStore, run: str, path: str) -> Iterator[bytes]:
    offset = 0
    while content := store.read(run, path, offset):
        yield content
        offset += len(content)
        if len(content) < PART_BYTES:
            return


class RunSender:
    """Sends a run folder to a store while it grows.

    Args:
      store: where to.
      directory: the run folder, written by another process.
      attempt: its number in the store.
      mirror: folder for a consistent copy of what is sent.
    """

    def __init__(self, store: RunFolderStore, directory: Path, attempt: int, mirror: Path) -> None:
        self._store = store
        self._directory = directory
        self._attempt = attempt
        self._mirror = mirror
        self._sent: dict[str, tuple[int, int]] = {}

    @property
    def has_run(self) -> bool:
        """True if the folder holds a run."""
        return (self._directory / RUN_FILE).exists() and (self._directory / JOURNAL_FILE).exists()

    def send(self) -> bool:
        """Sends what is new. Returns false if there is no run yet, or it cannot be read now.

        When it returns, the store has confirmed every row that the journal held when it was called.

        Raises:
          AttemptReplacedError: if another attempt has begun elsewhere.
        """
        if not self.has_run:
            return False
        self._mirror.mkdir(parents=True, exist_ok=True)
        try:
            copy = copy_run(self._directory, self._mirror).directory
        except (ConfigError, JournalError):
            return False  # it begins, or is closed, at this moment
        run = self._directory.name
        paths = [path.relative_to(copy).as_posix() for path in sorted(copy.rglob("*")) if path.is_file()]
        paths = [path for path in paths if _travels(path)]
        stamps = {path: ((status := (copy / path).stat()).st_size, status.st_mtime_ns) for path in paths}
        new = [
            path for path in paths if self._sent.get(path) != stamps[path] and not self._is_there(copy, path)
        ]
        for path in sorted(new, key=_turn):
            self._send_file(copy / path, run, path)
        gone = [path for path in self._store.files(run) if _travels(path) and path not in stamps]
        if gone:
            self._store.delete(run, self._attempt, sorted(gone, key=_turn, reverse=True))
        self._sent = stamps
        return True

    def _is_there(self, copy: Path, path: str) -> bool:
        """Returns whether the store has the file of a checkpoint, which never changes."""
        parts = PurePosixPath(path).parts
        if parts[0] != CHECKPOINTS_FOLDER or len(parts) < 3:
            return False
        manifest = "/".join((*parts[:2], MANIFEST_FILE))
        run, local = copy.name, copy / manifest
        if not local.exists() or self._store.size(run, manifest) != local.stat().st_size:
            return False
        if self._store.size(run, path) != (copy / path).stat().st_size:
            return False
        return b"".join(_parts_of(self._store, run, manifest)) == local.read_bytes()

    def _send_file(self, file: Path, run: str, path: str) -> None:
        draft = secrets.token_hex(8)
        with file.open("rb") as content:
            part = content.read(PART_BYTES)
            while True:
                following = content.read(PART_BYTES) if len(part) == PART_BYTES else b""
                self._store.write(run, self._attempt, path, draft, part, not following)
                if not following:
                    return
                part = following


def _turn(path: str) -> tuple[int, str]:
    """Returns the sort key by which files are sent: `run.json`, arrays of checkpoints, the journal,
    everything that it reaches, and the manifests that complete checkpoints.
    """
    parts = PurePosixPath(path).parts
    if path == RUN_FILE:
        return 0, path
    if parts[0] == CHECKPOINTS_FOLDER:
        return (4 if parts[-1] == MANIFEST_FILE else 1), path
    return (2 if path == JOURNAL_FILE else 3), path
