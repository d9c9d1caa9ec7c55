"""Run identity: name, id, folder and writer lock."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError, TrackingConfig, require
from matrixrl.run_layout import CHECKPOINTS_FOLDER
from matrixrl.tracking.locks import Lock, Owner
from matrixrl.tracking.sinks.wandb_names import Belonging

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MAX_NAME_CHARACTERS = 128
RUN_FILE = "run.json"
LOCK_FILE = "lock"
RESERVED = ".new-"
"""Prefix of the hidden folder that holds a run until it is published."""


def run_id(name: str) -> str:
    """Returns `md5(name)[:8]`: the same name finds the same W&B run again (tracking contract,
    section 2)."""
    return hashlib.md5(name.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()[:8]


def check_name(name: str, flag: str = "--run-name") -> str:
    """Returns `name` if it can be a folder's name and a W&B display name.

    Raises:
        ConfigError: it is empty, too long, holds a separator, `..` or a control character, or
            starts with a dot.
    """
    given = f"{flag} {name!r}"
    require(name.strip() == name and name != "", f"{given}: must not be empty or start or end with a space")
    require(
        len(name) <= MAX_NAME_CHARACTERS,
        f"{flag}: {len(name)} characters; at most {MAX_NAME_CHARACTERS} are allowed",
    )
    require(
        not set(name) & set("/\\"),
        f"{given}: must not hold a separator (/ or \\); it becomes a folder's name",
    )
    require(".." not in name and name[0] != ".", f"{given}: must not hold '..' or start with a dot")
    try:
        name.encode()
        os.fsencode(name)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{given}: cannot be a folder's name where the locale's encoding is {sys.getfilesystemencoding()}; set "
            "LC_ALL=C.UTF-8, or choose a name in ASCII"
        ) from None
    require(
        not any(unicodedata.category(character).startswith("C") for character in name),
        f"{given}: must not hold control characters",
    )
    require(len(name.encode()) <= 255, f"{flag}: {len(name.encode())} bytes; file systems allow 255")
    require(name != "latest", f"{given}: `latest` means the newest run; choose another name")
    return name


def automatic_name(prefix: str, suffix: str | None, taken: list[str], today: date) -> str:
    """Returns `<prefix>-<mon><dd>-<yy>-<N>[-suffix]` with N one above the highest N among `taken`
    of prefix and date."""
    stem = f"{prefix}-{MONTHS[today.month - 1]}{today.day:02d}-{today.year % 100:02d}".lower()
    pattern = re.compile(re.escape(stem) + r"-(\d+)(?:-.*)?", re.DOTALL)
    numbers = [int(match[1]) for name in taken if (match := pattern.fullmatch(name))]
    tail = f"-{suffix.removeprefix('-').lower()}" if suffix else ""
    return f"{stem}-{max(numbers, default=0) + 1}{tail}"


class Reservation:
    """A name that no other run can take. Its folder is out of sight until `publish`, and gone after
    `release`.

    Args:
        made: the runs folder and the folders around it that were made for this reservation, the
            innermost first.

    Attributes:
        name: the run's name.
        directory: the run folder, once it is published.
        lock: held by this process; the run keeps it.
        belonging: sweep, project and entity on W&B, set by `run.reserve_run`.
    """

    def __init__(self, runs_dir: Path, name: str, lock: Lock, made: Sequence[Path] = ()) -> None:
        self.name = name
        self.directory = runs_dir / name
        self.lock = lock
        self.belonging: Belonging | None = None
        self._hidden: Path | None = lock.path.parent
        self._made = made

    def publish(self, record: Mapping[str, Any]) -> Path:
        """Makes the run folder appear, with its `run.json` inside, in one step. Returns the folder.

        Args:
            record: what `run.json` says in addition to `name` and `run_id`.

        Raises:
            ConfigError: the runs folder cannot be written.
        """
        assert self._hidden is not None
        content = {"name": self.name, "run_id": run_id(self.name), **record}
        try:
            (self._hidden / RUN_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            self.lock.suspend()
            self._hidden.rename(self.directory)
        except OSError as error:
            raise _unwritable(self.directory.parent, error) from error
        self._hidden = None
        self.lock.moved(self.directory / LOCK_FILE)
        self.lock.renew()
        return self.directory

    def release(self) -> None:
        """Releases the name and restores the runs folder. Does nothing once the run is
        published."""
        if self._hidden is None:
            return
        # The folder goes before the lock, so that no other process finds it unlocked.
        shutil.rmtree(self._hidden, ignore_errors=True)
        self._hidden = None
        self.lock.release()
        _remove_empty(self._made)

    def withdraw(self) -> None:
        """Removes the published run folder: the start of the run is refused."""
        assert self._hidden is None
        shutil.rmtree(self.directory, ignore_errors=True)
        self.lock.release()
        _remove_empty(self._made)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders as long as they are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def reserve(runs_dir: Path, *, prefix: str, name: str | None, suffix: str | None, today: date) -> Reservation:
    """Reserves the name of a new run: the given one, or prefix, date and the next free number.

    A reservation is a hidden folder whose lock is held. Of two processes that chose the same number
    one has to choose again, and the reservation of a process that died is taken over.

    Raises:
        ConfigError: the name is impossible or taken, or the runs folder cannot be written.
    """
    wanted = None if name is None else check_name(name + (f"-{suffix.removeprefix('-')}" if suffix else ""))
    if name is None and suffix:
        check_name(suffix.removeprefix("-"), "--run-suffix")
    made: list[Path] = []
    require_local(runs_dir)
    try:
        made = [folder for folder in (runs_dir, *runs_dir.parents) if not folder.exists()]
        return _reserve(runs_dir, prefix, wanted, suffix, today, made)
    except OSError as error:
        _remove_empty(made)
        raise _unwritable(runs_dir, error) from error
    except ConfigError:
        _remove_empty(made)
        raise


def _reserve(
    runs_dir: Path, prefix: str, wanted: str | None, suffix: str | None, today: date, made: Sequence[Path]
) -> Reservation:
    reserved: list[str] = []
    while True:
        runs_dir.mkdir(parents=True, exist_ok=True)
        taken = [entry.name for entry in runs_dir.iterdir() if not entry.name.startswith(".")] + reserved
        chosen = wanted or check_name(automatic_name(prefix, suffix, taken, today))
        if chosen in taken:
            raise ConfigError(
                f"--run-name {chosen}: {runs_dir / chosen} exists; continue it with --resume-run {chosen}, "
                "or choose another name"
            )
        # Not the name itself, which may be as long as a file system allows.
        hidden = runs_dir / f"{RESERVED}{run_id(chosen)}"
        is_new = not hidden.exists()
        try:
            hidden.mkdir(exist_ok=True)
            lock = Lock.take(hidden / LOCK_FILE)
        except (FileNotFoundError, FileExistsError):
            if hidden.is_file():
                raise
            continue  # another process published the run, or released the name, in between
        except OSError:
            if is_new:  # the disk is full, say: nothing of it stays
                shutil.rmtree(hidden, ignore_errors=True)
            raise
        if isinstance(lock, Owner):
            reserved.append(chosen)
            continue
        if not _is_current(lock):
            lock.release()  # of a file that another process removed before this one had the lock
            continue
        reservation = Reservation(runs_dir, chosen, lock, made)
        if (runs_dir / chosen).exists():
            reservation.release()  # published by another process in between
            continue
        return reservation


def _is_current(lock: Lock) -> bool:
    """Returns whether the file at a lock's path is the file that is locked."""
    try:
        return lock.identity == (lock.path.stat().st_dev, lock.path.stat().st_ino)
    except FileNotFoundError:
        return False


def _unwritable(runs_dir: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--runs-dir {runs_dir}: {error.strerror or error}; name a folder that this user can write to"
    )


def require_local(runs_dir: Path) -> None:
    """Refuses a URL, which a path turns into the name of a local folder: `gs:/bucket` for
    `gs://bucket`.

    Raises:
        ConfigError: if the path looks like one and there is no such folder.
    """
    address = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]+):/(.*)", runs_dir.as_posix(), re.DOTALL)
    require(
        address is None or runs_dir.exists(),
        f"--runs-dir {runs_dir if address is None else f'{address[1]}://{address[2]}'}: a URL, where a local folder is "
        "needed; mount the bucket, or use a local folder and copy runs afterwards (`matrixrl runs copy RUN --to FOLDER`)",
    )


def runs_dir_flag(runs_dir: Path) -> tuple[str, ...]:
    """Returns the arguments with which a command finds the runs of a folder; none for the default
    folder.
    """
    return () if runs_dir == TrackingConfig().runs_dir else ("--runs-dir", str(runs_dir))


def read_run_file(directory: Path) -> dict[str, Any] | None:
    """Returns the content of `run.json`, or None if the folder is not a run."""
    try:
        # `Path` is several times as slow, which shows in a list of thousands of runs.
        with open(f"{directory}/{RUN_FILE}", encoding="utf-8") as file:
            content = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "name" in content else None


RUN_FIELDS = frozenset(
    {
        "name",
        "run_id",
        "identity",
        "attempt_tokens",
        "system",
        "created",
        "matrixrl",
        "config",
        "spec",
    }
)
"""Fields of `run.json`. If one is renamed, `read_run_file` must convert the old name."""


def check_run_fields(content: Mapping[str, Any], directory: Path) -> None:
    """Refuses a `run.json` that means more than this version knows, before the run is resumed.

    Raises:
        ConfigError: if it has an unknown field; the message names it.
    """
    unknown = [name for name in content if name not in RUN_FIELDS]
    require(
        not unknown,
        f"{directory / RUN_FILE}: unknown field {', '.join(map(repr, unknown))}; resume with the matrixrl that wrote it "
        f"({content.get('matrixrl', 'unknown version')}), or a newer one",
    )


def run_folders(runs_dir: Path, system: str | None = None) -> list[Path]:
    """Folders of all runs (of one system), the one that was started or resumed last at the end."""
    try:
        if not runs_dir.is_dir():
            return []
        entries = list(runs_dir.iterdir())
    except OSError as error:  # another user's folder
        raise ConfigError(
            f"--runs-dir {runs_dir}: {error.strerror or error}; name a folder that this user can read"
        ) from error
    found = []
    for entry in entries:
        content = None if entry.name.startswith(".") else read_run_file(entry)
        if content is not None and (system is None or content.get("system") == system):
            with contextlib.suppress(FileNotFoundError):  # removed while this reads
                stamp = entry / LOCK_FILE if (entry / LOCK_FILE).exists() else entry / RUN_FILE
                found.append((stamp.stat().st_mtime_ns, entry))
    return [entry for _, entry in sorted(found)]


def has_checkpoint(directory: Path) -> bool:
    """Returns whether a run holds a checkpoint, damaged or not."""
    return any((directory / CHECKPOINTS_FOLDER).glob("[0-9]*"))


def has_records(directory: Path) -> bool:
    """Returns whether a run holds a checkpoint or a row of its journal, damaged or not, or is being
    written."""
    if has_checkpoint(directory) or Lock.owner(directory / LOCK_FILE) is not None:
        return True
    from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
    from matrixrl.tracking.journal_reader import JournalReader

    if not (directory / JOURNAL_FILE).exists():
        return False
    try:
        with JournalReader(directory) as reader:
            return bool(reader.damage) or reader.last_step() > 0
    except (ConfigError, JournalError):
        return True


def find_run(
    runs_dir: Path,
    reference: str,
    system: str | None = None,
    flag: str = "--resume-run",
    has_something: Callable[[Path], bool] = has_records,
) -> Path:
    """Returns the folder of a run that is named by its name, its id, or `latest`.

    Args:
        has_something: whether a run counts as the latest; where none does, the newest one is
            `latest`.

    Raises:
        ConfigError: there is no such run; the message names what there is.
    """
    require_local(runs_dir)
    folders = run_folders(runs_dir, system)
    if reference == "latest" and folders:
        # A run that was refused or killed before its first row has nothing to show or to continue.
        return next((folder for folder in reversed(folders) if has_something(folder)), folders[-1])
    for matches in (lambda f: f.name == reference, lambda f: run_id(f.name) == reference):
        for folder in folders:
            if matches(folder):
                return folder
    for folder in folders:
        if reference in names_at_sinks(folder):
            return folder
    kind = f"{system} run" if system else "run"
    there = ", ".join(folder.name for folder in folders[-3:]) or "none"
    raise ConfigError(
        f"{flag} {reference}: no {kind} of this name or id in {runs_dir} (newest there: {there}); "
        "see `matrixrl runs list` or name the folder with --runs-dir"
    )


def names_at_sinks(directory: Path) -> set[str]:
    """Returns the names and ids of a run at its sinks, where they are not its own."""
    from matrixrl.tracking.delivery_state import load_states

    names = set[str]()
    for state in load_states(directory).values():
        names |= {state.name, str(state.place.get("path", "")).rpartition("/")[2]}
    return names - {""}
