"""Runs the trials of a study on an engine: starts them, resumes those whose process died, records
what comes out.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matrixrl.studies.engine import Engine
from matrixrl.studies.objective import over_seeds
from matrixrl.studies.record import SAVE_SECONDS, Study, Trial
from matrixrl.studies.trials import key_of
from matrixrl.tracking.numbers import plural, significant

NOTICE_SECONDS = 60.0
"""Interval between lines about a cluster that has no room."""

STOPPED = "stopped by the user"
PRUNED = "pruned"


class MetricMissingError(RuntimeError):
    """A run ended, and no row of it has the objective's metric. The message names what there is."""


class SearchSpaceError(RuntimeError):
    """Hardly any point of a search space is possible. The message has the reason."""


class TrialSource(Protocol):
    """Decides which trial is next."""

    def next(self) -> Trial | None:
        """Returns a trial of the study to start; None if there is none at the moment."""
        ...

    @property
    def total(self) -> int:
        """Number of trials, those to come included."""
        ...

    def progress(self, trial: Trial, step: int, values: Sequence[float | None]) -> str | None:
        """Takes a trial's objectives so far; returns why it should stop, or None."""
        ...

    def ended(self, trial: Trial) -> None:
        """Takes a trial that has ended."""
        ...


class ListSource:
    """The trials of a sweep, in order."""

    def __init__(self, study: Study) -> None:
        self._waiting = [trial for trial in study.trials if trial.status == "waiting"]
        self._study = study

    def next(self) -> Trial | None:
        """Returns the next trial."""
        return self._waiting.pop(0) if self._waiting else None

    @property
    def total(self) -> int:
        """Number of trials."""
        return len(self._study.trials)

    def progress(self, trial: Trial, step: int, values: Sequence[float | None]) -> str | None:
        """Lets every trial continue."""
        return None

    def ended(self, trial: Trial) -> None:
        """Does nothing: the trials of a sweep do not depend on one another."""


@dataclass(frozen=True)
class LaunchOptions:
    """How trials are run.

    Attributes:
      command: words of the training command.
      shared: command line of the settings that all trials share.
      arguments: returns settings as a command line.
      study_id: by which a node recognises the study's folder.
      retries: number of times that a trial is resumed after its process died.
      scratch: folder on each node for run folders; None if nodes may see the study's folder.
      cores: number of cores for a trial whose command would take all of them.
      report_seconds: interval between reports of a trial.
    """

    command: tuple[str, str]
    shared: Sequence[str]
    arguments: Callable[[Mapping[str, Any]], list[str]]
    study_id: str
    retries: int = 3
    scratch: str | None = None
    cores: int = 1
    report_seconds: float = 2.0
    push_seconds: float = 5.0


def request_of(study: Study, trial: Trial, options: LaunchOptions) -> dict[str, Any]:
    """Returns what an engine needs to know of a trial, as JSON values."""
    objective = study.objective
    return {
        "trial": trial.number,
        "command": list(options.command),
        "arguments": [*options.shared, *options.arguments(trial.flags)],
        "run_name": trial.run_name,
        "objective": None if objective is None else dataclasses.asdict(objective),
        "agents": [member.agent for member in trial.members],
        "study": study.location,
        "study_name": study.name,
        "study_id": options.study_id,
        "scratch": options.scratch,
        "cores": options.cores,
        "report_seconds": options.report_seconds,
        "push_seconds": options.push_seconds,
    }


class Launcher:
    """Runs trials until the source has no more.

    Args:
      study: its trials are updated.
      engine: trains them.
      source: decides which is next.
      options: how trials are run.
      save: writes the study's record.
      show: takes a line about a trial that ended or was resumed.
      progress: called at least every second with this object.
    """

    def __init__(
        self,
        study: Study,
        engine: Engine,
        source: TrialSource,
        options: LaunchOptions,
        *,
        save: Callable[[Study], None],
        show: Callable[[str], None],
        progress: Callable[[Launcher], None],
    ) -> None:
        self.study = study
        self.running: dict[int, Trial] = {}
        self.source = source
        self.engine = engine
        self.stopping = False
        self._options = options
        self._save = save
        self._show = show
        self._progress = progress
        self._trials = {trial.number: trial for trial in study.trials}
        self._deaths: dict[int, int] = {}
        self._reasons: dict[int, str] = {}
        self._before: dict[int, float] = {}
        self._began: set[int] = set()
        self._next_save = 0.0
        self._next: Trial | None = None
        self._next_notice = 0.0
        self._checked_metric = any(value is not None for trial in study.trials for value in trial.objectives)
        self.ended_seconds: list[float] = []

    def stop(self) -> None:
        """Asks all trials to save and end, and starts no more."""
        self.stopping = True
        for number in self.running:
            self._stop(number, STOPPED)

    def run(self) -> None:
        """Runs the trials.

        Raises:
          MetricMissingError: if the first run that ended has no row with the objective's metric.
        """
        while True:
            has_more = self._submit()
            self._save_sometimes()  # that they run, before they are waited for
            if not self.running and not has_more:
                break
            if not self.running:
                self._wait_for_room()
            for event in self.engine.events(SAVE_SECONDS):
                trial = self._trials.get(event.trial)
                if trial is None or trial.number not in self.running:
                    continue
                if event.message["op"] == "end":
                    self._end(trial, event.message["end"])
                else:
                    self._hear(trial, event.message)
            self._progress(self)
            self._save_sometimes()
        self._save(self.study)

    def _submit(self) -> bool:
        """Starts trials while there is room. Returns whether one waits although nothing runs: a
        cluster may have no room yet.
        """
        while not self.stopping and (self.engine.free() > 0 or not self.running):
            trial = self._next or self.source.next()
            self._next = None
            if trial is None:
                return False
            self._trials[trial.number] = trial
            if self.engine.free() <= 0:
                self._next = trial
                return True
            self._start(trial)
        return False

    def _wait_for_room(self) -> None:
        now = time.monotonic()
        if now >= self._next_notice:
            self._show(f"no room for a trial: {self.engine.shortage()}; waiting")
            self._next_notice = now + NOTICE_SECONDS

    def _start(self, trial: Trial) -> None:
        trial.status = "running"
        trial.attempts += 1
        self._before[trial.number] = trial.seconds
        self.running[trial.number] = trial
        self._began.discard(trial.number)
        self._reasons.pop(trial.number, None)
        self.engine.submit(request_of(self.study, trial, self._options))
        self._next_save = 0.0

    def _stop(self, number: int, reason: str) -> None:
        if number not in self._reasons:
            self._reasons[number] = reason
            self.engine.stop(number, reason)

    def _hear(self, trial: Trial, message: Mapping[str, Any]) -> None:
        if message["op"] == "warning":
            self._show(f"{trial.run_name}: {message['text']}")
        if message["op"] == "start":
            self._note_start(trial, message)
        if message["op"] != "progress":
            return
        trial.where = str(message.get("host", trial.where))
        trial.objectives = list(message["values"])
        reason = self.source.progress(trial, int(message["step"]), trial.objectives)
        if reason is not None:
            self._stop(trial.number, reason)

    def _note_start(self, trial: Trial, message: Mapping[str, Any]) -> None:
        """Notes that a trial began, on this node or on another one: the engine resumes it by itself
        when its node is lost.
        """
        if trial.number in self._began:
            trial.attempts += 1
            self._show(
                f"{trial.run_name}: its node was lost; resumed on {message['host']} ({message['node']})"
            )
        self._began.add(trial.number)
        trial.where = str(message["host"])

    def _end(self, trial: Trial, end: Mapping[str, Any]) -> None:
        del self.running[trial.number]
        seconds = float(end.get("seconds", 0.0))
        trial.seconds = self._before[trial.number] + seconds
        trial.where = str(end.get("host", trial.where))
        status = end["status"]
        if status == "died" and not self.stopping:
            self._deaths[trial.number] = self._deaths.get(trial.number, 0) + 1
            if self._deaths[trial.number] <= self._options.retries:
                self._show(f"{trial.run_name}: {end['error']}; resumed from its last checkpoint")
                self._start(trial)
                return
        reason = self._reasons.get(trial.number)
        if status == "finished":
            trial.status, trial.error = "finished", ""
        elif status == "stopped" and reason == PRUNED:
            trial.status, trial.error = "pruned", ""
        elif status == "stopped" or (status == "died" and self.stopping):
            trial.status = "waiting"
        else:
            trial.status, trial.error = "failed", str(end.get("error", "")) or "the training failed"
        if "objectives" in end:
            trial.objectives = list(end["objectives"])
        trial.result = dict(end.get("result") or {})
        self.ended_seconds.append(seconds)
        if trial.status != "waiting":
            self._check_metric(trial, end)
            self.source.ended(trial)
            self._show(line_of(trial, self.study))
        self._next_save = 0.0

    def _check_metric(self, trial: Trial, end: Mapping[str, Any]) -> None:
        objective = self.study.objective
        if objective is None or self._checked_metric or trial.status != "finished":
            return
        known = list(end.get("metrics", []))
        if all(value is None for value in trial.objectives):
            if objective.metric in known:
                self._show(f"{trial.run_name}: the last value of {objective.metric} is not finite")
                return
            names = ", ".join(known[:40]) or "none"
            raise MetricMissingError(
                f'[objective] metric = "{objective.metric}": no row of {trial.run_name} has it; its metrics are {names}'
            )
        self._checked_metric = True

    def _save_sometimes(self) -> None:
        now = time.monotonic()
        if now >= self._next_save:
            self._save(self.study)
            # Writing takes at most a twentieth of the time, however many trials there are.
            self._next_save = time.monotonic() + max(10 * SAVE_SECONDS, 20 * (time.monotonic() - now))


def line_of(trial: Trial, study: Study) -> str:
    """Returns the line about a trial that has ended."""
    settings = "; ".join(words_of(member.settings, member.seed) for member in trial.members[:1])
    more = f" and {plural(len(trial.members) - 1, 'other agent')}" if len(trial.members) > 1 else ""
    text = f"{trial.run_name} {trial.status}: {settings}{more}"
    known = [value for value in trial.objectives if value is not None]
    if known and study.objective is not None:
        text += f"; {study.objective.metric} {', '.join(map(significant, known[:4]))}{', ...' if len(known) > 4 else ''}"
    return f"{text}; {trial.error}" if trial.error else text


def words_of(settings: Mapping[str, Any], seed: int | None = None) -> str:
    """Returns settings in words."""
    words = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
    ]
    return ", ".join([*words, *([] if seed is None else [f"seed {seed}"])])


def best_setting(study: Study) -> dict[str, Any] | None:
    """Returns the settings with the best objective over seeds, and their runs; None without an
    objective, or before all seeds of a setting have one.

    Of a search whose best points were confirmed, it is the best at the seeds of `confirm`:
    `objective` is that at these seeds, `search_objective` the one by which the point was chosen,
    and `confirmed` has all of these points.
    """
    searched = searched_settings(study)
    confirmed = confirmed_settings(study, searched)
    if not confirmed:
        return searched[0] if searched else None
    about = ("settings", "objective", "search_objective", "seeds")
    return {**confirmed[0], "confirmed": [{name: one[name] for name in about} for one in confirmed]}


def searched_settings(study: Study) -> list[dict[str, Any]]:
    """Returns the settings whose seeds have all finished with an objective, the best first; those
    of a search without the trials that confirm.
    """
    return _ranked(study, [entry for entry in study.entries() if not entry.get("confirms")])


def confirmed_settings(study: Study, searched: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the confirmed points of a search, the best first; none before all of them ended.

    Args:
      searched: what `searched_settings` returns.
    """
    trials = [trial for trial in study.trials if trial.confirms]
    seeds = set((study.about.get("tune") or {}).get("confirm_seeds") or [])
    if not trials or not seeds or any(trial.status in ("waiting", "running") for trial in trials):
        return []
    entries = [
        entry for entry in study.entries() if entry.get("confirms") and entry["settings"]["seed"] in seeds
    ]
    before = {key_of(one["settings"], 0): one for one in searched}
    found = []
    for one in _ranked(study, entries):
        own = before.get(key_of(one["settings"], 0))
        if own is None or len(one["seeds"]) < len(seeds):
            continue
        runs = {name: [*own[name], *one[name]] for name in ("run_names", "run_dirs")}
        found.append({**one, **runs, "search_objective": own["objective"]})
    return found


def _ranked(study: Study, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the settings of entries with their objectives over seeds, the best first."""
    objective = study.objective
    if objective is None:
        return []
    groups: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for entry in entries:
        settings = {name: value for name, value in entry["settings"].items() if name != "seed"}
        # Equal points of a search have the same runs.
        own = groups.setdefault(key_of(settings, 0), {})
        own[entry["run_name"], entry["agent"]] = {
            **entry,
            "settings": settings,
            "seed": entry["settings"]["seed"],
        }
    found: list[dict[str, Any]] = []
    for members in (list(own.values()) for own in groups.values()):
        if any(entry["status"] != "finished" for entry in members):
            continue
        value = over_seeds([entry["objective"] for entry in members], objective)
        if value is not None:
            found.append(
                {
                    "settings": members[0]["settings"],
                    "objective": value,
                    "seeds": [entry["seed"] for entry in members],
                    "run_names": list(dict.fromkeys(entry["run_name"] for entry in members)),
                    "run_dirs": list(dict.fromkeys(entry["run_dir"] for entry in members)),
                }
            )
    return sorted(found, key=lambda one: one["objective"], reverse=objective.mode == "max")
