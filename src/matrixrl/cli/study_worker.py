"""Worker process of a study: trains one run after the other, as the training command does.

It reads requests from standard input and writes messages to standard output, a JSON object per
line. What training prints goes to the log of the worker. When standard input is closed the process
that asks is gone, and this one ends at once: the journal holds every row, and the run is resumed
from its last checkpoint.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from matrixrl.cli.embedding import EMBEDDING, Embedding, ProgramCache
from matrixrl.cli.jax_settings import restored_environment, standard_jax_settings
from matrixrl.cli.main import COMMANDS, libraries_restored
from matrixrl.cli.processes import agreed_settings
from matrixrl.config import ConfigError
from matrixrl.config.durations import parse_duration
from matrixrl.config.fields import settings_of
from matrixrl.studies.file import Objective
from matrixrl.studies.objective import ObjectiveReader, metric_names
from matrixrl.tracking.identity import LOCK_FILE, Lock, read_run_file
from matrixrl.tracking.journal import TrackingError
from matrixrl.tracking.journal_reader import JournalReader

LOCK_SECONDS = 30.0
"""Time to wait for a process that still writes the run: one that was asked to end, or killed."""

WANDB_GROUP = os.environ.get("WANDB_RUN_GROUP", "")
"""Group of the runs on W&B that the user chose; without one it is the name of the study."""

WARN_SECONDS = 60.0
"""A run without a row of the objective's metric is worth a warning after this time."""


class Link:
    """Connection to the process that asks for runs.

    Args:
      answers: messages go there.
    """

    def __init__(self, answers: BinaryIO) -> None:
        self.requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self.embedding: Embedding | None = None
        self._answers = answers
        self._lock = threading.Lock()
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Writes a message."""
        with self._lock:
            self._answers.write(json.dumps(message).encode() + b"\n")
            self._answers.flush()

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if message["op"] == "run":
                self.requests.put(message["request"])
            elif self.embedding is not None:
                self.embedding.ask_to_stop(message["reason"])
        os._exit(0)


class Watcher:
    """Reports the objectives of a run while it grows, from its journal.

    Args:
      request: of the trial.
      link: takes the reports.
    """

    def __init__(self, request: Mapping[str, Any], link: Link) -> None:
        self._request = request
        self._link = link
        self._done = threading.Event()
        self._readers = readers_of(request)
        self._thread = threading.Thread(target=self._watch, name="objective", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the reports."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        last, host = -1, socket.gethostname()
        began, warned = time.monotonic(), not self._readers
        while not self._done.wait(float(self._request["report_seconds"])):
            points = [reader.point() for reader in self._readers]
            step = max((point[0] for point in points if point is not None), default=-1)
            if step > last:
                last, warned = step, True
                values = [None if point is None else point[1] for point in points]
                self._link.send({"op": "progress", "step": step, "values": values, "host": host})
            elif not warned and time.monotonic() - began > WARN_SECONDS:
                warned = True
                self._warn()

    def _warn(self) -> None:
        names = metric_names(self._readers[0].directory)
        if names:
            metric = self._readers[0].objective.metric
            text = f"no row has the objective's metric {metric} yet; its metrics so far are {', '.join(names[:20])}"
            self._link.send({"op": "warning", "text": text})


def readers_of(request: Mapping[str, Any]) -> list[ObjectiveReader]:
    """Returns a reader of the objective for each agent of a run."""
    if request["objective"] is None:
        return []
    folder = Path(request["runs_dir"]) / request["run_name"]
    objective = Objective(**request["objective"])
    return [ObjectiveReader(folder, objective, agent) for agent in request["agents"]]


def train(request: Mapping[str, Any], link: Link, programs: ProgramCache) -> dict[str, Any]:
    """Trains a run, or resumes it, and returns how it ended as JSON values."""
    module = importlib.import_module(COMMANDS[tuple(request["command"])].module)
    kind = getattr(module, COMMANDS[tuple(request["command"])].settings)
    runs_dir, name = Path(request["runs_dir"]), str(request["run_name"])
    arguments = [*request["arguments"], f"--runs-dir={runs_dir}"]
    if not any(argument.startswith("--console") for argument in arguments):
        arguments.append("--console=quiet")
    if "place.jobs" in {name for name, _, _ in settings_of(kind)}:
        arguments.append(f"--jobs={request['cores']}")
    exists = read_run_file(runs_dir / name) is not None
    arguments.append(f"--resume-run={name}" if exists else f"--run-name={name}")
    if exists:
        wait_for_writer(runs_dir / name)
        arguments = with_time_left(arguments, runs_dir / name)
    os.environ["WANDB_RUN_GROUP"] = WANDB_GROUP or str(request["study_name"])
    embedding = Embedding(lambda run, trainer: None, programs)
    token = EMBEDDING.set(embedding)
    watcher = Watcher(request, link)
    link.embedding = embedding
    try:
        with restored_environment(), libraries_restored(), standard_jax_settings():
            module.train(*agreed_settings(kind, arguments, module.read_config))
    except (ConfigError, TrackingError) as error:
        return {"status": "failed", "error": str(error), **_objectives(request)}
    finally:
        link.embedding = None
        watcher.close()
        EMBEDDING.reset(token)
    outcome = embedding.outcome
    if outcome is None:
        return {
            "status": "failed",
            "error": embedding.failure or "the training failed",
            **_objectives(request),
        }
    result = dict(module.result(outcome)) if hasattr(module, "result") else {}
    status = "stopped" if outcome.ending == "interrupted" else "finished"
    result |= {"seconds": round(outcome.seconds, 3), "global_step": outcome.run.clock.step}
    result.pop("agents", None)
    return {"status": status, "result": result, **_objectives(request)}


def with_time_left(arguments: Sequence[str], folder: Path) -> list[str]:
    """Returns the command line of a resumed run with what earlier attempts left of its `--time`, so
    that a trial that was interrupted trains as long as the others.
    """
    flag = "--time="
    if not any(argument.startswith(flag) for argument in arguments):
        return list(arguments)
    with JournalReader(folder) as reader:
        spent = training_seconds(reader)
    return [
        f"{flag}{max(1, round(parse_duration(argument.removeprefix(flag)) - spent))}s"
        if argument.startswith(flag)
        else argument
        for argument in arguments
    ]


def training_seconds(reader: JournalReader) -> float:
    """Returns the seconds of all attempts at a run; one that was killed ended with its last row."""
    last: dict[int, float] = {}
    for row in reader.stream():
        last[row.attempt] = row.time
    return sum(
        max(0.0, (attempt.ended or last.get(attempt.attempt, attempt.started)) - attempt.started)
        for attempt in reader.attempts()
    )


def _objectives(request: Mapping[str, Any]) -> dict[str, Any]:
    readers = readers_of(request)
    values = [reader.value() for reader in readers]
    if not readers:
        return {}
    missing = {"metrics": metric_names(readers[0].directory)} if all(v is None for v in values) else {}
    return {"objectives": values, **missing}


def wait_for_writer(folder: Path) -> None:
    """Waits for a process that still writes a run: one of an earlier start that was killed."""
    deadline = time.monotonic() + LOCK_SECONDS
    while Lock.owner(folder / LOCK_FILE) is not None and time.monotonic() < deadline:
        time.sleep(0.1)


def main() -> NoReturn:
    """Serves requests until standard input is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what training prints goes to the log
    link, programs = Link(answers), ProgramCache()
    while True:
        request = link.requests.get()
        end = train(request, link, programs)
        link.send({"op": "end", "end": end})
        gc.collect()


if __name__ == "__main__":
    main()
