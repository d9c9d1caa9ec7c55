"""Study files: the TOML that `matrixrl sweep` and `matrixrl tune` read.

A file names a training command, the settings that all trials share, and the points: a grid, a
random sample or an explicit list, each with every seed (docs/many_machines.md).
"""

from __future__ import annotations

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

TOP = ("command", "seeds", "settings", "grid", "random", "space", "trial", "objective", "tune", "together")
TOGETHER = ("settings", "seeds")

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
    """

    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "median"
    warmup_trials: int = 5
    seed: int = 0


@dataclass(frozen=True)
class StudyFile:
    """Content of a study file, checked.

    Attributes:
      command: such as `ppo train`.
      settings: shared by all trials.
      points: of a grid, a sample or a list, in order; empty for a search space.
      space: search space of `tune`.
      together: which of `settings` and `seeds` are trained in one program, where possible.
    """

    path: Path
    command: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    points: tuple[Point, ...]
    space: Mapping[str, Dimension] = field(default_factory=dict)
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

    def whole(self, key: str, default: int, least: int) -> int:
        """Returns a whole number."""
        value = self.take(key, int, default, "a whole number")
        if value < least:
            raise ConfigError(f"{self.where}: {key} = {value}: must be {least} or more")
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
    for name in set(settings) & ({key for point in points for key in point} | set(space)):
        raise ConfigError(f"{where}: {name}: stands in [settings] and varies too; leave one out")
    found = StudyFile(
        path=path,
        command=command,
        seeds=_seeds(top),
        settings=settings,
        points=points,
        space=space,
        objective=_objective(table, where),
        tune=_tune_options(table, where, trials, tunes, samplers, pruners),
        together=_together(top),
    )
    if tunes and found.objective is None:
        raise ConfigError(
            f'{where}: [objective] is missing; name what to optimise, such as metric = "episode/return"'
        )
    number = len(points) * len(found.seeds)
    if number > MAX_TRIALS:
        raise ConfigError(f"{where}: {number:,} trials; at most {MAX_TRIALS:,} are allowed")
    return found, schema


def _seeds(top: _Table) -> tuple[int, ...]:
    given = top.values.get("seeds", [0])
    allowed = "a list of different whole numbers from 0 to 4294967295"
    good = (
        isinstance(given, list)
        and bool(given)
        and all(type(seed) is int and 0 <= seed < 2**32 for seed in given)
        and len(set(given)) == len(given)
    )
    if not good:
        raise ConfigError(f"{top.where}: seeds = {shown(given)}: must be {allowed}")
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
        trials, sample_seed = entries.pop("trials", None), entries.pop("sample_seed", 0)
    if not entries:
        raise ConfigError(
            f"{place} is empty; give settings with their values, such as learning_rate = [1e-4, 3e-4]"
        )
    space = _space(schema, entries, place, ranges=key != "grid" or tunes)
    if trials is not None and (type(trials) is not int or trials < 1):
        raise ConfigError(f"{place}: trials = {shown(trials)}: must be a whole number of 1 or more")
    if tunes:
        return (), space, trials
    if key == "grid":
        return _product(space), {}, None
    if trials is None:
        raise ConfigError(
            f"{place}: trials is missing; give the number of points to draw, such as trials = 20"
        )
    if type(sample_seed) is not int:
        raise ConfigError(f"{place}: sample_seed = {shown(sample_seed)}: must be a whole number")
    return _sampled(space, trials, sample_seed, place), {}, None


def _listed(schema: Schema, tables: Any, where: str) -> tuple[Point, ...]:
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{where}: [[trial]] must be one table or more of settings")
    points = [
        _values(schema, table, f"{where}: [[trial]] {number}") for number, table in enumerate(tables, 1)
    ]
    for number, point in enumerate(points):
        if point in points[:number]:
            raise ConfigError(
                f"{where}: [[trial]] {number + 1} equals [[trial]] {points.index(point) + 1}; leave one out"
            )
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
    for number, value in enumerate(found):
        if value in found[:number]:
            raise ConfigError(f"{where}: {name}: {shown(value)} stands there twice; leave one out")
    return Choice(found)


def _dimension(schema: Schema, name: str, table: Mapping[str, Any], where: str) -> Dimension:
    place = f"{where}: {name}"
    entry = _Table(place, table, ("low", "high", "min", "max", "log", "step", "choices", "values"))
    for own, other in (("min", "low"), ("max", "high"), ("values", "choices")):
        if own in entry.values:
            entry.values.setdefault(other, entry.values.pop(own))
    if "choices" in entry.values:
        return _choice(schema, name, entry.take("choices", list, [], "a list of values"), where)
    if schema.hint(name) not in (int, float):
        raise ConfigError(f"{place}: is no number; give a list of values")
    if not {"low", "high"} <= entry.values.keys():
        raise ConfigError(
            f"{place}: must have low and high, such as {{ low = 1e-5, high = 1e-2, log = true }}"
        )
    low, high = (schema.value(name, entry.values[end], where) for end in ("low", "high"))
    log = entry.take("log", bool, False, "true or false")
    step = entry.values.get("step")
    if low >= high:
        raise ConfigError(f"{place}: low = {low} must be below high = {high}")
    if log and low <= 0:
        raise ConfigError(f"{place}: low = {low} with log = true: must be above 0")
    if step is not None and (log or isinstance(step, bool) or not isinstance(step, int | float) or step <= 0):
        raise ConfigError(f"{place}: step = {shown(step)}: must be a number above 0, without log")
    return Range(low, high, log, step, schema.hint(name) is int)


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
        count = int((high - low) / dimension.step + 1e-9)
        value = low + dimension.step * generator.randrange(count + 1)
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
    if trials > MAX_TRIALS:
        raise ConfigError(f"{where}: trials = {trials:,}: at most {MAX_TRIALS:,} are allowed")
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


def _objective(table: Mapping[str, Any], where: str) -> Objective | None:
    if "objective" not in table:
        return None
    place = f"{where}: [objective]"
    entry = _Table(place, table["objective"], ("metric", "mode", "value", "over_seeds", "rank"))
    metric = entry.take("metric", str, "", 'the name of a metric, such as "episode/return"')
    if not metric:
        raise ConfigError(f'{place}: metric is missing; name one, such as metric = "episode/return"')
    rank = entry.values.get("rank")
    if (metric == "time_to_rank") != (rank is not None):
        raise ConfigError(f'{place}: metric = "time_to_rank" and rank = N are given together')
    if rank is not None and (type(rank) is not int or rank < 1):
        raise ConfigError(f"{place}: rank = {shown(rank)}: must be a whole number of 1 or more")
    mode = entry.choose("mode", "min" if rank is not None else "max", ("max", "min"))
    value = entry.choose("value", "last", ("last", "best", "area"))
    over = entry.choose("over_seeds", "mean", ("mean", "lower quartile"))
    return Objective(metric, mode, value, over, rank)  # pyright: ignore[reportArgumentType]


def _tune_options(
    table: Mapping[str, Any],
    where: str,
    trials: int | None,
    tunes: bool,
    samplers: Sequence[str],
    pruners: Sequence[str],
) -> TuneOptions:
    if "tune" not in table:
        return TuneOptions(trials=trials or TuneOptions.trials)
    place = f"{where}: [tune]"
    if not tunes:
        raise ConfigError(f"{place}: is for `matrixrl tune {where}`; leave it out")
    entry = _Table(place, table["tune"], ("trials", "sampler", "pruner", "warmup_trials", "seed"))
    if trials is not None and "trials" in entry.values:
        raise ConfigError(f"{place}: trials stands in the search space too; leave one out")
    return TuneOptions(
        trials=entry.whole("trials", trials or TuneOptions.trials, 1),
        sampler=entry.choose("sampler", TuneOptions.sampler, samplers),
        pruner=entry.choose("pruner", TuneOptions.pruner, pruners),
        warmup_trials=entry.whole("warmup_trials", TuneOptions.warmup_trials, 0),
        seed=entry.whole("seed", TuneOptions.seed, 0),
    )
