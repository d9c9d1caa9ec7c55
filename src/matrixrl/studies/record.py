"""The record of a study: one small file, written whole, that says what was asked and what came out.

The runs themselves are the truth: a trial whose status was not written any more is found in its run
folder when the study continues.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from matrixrl import user_files
from matrixrl.config import ConfigError
from matrixrl.studies.file import Choice, Objective, Range, StudyFile, TuneOptions
from matrixrl.studies.trials import TrialMember, TrialPlan
from matrixrl.whole_files import write_whole

RECORD_FILE = "study.json"
RUNS_FOLDER = "runs"
LOGS_FOLDER = "logs"
LOCK_FILE = "lock"
FORMAT = 1
SAVE_SECONDS = 0.5
"""Interval between two writes of the record while only progress changes."""

TrialStatus = Literal["waiting", "running", "finished", "failed", "pruned"]
ENDED = ("finished", "failed", "pruned")


@dataclass
class Trial:
    """A trial and its state.

    Attributes:
      number: from 1, in the order of creation.
      run_name: also its folder's.
      objectives: of the members; None where there is none yet.
      attempts: number of times that it was started.
      where: host of the last attempt.
      error: why it failed; "" otherwise.
      seconds: time of all attempts.
      result: JSON object of the training command.
      point: number of the search point that it belongs to (`tune`).
      confirms: trains one of the best points of a search again, with another seed.
    """

    number: int
    run_name: str
    members: tuple[TrialMember, ...]
    flags: dict[str, Any]
    status: TrialStatus = "waiting"
    objectives: list[float | None] = field(default_factory=list)
    attempts: int = 0
    where: str = ""
    error: str = ""
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    point: int | None = None
    confirms: bool = False

    def as_json(self) -> dict[str, Any]:
        """Returns the trial as JSON values."""
        found = dataclasses.asdict(self)
        if not self.confirms:  # unknown to earlier versions
            del found["confirms"]
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trial:
        """Returns the trial that `as_json` wrote."""
        members = tuple(TrialMember(**member) for member in content["members"])
        return cls(**{**content, "members": members})


@dataclass
class Study:
    """A study and its trials.

    Attributes:
      location: its folder, or URL.
      runs: location of its run folders.
      kind: `sweep` or `tune`.
      about: what the file said, as JSON values.
    """

    location: str
    name: str
    kind: Literal["sweep", "tune"]
    about: dict[str, Any]
    created: float = field(default_factory=time.time)
    trials: list[Trial] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @property
    def runs(self) -> str:
        """Location of the run folders."""
        return f"{self.location.rstrip('/')}/{RUNS_FOLDER}"

    @property
    def objective(self) -> Objective | None:
        """What trials are compared by."""
        given = self.about.get("objective")
        return None if given is None else Objective(**given)

    def add(self, plan: TrialPlan, point: int | None = None, *, confirms: bool = False) -> Trial:
        """Adds a trial, with the next number."""
        number = 1 + max((trial.number for trial in self.trials), default=0)
        name = f"{self.name}-{number:03d}"
        trial = Trial(number, name, plan.members, dict(plan.flags), point=point, confirms=confirms)
        trial.objectives = [None] * len(plan.members)
        self.trials.append(trial)
        return trial

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yields a JSON object for each point and seed."""
        for trial in self.trials:
            for member, objective in zip(trial.members, trial.objectives, strict=True):
                yield {
                    "trial": trial.number,
                    "run_name": trial.run_name,
                    "run_dir": f"{self.runs}/{trial.run_name}",
                    "agent": member.agent,
                    "settings": {**member.settings, "seed": member.seed},
                    "status": trial.status,
                    "objective": objective,
                    "params_sha256": trial.result.get("params_sha256"),
                    "attempts": trial.attempts,
                    "seconds": round(trial.seconds, 3),
                    "error": trial.error or None,
                    **({"confirms": trial.confirms} if self.kind == "tune" else {}),
                }

    def counts(self) -> dict[str, int]:
        """Returns the number of trials in each state."""
        found: dict[str, int] = dict.fromkeys(("waiting", "running", *ENDED), 0)
        for trial in self.trials:
            found[trial.status] += 1
        return found

    def text(self) -> str:
        """Returns the content of the record."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "created": self.created,
            "about": self.about,
            "best": self.best,
            "trials": [trial.as_json() for trial in self.trials],
        }
        return json.dumps(content) + "\n"


def about_file(study: StudyFile) -> dict[str, Any]:
    """Returns the content of a study file as JSON values, by which a later start is compared."""
    about: dict[str, Any] = {
        "command": study.command,
        "seeds": list(study.seeds),
        "settings": dict(study.settings),
        "points": [dict(point) for point in study.points],
        "objective": None if study.objective is None else dataclasses.asdict(study.objective),
        "together": list(study.together),
    }
    if study.space:
        about["space"] = {name: dimension_json(dimension) for name, dimension in study.space.items()}
        about["tune"] = dataclasses.asdict(study.tune)
    return json.loads(json.dumps(about))


def dimension_json(dimension: Choice | Range) -> dict[str, Any]:
    """Returns a dimension of a search space as JSON values."""
    return dataclasses.asdict(dimension)


def space_of_record(about: Mapping[str, Any]) -> dict[str, Choice | Range]:
    """Returns the search space of a study from its record; empty where it has none."""
    return {
        str(name): Choice(tuple(own["values"])) if "values" in own else Range(**own)
        for name, own in (about.get("space") or {}).items()
    }


def study_from_text(text: str, location: str) -> Study:
    """Returns the study of a record.

    Raises:
      ConfigError: if the record cannot be read, or is of a later version.
    """
    where = f"{location}/{RECORD_FILE}"
    try:
        content = user_files.parse_json(text)
        if content["format"] > FORMAT:
            raise ConfigError(
                f"{where}: format {content['format']}; this matrixrl reads up to {FORMAT}: update it"
            )
        trials = [Trial.from_json(trial) for trial in content["trials"]]
        study = Study(
            location,
            content["name"],
            content["kind"],
            content["about"],
            content["created"],
            trials,
            content["best"],
        )
        _check(study)
        return study
    except (user_files.UserFileError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where}: no record of a study ({error}); name another folder") from error


def _check(study: Study) -> None:
    """Refuses a record whose values are not those that a study writes.

    Raises:
      TypeError: naming the first value that is not.
    """
    for name, value, kinds in (
        ("name", study.name, str),
        ("created", study.created, int | float),
        ("about", study.about, dict),
        ("best", study.best, dict | None),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"{name} is {_words(value)}")
    if study.kind not in ("sweep", "tune"):
        raise TypeError(f"kind is {_words(study.kind)}, neither sweep nor tune")
    space_of_record(study.about)
    objective = study.objective
    if objective is not None and not isinstance(objective.metric, str):
        raise TypeError(f"the objective's metric is {_words(objective.metric)}")
    for trial in study.trials:
        _check_trial(trial)


def _check_trial(trial: Trial) -> None:
    where = f"trial {_words(trial.number)}"
    for name, value, kinds in (
        ("run_name", trial.run_name, str),
        ("objectives", trial.objectives, list),
        ("flags", trial.flags, dict),
        ("result", trial.result, dict),
        ("seconds", trial.seconds, int | float),
        ("error", trial.error, str),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"{where}: {name} is {_words(value)}")
    if trial.status not in ("waiting", "running", *ENDED):
        raise TypeError(f"{where}: status is {_words(trial.status)}")
    if len(trial.objectives) != len(trial.members):
        raise TypeError(f"{where}: {len(trial.members)} members with {len(trial.objectives)} objectives")
    for value in trial.objectives:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{where}: an objective is {_words(value)}")
    for member in trial.members:
        if not isinstance(member.settings, dict):
            raise TypeError(f"{where}: settings are {_words(member.settings)}")


def read_study(folder: Path) -> Study | None:
    """Returns the study of a folder; None if the folder holds none.

    Raises:
      ConfigError: if its record cannot be read.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    try:
        text = user_files.read_text(path, 2**30)
    except user_files.UserFileError as error:
        raise ConfigError(f"{path}: {error}") from error
    return study_from_text(text, str(folder))


def study_folders(folder: Path) -> list[Path]:
    """Returns the studies that a folder holds, and the folder itself if it is one, by name."""
    try:
        inside = sorted(entry for entry in folder.iterdir() if (entry / RECORD_FILE).is_file())
    except OSError:
        return []
    return [folder, *inside] if (folder / RECORD_FILE).is_file() else inside


def save_study(study: Study, folder: Path) -> None:
    """Writes the record of a study in a local folder."""
    write_whole(folder / RECORD_FILE, study.text())


SHARED = ("command", "settings", "together")
"""Parts that all trials of a study share, which cannot be extended."""


def differences_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns the differences of two files in words, the parts that cannot be extended first."""
    found: list[str] = []
    for part in ("command", "together"):
        if old.get(part) != new.get(part):
            found.append(f"{part} {_words(old.get(part))} -> {_words(new.get(part))}")
    found += _changed("", old.get("settings") or {}, new.get("settings") or {})
    if old.get("seeds") != new.get("seeds"):
        found.append(f"seeds {_words(old.get('seeds'))} -> {_words(new.get('seeds'))}")
    found += _changed_points(old.get("points") or [], new.get("points") or [])
    for part in ("space", "tune", "objective"):
        found += _changed(f"{part}.", old.get(part) or {}, new.get(part) or {})
    return found


def obstacle_of(old: Mapping[str, Any], new: Mapping[str, Any], kind: str) -> str:
    """Returns why a study cannot become that of a changed file; "" if it can.

    A sweep can get more seeds and points, and another objective; a search another `[tune]`.
    """
    fixed = SHARED if kind == "sweep" else (*SHARED, "seeds", "objective")
    if any(old.get(part) != new.get(part) for part in (*fixed, "space")):
        return "in what all its trials share"
    for part in ("seeds", "points"):
        there = [json.dumps(one, sort_keys=True) for one in new.get(part) or []]
        gone = [one for one in old.get(part) or [] if json.dumps(one, sort_keys=True) not in set(there)]
        if gone:
            return f"and lacks {part[:-1]} {_words(gone[0])} of it"
    return ""


def with_defaults(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the file of a study said, with the options of a search that its version did not
    have.
    """
    if not isinstance(about.get("tune"), dict):
        return dict(about)
    defaults = json.loads(json.dumps(dataclasses.asdict(TuneOptions())))
    return {**about, "tune": {**defaults, **about["tune"]}}


def _changed(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{prefix}{name} {_words(old.get(name, 'none'))} -> {_words(new.get(name, 'none'))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _changed_points(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    names = list(dict.fromkeys(name for point in [*old, *new] for name in point))
    found = []
    for name in names:
        before, after = (list(dict.fromkeys(map(_words, (p.get(name) for p in ps)))) for ps in (old, new))
        if before != after:
            found.append(f"{name} {', '.join(before)} -> {', '.join(after)}")
    if not found and old != new:
        found.append(f"points {len(old):,} -> {len(new):,}")
    return found


def _words(value: Any) -> str:
    if isinstance(value, list):
        text = ", ".join(map(_words, value))
    elif isinstance(value, dict):
        text = ", ".join(f"{name} {_words(own)}" for name, own in value.items() if own is not None)
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
