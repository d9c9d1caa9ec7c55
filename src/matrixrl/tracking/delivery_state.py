"""What is known about the copies of a run at its sinks: a folder per sink, with state file and
lock.

`sinks/NAME/` in the run folder holds `state.json`, `lock`, `log`, and the sink's own files.

Versions before 0.2 had one sink, whose state was `delivery.json` in the run folder. It is read
where the sink has no state of its own yet, and replaced at the first save.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matrixrl.tracking.locks import Lock, Owner
from matrixrl.tracking.sinks.registry import DEFAULT_SINK
from matrixrl.whole_files import write_whole

SINKS_FOLDER = "sinks"
STATE_FILE = "state.json"
SINK_LOCK_FILE = "lock"
LOG_FILE = "log"

OLD_STATE_FILE = "delivery.json"
OLD_LOCK_FILE = "delivery.lock"
OLD_LOG_FILE = "delivery.log"
OLD_FOLDERS = ("packed", "episode_history")
"""Folders of the old sink in the run folder; what they hold is made from the journal again."""

OLD_FIELDS = ("project", "entity")
"""Fields of the old state file that are the sink's own now."""


@dataclass
class DeliveryState:
    """What is known about a sink's copy of a run, kept in the sink's folder.

    Attributes:
        mode: `starting`, `online` (rows arrive), `offline` (rows go to a local spool), `wait` (the
            destination is away), `ahead` (it holds rows that the journal does not have yet) or
            `none` (rows stay in the journal); `reason` says why.
        place: where the rows are; `url` is for the user.
        confirmed_step: the destination has every row up to here.
        handed_step: last row given to the sink.
        thinned: [first step, last step, rows left out] where a backlog was thinned.
        artifacts: uploaded files by path in the run folder: sha256, full name, step, kind, aliases.
        history_rows: number of rows in the newest Parquet upload of the episode table.
        journal: newest uploaded copy of the journal: its full name, and the sha256 of its newest
            checkpoint.
        name: of the run at the destination, where its own name belongs to another run there.
        source: from where the sink is imported; "" for a sink that is found by its name.
        own: values that the sink keeps for itself.
    """

    mode: str = "none"
    reason: str = ""
    place: dict[str, Any] = field(default_factory=dict)
    confirmed_step: int = 0
    handed_step: int = 0
    thinned: list[list[int]] = field(default_factory=list)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    history_rows: int = 0
    journal: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    source: str = ""
    own: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path, sink: str) -> DeliveryState | None:
        """Returns the state of a sink of a run; None if the run was never meant for it."""
        path = sink_folder(directory, sink) / STATE_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return _load_old(directory) if sink == DEFAULT_SINK else None
        except (ValueError, TypeError):
            return cls(reason=_damaged(path))

    def save(self, directory: Path, sink: str) -> None:
        """Writes the state file whole, then renames it; replaces that of a version before 0.2.

        Raises:
            OSError: if it cannot be written.
        """
        folder = sink_folder(directory, sink)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / STATE_FILE, json.dumps(asdict(self)) + "\n")
        if sink == DEFAULT_SINK:
            _remove_old(directory)

    def forget_destination(self) -> None:
        """Forgets everything about a destination that is not this run's (any more): all rows go to
        another one.
        """
        self.place, self.artifacts, self.journal = {}, {}, {}
        self.confirmed_step = self.handed_step = self.history_rows = 0
        self.thinned = []

    def forget_thinned_after(self, step: int) -> None:
        """Forgets what was left out after `step`, since rows after it are delivered again."""
        self.thinned = [[a, min(b, step), n] for a, b, n in self.thinned if a <= step]


def sink_folder(directory: Path, sink: str) -> Path:
    """Returns the folder of a sink in a run folder."""
    return directory / SINKS_FOLDER / sink


def load_states(directory: Path) -> dict[str, DeliveryState]:
    """Returns the states of all sinks that a run was meant for, by name."""
    names = {path.parent.name for path in directory.glob(f"{SINKS_FOLDER}/*/{STATE_FILE}")}
    states = {name: DeliveryState.load(directory, name) for name in sorted({*names, DEFAULT_SINK})}
    return {name: state for name, state in states.items() if state is not None}


def state_files(directory: Path) -> list[Path]:
    """Returns the state files of a run, one of a version before 0.2 included."""
    # Most runs have no sink: a list of thousands of them asks each.
    has_sinks = os.path.isdir(f"{directory}/{SINKS_FOLDER}")
    found = sorted(directory.glob(f"{SINKS_FOLDER}/*/{STATE_FILE}")) if has_sinks else []
    return [
        *found,
        *([directory / OLD_STATE_FILE] if os.path.exists(f"{directory}/{OLD_STATE_FILE}") else []),
    ]


def unconfirmed_from(states: dict[str, DeliveryState]) -> int | None:
    """Returns the step until which every sink has every row; None if the run has no sink."""
    return min((state.confirmed_step for state in states.values()), default=None)


def lock_file(directory: Path, sink: str) -> Path:
    """Returns the path of the lock that only one delivery process of a sink holds."""
    return sink_folder(directory, sink) / SINK_LOCK_FILE


def delivering(directory: Path, sink: str) -> Owner | None:
    """Returns the process that is delivering a run to a sink, or None."""
    old = Lock.owner(directory / OLD_LOCK_FILE) if sink == DEFAULT_SINK else None
    return old or Lock.owner(lock_file(directory, sink))


def take_delivery_lock(directory: Path, sink: str) -> Lock | Owner:
    """Takes the lock of a sink, or returns the process that holds it, which may be one of a version
    before 0.2.
    """
    if sink == DEFAULT_SINK and (owner := Lock.owner(directory / OLD_LOCK_FILE)) is not None:
        return owner
    path = lock_file(directory, sink)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Lock.take(path)


def _load_old(directory: Path) -> DeliveryState | None:
    path = directory / OLD_STATE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = {name: content.pop(name) for name in OLD_FIELDS if name in content}
        return DeliveryState(**content, own={name: value for name, value in own.items() if value})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError):
        return DeliveryState(reason=_damaged(path))


def _damaged(path: Path) -> str:
    return f"{path.name} was damaged; the destination is asked what it has"


def _remove_old(directory: Path) -> None:
    """Removes the files of a version before 0.2, whose content is in the sink's folder by now."""
    old = directory / OLD_STATE_FILE
    if not old.exists():
        return
    log = directory / OLD_LOG_FILE
    if log.exists() and not (target := sink_folder(directory, DEFAULT_SINK) / f"{LOG_FILE}.old").exists():
        log.rename(target)
    for name in OLD_FOLDERS:
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in (OLD_LOCK_FILE, f"{OLD_LOCK_FILE}.owner"):
        (directory / name).unlink(missing_ok=True)
    old.unlink()  # last: what is before it is done again after a crash
