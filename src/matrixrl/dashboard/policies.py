"""Agents of runs, each in a child process: an agent needs JAX, and the server has none.

The child is started when an agent is first asked for, and answers one line of JSON per question
(`matrixrl/cli/hackmatrix_policy.py`). It ends with the server: its standard input is a pipe from
here, which the system closes however the server ends.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from matrixrl.config import ConfigError, require
from matrixrl.dashboard.hackmatrix import MAX_STEPS, frames_of, played, read_scenario
from matrixrl.dashboard.query import Query
from matrixrl.envs.hackmatrix.scenario import dump_text

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

START_SECONDS = 180.0
"""Maximum time in seconds in which an agent must be loaded."""

ANSWER_SECONDS = 180.0
"""Maximum time in seconds for an answer; the first one compiles the policy."""

CHILD = (sys.executable, "-m", "matrixrl.cli.hackmatrix_policy")


class PolicyProcess:
    """A child process with an agent.

    Args:
      folder: of the run.
      command: program to start; the folder is its last argument.

    Raises:
      ConfigError: if it cannot load the agent.
    """

    def __init__(self, folder: Path, command: Sequence[str] = CHILD) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [*command, str(folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self._draining = threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True)
        self._draining.start()
        try:
            self.facts = self._answer(START_SECONDS)
        except ConfigError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, question: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Returns the answer to a question.

        Raises:
          ConfigError: if the agent refuses, does not answer in time, or has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise ConfigError(self._ending()) from None
        return self._answer(seconds)

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise ConfigError(f"the agent of {self.folder.name} did not answer in {seconds:.0f} s") from None
        if line is None:  # it ends, and may not have ended yet
            raise ConfigError(self._ending())
        found = json.loads(line)
        if "error" in found:
            raise ConfigError(str(found["error"]))
        return found

    def _ending(self) -> str:
        """Ends the process if it has not ended, and returns the message about it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._draining.join(timeout=2)  # its last words
        self.close()
        said = f": {self._errors[-1][:300]}" if self._errors else ""
        return f"the process of the agent of {self.folder.name} has ended{said}"

    def _read(self, stream: IO[str]) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _drain(self, stream: IO[str]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                if line.strip():
                    self._errors[:] = [*self._errors[-19:], line.strip()]


class Policies:
    """The agent that was asked last: one process at a time, as each takes memory."""

    def __init__(self, command: Sequence[str] = CHILD) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: PolicyProcess | None = None
        self._is_closed = False

    def ask(self, folder: Path, question: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the facts of a run's agent and its answer to a question.

        Raises:
          ConfigError: if the run has no agent that can play, or it does not answer in time.
        """
        with self._lock:
            process = self._process
            if process is not None and not (process.folder == folder and process.is_alive):
                process.close()
                process = self._process = None
            if process is None:
                require(not self._is_closed, "the server is ending")
                process = self._process = PolicyProcess(folder, self._command)
            return process.facts, process.ask(question)

    @property
    def pid(self) -> int | None:
        """Number of the process; None if there is none."""
        process = self._process
        return process.pid if process is not None and process.is_alive else None

    def close(self) -> None:
        """Ends the process, also in the middle of an answer."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.close()


def watch(dashboard: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns a game of a run's agent: `/api/runs/RUN/watch?seed=0&game=0&policy=sampled`.

    Raises:
      ConfigError: if the run has no agent that can play.
    """
    question = {
        "op": "game",
        "seed": query.integer("seed", 0, 0, 2**32 - 1),
        "game": query.integer("game", 0, 0, 2**31 - 1),
        "greedy": query.choice("policy", ("sampled", "greedy")) == "greedy",
        "max_steps": query.integer("max_steps", 1_000, 1, MAX_STEPS),
    }
    facts, answer = dashboard.policies.ask(folder, question)
    return {**frames_of(read_scenario(answer["replay"]), answer["thoughts"]), "agent": facts["agent"]}


def think(dashboard: Dashboard, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an agent's view of a position: `POST /api/hackmatrix/think` with `run`, and the game
    as for `play`.

    Raises:
      ConfigError: if the run has no agent that can play, or an entry is impossible.
    """
    folder = dashboard.store.folder(str(content.get("run", "")))
    state = played(dashboard.games, content).state
    facts, answer = dashboard.policies.ask(folder, {"op": "think", "scenario": dump_text(state)})
    return {"thoughts": answer["thoughts"], "agent": facts["agent"]}
