"""The training process's side of delivery: starts the delivery process, talks to it, and knows what is pending."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matrixrl
from matrixrl.config import TrackingConfig
from matrixrl.tracking.files import write_whole
from matrixrl.tracking.journal_reader import JournalReader

STATE_FILE = "delivery.json"
DELIVERY_LOCK_FILE = "delivery.lock"
FIRST_RETRY_SECONDS = 1.0


@dataclass
class DeliveryState:
    """What is known about W&B's copy of a run, kept in `delivery.json` of the run folder.

    Attributes:
        mode: `online`, `offline`, `wait` or `none`, and why.
        place: url and path (entity/project/id) on the server.
        confirmed_step: the server said that it has every row up to here.
        handed_step: the last row given to wandb.
        thinned: [first step, last step, rows left out] where a backlog was thinned.
        artifacts: files on the server, by path in the run folder: sha256, the version's full name, step, aliases.
        history_rows: rows in the newest Parquet artifact of the episode table.
        journal: of the newest copy of the journal on the server: the version's full name, and the sha256 of its newest checkpoint.
        project: delivered to this project instead of the journal's (`runs sync --project`); "" otherwise.
        entity: the same of the entity.
        name: of the W&B run where the run's own name belongs to another one there; "" otherwise.
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
    project: str = ""
    entity: str = ""
    name: str = ""

    @classmethod
    def load(cls, directory: Path) -> DeliveryState | None:
        """The state of a run, or None where W&B was never asked for."""
        try:
            return cls(**json.loads((directory / STATE_FILE).read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return cls(reason=f"{STATE_FILE} was damaged; the server is asked what it has")

    def save(self, directory: Path) -> None:
        """Write the file whole, then rename it."""
        write_whole(directory / STATE_FILE, json.dumps(asdict(self)) + "\n")

    def forget_server(self) -> None:
        """Forgets everything about a W&B run that is not this run's (any more): all is delivered to another one."""
        self.place, self.artifacts, self.journal = {}, {}, {}
        self.confirmed_step = self.handed_step = self.history_rows = 0
        self.thinned = []

    def forget_thinned_after(self, step: int) -> None:
        """Rows after `step` are delivered again, with those that were left out."""
        self.thinned = [[a, min(b, step), n] for a, b, n in self.thinned if a <= step]


@dataclass(frozen=True)
class Outcome:
    """How delivery ended.

    Attributes:
        pending_rows: rows that the server has not confirmed.
        reason: what happened, for the run's last line.
    """

    pending_rows: int
    reason: str

    @classmethod
    def none(cls) -> Outcome:
        """W&B was not asked for."""
        return cls(0, "")


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """What the delivery process is told at its start.

    Attributes:
        training_pid: the process that W&B watches; None in `runs sync`.
        patient: try again while the server is away, as long as the run lasts.
    """

    training_pid: int | None
    backlog_rows: int
    keep_artifacts: int
    artifacts: bool
    patient: bool


class DeliveryProcess:
    """Starts the delivery process of a run, and starts it again should it die.

    Args:
        tell: is given each message and its level, from another thread.
        on_stop: is given the origin of a request to stop the training, from another thread.
    """

    RESTARTS = 5

    def __init__(
        self,
        directory: Path,
        settings: DeliverySettings,
        tell: Callable[[str, Any], None],
        environment: Mapping[str, str] | None = None,
        on_stop: Callable[[str], None] = lambda origin: None,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._tell = tell
        self._environment = environment or {}
        self._on_stop = on_stop
        self._finish: tuple[str, float] | None = None
        self._restarts = 0
        self._process = self._start()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def finish(self, status: str, deadline_seconds: float) -> Outcome:
        """Deliver what is left, at most for `deadline_seconds`; then the process is gone, whatever the network does."""
        self._finish = status, time.monotonic() + deadline_seconds
        self._send_finish()
        self._listener.join(deadline_seconds + 1.0)
        if self._listener.is_alive():
            kill_tree(self._process.pid)
            self._listener.join(2.0)
        self._close_pipes()
        return self.outcome()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _send_finish(self) -> None:
        if self._finish is not None:
            status, until = self._finish
            self._send({"finish": status, "seconds": until - time.monotonic()})

    def outcome(self) -> Outcome:
        """What the journal and `delivery.json` say now."""
        state = DeliveryState.load(self._directory) or DeliveryState()
        with JournalReader(self._directory) as reader:
            pending = reader.count_deliverable(state.confirmed_step)
        reason = state.reason or "delivery ended before W&B had answered"
        if state.mode == "online":
            url = state.place.get("url")
            renamed = f" (there the run is {state.name})" if state.name else ""
            reason = (
                f"W&B has every row: {url}{renamed}" if not pending else "the server has not confirmed them"
            )
        return Outcome(pending, reason)

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            # -P: a folder `wandb` in the working directory is not the package.
            [sys.executable, "-P", "-m", "matrixrl.tracking.delivery", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(self._environment),
            text=True,
        )
        self._send(asdict(self._settings))
        return self._process

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It died; the listener sees that.
            return

    def _listen(self) -> None:
        while True:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                message = json.loads(line)
                if "stop" in message:
                    self._on_stop(message["stop"])
                else:
                    self._tell(message["tell"], message["level"])
            code = self._process.wait()
            if code == 0 or (self._finish is not None and time.monotonic() >= self._finish[1]):
                return
            self._restarts += 1
            if self._restarts > self.RESTARTS:
                self._tell(
                    f"W&B delivery died {self._restarts} times; rows are kept in the journal, "
                    f"`{sync_command(self._directory)}` delivers them later",
                    "warning",
                )
                return
            self._tell(f"W&B delivery died (status {code}) and is started again", "warning")
            self._close_pipes()
            time.sleep(FIRST_RETRY_SECONDS * self._restarts)
            self._process = self._start()
            self._send_finish()


def sync_command(directory: Path) -> str:
    """Returns the command that delivers a run later."""
    where = () if directory.parent == TrackingConfig().runs_dir else ("--runs-dir", str(directory.parent))
    return shlex.join(["matrixrl", "runs", "sync", directory.name, *where])


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a process of this package that uses wandb.

    Args:
        more: variables in addition to those of this process.
    """
    root = str(Path(matrixrl.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **more, "PYTHONPATH": os.pathsep.join(paths)}
    # What wandb prints goes to a file there, whatever the encoding of the user's terminal.
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    # Of a wandb that runs in this process (a notebook, say): two writers would share one service.
    environment.pop("WANDB_SERVICE", None)
    return environment


def kill_tree(pid: int) -> None:
    """Kill a process and what it started."""
    import psutil

    try:
        parent = psutil.Process(pid)
        processes = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
