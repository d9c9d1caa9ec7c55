"""Trials of a study: points and seeds, those that one program trains together as one run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matrixrl.studies.file import Point, StudyFile
from matrixrl.studies.schema import Schema


@dataclass(frozen=True)
class TrialMember:
    """One agent of a trial.

    Attributes:
      settings: its point.
      seed: of all its random numbers.
      agent: its number in a run of several agents; None if it is the only one.
    """

    settings: Point
    seed: int
    agent: int | None = None

    @property
    def key(self) -> str:
        """Identifies point and seed."""
        return key_of(self.settings, self.seed)


@dataclass(frozen=True)
class TrialPlan:
    """A run to train.

    Attributes:
      members: its agents.
      flags: settings of the run that differ between trials, with the seed.
    """

    members: tuple[TrialMember, ...]
    flags: Mapping[str, Any]


def key_of(settings: Point, seed: int) -> str:
    """Returns a text that identifies a point with a seed, whatever the order of its settings."""
    return json.dumps([sorted(settings.items()), seed])


def plan_trials(study: StudyFile, schema: Schema, done: Iterable[str] = ()) -> list[TrialPlan]:
    """Returns the trials of a file.

    Args:
      study: the file.
      schema: of its command.
      done: keys of the points and seeds that exist already.
    """
    existing = set(done)
    missing = [
        (dict(point), seed)
        for point in study.points
        for seed in study.seeds
        if key_of(point, seed) not in existing
    ]
    if not schema.vmapped or not study.together:
        return [_alone(point, seed) for point, seed in missing]
    groups: dict[str, list[tuple[dict[str, Any], int]]] = {}
    for point, seed in missing:
        outer = {name: value for name, value in point.items() if not _is_inner(name, value, schema, study)}
        place = [outer, sorted(point), "seeds" if "seeds" in study.together else seed]
        groups.setdefault(json.dumps(place, sort_keys=True), []).append((point, seed))
    plans: list[TrialPlan] = []
    for members in groups.values():
        plans += _together(members, schema, study)
    return plans


def _is_inner(name: str, value: Any, schema: Schema, study: StudyFile) -> bool:
    """Returns whether one program trains several values of a setting."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "settings" in study.together and name in schema.vmapped and is_number


def _alone(point: Point, seed: int) -> TrialPlan:
    return TrialPlan((TrialMember(point, seed),), {**point, "seed": seed})


def _together(
    members: Sequence[tuple[dict[str, Any], int]], schema: Schema, study: StudyFile
) -> list[TrialPlan]:
    """Returns one trial for members that form a grid with consecutive seeds; otherwise one each."""
    point, _ = members[0]
    inner = [name for name, value in point.items() if _is_inner(name, value, schema, study)]
    values = {name: list(dict.fromkeys(own[name] for own, _ in members)) for name in inner}
    seeds = sorted({seed for _, seed in members})
    grid = [dict(zip(inner, combination, strict=True)) for combination in itertools.product(*values.values())]
    wanted = {key_of({**point, **own}, seed) for own in grid for seed in seeds}
    is_grid = wanted == {key_of(*member) for member in members}
    consecutive = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    if len(members) == 1 or not is_grid or not consecutive:
        return [_alone(*member) for member in members]
    agents = [({**point, **own}, seed) for own in grid for seed in seeds]
    swept = [
        f"{name}={','.join(repr(value) for value in options)}"
        for name, options in values.items()
        if len(options) > 1
    ]
    flags = {name: value for name, value in point.items() if len(values.get(name, ())) < 2}
    flags |= {"seed": seeds[0]}
    if len(seeds) > 1:
        flags["num_seeds"] = len(seeds)
    if swept:
        flags["sweep"] = swept
    return [
        TrialPlan(tuple(TrialMember(own, seed, number) for number, (own, seed) in enumerate(agents)), flags)
    ]
