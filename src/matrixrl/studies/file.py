"""Study files: the TOML that `matrixrl sweep` and `matrixrl tune` read.

A file names a training command, the settings that all trials share, and the points: a grid, a
random sample or an explicit list, each with every seed (docs/many_machines.md).
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from matrixrl import user_files
from matrixrl.config import ConfigError
from matrixrl.studies.schema import Schema, shown

MAX_BYTES = 2**20
MAX_TRIALS = 100_000
"""Maximum number of points times seeds."""

MAX_SEED = 2**32 - 1

MIN_CONFIRM_SEEDS = 3
"""Minimum number of seeds of `confirm`, where the file names none."""

TOP = ("command", "seeds", "settings", "grid", "random", "space", "trial", "objective", "tune", "together")
TOGETHER = ("settings", "seeds")

BEST_METRIC = "best"
TIME_METRIC = "time_to_rank"
SPECIAL = (BEST_METRIC, TIME_METRIC)
"""Objectives that are no metric of the stream."""

Point = Mapping[str, Any]
"""Settings of a trial that differ from those of others, by name."""


@dataclass(frozen=True)
class Choice:
    """A dimension with a few values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A dimension with a range of numbers, both ends included.

    Attributes:
      log: values are drawn uniformly in their logarithm.
      step: distance of neighbouring values from `low` on; None for any value.
      is_integer: only whole numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    is_integer: bool = False


Dimension = Choice | Range


@dataclass(frozen=True)
class Objective:
    """The number by which trials are compared.

    Attributes:
      metric: of the journal's stream; `best` for the best value of the system, `time_to_rank` for
        the seconds of training until a scheme of rank `rank` or less.
      value: `last` value, `best` value, or `area` under the curve divided by its length.
      over_seeds: how seeds are combined.
    """

    metric: str
    mode: Literal["max", "min"] = "max"
    value: Literal["last", "best", "area"] = "last"
    over_seeds: Literal["mean", "lower quartile"] = "mean"
    rank: int | None = None

    def is_better(self, new: float, old: float) -> bool:
        """Returns whether a value is better than another one."""
        return new > old if self.mode == "max" else new < old


@dataclass(frozen=True)
class TuneOptions:
    """Options of `matrixrl tune`.

    Attributes:
      trials: number of points to try.
      sampler, pruner: names of `optuna_study.SAMPLERS` and `PRUNERS`.
      warmup_trials: number of points before the first is pruned.
      seed: of the sampler.
      start: the first point is the present settings: those of `[settings]`, otherwise defaults.
      confirm: number of the best points that are trained again with other seeds. 0 disables it.
      confirm_seeds: these seeds.
    """

    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "median"
    warmup_trials: int = 5
    seed: int = 0
    start: bool = True
    confirm: int = 0
    confirm_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class StudyFile:
    """Content of a study file, checked.

    Attributes:
      command: such as `ppo train`.
      settings: shared by all trials.
      points: of a grid, a sample or a list, in order; empty for a search space.
      space: search space of `tune`.
      start: settings of the space with which the search begins, as far as the file names them.
      together: which of `settings` and `seeds` are trained in one program, where possible.
    """

    path: Path
    command: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    points: tuple[Point, ...]
    space: Mapping[str, Dimension] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective | None = None
    tune: TuneOptions = TuneOptions()
    together: tuple[str, ...] = ("settings",)


class _Table:
    """A table of the file, whose keys are taken one by one; what is left is unknown."""

    def __init__(self, where: str, values: Any, known: Sequence[str]) -> None:
        self.where = where
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} = {shown(values)}: must be a table")
        self.values = dict(values)
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                meant = f"did you mean {near[0]}? " if near else ""
                raise ConfigError(
                    f"{where}: unknown key {shown(key)}; {meant}must be one of {', '.join(known)}"
                )

    def take(self, key: str, kind: type | tuple[type, ...], default: Any, allowed: str) -> Any:
        """Returns a value of a type."""
        value = self.values.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{self.where}: {key} = {shown(value)}: must be {allowed}")
        return value

    def choose(self, key: str, default: str, allowed: Sequence[str]) -> str:
        """Returns one of a few words."""
        value = self.values.get(key, default)
        if value not in allowed:
            raise ConfigError(f"{self.where}: {key} = {shown(value)}: must be one of {', '.join(allowed)}")
        return value

    def whole(self, key: str, default: int, least: int, most: int = MAX_TRIALS) -> int:
        """Returns a whole number."""
        value = self.take(key, int, default, "a whole number")
        if not least <= value <= most:
            raise ConfigError(f"{self.where}: {key} = {shown(value)}: must be from {least} to {most}")
        return value


def read_study_file(
    path: Path,
    schema_of: Callable[[str, str], Schema],
    *,
    tunes: bool = False,
    samplers: Sequence[str] = (),
    pruners: Sequence[str] = (),
) -> tuple[StudyFile, Schema]:
    """Reads and checks a study file.

    Args:
      path: of the TOML file.
      schema_of: returns the schema of a command; takes its name and the place in the file.
      tunes: [grid] and [random] are a search space, and [tune] is allowed.
      samplers, pruners: allowed names.

    Raises:
      ConfigError: if it cannot be read, or a key or a value is not allowed. One line, which names
        the file and the key.
    """
    where = user_files.display_path(path)
    try:
        table = tomllib.loads(user_files.read_text(path, MAX_BYTES))
    except user_files.UserFileError as error:
        raise ConfigError(f"{where}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{where}: not TOML: {str(error).splitlines()[0]}") from error
    top = _Table(where, table, TOP)
    if "command" not in table:
        raise ConfigError(
            f'{where}: command is missing; name a training command, such as command = "ppo train"'
        )
    command = " ".join(top.take("command", str, "", 'text, such as "ppo train"').split())
    schema = schema_of(command, where)
    settings = _values(schema, table.get("settings", {}), f"{where}: [settings]")
    points, space, trials = _points(schema, table, where, tunes)
    for name in settings:  # of a search, the value with which it begins
        if any(name in point for point in points):
            raise ConfigError(f"{where}: {name}: stands in [settings] and varies too; leave one out")
    seeds = _seeds(top, "seeds", [0])
    found = StudyFile(
        path=path,
        command=command,
        seeds=seeds,
        settings={name: value for name, value in settings.items() if name not in space},
        points=points,
        space=space,
        start={name: value for name, value in settings.items() if name in space},
        objective=_objective(table, where, schema),
        tune=_tune_options(table, where, trials, seeds, tunes, samplers, pruners),
        together=_together(top),
    )
    if tunes:
        _check_search(found, where)
    number = max(len(points), found.tune.trials if tunes else 0) * len(found.seeds)
    if number > MAX_TRIALS:
        raise ConfigError(f"{where}: {number:,} trials; at most {MAX_TRIALS:,} are allowed")
    return found, schema


def _check_search(study: StudyFile, where: str) -> None:
    """Refuses a search without an objective, and one of a grid that has no end."""
    if study.objective is None:
        raise ConfigError(
            f'{where}: [objective] is missing; name what to optimise, such as metric = "episode/return"'
        )
    for name, value in study.start.items():
        if not contains(study.space[name], value):
            raise ConfigError(
                f"{where}: [settings] {name} = {shown(value)}: the search begins there, so it must be in the search space"
            )
    for name, dimension in study.space.items():
        if study.tune.sampler == "grid" and num_values(dimension) is None:
            raise ConfigError(
                f'{where}: [tune] sampler = "grid": {name} is a range without a step; give step, a list of values, or '
                "another sampler"
            )


def num_values(dimension: Dimension) -> int | None:
    """Returns the number of values of a dimension; None for a range of real numbers."""
    if isinstance(dimension, Choice):
        return len(dimension.values)
    if dimension.step is None and not dimension.is_integer:
        return None
    return num_steps(dimension.low, dimension.high, dimension.step or 1) + 1


def num_steps(low: float, high: float, step: float) -> int:
    """Returns the number of steps that fit into a range."""
    return int((high - low) / step + 1e-9)


def contains(dimension: Dimension, value: Any) -> bool:
    """Returns whether a value of a setting is one of a dimension."""
    if isinstance(dimension, Choice):
        return repr(value) in map(repr, dimension.values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not dimension.low <= value <= dimension.high:
        return False
    steps = 0.0 if dimension.step is None else (value - dimension.low) / dimension.step
    return abs(steps - round(steps)) < 1e-9


def _seeds(table: _Table, key: str, default: list[int]) -> tuple[int, ...]:
    given = table.values.get(key, default)
    allowed = f"a list of different whole numbers from 0 to {MAX_SEED}"
    good = (
        isinstance(given, list)
        and bool(given)
        and all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in given)
        and len(set(given)) == len(given)
    )
    if not good:
        raise ConfigError(f"{table.where}: {key} = {shown(given)}: must be {allowed}")
    return tuple(given)


def _together(top: _Table) -> tuple[str, ...]:
    given = top.values.get("together", ["settings"])
    if not isinstance(given, list) or not all(word in TOGETHER for word in given):
        raise ConfigError(
            f"{top.where}: together = {shown(given)}: must be a list of {' and '.join(TOGETHER)}, or []"
        )
    return tuple(word for word in TOGETHER if word in given)


def _values(schema: Schema, table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table of settings")
    found: dict[str, Any] = {}
    for given, value in table.items():
        name = schema.name(given, where)
        if name in found:
            raise ConfigError(f"{where}: {given} and {name} are one setting; leave one out")
        found[name] = schema.value(name, value, where)
    return found


def _points(
    schema: Schema, table: Mapping[str, Any], where: str, tunes: bool
) -> tuple[tuple[Point, ...], dict[str, Dimension], int | None]:
    """Returns the points, the search space, and the number of trials that [random] names."""
    given = [key for key in ("grid", "random", "space", "trial") if key in table]
    if len(given) > 1:
        both = " and ".join(f"[{key}]" for key in given)
        raise ConfigError(f"{where}: {both}: give one of them")
    if "space" in given and not tunes:
        raise ConfigError(f"{where}: [space]: is for `matrixrl tune`; give [grid], [random] or [[trial]]")
    if not given:
        if tunes:
            raise ConfigError(
                f"{where}: the search space is missing; give [space], such as learning_rate = [1e-4, 1e-3]"
            )
        return ({},), {}, None
    (key,) = given
    if key == "trial":
        if tunes:
            raise ConfigError(f"{where}: [[trial]]: is for `matrixrl sweep`; give [space]")
        return _listed(schema, table["trial"], where), {}, None
    place = f"{where}: [{key}]"
    if not isinstance(table[key], Mapping):
        raise ConfigError(f"{place} must be a table")
    entries = dict(table[key])
    trials = sample_seed = None
    if key in ("random", "space"):
        trials = entries.pop("trials", None)
    if key == "random":
        sample_seed = entries.pop("sample_seed", 0)
    if not entries:
        raise ConfigError(
            f"{place} is empty; give settings with their values, such as learning_rate = [1e-4, 3e-4]"
        )
    space = _space(schema, entries, place, ranges=key != "grid" or tunes)
    if trials is not None and (type(trials) is not int or not 1 <= trials <= MAX_TRIALS):
        raise ConfigError(f"{place}: trials = {shown(trials)}: must be a whole number from 1 to {MAX_TRIALS}")
    if key == "random" and type(sample_seed) is not int:
        raise ConfigError(f"{place}: sample_seed = {shown(sample_seed)}: must be a whole number")
    if tunes:
        return (), space, trials
    if key == "grid":
        return _product(space), {}, None
    if trials is None:
        raise ConfigError(
            f"{place}: trials is missing; give the number of points to draw, such as trials = 20"
        )
    assert sample_seed is not None
    return _sampled(space, trials, sample_seed, place), {}, None


def _listed(schema: Schema, tables: Any, where: str) -> tuple[Point, ...]:
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{where}: [[trial]] must be one table or more of settings")
    points = [
        _values(schema, table, f"{where}: [[trial]] {number}") for number, table in enumerate(tables, 1)
    ]
    first: dict[str, int] = {}
    for number, point in enumerate(points, 1):
        same = first.setdefault(repr(sorted(point.items())), number)
        if same != number:
            raise ConfigError(f"{where}: [[trial]] {number} equals [[trial]] {same}; leave one out")
    return tuple(points)


def _space(schema: Schema, entries: Mapping[str, Any], where: str, *, ranges: bool) -> dict[str, Dimension]:
    space: dict[str, Dimension] = {}
    for given, value in entries.items():
        name = schema.name(given, where)
        if name in space:
            raise ConfigError(f"{where}: {given} and {name} are one setting; leave one out")
        if isinstance(value, Mapping):
            if not ranges:
                raise ConfigError(f"{where}: {name}: must be a list of values; ranges are for [random]")
            space[name] = _dimension(schema, name, value, where)
        elif isinstance(value, list):
            space[name] = _choice(schema, name, value, where)
        else:
            raise ConfigError(
                f"{where}: {name} = {shown(value)}: must be a list of values, such as [{shown(value)}]"
            )
    return space


def _choice(schema: Schema, name: str, values: Sequence[Any], where: str) -> Choice:
    if not values:
        raise ConfigError(
            f"{where}: {name} = []: must have a value or more; leave the setting out for its default"
        )
    found = tuple(schema.value(name, value, where) for value in values)
    seen = set[str]()
    for value in found:
        if repr(value) in seen:
            raise ConfigError(f"{where}: {name}: {shown(value)} stands there twice; leave one out")
        seen.add(repr(value))
    return Choice(found)


def _dimension(schema: Schema, name: str, table: Mapping[str, Any], where: str) -> Dimension:
    place = f"{where}: {name}"
    entry = _Table(place, table, ("low", "high", "min", "max", "log", "step", "choices", "values"))
    for own, other in (("min", "low"), ("max", "high"), ("values", "choices")):
        if own in entry.values and other in entry.values:
            raise ConfigError(f"{place}: {own} and {other} mean the same; leave one out")
        if own in entry.values:
            entry.values[other] = entry.values.pop(own)
    if "choices" in entry.values:
        if len(entry.values) > 1:
            more = next(key for key in entry.values if key != "choices")
            raise ConfigError(f"{place}: choices and {more}: give a list of values or a range")
        return _choice(schema, name, entry.take("choices", list, [], "a list of values"), where)
    if schema.hint(name) not in (int, float):
        raise ConfigError(f"{place}: is no number; give a list of values")
    if not {"low", "high"} <= entry.values.keys():
        raise ConfigError(
            f"{place}: must have low and high, such as {{ low = 1e-5, high = 1e-2, log = true }}"
        )
    low, high = (schema.value(name, entry.values[end], where) for end in ("low", "high"))
    if low is None or high is None:
        raise ConfigError(
            f"{place}: low and high must be numbers; give a list of values to have none among them"
        )
    log = entry.take("log", bool, False, "true or false")
    if low >= high:
        raise ConfigError(f"{place}: low = {low} must be below high = {high}")
    if log and low <= 0:
        raise ConfigError(f"{place}: low = {low} with log = true: must be above 0")
    is_integer = schema.hint(name) is int
    step = _step(place, entry.values.get("step"), low, high, log=log, is_integer=is_integer)
    return Range(low, high, log, step, is_integer)


def _step(place: str, step: Any, low: float, high: float, *, log: bool, is_integer: bool) -> float | None:
    """Returns the distance of neighbouring values; None for any value."""
    if step is None:
        return None
    kind = int if is_integer else int | float
    good = isinstance(step, kind) and not isinstance(step, bool) and 0 < step <= high - low
    if log or not good:
        number = "a whole number" if is_integer else "a number"
        raise ConfigError(
            f"{place}: step = {shown(step)}: must be {number} above 0 and at most high - low = {high - low:g}, without log"
        )
    return step


def _product(space: Mapping[str, Dimension]) -> tuple[Point, ...]:
    values = [dimension.values for dimension in space.values() if isinstance(dimension, Choice)]
    if math.prod(map(len, values)) > MAX_TRIALS:
        raise ConfigError(
            f"[grid] has {math.prod(map(len, values)):,} points; at most {MAX_TRIALS:,} are allowed"
        )
    return tuple(dict(zip(space, point, strict=True)) for point in itertools.product(*values))


def draw(dimension: Dimension, generator: random.Random) -> Any:
    """Draws a value of a dimension."""
    if isinstance(dimension, Choice):
        return dimension.values[generator.randrange(len(dimension.values))]
    low, high = dimension.low, dimension.high
    if dimension.step is not None:
        value = low + dimension.step * generator.randrange(num_steps(low, high, dimension.step) + 1)
    elif dimension.log:
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
    elif dimension.is_integer:
        value = generator.randint(int(low), int(high))
    else:
        value = generator.uniform(low, high)
    if dimension.is_integer:
        return min(max(round(value), int(low)), int(high))
    return min(max(float(f"{value:.6g}"), low), high)  # short in names and tables


def _sampled(space: Mapping[str, Dimension], trials: int, seed: int, where: str) -> tuple[Point, ...]:
    """Returns different points. Point K depends on the seed and on K alone, so that a longer sample
    begins with the shorter one.
    """
    points: list[Point] = []
    seen = set[str]()
    generator = random.Random(f"sample {seed}")
    for _ in range(100 * trials):
        point = {name: draw(dimension, generator) for name, dimension in space.items()}
        if repr(point) not in seen:
            seen.add(repr(point))
            points.append(point)
        if len(points) == trials:
            return tuple(points)
    raise ConfigError(
        f"{where}: trials = {trials:,}: the space has only {len(points):,} different points; give fewer"
    )


def _objective(table: Mapping[str, Any], where: str, schema: Schema) -> Objective | None:
    if "objective" not in table:
        return None
    place = f"{where}: [objective]"
    entry = _Table(place, table["objective"], ("metric", "mode", "value", "over_seeds", "rank"))
    metric = entry.take("metric", str, "", 'the name of a metric, such as "episode/return"')
    if not metric:
        raise ConfigError(f'{place}: metric is missing; name one, such as metric = "episode/return"')
    rank = entry.values.get("rank")
    if (metric == TIME_METRIC) != (rank is not None):
        raise ConfigError(f'{place}: metric = "time_to_rank" and rank = N are given together')
    if rank is not None and (type(rank) is not int or rank < 1):
        raise ConfigError(f"{place}: rank = {shown(rank)}: must be a whole number of 1 or more")
    lowest = rank is not None or (metric == BEST_METRIC and schema.best_is_lowest)
    mode = entry.choose("mode", "min" if lowest else "max", ("max", "min"))
    value = entry.choose("value", "last", ("last", "best", "area"))
    if metric in SPECIAL:
        if value != "last":
            raise ConfigError(
                f'{place}: value = "{value}": metric = "{metric}" is one number; leave value out'
            )
        if (mode == "min") != lowest:
            better = "lowest" if lowest else "highest"
            raise ConfigError(
                f'{place}: mode = "{mode}": for `matrixrl {schema.command}` the {better} "{metric}" is the best; leave mode out'
            )
    over = entry.choose("over_seeds", "mean", ("mean", "lower quartile"))
    return Objective(metric, mode, value, over, rank)  # pyright: ignore[reportArgumentType]


def _tune_options(
    table: Mapping[str, Any],
    where: str,
    trials: int | None,
    seeds: Sequence[int],
    tunes: bool,
    samplers: Sequence[str],
    pruners: Sequence[str],
) -> TuneOptions:
    if "tune" not in table:
        return TuneOptions(trials=trials or TuneOptions.trials)
    place = f"{where}: [tune]"
    if not tunes:
        raise ConfigError(f"{place}: is for `matrixrl tune {where}`; leave it out")
    entry = _Table(place, table["tune"], tuple(item.name for item in dataclasses.fields(TuneOptions)))
    if trials is not None and "trials" in entry.values:
        raise ConfigError(f"{place}: trials stands in the search space too; leave one out")
    confirm = entry.whole("confirm", TuneOptions.confirm, 0)
    return TuneOptions(
        trials=entry.whole("trials", trials or TuneOptions.trials, 1),
        sampler=entry.choose("sampler", TuneOptions.sampler, samplers),
        pruner=entry.choose("pruner", TuneOptions.pruner, pruners),
        warmup_trials=entry.whole("warmup_trials", TuneOptions.warmup_trials, 0),
        seed=entry.whole("seed", TuneOptions.seed, 0, MAX_SEED),
        start=entry.take("start", bool, TuneOptions.start, "true or false"),
        confirm=confirm,
        confirm_seeds=_confirm_seeds(entry, confirm, seeds),
    )


def _confirm_seeds(entry: _Table, confirm: int, seeds: Sequence[int]) -> tuple[int, ...]:
    """Returns the seeds with which the best points are trained again: other ones than before, at
    which they were not chosen.
    """
    if not confirm:
        if "confirm_seeds" in entry.values:
            raise ConfigError(
                f"{entry.where}: confirm_seeds: belongs to confirm, the number of points; give confirm = 3"
            )
        return ()
    free = (seed for seed in itertools.chain(range(max(seeds) + 1, MAX_SEED + 1), itertools.count()))
    others = (seed for seed in free if seed not in seeds)
    default = list(itertools.islice(others, max(MIN_CONFIRM_SEEDS, len(seeds))))
    found = _seeds(entry, "confirm_seeds", default)
    if both := sorted(set(found) & set(seeds)):
        raise ConfigError(f"{entry.where}: confirm_seeds: {both[0]} stands in seeds too; give other seeds")
    return found
