"""Tables of a study for people and pages: pure functions of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matrixrl.studies.launcher import best_setting
from matrixrl.studies.objective import over_seeds
from matrixrl.studies.record import Study
from matrixrl.studies.trials import key_of


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
        `agent`, `settings`, `status`, `objective`, `seconds` and `error`.
      settings: a row for each point, the best first: `settings`, `objective` over seeds (None if a
        seed has none), `objectives`, `seeds`, `run_names`, `agents`, `status` counts.
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
        groups.setdefault(key_of(settings, 0), []).append(row)
    settings = []
    for members in groups.values():
        value = None if objective is None else over_seeds([row["objective"] for row in members], objective)
        settings.append(
            {
                "settings": {name: own for name, own in members[0]["settings"].items() if name != "seed"},
                "objective": value,
                "objectives": [row["objective"] for row in members],
                "seeds": [row["settings"]["seed"] for row in members],
                "run_names": [row["run_name"] for row in members],
                "agents": [row["agent"] for row in members],
                "status": _counted([row["status"] for row in members]),
            }
        )
    sign = -1.0 if objective is None or objective.mode == "max" else 1.0
    settings.sort(key=lambda row: (row["objective"] is None, sign * (row["objective"] or 0.0)))
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


def _counted(states: Sequence[str]) -> dict[str, int]:
    return {state: states.count(state) for state in dict.fromkeys(states)}
