"""Search for good settings with Optuna: its study is stored in the study's folder, and every point
that it asks for becomes the trials of its seeds.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.studies.file import (
    MAX_SEED,
    Choice,
    Dimension,
    Objective,
    Range,
    TuneOptions,
    num_steps,
    num_values,
)
from matrixrl.studies.launcher import PRUNED, SearchSpaceError, searched_settings
from matrixrl.studies.objective import over_seeds
from matrixrl.studies.record import Study, Trial
from matrixrl.studies.schema import Schema
from matrixrl.studies.trials import TrialMember, TrialPlan, key_of
from matrixrl.tracking.numbers import plural

DATABASE = "optuna.db"

REPORTS = 100
"""Number of reports in the length of a run, at most: pruners compare trials at equal reports."""

WARMUP_REPORTS = REPORTS // 3
"""Number of reports before a run is compared with others: the beginning of training says little."""

Make = Callable[[Any, TuneOptions, int], Any]
"""Makes a sampler or pruner: the module `optuna`, options, and number of existing points."""


def _sampler_seed(options: TuneOptions, number: int) -> int:
    """Returns another seed whenever a search continues, so that it draws other points."""
    return (options.seed + number) % (MAX_SEED + 1)


def _grid_sampler(optuna: Any, seed: int) -> Any:
    """Returns a sampler of all combinations. Optuna's own one ends `Study.optimize` after the last
    of them, which is an error without it; `OptunaSource` counts instead.
    """

    class GridOfAll(optuna.samplers.BruteForceSampler):
        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            """Does nothing."""

    return GridOfAll(seed=seed)


SAMPLERS: Mapping[str, Make] = {
    "tpe": lambda optuna, options, number: optuna.samplers.TPESampler(
        seed=_sampler_seed(options, number),
        n_startup_trials=min(10, max(4, options.trials // 4)),
        constant_liar=True,
    ),
    "random": lambda optuna, options, number: optuna.samplers.RandomSampler(
        seed=_sampler_seed(options, number)
    ),
    "qmc": lambda optuna, options, number: optuna.samplers.QMCSampler(seed=options.seed, scramble=True),
    "gp": lambda optuna, options, number: optuna.samplers.GPSampler(seed=_sampler_seed(options, number)),
    "cmaes": lambda optuna, options, number: optuna.samplers.CmaEsSampler(
        seed=_sampler_seed(options, number)
    ),
    "grid": lambda optuna, options, number: _grid_sampler(optuna, options.seed),
}
"""Samplers by name."""

PRUNERS: Mapping[str, Make] = {
    "none": lambda optuna, options, number: optuna.pruners.NopPruner(),
    "median": lambda optuna, options, number: optuna.pruners.MedianPruner(
        n_startup_trials=options.warmup_trials, n_warmup_steps=WARMUP_REPORTS
    ),
    "percentile": lambda optuna, options, number: optuna.pruners.PercentilePruner(
        25.0, n_startup_trials=options.warmup_trials, n_warmup_steps=WARMUP_REPORTS
    ),
    "halving": lambda optuna, options, number: optuna.pruners.SuccessiveHalvingPruner(),
    "hyperband": lambda optuna, options, number: optuna.pruners.HyperbandPruner(),
}
"""Pruners by name."""

NEEDS = {"gp": "torch", "cmaes": "cmaes"}
"""Samplers that need another package."""

MIN_COMPLETE = 4
"""Number of complete points below which importance says nothing."""


def require_optuna() -> None:
    """Refuses to continue without Optuna.

    Raises:
      ConfigError: with the command that installs it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("matrixrl tune: Optuna is not installed; install it: pip install 'matrixrl[tune]'")


def require_sampler(options: TuneOptions, where: str) -> None:
    """Refuses a sampler whose package is missing.

    Raises:
      ConfigError: with the command that installs it.
    """
    package = NEEDS.get(options.sampler)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f'{where}: [tune] sampler = "{options.sampler}": needs {package}; install it: pip install {package}'
        )


def distributions(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Returns the search space as Optuna has it. Values that Optuna cannot store are texts."""
    import optuna

    found: dict[str, Any] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            found[name] = optuna.distributions.CategoricalDistribution([stored(v) for v in dimension.values])
        elif dimension.is_integer:
            step = 1 if dimension.step is None else int(dimension.step)
            found[name] = optuna.distributions.IntDistribution(
                int(dimension.low), int(_last_value(dimension)), log=dimension.log, step=step
            )
        else:
            found[name] = optuna.distributions.FloatDistribution(
                dimension.low, _last_value(dimension), log=dimension.log, step=dimension.step
            )
    return found


def _last_value(dimension: Range) -> float:
    """Returns the highest value of a range that its steps reach."""
    low, high, step = dimension.low, dimension.high, dimension.step
    return high if step is None else min(high, low + step * num_steps(low, high, step))


def stored(value: Any) -> Any:
    """Returns a value of a list as Optuna stores it."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def values_of(params: Mapping[str, Any], space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Returns the settings of a point that Optuna proposed."""
    found: dict[str, Any] = {}
    for name, dimension in space.items():
        value = params[name]
        if isinstance(dimension, Choice):
            value = next(own for own in dimension.values if stored(own) == value)
        found[name] = value
    return found


class OptunaSource:
    """Asks Optuna for points, and reports to it.

    The seeds of a point are trained one after the other, so that a point that is not promising is
    pruned early. When all points have ended, the best ones are confirmed with other seeds.

    Args:
      study: its record; new trials are added to it.
      schema: of the command.
      storage: URL of the database.
      options: how to search.
      space: the search space.
      check: refuses a point that is impossible as a whole; takes its settings.
      length: number of steps of a run, for the reports of pruning; 0 if it is not known.
      start: settings of the first point; Optuna chooses those that are missing.
      show: takes a line for the user.

    Raises:
      ConfigError: if the database cannot be read, or is not that of the record.
    """

    def __init__(
        self,
        study: Study,
        schema: Schema,
        storage: str,
        options: TuneOptions,
        space: Mapping[str, Dimension],
        check: Callable[[Mapping[str, Any]], None],
        length: int,
        start: Mapping[str, Any] | None = None,
        show: Callable[[str], None] = lambda line: None,
    ) -> None:
        import optuna

        objective = study.objective
        assert objective is not None
        self.objective: Objective = objective
        self._study, self._schema, self._options = study, schema, options
        self._space, self._check, self._length = space, check, length
        self._show = show
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna: Any = optuna
        self.study = self._open(storage)
        self._distributions = distributions(space)
        self._points: dict[int, Any] = {}
        self._ready: list[Trial] = []
        self._reported: dict[int, int] = {}  # by point: the last place with a report
        self._exhausted = self._is_complete()
        self._confirming = False
        if start and not self.study.trials and self._may_start(start):
            self.study.enqueue_trial({name: stored(value) for name, value in start.items()})
        self._continue()

    def _open(self, storage: str) -> Any:
        """Returns Optuna's study, a new one or that of the record."""
        optuna, options = self._optuna, self._options
        from sqlalchemy.exc import SQLAlchemyError

        existing = self._num_points()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.create_study(
                    storage=storage,
                    study_name=self._study.name,
                    direction="maximize" if self.objective.mode == "max" else "minimize",
                    load_if_exists=True,
                    sampler=SAMPLERS[options.sampler](optuna, options, existing),
                    pruner=PRUNERS[options.pruner](optuna, options, existing),
                )
        except (optuna.exceptions.OptunaError, SQLAlchemyError, RuntimeError) as error:
            raise ConfigError(
                f"{self._study.location}/{DATABASE}: {first_line(error)}; restore it, or name another folder"
            ) from error

    def _may_start(self, start: Mapping[str, Any]) -> bool:
        """Returns whether the search can begin with given settings: a grid needs all of them."""
        return self._options.sampler != "grid" or set(start) == set(self._space)

    @property
    def total(self) -> int:
        """Number of trials, with those of points that are not asked for yet."""
        missing = 0 if self._exhausted else max(0, self._options.trials - self._num_points())
        found = len(self._study.trials) + missing * len(self._plans({}, self.seeds))
        if self._confirming or not self._options.confirm:
            return found
        there = sum(trial.confirms for trial in self._study.trials)
        number = min(self._options.confirm, self._num_points() + missing)
        return found + max(0, number * len(self._plans({}, self._options.confirm_seeds)) - there)

    def _num_points(self) -> int:
        return len({trial.point for trial in self._study.trials})

    @property
    def seeds(self) -> list[int]:
        """Seeds of every point."""
        return list(self._study.about["seeds"])

    def _continue(self) -> None:
        """Takes up the points that a former process left, and reports to Optuna what it missed."""
        there = self.study.trials
        for number in sorted({trial.point for trial in self._study.trials if trial.point is not None}):
            if number >= len(there):
                raise ConfigError(
                    f"{self._study.location}/{DATABASE}: has no trial {number}, but the study has; restore it, or name "
                    "another folder"
                )
            frozen = there[number]
            if frozen.state.is_finished():
                self._catch_up(number, frozen.state)
                continue
            self._points[number] = self._optuna.trial.Trial(self.study, frozen._trial_id)
            self._reported[number] = max(frozen.intermediate_values, default=-1)
            waiting = [trial for trial in self._members(number) if trial.status == "waiting"]
            if waiting:
                self._ready.append(waiting[0])
            else:
                self._finish(number)
        known = {trial.point for trial in self._study.trials}
        states = self._optuna.trial.TrialState
        for frozen in there:  # asked for just before the process died
            if frozen.state == states.RUNNING and frozen.number not in known:
                self.study.tell(frozen.number, state=states.FAIL)

    def _catch_up(self, number: int, state: Any) -> None:
        """Brings a point up to date whose end Optuna knows, but not the record: the process died in
        between.
        """
        states = self._optuna.trial.TrialState
        for trial in self._members(number):
            if trial.status != "waiting":
                continue
            if state == states.COMPLETE:
                self._ready.append(trial)  # its run has ended, and is only read
            elif not trial.attempts:
                self._study.trials.remove(trial)
            else:
                trial.status = "pruned" if state == states.PRUNED else "failed"

    def _members(self, number: int) -> list[Trial]:
        return [trial for trial in self._study.trials if trial.point == number and not trial.confirms]

    def next(self) -> Trial | None:
        """Returns the next seed of a point, the first of a new point, or a trial that confirms one
        of the best.
        """
        if self._ready:
            return self._ready.pop(0)
        while not self._exhausted and self._num_points() < self._options.trials:
            asked = self.study.ask(self._distributions)
            settings = values_of(asked.params, self._space)
            try:
                self._check(settings)
            except ConfigError as error:
                # A combination that does not fit; Optuna learns nothing from it.
                self.study.tell(asked, state=self._optuna.trial.TrialState.FAIL)
                self._refused(str(error))
                continue
            self._points[asked.number] = asked
            twins = self._trained(settings)
            trials = [self._study.add(plan, asked.number) for plan in self._plans(settings, self.seeds)]
            self._exhausted = self._is_complete()
            if len(twins) < len(trials):
                return trials[0]
            self._repeat(asked.number, trials, twins)
        return self._next_confirmation()

    def _trained(self, settings: Mapping[str, Any]) -> list[Trial]:
        """Returns the finished trials of an earlier point with the same settings."""
        key = key_of(settings, 0)
        for number in dict.fromkeys(trial.point for trial in self._study.trials):
            members = [] if number is None else self._members(number)
            is_equal = bool(members) and key_of(members[0].members[0].settings, 0) == key
            if is_equal and all(trial.status == "finished" for trial in members):
                return members
        return []

    def _repeat(self, number: int, trials: Sequence[Trial], twins: Sequence[Trial]) -> None:
        """Gives a point the results of an equal one: the same settings and seeds would train the
        same runs again.
        """
        for trial, twin in zip(trials, twins, strict=True):
            trial.run_name, trial.status = twin.run_name, "finished"
            trial.objectives, trial.result = list(twin.objectives), dict(twin.result)
        self._show(f"trial {trials[0].number} has the settings of {twins[0].run_name}: not trained again")
        self._finish(number)

    def _next_confirmation(self) -> Trial | None:
        """Returns the next trial that confirms one of the best points, once all points ended."""
        if self._points or not self._options.confirm:
            return None
        if not self._confirming:
            self._confirming = True
            self._add_confirmations()
            self._ready = [t for t in self._study.trials if t.confirms and t.status == "waiting"]
        return self._ready.pop(0) if self._ready else None

    def _add_confirmations(self) -> None:
        there = {member.key for trial in self._study.trials if trial.confirms for member in trial.members}
        numbers = {
            key_of(trial.members[0].settings, 0): trial.point
            for trial in self._study.trials
            if not trial.confirms
        }
        chosen = searched_settings(self._study)[: self._options.confirm]
        for settings in (found["settings"] for found in chosen):
            seeds = [seed for seed in self._options.confirm_seeds if key_of(settings, seed) not in there]
            for plan in self._plans(settings, seeds):
                self._study.add(plan, numbers[key_of(settings, 0)], confirms=True)
        if chosen:
            number = plural(len(chosen), "best point")
            self._show(
                f"{number}: trained again with {plural(len(self._options.confirm_seeds), 'other seed')}"
            )

    def _is_complete(self) -> bool:
        """Returns whether every combination of a grid was asked for."""
        if self._options.sampler != "grid":
            return False
        return self._num_points() >= math.prod(num_values(own) or 0 for own in self._space.values())

    def _refused(self, reason: str) -> None:
        failed = sum(t.state == self._optuna.trial.TrialState.FAIL for t in self.study.trials)
        if failed > 10 * self._options.trials:
            raise SearchSpaceError(f"the search space has hardly any possible point: {reason}")

    def _plans(self, settings: Mapping[str, Any], seeds: Sequence[int]) -> list[TrialPlan]:
        """Returns the trials of a point: one for all seeds where they are trained together."""
        if (
            "seeds" in self._study.about["together"]
            and self._schema.vmapped
            and len(seeds) > 1
            and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
        ):
            members = tuple(TrialMember(dict(settings), seed, number) for number, seed in enumerate(seeds))
            return [TrialPlan(members, {**settings, "seed": seeds[0], "num_seeds": len(seeds)})]
        return [TrialPlan((TrialMember(dict(settings), seed),), {**settings, "seed": seed}) for seed in seeds]

    def progress(self, trial: Trial, step: int, values: Sequence[float | None]) -> str | None:
        """Reports the objective so far to Optuna; returns `PRUNED` if the trial should stop.

        The report counts finished seeds, and the one in training at its present value.
        """
        number = trial.point
        if number is None or number not in self._points or trial.confirms or self._length <= 0:
            return None
        members = self._members(number)
        known = [v for other in members if other.status == "finished" for v in other.objectives]
        value = over_seeds([*known, *values], self.objective)
        if value is None:
            return None
        index = members.index(trial)
        at = index * REPORTS + min(REPORTS, REPORTS * step // self._length)
        last = self._reported.get(number, -1)
        if at <= last:
            return None
        self._reported[number] = at
        asked = self._points[number]
        # Pruners compare trials that reported at one place. Reports come when the clock says so,
        # and no two trials are equally fast: a report counts for all places since the last one.
        for place in range(last + 1, at + 1):
            asked.report(value, place)
        return PRUNED if at < len(members) * REPORTS and asked.should_prune() else None

    def ended(self, trial: Trial) -> None:
        """Queues the next seed of the point, or reports its result to Optuna."""
        number = trial.point
        if number is None or number not in self._points or trial.confirms:
            return
        rest = [other for other in self._members(number) if other.status == "waiting"]
        if trial.status == "finished" and rest:
            self._ready.append(rest[0])
            return
        for other in rest:  # the point is pruned, or failed: its other seeds are not trained
            self._study.trials.remove(other)
        self._finish(number)

    def _finish(self, number: int) -> None:
        states = self._optuna.trial.TrialState
        members = self._members(number)
        values = [value for trial in members for value in trial.objectives]
        statuses = {trial.status for trial in members}
        value = over_seeds(values, self.objective)
        asked = self._points.pop(number)
        if "pruned" in statuses:
            self.study.tell(asked, state=states.PRUNED)
        elif statuses != {"finished"} or value is None:
            self.study.tell(asked, state=states.FAIL)
        else:
            self.study.tell(asked, value)

    def importance(self) -> dict[str, float]:
        """Returns the importance of each setting for the objective, in shares of 1; empty where too
        few points are complete.
        """
        return importance_shares(self.study, list(self._space))


def importance_shares(study: Any, names: Sequence[str]) -> dict[str, float]:
    """Returns the importance of each setting by Optuna's evaluator, in shares of 1; empty where too
    few points are complete.

    Args:
      study: Optuna's.
      names: of the settings.
    """
    import optuna

    complete = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    varied = [name for name in names if len({repr(t.params.get(name)) for t in complete}) > 1]
    if len(complete) < MIN_COMPLETE or not varied:
        return {}
    if statistics.pvariance([t.value for t in complete if t.value is not None]) == 0:
        return dict.fromkeys(names, 0.0)
    found = optuna.importance.get_param_importances(study)
    return {name: float(share) for name, share in found.items()}
