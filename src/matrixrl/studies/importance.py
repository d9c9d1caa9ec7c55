"""Importance of settings for the objective, from the record of a study: that of a search and that
of a grid, a sample or a list alike.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matrixrl.studies.file import Choice, Dimension, Objective, Range
from matrixrl.studies.optuna_study import MIN_COMPLETE, distributions, importance_shares, stored
from matrixrl.studies.record import Study, space_of_record
from matrixrl.studies.table import differing, is_logarithmic, is_number, study_table
from matrixrl.tracking.numbers import plural


@dataclass(frozen=True)
class SettingImportance:
    """Importance of the settings of a study.

    Attributes:
      shares: of each setting, the largest first; they add up to 1. Empty without a result.
      reason: why there is no result, in a sentence; "" otherwise.
      num_points: number of complete points that it is computed from.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    num_points: int = 0


def importance_of(study: Study) -> SettingImportance:
    """Returns the importance of each setting by Optuna's evaluator, as `matrixrl tune` prints
    it.
    """
    objective = study.objective
    if objective is None:
        return SettingImportance(reason="The study file has no [objective], so there is nothing to explain.")
    table = study_table(study)
    names = differing(table.rows)
    if not names:
        text = "All trials have the same settings; only seeds differ."
        if len(table.rows) < 2:
            text = "There is only one trial." if table.rows else "There are no trials yet."
        return SettingImportance(reason=text)
    complete = [
        row for row in table.settings if row["objective"] is not None and set(row["status"]) == {"finished"}
    ]
    number = len(complete)
    if number < MIN_COMPLETE:
        text = (
            f"Importance needs {MIN_COMPLETE} settings whose seeds have all finished with an objective; "
            f"this study has {number} so far."
        )
        return SettingImportance(reason=text, num_points=number)
    if len({row["objective"] for row in complete}) == 1:
        text = "The objective is the same for all settings, so none of them matters."
        return SettingImportance(reason=text, num_points=number)
    if not any(len({repr(row["settings"].get(name)) for row in complete}) > 1 for name in names):
        text = f"{plural(number, 'complete setting')} do not differ yet."
        return SettingImportance(reason=text, num_points=number)
    if importlib.util.find_spec("optuna") is None:
        recorded = (study.best or {}).get("importance")
        if isinstance(recorded, dict) and recorded and all(map(is_number, recorded.values())):
            return SettingImportance(_sorted(recorded), num_points=number)
        text = "Importance needs Optuna, which is not installed here: pip install 'matrixrl[tune]'"
        return SettingImportance(reason=text, num_points=number)
    shares = _shares(complete, space_of(study, names), objective)
    return SettingImportance(_sorted(shares), num_points=number)


def space_of(study: Study, names: Sequence[str]) -> dict[str, Dimension]:
    """Returns the search space of a study; of settings without one, the range of their values, or
    the list of them where they are no numbers.
    """
    found: dict[str, Dimension] = {**space_of_record(study.about)}
    for name in () if found else names:
        given = [m.settings[name] for trial in study.trials for m in trial.members if name in m.settings]
        values = list({repr(value): value for value in given}.values())
        if all(map(is_number, values)) and len(values) > 1:
            found[name] = Range(float(min(values)), float(max(values)), is_logarithmic(values))
        else:
            found[name] = Choice(tuple(values))
    return found


def _shares(
    complete: Sequence[Mapping[str, Any]], space: Mapping[str, Dimension], objective: Objective
) -> dict[str, float]:
    """Returns the shares of complete points, as Optuna's study of them has it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if objective.mode == "max" else "minimize")
    every = distributions(space)
    for row in complete:
        names = [name for name in every if name in row["settings"]]
        params = {
            name: stored(row["settings"][name]) if isinstance(space[name], Choice) else row["settings"][name]
            for name in names
        }
        own = {name: every[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=own, value=row["objective"]))
    return importance_shares(study, list(space))


def _sorted(shares: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
