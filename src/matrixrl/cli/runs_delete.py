"""`matrixrl runs delete`: removes run folders; never one that is in use."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from matrixrl.cli.progress import complain, say
from matrixrl.cli.runs_common import Common, matches, perform
from matrixrl.config import ConfigError, require
from matrixrl.tracking.delivery_state import delivering, load_states
from matrixrl.tracking.identity import LOCK_FILE, Lock, find_run, run_folders
from matrixrl.tracking.locks import Owner
from matrixrl.tracking.numbers import plural, significant
from matrixrl.tracking.sinks.registry import DEFAULT_SINK
from matrixrl.tracking.summary import RunSummary, summarize
from matrixrl.tracking.uploader_client import sync_command

DELETED = ".deleted-"
"""Prefix of the hidden folder that a run becomes before its files are deleted."""


@dataclass(frozen=True, kw_only=True)
class Delete(Common):
    """Delete runs with everything in their folders. Asks first; a running one is refused."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names or ids of runs, patterns such as `'test-*'`, or `latest` (only with --yes)."""

    yes: bool = False
    """Delete without asking."""


class Doomed(NamedTuple):
    """A run to delete. `size` is in bytes."""

    directory: Path
    summary: RunSummary
    size: int


def run_command(command: Delete) -> int:
    """Runs the command; returns the exit status: 1 if a run could not be deleted."""
    return perform(command, delete)


def delete(command: Delete) -> tuple[int, dict[str, Any]]:
    """Deletes runs.

    Raises:
        ConfigError: if one of them cannot be deleted; then none is.
    """
    require(bool(command.runs), "runs delete: name runs; see `matrixrl runs list`")
    require(
        command.yes or "latest" not in command.runs,
        "runs delete latest: the newest run may be another one than you think; give its name, or --yes",
    )
    runs = [Doomed(folder, summarize(folder), _size(folder)) for folder in _folders(command)]
    for run in runs:
        _require_free(run.directory)
    _remove_leftovers(command.runs_dir)
    for run in runs:
        if text := _not_delivered(run):
            complain(f"warning: {text}")
    if not command.yes and not _agreed(runs):
        say("nothing was deleted")
        return 1, {"deleted": [], "failed": [], "freed_bytes": 0}
    deleted: list[str] = []
    failed: list[dict[str, str]] = []
    freed = 0
    for run in runs:
        reason = _delete(run.directory)
        if reason:
            failed.append({"name": run.directory.name, "reason": reason})
            complain(f"{run.directory.name}: {reason}")
        else:
            deleted.append(run.directory.name)
            freed += run.size
    if not command.json:
        rest = f"; {len(failed)} of {len(runs)} failed" if failed else ""
        say(f"deleted {plural(len(deleted), 'run')}, {_shown_size(freed)}{rest}")
    return int(bool(failed)), {"deleted": deleted, "failed": failed, "freed_bytes": freed}


def _folders(command: Delete) -> list[Path]:
    """Returns the folders of the runs, each once.

    Raises:
        ConfigError: if one names no run, or a link.
    """
    found: dict[Path, None] = {}
    for reference in command.runs:
        if set(reference) & set("*?["):
            matching = [
                folder for folder in run_folders(command.runs_dir) if matches(folder.name, [reference])
            ]
            require(
                bool(matching),
                f"runs delete {reference}: no run of this name in {command.runs_dir}; see `matrixrl runs list`",
            )
        else:
            matching = [find_run(command.runs_dir, reference, flag="runs delete")]
        for folder in matching:
            require(
                not folder.is_symlink(),
                f"runs delete {folder.name}: {folder} is a link to {os.path.realpath(folder)}, which stays; remove the "
                "link yourself, or delete the run with the --runs-dir that holds it",
            )
            found[folder] = None
    return list(found)


def _require_free(directory: Path) -> None:
    """Refuses a run that a process is writing or delivering.

    Raises:
        ConfigError: names the process.
    """
    owner = Lock.owner(directory / LOCK_FILE)
    if owner is not None:
        raise _running(directory, owner)
    for sink in load_states(directory):
        owner = delivering(directory, sink)
        require(
            owner is None,
            f"runs delete {directory.name}: {owner} is delivering it to {sink}; wait until it has ended",
        )


def _running(directory: Path, owner: Owner) -> ConfigError:
    return ConfigError(
        f"runs delete {directory.name}: {owner} is running it; stop it first (Ctrl-C there, or `kill {owner.pid}`)"
    )


def _not_delivered(run: Doomed) -> str:
    """Returns how many rows of a run its trackers do not have, in words; "" if they have all."""
    pending = run.summary.pending_rows
    if not pending:
        return ""
    states = load_states(run.directory)
    names = (
        "W&B"
        if set(states) == {DEFAULT_SINK}
        else ", ".join("W&B" if name == DEFAULT_SINK else name for name in states)
    )
    return (
        f"{run.directory.name}: {names} {'does' if len(states) == 1 else 'do'} not have {plural(pending, 'row')} yet; "
        f"`{sync_command(run.directory)}` delivers them"
    )


def _agreed(runs: Sequence[Doomed]) -> bool:
    """Asks on the terminal.

    Raises:
        ConfigError: if there is no terminal to ask on.
    """
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(
            "runs delete: asks on a terminal, and this is none; give --yes to delete without being asked"
        )
    for run in runs:
        summary = run.summary
        sys.stderr.write(
            f"  {summary.name}  {summary.state}, {plural(summary.last_step, 'step')}, {_shown_size(run.size)}\n"
        )
    sys.stderr.write(f"delete {plural(len(runs), 'run')} with all files? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(directory: Path) -> str:
    """Deletes a run folder: it disappears from the runs in one step, then its files are deleted.

    Returns:
        Why it was not deleted, or not completely; "" for success.
    """
    hidden = directory.with_name(f"{DELETED}{secrets.token_hex(8)}")
    try:
        # From here on no process can resume it.
        lock = Lock.take(directory / LOCK_FILE)
    except OSError as error:
        return f"not deleted ({error.strerror or error})"
    if isinstance(lock, Owner):
        return f"not deleted: {lock} has started to write it"
    try:
        lock.suspend()
        directory.rename(hidden)
    except OSError as error:
        with contextlib.suppress(OSError):
            lock.release()
        return f"not deleted ({error.strerror or error})"
    lock.moved(hidden / LOCK_FILE)
    problems = _remove(hidden)
    with contextlib.suppress(OSError):
        lock.release()
    if not problems:
        return ""
    return (
        f"no longer a run, but {plural(len(problems), 'file')} could not be deleted ({problems[0]}); the rest is in "
        f"{hidden}"
    )


def _remove(folder: Path) -> list[str]:
    """Deletes a folder, links in it but not what they point to. Returns the problems."""
    problems: list[str] = []

    def note(path: str, error: BaseException) -> None:
        gone = isinstance(error, FileNotFoundError)
        if not gone and getattr(error, "errno", None) != errno.ENOTEMPTY:  # of a file that was noted
            problems.append(f"{Path(path).name}: {getattr(error, 'strerror', None) or error}")

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=lambda _, path, error: note(path, error))
    else:
        shutil.rmtree(folder, onerror=lambda _, path, information: note(path, information[1]))
    if folder.exists() and not problems:
        problems.append(f"{folder.name}: it is not empty")
    return problems


def _remove_leftovers(runs_dir: Path) -> None:
    """Deletes what a killed `runs delete` left."""
    with contextlib.suppress(OSError):
        for leftover in runs_dir.glob(f"{DELETED}*"):
            if leftover.is_dir() and not leftover.is_symlink():
                _remove(leftover)


def _files(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        yield from (Path(folder) / name for name in names)


def _size(directory: Path) -> int:
    """Returns the number of bytes of the files of a folder; links count as links."""
    total = 0
    for path in _files(directory):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _shown_size(size: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{significant(size / scale)} {unit}"
    return f"{size:,} bytes"
