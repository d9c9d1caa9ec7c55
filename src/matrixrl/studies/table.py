"""Tables of a study for people and pages, from its record."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.studies.launcher import best_setting, confirmed_settings, searched_settings
from matrixrl.studies.objective import over_seeds
from matrixrl.studies.record import LOCK_FILE, Study
from matrixrl.studies.trials import key_of
from matrixrl.tracking.locks import Lock


@dataclass(frozen=True)
class StudyTable:
    """A study as rows.

    Attributes:
      name: of the study.
      kind: `sweep` or `tune`.
      command: that its runs were trained with.
      metric, mode: of the objective; "" without one.
      columns: names of the settings that vary.
      rows: a row for each point and seed, in the order of creation: `trial`, `run_name`, `run_dir`,
        `agent`, `settings`, `status`, `objective`, `seconds`, `error`, and `confirms` of a search.
      settings: a row for each point, the best first: `settings`, `objective` over seeds (None if a
        seed has none), `confirmed` at other seeds (None if it was not), `objectives`, `seeds`,
        `run_names`, `agents`, `status` counts.
      counts: number of trials in each state.
      best: the best settings; None before there are any.
    """

    name: str
    kind: str
    command: str
    metric: str
    mode: str
    columns: list[str]
    rows: list[dict[str, Any]]
    settings: list[dict[str, Any]]
    counts: dict[str, int]
    best: dict[str, Any] | None


def study_table(study: Study) -> StudyTable:
    """Returns the tables of a study: of trials, and of settings over their seeds."""
    rows = list(study.entries())
    objective = study.objective
    columns = list(dict.fromkeys(name for row in rows for name in row["settings"]))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        settings = {name: value for name, value in row["settings"].items() if name != "seed"}
        own = groups.setdefault(key_of(settings, 0), [])
        if all((row["run_name"], row["agent"]) != (one["run_name"], one["agent"]) for one in own):
            own.append(row)  # equal points of a search have the same runs
    confirmed = {
        key_of(one["settings"], 0): one for one in confirmed_settings(study, searched_settings(study))
    }
    settings = []
    for key, members in groups.items():
        searched = [row["objective"] for row in members if not row.get("confirms")]
        settings.append(
            {
                "settings": {name: own for name, own in members[0]["settings"].items() if name != "seed"},
                "objective": None if objective is None else over_seeds(searched, objective),
                "confirmed": confirmed[key]["objective"] if key in confirmed else None,
                "objectives": [row["objective"] for row in members],
                "seeds": [row["settings"]["seed"] for row in members],
                "run_names": [row["run_name"] for row in members],
                "agents": [row["agent"] for row in members],
                "status": _counted([row["status"] for row in members]),
            }
        )
    sign = -1.0 if objective is None or objective.mode == "max" else 1.0

    def rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
        confirmed, value = row["confirmed"], row["objective"]
        return confirmed is None, sign * (confirmed or 0.0), value is None, sign * (value or 0.0)

    settings.sort(key=rank)
    return StudyTable(
        name=study.name,
        kind=study.kind,
        command=str(study.about.get("command", "")),
        metric="" if objective is None else objective.metric,
        mode="" if objective is None else objective.mode,
        columns=columns,
        rows=rows,
        settings=settings,
        counts=study.counts(),
        best=study.best or best_setting(study),
    )


def state_of(study: Study) -> str:
    """Returns the state of a study in a local folder: `running` while a command runs it."""
    counts = study.counts()
    if Lock.owner(Path(study.location) / LOCK_FILE) is not None:
        return "running"
    if counts["waiting"] + counts["running"]:
        return "interrupted"
    return "failed" if counts["failed"] else "finished"


def differing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the settings that differ between rows of trials, the seed left out."""
    names = dict.fromkeys(name for row in rows for name in row["settings"] if name != "seed")
    return [name for name in names if len({repr(row["settings"].get(name)) for row in rows}) > 1]


def is_logarithmic(values: Iterable[Any]) -> bool:
    """Returns whether values of a setting are numbers that are shown on a logarithmic axis: they
    span a factor of 50, or their ratios are more even than their differences.
    """
    found = [value for value in values if value is not None]
    if not all(is_number(value) and value > 0 for value in found):
        return False
    numbers = sorted(set(found))
    if len(numbers) < 2:
        return False
    if numbers[-1] / numbers[0] >= 50:
        return True
    if not 3 <= len(numbers) <= 10 or numbers[-1] / numbers[0] < 4:
        return False
    logarithms = [math.log(number) for number in numbers]
    return _unevenness(logarithms) < _unevenness(numbers)


def is_number(value: Any) -> bool:
    """Returns whether a value of a setting is a number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unevenness(numbers: Sequence[float]) -> float:
    """Returns the standard deviation of the distances of neighbours, divided by their mean."""
    distances = [after - before for before, after in itertools.pairwise(numbers)]
    return statistics.pstdev(distances) / statistics.fmean(distances)


def _counted(states: Sequence[str]) -> dict[str, int]:
    return {state: states.count(state) for state in dict.fromkeys(states)}
