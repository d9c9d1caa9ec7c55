"""Description of a system for the readers of its runs: console, charts, lists and W&B.

Every run folder holds the spec of its system, in `run.json` and in the journal, so that a run can
be listed, shown, exported and audited where the system itself is not installed. Runs of versions
that recorded none get the spec of the system of that name, if one is known here.

Tracking imports no system: packages that know systems add a source of specs (`add_source`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, TypeVar, get_type_hints

from matrixrl.config import ConfigError, require
from matrixrl.tracking.events import Kind

Form = Literal["number", "fraction", "percent"]
"""How the console shows a value: a number, a fraction as a percentage, or a percentage as it is."""

KINDS: tuple[Kind, ...] = ("int", "float", "bool", "str")
FORMS: tuple[Form, ...] = ("number", "fraction", "percent")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

OWN_COLUMNS = frozenset({"id", "step", "attempt", "time", "superseded_by"})
"""Columns that every table of the journal has; SQL does not distinguish upper and lower case."""

VARIANT = r"_\d+(x\d+)+"
"""Suffix of a metric that is recorded once per problem size, such as `epoch_best_rank_2x2x3`."""

Record = TypeVar("Record")


@dataclass(frozen=True)
class BestMetric:
    """Measure by which a run is judged in `runs list`.

    Attributes:
      label: noun in front of the value, such as `mean return`.
      metric: metric of the stream whose best value counts, with its variants per problem size.
      lowest: lower values are better.
      column: column of the episode table whose best value counts as well.
      only_where: column of the episode table that must be true for `column` to count.
    """

    label: str
    metric: str | None = None
    lowest: bool = False
    column: str | None = None
    only_where: str | None = None

    def __post_init__(self) -> None:
        require(
            self.metric is not None or self.column is not None,
            f"best metric {self.label!r}: names neither a metric nor a column of the episode table",
        )


@dataclass(frozen=True)
class ConsoleMetric:
    """A metric on the console, or a column of the episode table.

    Attributes:
      name: recorded name. Variants per problem size share one column.
      head: text above the column. Default: the last part of the name.
      width: number of characters, with the space before it. Default: what the head needs.
      priority: columns of lower numbers stay where the terminal is too narrow for all.
      form: `number`, `fraction` (0.25 becomes 25 %) or `percent` (0.25 becomes 0.25 %).
      always: show the column even if a row lacks the metric.
      transcript: also write the metric to `console.log`.
    """

    name: str
    head: str = ""
    width: int = 0
    priority: int = 20
    form: Form = "number"
    always: bool = False
    transcript: bool = True

    def __post_init__(self) -> None:
        require(bool(self.name), "a console metric without a name")
        require(
            self.form in FORMS,
            f"console metric {self.name}: form {self.form!r}; must be one of {', '.join(FORMS)}",
        )
        require(self.width >= 0, f"console metric {self.name}: width {self.width}; must be 0 or more")

    @property
    def title(self) -> str:
        """Text above the column."""
        return self.head or self.short.removeprefix("epoch_").replace("_", " ").lower()

    @property
    def short(self) -> str:
        """Name without its group: `return` for `episode/return`."""
        return self.name.rpartition("/")[2]

    @property
    def columns(self) -> int:
        """Number of characters of the column."""
        return self.width or max(len(self.title), 8) + 2


@dataclass(frozen=True)
class SystemSpec:
    """What readers of a run need to know about its system.

    Attributes:
      name: of the system; `matrixrl NAME train` where it has a command.
      project: default W&B project.
      episode_columns: columns of `episode_history` and their kinds (`int`, `float`, `bool`, `str`)
        in order; the first is the number of the episode.
      best_metric: measure for `runs list`; a string names a metric of which more is better.
      charts: metrics that `runs show` draws, with their variants per problem size.
      console_metrics: metrics of the console's rows. A row of the stream that has the first one is
        shown. Rows with `Epoch` and evaluations (`eval/*`) are shown for every system.
      console_columns: formatting of columns of the episode table; others get a default.
      aliases: old name -> current name of metrics and episode columns that were renamed: runs that
        recorded the old one are read, resumed and compared under the current one.
      local_metrics: patterns (`agent/*`) of metrics that stay in the journal: `runs` commands show
        them, and no sink gets them. For details that a dashboard would drown in.

    Raises:
      ConfigError: if a value is impossible; the message names it.
    """

    name: str
    project: str
    episode_columns: Mapping[str, Kind]
    best_metric: BestMetric | str | None = None
    charts: tuple[str, ...] = ()
    console_metrics: tuple[ConsoleMetric | str, ...] = ()
    console_columns: tuple[ConsoleMetric | str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    local_metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"system {self.name!r}"
        require(
            NAME.fullmatch(self.name) is not None,
            f"{where}: must be lower-case letters, digits, - and _, starting with a letter",
        )
        require(bool(self.project), f"{where}: needs the name of a W&B project")
        check_columns(self.episode_columns, where)
        for name in ("charts", "console_metrics", "console_columns", "local_metrics"):
            require(not isinstance(getattr(self, name), str), f"{where}: {name} must be a tuple")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(best := self.best, BestMetric):
            for column in (best.column, best.only_where):
                require(
                    column is None or column in self.episode_columns,
                    f"{where}: the best metric names the column {column!r}; there are "
                    f"{', '.join(self.episode_columns)}",
                )

    @property
    def best(self) -> BestMetric | None:
        """Measure for `runs list`."""
        if not isinstance(self.best_metric, str):
            return self.best_metric
        return BestMetric(ConsoleMetric(self.best_metric).title, self.best_metric)

    @property
    def console(self) -> tuple[ConsoleMetric, ...]:
        """Metrics of the console's rows."""
        return _console_metrics(self.console_metrics)

    @property
    def console_episode(self) -> tuple[ConsoleMetric, ...]:
        """Columns of the episode table on the console, in the order of the table."""
        known = {metric.name: metric for metric in _console_metrics(self.console_columns)}
        return tuple(
            known.get(name, ConsoleMetric(name, priority=number))
            for number, name in enumerate(self.episode_columns)
        )

    @property
    def row_key(self) -> str | None:
        """Metric that marks the rows of the stream that the console shows, in addition to epochs
        and evaluations.
        """
        key = self.console[0].name if self.console_metrics else None
        return None if key == "Epoch" else key

    def old_names(self, name: str) -> list[str]:
        """Returns the earlier names of a metric or column."""
        return [old for old, current in self.aliases.items() if current == name]

    def current_name(self, name: str) -> str:
        """Returns the current name of a metric that was recorded under `name`, variants
        included.
        """
        if name in self.aliases:
            return self.aliases[name]
        for old, current in self.aliases.items():
            if is_metric(name, old):
                return current + name.removeprefix(old)
        return name

    def recorded_column(self, name: str, columns: Iterable[str]) -> str | None:
        """Returns the name under which a run with these columns recorded one; None if it has
        none.
        """
        columns = set(columns)
        return next((known for known in (name, *self.old_names(name)) if known in columns), None)

    def as_record(self) -> dict[str, Any]:
        """Returns the spec as JSON values, without defaults."""
        record = _as_record(self)
        for name in ("console_metrics", "console_columns"):
            if name in record:
                record[name] = [item if isinstance(item, str) else _as_record(item) for item in record[name]]
        if isinstance(self.best_metric, BestMetric):
            record["best_metric"] = _as_record(self.best_metric)
        return record


def is_metric(name: str, stem: str) -> bool:
    """Returns true if a recorded name is a metric or one of its variants per problem size."""
    return name == stem or (
        name.startswith(stem) and re.fullmatch(VARIANT, name.removeprefix(stem)) is not None
    )


def delivered_metrics(metrics: Mapping[str, Any], local: Sequence[str]) -> dict[str, Any]:
    """Returns the metrics of a row that go to sinks: those that no pattern keeps in the journal.

    Args:
      local: `SystemSpec.local_metrics`. `*` stands for any text, slashes included.
    """
    if not local:
        return dict(metrics)
    is_local = _pattern(tuple(local)).match
    return {name: value for name, value in metrics.items() if not is_local(name)}


@cache
def _pattern(local: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in local))


def check_columns(columns: Mapping[str, Kind], where: str) -> None:
    """Checks the columns of an episode table.

    Raises:
      ConfigError: if a name or a kind is impossible.
    """
    require(
        isinstance(columns, Mapping) and len(columns) > 0,
        f"{where}: the episode table needs columns; the first is the number of the episode",
    )
    for name, kind in columns.items():
        require(
            isinstance(name, str) and bool(name) and "\0" not in name,
            f"{where}: {name!r} cannot be the name of an episode column",
        )
        require(
            kind in KINDS,
            f"{where}: the episode column {name!r} has the kind {kind!r}; must be one of {', '.join(KINDS)}",
        )
    lower = [name.lower() for name in columns]
    require(
        not OWN_COLUMNS & set(lower),
        f"{where}: {', '.join(sorted(OWN_COLUMNS & set(lower)))} cannot be an episode column; the journal has its own",
    )
    require(
        len(set(lower)) == len(lower),
        f"{where}: two episode columns of one name; upper and lower case are the same",
    )
    first = next(iter(columns))
    require(
        columns[first] == "int",
        f"{where}: the first episode column, {first!r}, must be an int: the number of the episode",
    )


def spec_from_record(record: Any, where: str) -> SystemSpec:
    """Returns the spec that `SystemSpec.as_record` wrote.

    Args:
      where: file and field, for messages.

    Raises:
      ConfigError: if it has a field that this version does not know, or an impossible value; the
        message names the field.
    """
    values = _checked(SystemSpec, record, where)
    if isinstance(values.get("best_metric"), Mapping):
        values["best_metric"] = _built(BestMetric, values["best_metric"], f"{where}, best_metric")
    for name in ("charts", "console_metrics", "console_columns", "local_metrics"):
        items = values.get(name, ())
        require(isinstance(items, list | tuple), f"{where}: {name} is {items!r}; must be a list")
        if name in ("charts", "local_metrics"):
            require(all(isinstance(item, str) for item in items), f"{where}: {name} must hold names")
            values[name] = tuple(items)
        else:
            values[name] = tuple(
                item if isinstance(item, str) else _built(ConsoleMetric, item, f"{where}, {name}")
                for item in items
            )
    aliases = values.get("aliases", {})
    require(
        isinstance(aliases, Mapping) and all(isinstance(value, str) for value in aliases.values()),
        f"{where}: aliases must map old names to current ones",
    )
    best = values.get("best_metric")
    require(
        best is None or isinstance(best, str | BestMetric),
        f"{where}: best_metric is {best!r}; must be a name or an object",
    )
    for name in ("name", "project"):
        require(isinstance(values[name], str), f"{where}: {name} is {values[name]!r}; must be a text")
    return SystemSpec(**values)


def recorded_spec(about: Mapping[str, Any], where: str) -> SystemSpec | None:
    """Returns the spec of a run.

    Args:
      about: content of `run.json`, or of the table `meta` of the journal.
      where: the file, for messages.

    Returns:
      The recorded spec, with the aliases that its system has added since. For a run that recorded
      none, the spec of the system of that name that is known here; None if there is none.

    Raises:
      ConfigError: if the recorded one cannot be read by this version.
    """
    name = about.get("system")
    known = find_spec(name) if isinstance(name, str) else None
    if "spec" not in about:
        return known
    recorded = spec_from_record(about["spec"], f"{where}, spec")
    if known is None or not known.aliases:
        return recorded
    return replace(recorded, aliases={**recorded.aliases, **known.aliases})


Source = Callable[[str], SystemSpec | None]

_sources: list[Source] = []


def add_source(source: Source) -> None:
    """Adds a function that returns the spec of a system by its name, or None if it has none."""
    _sources.append(source)


def find_spec(name: str) -> SystemSpec | None:
    """Returns the spec of a system by its name; None if no source knows it."""
    return next((spec for source in _sources if (spec := source(name)) is not None), None)


def resolve_spec(system: SystemSpec | str) -> SystemSpec:
    """Returns a spec, looked up if it is named.

    Raises:
      ConfigError: if no system of this name is known here.
    """
    if isinstance(system, SystemSpec):
        return system
    spec = find_spec(system)
    if spec is None:
        raise ConfigError(
            f"system {system!r}: not known here; install the package that provides it, register it with "
            "matrixrl.systems.spec.register, or pass its SystemSpec"
        )
    return spec


def _console_metrics(items: Iterable[ConsoleMetric | str]) -> tuple[ConsoleMetric, ...]:
    return tuple(
        ConsoleMetric(item, priority=number) if isinstance(item, str) else item
        for number, item in enumerate(items)
    )


def _as_record(value: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from their defaults."""
    record = {}
    for item in fields(value):
        content = getattr(value, item.name)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if content != default:
            copied = dict(content) if isinstance(content, Mapping) else content
            record[item.name] = list(copied) if isinstance(copied, tuple) else copied
    return record


def _checked(kind: type[Any], record: Any, where: str) -> dict[str, Any]:
    """Returns a record whose fields are those of a dataclass.

    Raises:
      ConfigError: if a field is unknown or missing.
    """
    require(isinstance(record, Mapping), f"{where}: is {record!r}; must be an object")
    known = {item.name for item in fields(kind)}
    unknown = [name for name in record if name not in known]
    require(
        not unknown,
        f"{where}: unknown field {', '.join(map(repr, unknown))}; install the matrixrl that wrote it, or a newer one",
    )
    missing = [
        item.name
        for item in fields(kind)
        if item.default is MISSING and item.default_factory is MISSING and item.name not in record
    ]
    require(not missing, f"{where}: {', '.join(missing)} is not recorded")
    return dict(record)


_type_hints = cache(get_type_hints)
"""Types of the fields of a dataclass; evaluating them takes longer than reading a run's files."""


def _built(kind: type[Record], record: Any, where: str) -> Record:
    """Returns a dataclass of plain values from its record.

    Raises:
      ConfigError: if a field is unknown, missing or of another type.
    """
    values = _checked(kind, record, where)
    hints = _type_hints(kind)
    for name, value in values.items():
        hint = str if hints[name] is Form else hints[name]
        fits = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
        require(fits, f"{where}: {name} is {value!r}, which it cannot be")
    return kind(**values)
