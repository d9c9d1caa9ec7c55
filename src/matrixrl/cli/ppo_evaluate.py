"""`matrixrl ppo evaluate`: performance of an agent over many complete episodes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from matrixrl.cli.agent_flags import EvaluateFlags, check_time_limit
from matrixrl.cli.ppo_agent import TrainedAgent, load_agent
from matrixrl.cli.progress import say, working
from matrixrl.config import require, setting
from matrixrl.tracking.numbers import duration, percent, plural, significant
from matrixrl.tracking.status import Status, activity

if TYPE_CHECKING:
    from matrixrl.systems.ppo.evaluation import EpisodeResults
    from matrixrl.systems.ppo.intervals import Interval

MAX_EPISODES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PPOEvaluateCommand(EvaluateFlags):
    """Evaluate an agent over complete episodes."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Name or id of a run, or `latest`."""

    episodes: int = setting(256, aliases=("games",))
    """Number of episodes to play, each to its end. --games is another name."""

    time_limit: int | None = None
    """Maximum number of steps per episode. Longer episodes are truncated.
    Default: the value of the run, or the environment's own, or 10,000.
    """

    env: str | None = None
    """Environment, if it is not the run's.
    Needed once for a run from elsewhere with code of its own.
    """

    network: str | None = None
    """Network, if it is not the run's.
    Needed once for a run from elsewhere with code of its own.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            1 <= self.episodes <= MAX_EPISODES,
            f"--episodes {self.episodes}: must be from 1 to {MAX_EPISODES}",
        )
        check_time_limit(self.time_limit)


def run_command(command: PPOEvaluateCommand) -> int:
    """Evaluates the agent, and prints the results. Returns the exit status.

    Raises:
      ConfigError: if there is no such run, or it has no playable checkpoint.
    """
    with working(f"evaluating {command.run} over {plural(command.episodes, 'episode')}") as status:
        return _evaluate(command, status)


def _evaluate(command: PPOEvaluateCommand, status: Status) -> int:
    with activity("starting JAX"):
        from matrixrl.devices.compilation_cache import use_compilation_cache
        from matrixrl.systems.ppo.host_evaluation import make_evaluator

        use_compilation_cache()
        found = load_agent(
            "evaluate",
            command.run,
            command.runs_dir,
            command.step,
            command.best,
            command.env,
            command.network,
        )
    evaluator = make_evaluator(
        found.task, command.time_limit or found.config.time_limit, found.config.num_workers
    )
    began = time.perf_counter()
    ways = ("greedy", "sampled") if command.policy == "both" else (command.policy,)
    each: list[dict[str, EpisodeResults]] = []
    for number, agent in enumerate(found.agents):
        who = f"agent {number}, " if found.settings else ""
        each.append(
            {
                way: evaluator.evaluate(
                    agent,
                    command.episodes,
                    command.seed,
                    way == "greedy",
                    progress=lambda ended, all_, what=f"{who}{way} play": status.progress(
                        what, ended, all_, "episodes"
                    ),
                )
                for way in ways
            }
        )
    results = each[0]
    seconds = time.perf_counter() - began
    compiling = sum(one.compile_seconds for results in each for one in results.values())
    status.close()
    say(
        f"{found.where}: {plural(command.episodes, 'episode')} of {found.config.env}, seed {command.seed}, at most "
        f"{evaluator.time_limit:,} steps each, {duration(seconds - compiling)} of play, {duration(compiling)} of compilation"
    )
    print(agents_table(found, each) if found.settings else table(results))
    if command.json:
        record = {
            "run_name": found.name,
            "step": found.step,
            "env": found.config.env,
            "episodes": command.episodes,
            "seed": command.seed,
            "time_limit": evaluator.time_limit,
            **(agents_record(found, each) if found.settings else _record(results)),
            "seconds": round(seconds, 3),
        }
        print(json.dumps(record))
    return 0


def _record(results: Mapping[str, EpisodeResults]) -> dict[str, Any]:
    return {way: one.as_record() for way, one in results.items()}


def agents_record(found: TrainedAgent, each: Sequence[Mapping[str, EpisodeResults]]) -> dict[str, Any]:
    """Returns the results of every agent as JSON values, and the means over agents."""
    record: dict[str, Any] = {way: means_over_agents(each, way) for way in each[0]}
    points = points_of(found)
    if len(points) > 1:
        record["settings"] = [
            {
                "settings": _short(found.settings[numbers[0]].values),
                **{way: means_over_agents([each[number] for number in numbers], way) for way in each[0]},
            }
            for numbers in points
        ]
    record["agents"] = [
        {
            "agent": one.number,
            "seed": one.seed,
            "settings": _short(one.values),
            **_record(results),
        }
        for one, results in zip(found.settings, each, strict=True)
    ]
    return record


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("ppo."): value for name, value in values.items()}


def points_of(found: TrainedAgent) -> list[list[int]]:
    """Returns the positions of the agents of each point of the grid."""
    points: dict[int, list[int]] = {}
    for position, one in enumerate(found.settings):
        points.setdefault(one.setting, []).append(position)
    return list(points.values())


def means_over_agents(each: Sequence[Mapping[str, EpisodeResults]], way: str) -> dict[str, dict[str, Any]]:
    """Returns mean, 95 % interval and interquartile mean over agents, by the name of the value."""
    from matrixrl.systems.ppo.intervals import interquartile_mean, mean_interval

    means = {
        name: np.array([results[way].intervals[name].mean for results in each])
        for name in each[0][way].intervals
    }
    return {
        name: {**mean_interval(values).as_record(), "iqm": interquartile_mean(values)}
        for name, values in means.items()
    }


def agents_table(found: TrainedAgent, each: Sequence[Mapping[str, EpisodeResults]]) -> str:
    """Formats the mean return of every agent, then mean, 95 % interval and interquartile mean over
    all agents, and over the seeds of each point of the grid.
    """
    ways = list(each[0])
    rows = [["return", *ways, ""]]
    rows += [
        [f"agent {one.number}", *(spread(results[way].intervals["return"]) for way in ways), one.label]
        for one, results in zip(found.settings, each, strict=True)
    ]
    over = [("all agents", list(range(len(each))))]
    points = points_of(found)
    if len(points) > 1:
        over += [(found.settings[numbers[0]].point, numbers) for numbers in points]
    for label, numbers in over:
        of = [means_over_agents([each[number] for number in numbers], way)["return"] for way in ways]
        rows += [
            ["mean", *(significant(float(one["mean"])) for one in of), label],
            ["  95 % interval", *(_bounds(one["ci95"]) for one in of), ""],
            ["  IQM", *(significant(float(one["iqm"])) for one in of), ""],
        ]
    widths = [2 + max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1 + len(each), "")
    return "\n".join([*lines, "(IQM: interquartile mean, the mean of the middle half of the agents)"])


def _bounds(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else " to ".join(significant(float(bound)) for bound in interval)


def spread(interval: Interval) -> str:
    """Formats a mean with half the width of its interval."""
    half = interval.high - interval.mean
    return f"{interval.mean:,.2f}" + ("" if math.isnan(half) else f" +- {half:,.2f}")


def table(results: Mapping[str, EpisodeResults]) -> str:
    """Formats the results as a table, with a column for each action selection."""
    columns = []
    for one in results.values():
        returns = one.values["return"]
        ends = f"{one.count - int(one.cut_off.sum()):,} over, {int(one.cut_off.sum()):,} cut off"
        means = {}
        for name, interval in one.intervals.items():
            if one.values[name].dtype == bool:
                means[name] = (
                    f"{percent(interval.mean)} ({percent(interval.low)} to {percent(interval.high)})"
                )
            else:
                means[name] = spread(interval)
        best = f"{returns.max():,.2f} in episode {returns.argmax()}"
        columns.append({**means, "best return": best, "episodes": ends})
    width = 2 + max(24, *(len(text) for column in columns for text in column.values()))
    head = 2 + max(map(len, columns[0]))
    lines = [f"{'':<{head}}" + "".join(f"{way:<{width}}" for way in results)]
    lines += [
        f"{name:<{head}}" + "".join(f"{column[name]:<{width}}" for column in columns) for name in columns[0]
    ]
    return "\n".join(line.rstrip() for line in lines)
